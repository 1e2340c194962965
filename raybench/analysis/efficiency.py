"""efficiency: what share of the chip's peak was reached, and what an item costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from raybench.analysis.frame import as_table
from raybench.analysis.points import Series  # noqa: TC001 - as_table reads the annotation

if TYPE_CHECKING:
    import pyarrow as pa

    from raybench.analysis.accelerators import Accelerator


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
    return Efficiency((), ("Not built yet.",))
