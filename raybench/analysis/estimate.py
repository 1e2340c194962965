"""Values with their confidence intervals, and ratios of cells."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from raybench.stats.intervals import Span
from raybench.stats.ratios import ratio_of, ratios_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.analysis.cells import Cell


class Estimate(NamedTuple):
    """A value with its 95 % confidence interval.

    In `as_table()` a field `name` of this type becomes the columns `name`, `name_lo`, `name_hi`.

    Attributes:
        value: None where there is nothing to estimate it from.
        lo: lower bound; None where there are too few trials for an interval.
        hi: upper bound; None where there are too few trials for an interval.
    """

    value: float | None = None
    lo: float | None = None
    hi: float | None = None

    @property
    def has_interval(self) -> bool:
        """Whether both bounds are known."""
        return self.lo is not None and self.hi is not None

    @property
    def relative_width(self) -> float | None:
        """Width of the interval over the value; None without an interval or for 0."""
        if self.lo is None or self.hi is None or not self.value:
            return None
        return (self.hi - self.lo) / self.value

    def over(self, divisor: float) -> Estimate:
        """Divide the value and its bounds by a positive number."""
        if self.value is None:
            return UNKNOWN
        return Estimate(
            self.value / divisor,
            None if self.lo is None else self.lo / divisor,
            None if self.hi is None else self.hi / divisor,
        )

    def complement(self) -> Estimate:
        """Return 1 minus the value; the bounds change places."""
        if self.value is None:
            return UNKNOWN
        return Estimate(
            1 - self.value,
            None if self.hi is None else 1 - self.hi,
            None if self.lo is None else 1 - self.lo,
        )


UNKNOWN = Estimate()
ONE = Estimate(1.0)
"""The ratio of anything to itself, which needs no interval."""


def estimate(span: Span | None) -> Estimate:
    """Convert a span, or the lack of one, to an estimate."""
    return UNKNOWN if span is None else Estimate(span.value, span.lo, span.hi)


def ratio(cell: Cell, base: Cell) -> Span:
    """Return the ratio of two means, with an interval if both cells have 2 trials or more."""
    if not cell.mean or not base.mean:
        return Span(math.nan, None, None)
    value = cell.mean / base.mean
    if cell.logs is None or base.logs is None or min(cell.logs.count, base.logs.count) < 2:
        return Span(value, None, None)
    span = ratio_of(cell.logs, base.logs)
    return Span(value, span.lo, span.hi)


def ratio_to(cell: Cell, base: Cell | None) -> Estimate:
    """Return the ratio of a cell to its base; unknown unless both have a number."""
    if base is None or not cell.ok or not base.ok:
        return UNKNOWN
    return ONE if cell is base else estimate(ratio(cell, base))


def ratios(pairs: Sequence[tuple[Cell, Cell]]) -> list[Estimate]:
    """Return the ratio of each pair of cells with numbers, as `ratio` but all at once."""
    several = [
        (cell.logs, base.logs)
        for cell, base in pairs
        if cell.logs is not None and base.logs is not None
        if cell.logs.count > 1 and base.logs.count > 1
    ]
    spans = iter(ratios_of(several))
    estimates = []
    for cell, base in pairs:
        value = (cell.mean or 0.0) / base.mean if base.mean else math.nan
        a, b = cell.logs, base.logs
        if a is not None and b is not None and a.count > 1 and b.count > 1:
            span = next(spans)
            estimates.append(Estimate(value, span.lo, span.hi))
        else:
            estimates.append(Estimate(value))
    return estimates
