"""Clock: a worker's monotonic clock against the driver's, and whether it kept to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Clock:
    """A worker's clock as one ping told it.

    Attributes:
        offset_ns: worker's clock minus driver's.
        round_trip_ns: of the ping; the error of the offset is at most half of this.
        at_ns: when, by the driver's clock.
    """

    offset_ns: int
    round_trip_ns: int
    at_ns: int

    @property
    def bound_ns(self) -> float:
        """Bound on the error of the offset."""
        return self.round_trip_ns / 2


def best(pings: Sequence[tuple[int, int, int]]) -> Clock:
    """The clock by the shortest of some round trips.

    Args:
        pings: (sent, theirs, back), at least one: the driver's clock, the worker's, the driver's.
    """
    sent, theirs, back = min(pings, key=lambda ping: ping[2] - ping[0])
    middle = (sent + back) // 2
    return Clock(theirs - middle, back - sent, middle)


@dataclass(frozen=True)
class Watched:
    """A worker's clock before and after a stream."""

    before: Clock
    after: Clock

    @property
    def bound_ns(self) -> float:
        """Bound on the error of both offsets."""
        return max(self.before.bound_ns, self.after.bound_ns)

    @property
    def moved_ns(self) -> float:
        """How far the clock surely moved against the driver's: beyond what the bounds explain."""
        moved = abs(self.after.offset_ns - self.before.offset_ns)
        return max(moved - self.before.bound_ns - self.after.bound_ns, 0.0)

    @property
    def skew(self) -> float:
        """`moved_ns` over the time between: by this share the worker's rates may be wrong."""
        between = self.after.at_ns - self.before.at_ns
        return self.moved_ns / between if between > 0 else 0.0


def watched(before: Sequence[Clock], after: Sequence[Clock]) -> list[Watched]:
    """The clocks of all workers, in order, before and after a stream."""
    return [Watched(*pair) for pair in zip(before, after, strict=True)]
