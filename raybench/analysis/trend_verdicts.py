"""What a trend says of each point: its runs, its steps and a verdict."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from raybench.analysis.estimate import Estimate
from raybench.analysis.run_series import RunLevel  # noqa: TC001 - get_type_hints reads it
from raybench.analysis.series import Series  # noqa: TC001 - get_type_hints reads it
from raybench.analysis.tables import as_table

if TYPE_CHECKING:
    import pyarrow as pa

REGRESSED, IMPROVED, STEADY, UNDECIDED = "regressed", "improved", "steady", "undecided"
OUTCOMES = (REGRESSED, IMPROVED, UNDECIDED, STEADY)
TOLERANCE = 0.01
MOST_TOLERANCE = 0.9
SEEN = 0.05
"""A series without a step is steady where one of this size (or of twice the tolerance) would be seen."""


@dataclass(frozen=True)
class TrendStep:
    """A change of the level of a point.

    Attributes:
        run_id: the first run of the new level; `started_at` its start.
        previous_at: start of the last run of the level before.
        ratio: level after over level before; the interval holds for all steps of a trend at 99 %.
        outcome: REGRESSED or IMPROVED where the whole interval lies beyond the tolerance, STEADY
            where it lies within, else UNDECIDED.
        runs_before: of the level before; `runs_after` of the new one.
        changed: what changed in the environment, or "cause not seen".
    """

    run_id: str
    started_at: str
    previous_at: str
    ratio: Estimate
    outcome: str
    runs_before: int
    runs_after: int
    changed: tuple[str, ...]


@dataclass(frozen=True)
class PointTrend:
    """One point over all runs that have it.

    Attributes:
        series: the factors that the runs share; those that may differ are None.
        outcome: that of the newest step beyond the tolerance; see `trend`.
        note: why it is undecided, or what else must be known; one sentence.
        runs: oldest first.
        steps: oldest first.
        spread: standard deviation between runs of one level, relative; None below 6 runs.
        smallest_visible: step that would be found in 80 of 100 cases; None below 6 runs.
        runs_needed: that would decide; None where it is decided, or nothing is known.
        marks: see `marks.MARKS`.
    """

    series: Series
    workers: int | None
    outcome: str
    note: str | None
    runs: tuple[RunLevel, ...]
    steps: tuple[TrendStep, ...]
    spread: float | None
    smallest_visible: float | None
    runs_needed: int | None
    marks: tuple[str, ...]


@dataclass(frozen=True)
class TrendRow:
    """One point in one run, as a row: what `Trend.as_table` and format=csv hold."""

    series: Series
    workers: int | None
    run: RunLevel
    step: Estimate
    step_outcome: str | None
    changed: tuple[str, ...]


@dataclass(frozen=True)
class Trend:
    """Many runs as one data set, point by point.

    Attributes:
        metric: column that was followed, see `cells.METRICS`.
        tolerance: changes below this share are no regression.
        by: what the runs of a series may differ in, see `BY`.
        runs: how many there are.
        first_at: start of the oldest; `last_at` of the newest.
        missing: what could not be said and why, a sentence each.
    """

    metric: str
    tolerance: float
    by: tuple[str, ...]
    runs: int
    first_at: str
    last_at: str
    points: tuple[PointTrend, ...]
    missing: tuple[str, ...]

    def count(self, outcome: str) -> int:
        """Return the number of points with this outcome."""
        return sum(point.outcome == outcome for point in self.points)

    def exit_code(self, strict: bool = False) -> int:
        """Return 0 if nothing regressed, 1 if something did, 3 if undecided with `strict`."""
        if self.count(REGRESSED):
            return 1
        return 3 if strict and self.count(UNDECIDED) else 0

    def as_table(self) -> pa.Table:
        """Return a row for each run of each point; that of the first run after a step has the step."""
        rows = []
        for point in self.points:
            at = {step.run_id: step for step in point.steps}
            for run in point.runs:
                step = at.get(run.run_id)
                rows.append(
                    TrendRow(
                        series=replace(point.series, environment_id=run.environment_id),
                        workers=point.workers,
                        run=run,
                        step=step.ratio if step else Estimate(),
                        step_outcome=step.outcome if step else None,
                        changed=step.changed if step else (),
                    )
                )
        table = as_table(TrendRow, rows)
        second = table.column_names.index("environment_id", table.column_names.index("run_id"))
        return table.remove_column(second)
