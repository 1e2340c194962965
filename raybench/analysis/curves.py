"""One series over its numbers of workers: its law, its finding and what it lacks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from raybench.analysis.marks import marks_of
from raybench.analysis.scaling_law import LEAST_SIZES, ScalingLaw, law

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.analysis.bottlenecks import Bound
    from raybench.analysis.cells import Cell
    from raybench.analysis.scaling import ScalingEntry
    from raybench.analysis.series import Series


@dataclass(frozen=True)
class Curve:
    """One series with more than one number of workers, as a whole.

    Attributes:
        mode: weak or strong, see `scaling.ScalingEntry`.
        workers: numbers of workers with a number, rising.
        rates: items/s of each trial at each of them.
        finding: what the curve shows, in one sentence with figures.
        bounds: what holds its points back.
        missing: what could not be said and why, a sentence each.
        marks: of any of its points, see `marks.MARKS`.
    """

    series: Series
    mode: str
    workers: tuple[int, ...]
    rates: tuple[tuple[float, ...], ...]
    finding: str
    bounds: tuple[Bound, ...]
    missing: tuple[str, ...]
    marks: tuple[str, ...]

    @cached_property
    def law(self) -> ScalingLaw | None:
        """The law from four numbers of workers on; fitted on first use, which takes 50 ms."""
        return law(self.workers, self.rates)


def curve(
    cells: Sequence[Cell],
    entries: Sequence[ScalingEntry],
    bounds: Sequence[Bound],
    workers_known: bool,
) -> Curve:
    """Return the curve of one series.

    Args:
        cells: of the series, those with numbers first.
        entries: one for each cell, in the same order.
        bounds: what holds the cells back.
        workers_known: whether there was a `workers` table.
    """
    pairs = [(cell, entry) for cell, entry in zip(cells, entries, strict=True)
             if cell.ok and cell.workers]  # fmt: skip
    measured = [entry for _, entry in pairs]
    return Curve(
        series=entries[0].series,
        mode=entries[0].mode,
        workers=tuple(cell.workers or 0 for cell, _ in pairs),
        rates=tuple(cell.values for cell, _ in pairs),
        finding=_finding(measured),
        bounds=tuple(bounds),
        missing=tuple(_lacking(measured, entries, workers_known)),
        marks=marks_of(cell for cell, _ in pairs),
    )


def _finding(entries: Sequence[ScalingEntry]) -> str:
    """Say what the largest number of workers reaches and whether anything is lost on the way."""
    last = entries[-1]
    base = last.base_workers or 1
    digits = 3 if last.speedup.lo is None else 2  # with an interval, no finer than the interval
    reached = f"{last.workers} workers give {last.speedup.value:.{digits}f} times the throughput of {base}"
    share = f"{100 * (last.efficiency.value or 0):.1f} % of ideal"
    sure = [entry.efficiency for entry in entries[1:] if entry.efficiency.has_interval]
    if len(sure) < len(entries) - 1:
        return f"{reached} ({share}); no confidence interval with one trial."
    low, high = last.efficiency.lo or 0, last.efficiency.hi or 0
    interval = f"{100 * low:.1f} to {100 * high:.1f} %"
    if all((efficiency.lo or 0) <= 1 <= (efficiency.hi or 0) for efficiency in sure):
        return f"{reached} ({share}, {interval}): no contention that these trials could measure."
    return f"{reached} ({share}, {interval})."


def _lacking(
    measured: Sequence[ScalingEntry], entries: Sequence[ScalingEntry], workers_known: bool
) -> list[str]:
    base = measured[0].base_workers
    sentences = []
    if base != 1:
        sentences.append(f"One worker has no number; speedup refers to {base}. Measure workers=1.")
    if len(measured) < LEAST_SIZES:
        sentences.append(
            f"No scalability law: {len(measured)} numbers of workers, {LEAST_SIZES} are needed."
        )
    if any(entry.trials < 2 for entry in measured):
        sentences.append("No interval of the speedup: fewer than 2 trials. Measure with trials=3.")
    if not workers_known:
        sentences.append("No slowest worker and no loss to neighbours: no workers table was given.")
    elif all(entry.solo_items_per_s is None for entry in measured):
        sentences.append(
            "No loss to neighbours: not every device was measured alone. "
            "Measure one worker on each device."
        )
    lost = sorted(
        {f"{entry.workers} workers: {entry.status}" for entry in entries if entry.status != "ok"}
    )
    if lost:
        sentences.append(f"Without a number: {', '.join(lost)}.")
    return sentences
