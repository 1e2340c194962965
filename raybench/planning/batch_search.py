"""The search for the largest batch that fits in memory (`batch_size: max`)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from raybench.errors import OutOfMemory

if TYPE_CHECKING:
    from collections.abc import Iterable

    from raybench.errors import PointError
    from raybench.experiment import Point
    from raybench.planning.plan import PlannedTrial

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


class BatchSearches:
    """The searches of a run, and the smallest batch of each series that ran out of memory.

    Args:
        out_of_memory: points that ran out of memory in earlier runs.

    Attributes:
        limits_recorded: how often a batch ran out of memory; unchanged, nothing else is excluded.
    """

    def __init__(self, out_of_memory: Iterable[Point] = ()) -> None:
        self.limits_recorded = 0
        self._limits: dict[str, int] = {}
        self._searches: dict[str, BatchSearch] = {}
        for point in out_of_memory:
            self.record_limit(point)

    def record_limit(self, point: Point) -> None:
        """Record that a point ran out of memory."""
        self.limits_recorded += 1
        before = self._limits.get(point.series, point.batch_size)
        self._limits[point.series] = min(point.batch_size, before)

    def limit(self, point: Point) -> int | None:
        """Return the smallest batch of the point's series that did not fit; None if all did."""
        return self._limits.get(point.series)

    def excludes(self, point: Point) -> bool:
        """Return whether a smaller batch of the series ran out of memory, so that this one will.

        A largest batch is excluded when a single item did not fit before its search began.
        """
        limit = self.limit(point)
        if limit is None:
            return False
        if point.largest:
            return limit == 1 and point.id not in self._searches
        return point.batch_size > limit

    def resolve(self, waiting: PlannedTrial) -> PlannedTrial | None:
        """Return what to start for a waiting trial; None while a probe for it runs.

        For `batch_size: max` that is a probe, or the trial with the largest batch.
        """
        if not waiting.point.largest:
            return waiting
        search = self._search(waiting.point)
        if search.probing:
            return None
        purpose: Literal["measure", "fit"] = "measure" if search.complete else "fit"
        point = replace(waiting.point, batch_size=search.candidate, largest=search.complete)
        return replace(waiting, point=point, purpose=purpose)

    def start_probe(self, point: Point) -> None:
        """Record that a probe for the point runs."""
        self._search(point).probing = True

    def end_probe(self, point: Point, probe: Point, error: PointError | None) -> None:
        """Record how a probe for the point ended."""
        search = self._search(point)
        search.probing = False
        if error is None:
            search.fits = probe.batch_size
        elif isinstance(error, OutOfMemory):
            search.reject(probe.batch_size, str(error))
            self.record_limit(probe)

    def reopen(self, point: Point, error: OutOfMemory) -> None:
        """Search below a batch that ran out of memory when it was measured."""
        self._search(point).reopen(point.batch_size, str(error))
        self.record_limit(point)

    def note(self, point: Point) -> str | None:
        """Return why there is no larger batch than that of a point; None without a search."""
        search = self._searches.get(point.id)
        return search.note if search else None

    def _search(self, point: Point) -> BatchSearch:
        if point.id not in self._searches:
            limit = self.limit(point)
            reason = "it ran out of memory" if limit is not None else ""
            self._searches[point.id] = BatchSearch(too_large=limit, reason=reason)
        return self._searches[point.id]
