"""generation: devices, clusters or engines side by side for the same point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from raybench.analysis.frame import as_table
from raybench.analysis.points import Series  # noqa: TC001 - as_table reads the annotation

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Side:
    """One device, cluster or engine at one point.

    Attributes:
        series: all factors, what differs by included.
        name: value of the factor that differs, e.g. "Tesla P40".
        interval: see `scaling.Entry`.
        ratio: items_per_s over that of the base at the same point; 1 for the base.
        ratio_lo: 95 % bound, from 2 trials on either side on.
        ratio_hi: 95 % bound, from 2 trials on either side on.
        marks: of this side or of its base, see `points.MARKS`.
    """

    series: Series
    workers: int | None
    name: str
    base: str
    status: str
    reason: str | None
    trials: int
    items_per_s: float | None = None
    items_per_s_lo: float | None = None
    items_per_s_hi: float | None = None
    interval: str | None = None
    ratio: float | None = None
    ratio_lo: float | None = None
    ratio_hi: float | None = None
    latency_p50_ms: float | None = None
    latency_p99_ms: float | None = None
    items_per_j: float | None = None
    verdict: str | None = None
    flags: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Generation:
    """Sides of all points that were measured on more than one, grouped by point, base first.

    Attributes:
        by: the column of `points.Series` that differs.
        names: its values, the base first.
        missing: what could not be said and why, a sentence each.
    """

    by: str
    names: tuple[str, ...]
    sides: tuple[Side, ...]
    missing: tuple[str, ...]

    def as_table(self) -> pa.Table:
        """A row a side."""
        return as_table(Side, self.sides)


def generation(trials: pa.Table, by: str = "device", base: str | None = None) -> Generation:
    """The same points on different devices (or whatever `by` names), side by side.

    Args:
        trials: rows of several machines or runs together.
        by: column of `points.Series` that may differ; environment and engine version may differ
            along with it.
        base: its value that the others are held against; None takes the slowest at most points.

    Raises:
        ConfigError: `by` is no factor, or `base` is not among its values.
    """
    return Generation(by, (), (), ("Not built yet.",))
