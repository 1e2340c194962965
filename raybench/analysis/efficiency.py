"""efficiency: what share of the chip's peak was reached, and what an item costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from raybench.analysis.accelerators import Accelerator, find
from raybench.analysis.cells import Cell, Series, cells, without_numbers
from raybench.analysis.tables import as_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa


@dataclass(frozen=True)
class Use:
    """One point against its chip's peak, its energy and its price; null where not known.

    Attributes:
        gflops_per_item: 2 x MAC; for int8 these are integer operations.
        achieved_tflops: items_per_s x gflops_per_item / 1000, of all workers together.
        chip: name of the accelerator in conf/accelerators.yaml; None when it is not there.
        peak_tflops: dense peak of all workers' devices together in this precision.
        peak_source: where the peak is printed.
        mfu: achieved / peak.
        mfu_clock: achieved / peak at the mean SM clock that was measured.
        sm_clock_mhz_mean: median over trials, as are the energy figures.
        peak_clock_mhz: the clock to which the peak belongs.
        usd_per_million_items: at the price of a device-hour, all workers' devices paid.
        marks: see `points.MARKS`.
    """

    series: Series
    workers: int | None
    trials: int
    items_per_s: float
    items_per_s_lo: float | None
    items_per_s_hi: float | None
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


@dataclass(frozen=True)
class Efficiency:
    """Every point with a number.

    Attributes:
        missing: what could not be said and why, a sentence each.
    """

    uses: tuple[Use, ...]
    missing: tuple[str, ...]

    def as_table(self) -> pa.Table:
        """A row a point."""
        return as_table(Use, self.uses)


def efficiency(
    trials: pa.Table,
    usd_per_device_hour: float | None = None,
    accelerators: tuple[Accelerator, ...] | None = None,
) -> Efficiency:
    """Share of peak, energy and cost of every point in a `trials` table.

    Args:
        trials: as `raybench.load` gives it.
        usd_per_device_hour: price of one device for an hour; None uses what the rows say.
        accelerators: the peaks; None reads conf/accelerators.yaml.
    """
    made = cells(trials)
    good = [cell for cell in made if cell.ok]
    devices = {cell.series.device for cell in good}
    chips = {device: find(device, accelerators) for device in devices}
    uses = tuple(_use(cell, chips[cell.series.device], usd_per_device_hour) for cell in good)
    return Efficiency(uses, without_numbers(made) or _missing(uses, chips))


def _use(cell: Cell, chip: Accelerator | None, price: float | None) -> Use:
    rate, workers = cell.mean or 0.0, cell.workers or 1
    gflops = cell.get("gflops_per_item")
    achieved = None if gflops is None else rate * gflops / 1000
    one = None if chip is None else chip.peaks.get(cell.series.precision or "")
    peak = None if one is None else one.value * workers
    mfu = None if achieved is None or peak is None else achieved / peak
    clock = cell.get("sm_clock_mhz_mean")
    reference = None if one is None else one.clock_mhz
    usd = cell.get("usd_per_gpu_hour") if price is None else price
    return Use(
        series=cell.series,
        workers=cell.workers,
        trials=cell.trials,
        items_per_s=rate,
        items_per_s_lo=cell.lo,
        items_per_s_hi=cell.hi,
        gflops_per_item=gflops,
        achieved_tflops=achieved,
        chip=None if chip is None else chip.name,
        peak_tflops=peak,
        peak_source=None if one is None else one.source,
        mfu=mfu,
        mfu_clock=mfu * reference / clock if mfu is not None and reference and clock else None,
        sm_clock_mhz_mean=clock,
        peak_clock_mhz=reference,
        avg_power_w=cell.get("avg_power_w"),
        energy_source=cell.said.get("energy_source"),
        items_per_j=cell.get("items_per_j"),
        j_per_item=cell.get("j_per_item"),
        usd_per_device_hour=usd,
        usd_per_million_items=usd * workers / (rate * 3600) * 1e6 if usd and rate else None,
        verdict=cell.verdict,
        flags=cell.flags,
        marks=cell.marks,
    )


def _missing(
    uses: Sequence[Use], chips: Mapping[str | None, Accelerator | None]
) -> tuple[str, ...]:
    told = []
    strange = sorted(str(device) for device, chip in chips.items() if chip is None)
    if strange:
        told.append(
            f"No share of peak of {', '.join(strange)}: no printed peak in conf/accelerators.yaml."
        )
    bare = {(u.chip, u.series.precision) for u in uses if u.chip and u.peak_tflops is None}
    if bare:
        names = ", ".join(f"{precision} of {chip}" for chip, precision in sorted(bare, key=str))
        told.append(f"No share of peak: none is printed for {names}.")
    if any(use.gflops_per_item is None for use in uses):
        models = sorted({str(u.series.model) for u in uses if u.gflops_per_item is None})
        told.append(f"No achieved TFLOP/s: the operations of {', '.join(models)} are not known.")
    if any(use.mfu is not None and use.sm_clock_mhz_mean is None for use in uses):
        told.append("No share of peak at the measured clock where the clock was not read.")
    if all(use.j_per_item is None for use in uses):
        told.append("No energy: no row has a reading over its window.")
    if all(use.usd_per_million_items is None for use in uses):
        told.append("No cost: no price was given. Give the price of a device-hour.")
    return tuple(told)
