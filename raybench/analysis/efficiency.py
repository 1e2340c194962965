"""What share of the chip's peak was reached, and what an item costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from raybench.analysis.accelerators import Accelerator, arithmetic_unit, find
from raybench.analysis.cells import Cell, cells
from raybench.analysis.estimate import Estimate  # noqa: TC001 - get_type_hints reads it
from raybench.analysis.gaps import without_numbers
from raybench.analysis.resources import in_words, ops_per_byte, waits_for_arrivals
from raybench.analysis.series import Series, device_name  # get_type_hints reads Series
from raybench.analysis.tables import as_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa


@dataclass(frozen=True)
class Utilization:
    """One point against its chip's peak, its energy and its price; None where unknown.

    Attributes:
        gflops_per_item: 2 x MAC; for int8 these are integer operations.
        achieved_tflops: items_per_s x gflops_per_item / 1000, of all workers together; in `unit`.
        chip: name of the accelerator in conf/accelerators.yaml; None if it is not listed.
        peak_tflops: dense peak of all workers' devices together in this precision.
        peak_source: the document that prints the peak.
        mfu: achieved / peak.
        mfu_clock: achieved / peak at the measured mean SM clock.
        sm_clock_mhz_mean: median over trials, as are the energy figures.
        peak_clock_mhz: the clock the peak refers to.
        usd_per_million_items: cost at the price of a device-hour, with all workers' devices paid.
        marks: see `marks.MARKS`.
        energy_error_rel: half-width over value of power and of the energy figures: what the steps
            of the counter, or the sampling of power, may hide. Sensors may be off beyond it.
        device_use: what of a GPU was full, a sentence with figures; None for other devices.
        ops_per_byte: operations for each byte of device memory's traffic.
        ops_per_byte_measured: the traffic was measured; else it is the least that the batches need,
            so that the true figure is lower.
        memory_peak_gb_per_s: the most that the memory of one device can, by its clock and width.
    """

    series: Series
    workers: int | None
    trials: int
    items_per_s: Estimate
    gflops_per_item: float | None
    achieved_tflops: float | None
    chip: str | None
    peak_tflops: float | None
    peak_source: str | None
    mfu: float | None
    mfu_clock: float | None
    sm_clock_mhz_mean: float | None
    peak_clock_mhz: float | None
    avg_power_w: float | None
    energy_source: str | None
    items_per_j: float | None
    j_per_item: float | None
    usd_per_device_hour: float | None
    usd_per_million_items: float | None
    verdict: str | None
    flags: tuple[str, ...]
    marks: tuple[str, ...]
    energy_error_rel: float | None = None
    device_use: str | None = None
    ops_per_byte: float | None = None
    ops_per_byte_measured: bool | None = None
    memory_peak_gb_per_s: float | None = None

    @property
    def unit(self) -> str:
        """Unit of `achieved_tflops` and `peak_tflops`: TFLOP/s, or TOP/s for integers."""
        return arithmetic_unit(self.series.precision)

    @property
    def waits_for_arrivals(self) -> bool:
        """Whether its rate is what was offered, and says nothing of what the device can."""
        return waits_for_arrivals(self.series, self.flags)


@dataclass(frozen=True)
class Efficiency:
    """Every point with a number.

    Attributes:
        uses: one for each point.
        missing: what could not be said and why, a sentence each.
    """

    uses: tuple[Utilization, ...]
    missing: tuple[str, ...]

    def as_table(self) -> pa.Table:
        """Return a row for each point."""
        return as_table(Utilization, self.uses)


def efficiency(
    trials: pa.Table,
    usd_per_device_hour: float | None = None,
    accelerators: tuple[Accelerator, ...] | None = None,
) -> Efficiency:
    """Return share of peak, energy and cost of every point in a `trials` table.

    Args:
        trials: as `raybench.load` returns it.
        usd_per_device_hour: price of one device for an hour; None if it is unknown.
        accelerators: the peaks; None reads conf/accelerators.yaml.
    """
    every = cells(trials)
    good = [cell for cell in every if cell.ok]
    devices = {cell.series.device for cell in good}
    chips = {device: find(device, accelerators) for device in devices}
    uses = tuple(_use(cell, chips[cell.series.device], usd_per_device_hour) for cell in good)
    return Efficiency(uses, without_numbers(every) or _missing(uses, chips))


def _use(cell: Cell, chip: Accelerator | None, price: float | None) -> Utilization:
    rate, workers = cell.mean or 0.0, cell.workers or 1
    gflops = cell.get("gflops_per_item")
    achieved = None if gflops is None else rate * gflops / 1000
    printed = None if chip is None else chip.peaks.get(cell.series.precision or "")
    peak = None if printed is None else printed.value * workers
    mfu = None if achieved is None or peak is None else achieved / peak
    clock = cell.get("sm_clock_mhz_mean")
    reference = None if printed is None else printed.clock_mhz
    intensity, measured = ops_per_byte(cell)
    bandwidth = cell.get("dram_peak_bytes_per_s")
    return Utilization(
        series=cell.series,
        workers=cell.workers,
        trials=cell.trials,
        items_per_s=cell.estimate,
        gflops_per_item=gflops,
        achieved_tflops=achieved,
        chip=None if chip is None else chip.name,
        peak_tflops=peak,
        peak_source=None if printed is None else printed.source,
        mfu=mfu,
        mfu_clock=mfu * reference / clock if mfu is not None and reference and clock else None,
        sm_clock_mhz_mean=clock,
        peak_clock_mhz=reference,
        avg_power_w=cell.get("avg_power_w"),
        energy_source=cell.newest.get("energy_source"),
        items_per_j=cell.get("items_per_j"),
        j_per_item=cell.get("j_per_item"),
        usd_per_device_hour=price,
        usd_per_million_items=price * workers / (rate * 3600) * 1e6 if price and rate else None,
        verdict=cell.verdict,
        flags=cell.flags,
        marks=cell.marks,
        energy_error_rel=_energy_error(cell),
        device_use=in_words(cell),
        ops_per_byte=intensity,
        ops_per_byte_measured=measured,
        memory_peak_gb_per_s=None if bandwidth is None else bandwidth / 1e9,
    )


def _energy_error(cell: Cell) -> float | None:
    watts, lo, hi = map(cell.get, ("avg_power_w", "avg_power_w_lo", "avg_power_w_hi"))
    return (hi - lo) / 2 / watts if watts and lo is not None and hi is not None else None


def _missing(
    uses: Sequence[Utilization], chips: Mapping[str | None, Accelerator | None]
) -> tuple[str, ...]:
    sentences = []
    unlisted = sorted(device_name(str(device)) for device, chip in chips.items() if chip is None)
    if unlisted:
        sentences.append(
            f"No share of peak of {', '.join(unlisted)}: no printed peak in conf/accelerators.yaml."
        )
    unprinted = {(u.chip, u.series.precision) for u in uses if u.chip and u.peak_tflops is None}
    if unprinted:
        names = ", ".join(
            f"{precision} of {chip}" for chip, precision in sorted(unprinted, key=str)
        )
        sentences.append(f"No share of peak: none is printed for {names}.")
    if any(use.gflops_per_item is None for use in uses):
        models = sorted({str(u.series.model) for u in uses if u.gflops_per_item is None})
        sentences.append(
            f"No achieved arithmetic: the operations of {', '.join(models)} are not known."
        )
    if any(use.mfu is not None and use.sm_clock_mhz_mean is None for use in uses):
        sentences.append("No share of peak at the measured clock where the clock was not read.")
    if all(use.j_per_item is None for use in uses):
        sentences.append("No energy: no row has a reading over its window.")
    if all(use.usd_per_million_items is None for use in uses):
        sentences.append("No cost: no price was given. Give the price of a device-hour.")
    return tuple(sentences)
