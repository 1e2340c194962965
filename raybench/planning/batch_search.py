"""The search for the largest batch that fits in memory (`batch_size: max`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from raybench.experiment import Point

LARGEST_BATCH = 1 << 16
"""The search goes no higher than this."""


@dataclass
class BatchSearch:
    """The search for the largest batch of one point: doubling until one fails, then bisection.

    Attributes:
        fits: the largest batch that fitted.
        too_large: the smallest batch that did not; None before one failed.
        reason: why that batch failed.
        probing: whether a probe is running.
    """

    fits: int = 0
    too_large: int | None = None
    reason: str = ""
    probing: bool = False

    @property
    def complete(self) -> bool:
        """Whether `fits` is the answer."""
        return self.too_large == self.fits + 1 or self.fits >= LARGEST_BATCH

    @property
    def candidate(self) -> int:
        """The batch to try next; the answer once the search is complete."""
        if self.complete:
            return self.fits
        if self.too_large is None:
            return 2 * self.fits or 1
        return (self.fits + self.too_large) // 2

    @property
    def note(self) -> str | None:
        """The text for the row: why there is no larger batch."""
        if self.too_large is None:
            return None
        return f"batch_size={self.too_large} does not fit: {self.reason}"

    def reject(self, batch_size: int, reason: str) -> None:
        """Record that a batch ran out of memory."""
        self.too_large, self.reason = batch_size, reason

    def reopen(self, batch_size: int, reason: str) -> None:
        """Search below a batch that passed its probe and ran out of memory when measured."""
        self.reject(batch_size, reason)
        self.fits = batch_size // 2


class MemoryLimits:
    """The smallest batch of each series that ran out of memory.

    Args:
        points: that ran out of memory in earlier runs.
    """

    def __init__(self, points: Iterable[Point] = ()) -> None:
        self._smallest: dict[str, int] = {}
        for point in points:
            self.record(point)

    def record(self, point: Point) -> None:
        """Record that a point ran out of memory."""
        before = self._smallest.get(point.series, point.batch_size)
        self._smallest[point.series] = min(point.batch_size, before)

    def limit(self, point: Point) -> int | None:
        """Return the smallest batch of the point's series that did not fit; None if all did."""
        return self._smallest.get(point.series)

    def search(self, point: Point) -> BatchSearch:
        """Return a new search for the largest batch, bounded by the point's series."""
        limit = self.limit(point)
        reason = "it ran out of memory" if limit is not None else ""
        return BatchSearch(too_large=limit, reason=reason)
