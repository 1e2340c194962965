"""A value with its confidence interval."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from raybench.stats.intervals import Span


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
