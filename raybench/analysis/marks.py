"""Marks: what a reader must know before trusting a figure."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from raybench.analysis.series import Series

MARKS = ("simulated", "capped", "unstable", "unverified")
"""No hardware was measured; the device was used with less memory than it has; the measurement is
contradicted by its own evidence; the preset was too short to claim more."""


class Marked(Protocol):
    """Anything that has marks."""

    @property
    def marks(self) -> tuple[str, ...]:
        """See `MARKS`."""


def marks_from(series: Series, verdict: str | None) -> tuple[str, ...]:
    """Return the marks of a result of this series with this verdict."""
    return _marks(bool(series.simulated), series.memory_limit_bytes is not None, verdict)


@lru_cache
def _marks(simulated: bool, capped: bool, verdict: str | None) -> tuple[str, ...]:
    applies = (simulated, capped, verdict == "unstable", verdict == "unverified")
    return tuple(mark for mark, applied in zip(MARKS, applies, strict=True) if applied)


def marks_of(items: Iterable[Marked | None]) -> tuple[str, ...]:
    """Return the marks that any of the items has, in the order of `MARKS`."""
    return union(item.marks for item in items if item is not None)


def union(marks: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """Return every mark that occurs, in the order of `MARKS`."""
    present = {mark for each in marks for mark in each}
    return tuple(mark for mark in MARKS if mark in present) if present else ()
