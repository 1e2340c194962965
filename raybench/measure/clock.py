"""Offsets between each worker's monotonic clock and the driver's, and how far they moved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Clock:
    """A worker's clock relative to the driver's, from one round trip.

    Attributes:
        offset_ns: worker's clock minus driver's.
        round_trip_ns: duration of the round trip; the offset is wrong by at most half of it.
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
    """Return the clock from the shortest of several round trips.

    Args:
        pings: at least one (sent, answered, received) in ns: by the driver's clock, the worker's
            and the driver's again.
    """
    sent, answered, received = min(pings, key=lambda ping: ping[2] - ping[0])
    middle = (sent + received) // 2
    return Clock(answered - middle, received - sent, middle)


@dataclass(frozen=True)
class ClockDrift:
    """A worker's clock before and after a stream."""

    before: Clock
    after: Clock

    @property
    def bound_ns(self) -> float:
        """Bound on the error of both offsets."""
        return max(self.before.bound_ns, self.after.bound_ns)

    @property
    def moved_ns(self) -> float:
        """How far the clock moved against the driver's, beyond what the bounds can explain."""
        moved = abs(self.after.offset_ns - self.before.offset_ns)
        return max(moved - self.before.bound_ns - self.after.bound_ns, 0.0)

    @property
    def skew(self) -> float:
        """`moved_ns` over the time between; the worker's rates may be wrong by this share."""
        between = self.after.at_ns - self.before.at_ns
        return self.moved_ns / between if between > 0 else 0.0


def clock_drifts(before: Sequence[Clock], after: Sequence[Clock]) -> list[ClockDrift]:
    """Pair the clocks of all workers before and after a stream, in the same order."""
    return [ClockDrift(*pair) for pair in zip(before, after, strict=True)]
