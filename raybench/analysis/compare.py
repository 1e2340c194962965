"""compare: did it get faster or slower, point by point, and how sure is that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from raybench.analysis.frame import as_table
from raybench.analysis.points import Series  # noqa: TC001 - as_table reads the annotation

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa


IMPROVED, REGRESSED, SAME, INCONCLUSIVE = "improved", "regressed", "same", "inconclusive"
MISSING = "missing"
"""A point that only one side has a number for."""
METRICS = {
    "items_per_s": "higher",
    "latency_p50_ms": "lower",
    "latency_p99_ms": "lower",
    "j_per_item": "lower",
    "load_s": "lower",
    "first_infer_ms": "lower",
}
"""Columns that can be compared, and which way is better."""
THRESHOLD = 0.01


@dataclass(frozen=True)
class Change:
    """One point on both sides.

    Attributes:
        series: what both sides share; factors that may differ are None.
        a: mean over trials on the first side, with its interval; b on the second.
        a_interval: see `scaling.Entry`.
        ratio: b over a, of geometric means of trials; 95 % bounds from 2 trials a side on.
        outcome: IMPROVED, REGRESSED, SAME, INCONCLUSIVE or MISSING.
        detectable: relative change that these trials would find in 80 of 100 cases; None with
            fewer than 2 trials a side.
        clock_ratio: mean SM clock of b over a; None where it was not read.
        clock_explains: the clock accounts for 80 % or more of the change.
        note: why it is inconclusive or missing, or what explains it; one sentence.
        marks: of either side, see `points.MARKS`.
    """

    series: Series
    workers: int | None
    outcome: str
    note: str | None
    a: float | None
    a_lo: float | None
    a_hi: float | None
    a_interval: str | None
    a_trials: int
    a_verdict: str | None
    b: float | None
    b_lo: float | None
    b_hi: float | None
    b_interval: str | None
    b_trials: int
    b_verdict: str | None
    ratio: float | None
    ratio_lo: float | None
    ratio_hi: float | None
    detectable: float | None
    clock_ratio: float | None
    clock_explains: bool
    a_flags: tuple[str, ...]
    b_flags: tuple[str, ...]
    marks: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """Two sides, point by point.

    Attributes:
        a_name: what the first side is called; b_name the second.
        metric: column that was compared, see `METRICS`.
        threshold: changes within it do not matter, as a share.
        by: factors that may differ.
        differs: what does differ, by factor: (name, value in a, value in b) in words.
        geometric_mean: of the ratios of the points on both sides; descriptive only.
        missing: what could not be said and why, a sentence each.
    """

    a_name: str
    b_name: str
    metric: str
    threshold: float
    by: tuple[str, ...]
    differs: tuple[tuple[str, str, str], ...]
    changes: tuple[Change, ...]
    geometric_mean: float | None
    missing: tuple[str, ...]

    def count(self, outcome: str) -> int:
        """How many points have this outcome."""
        return sum(change.outcome == outcome for change in self.changes)

    def exit_code(self, strict: bool = False) -> int:
        """0 nothing regressed, 1 something did, 3 undecided with `strict`."""
        if self.count(REGRESSED):
            return 1
        return 3 if strict and (self.count(INCONCLUSIVE) or self.count(MISSING)) else 0

    def as_table(self) -> pa.Table:
        """A row a point."""
        return as_table(Change, self.changes)


def compare(
    a: pa.Table,
    b: pa.Table,
    *,
    by: Sequence[str] = (),
    metric: str = "items_per_s",
    threshold: float = THRESHOLD,
    names: tuple[str, str] = ("A", "B"),
) -> Comparison:
    """Hold two `trials` tables against one another.

    Args:
        a: the rows that are held to be usual.
        b: the rows in question.
        by: factors that may differ between the sides, columns of `trials` or of `environment`.
        metric: see `METRICS`.
        threshold: changes within it do not matter.
        names: what the sides are called.

    Raises:
        ComparisonRefused: the sides are not alike in something that `by` does not name, or have no
            point in common.
    """
    raise NotImplementedError
