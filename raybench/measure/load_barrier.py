"""The barrier behind which all workers of a point load their engines at one instant."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from raybench.machine import page_cache
from raybench.measure.stream import wait_until
from raybench.models.graph.onnxfile import graph_files

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from raybench.engines.base import Load

AS_IT_IS, COLD, WARM = "as_is", "cold", "warm"
STATES = (AS_IT_IS, COLD, WARM)
"""States of the page cache that can be asked for. With the first there is no barrier."""
LONGEST_S = 3600.0
"""A worker that is forgotten behind the barrier goes on after so long."""


class LoadStart(NamedTuple):
    """When a worker began to load its engine.

    Attributes:
        at_ns: common instant by this process's clock; without a barrier, when it began.
        late_ms: how much later it did begin; None without a barrier.
        page_cache: "cold" or "warm", as it was found to be; None if unknown or not asked for.
    """

    at_ns: int
    late_ms: float | None = None
    page_cache: str | None = None


NO_START = LoadStart(0)


@dataclass(frozen=True)
class _Opened:
    at_ns: int
    page_cache: str | None


class LoadBarrier:
    """Holds a worker back between its graph and its engine until all others are there, too.

    `wait` belongs to the thread that prepares; the other methods may be called from another.
    """

    def __init__(self) -> None:
        self._files: Sequence[Path] | None = None
        self._opened: _Opened | None = None
        self._open = threading.Event()

    def wait(self, state: str, load: Load) -> LoadStart:
        """Wait for the common instant, unless no state of the page cache is asked for.

        Args:
            state: that is asked for, of `STATES`.
            load: what the engine will be loaded with.
        """
        if state == AS_IT_IS:
            return LoadStart(time.perf_counter_ns())
        self._open.clear()
        self._files = _files(load)
        self._open.wait(LONGEST_S)
        self._files = None
        opened = self._opened or _Opened(time.perf_counter_ns(), None)
        wait_until(opened.at_ns, time.perf_counter_ns, time.sleep)
        late_ms = (time.perf_counter_ns() - opened.at_ns) / 1e6
        return LoadStart(opened.at_ns, late_ms, opened.page_cache)

    def waiting_ns(self) -> int | None:
        """Return this process's clock if the worker waits; None if it does not."""
        return None if self._files is None else time.perf_counter_ns()

    def set_page_cache(self, state: str) -> str | None:
        """Take what will be loaded out of this node's page cache or into it.

        Returns:
            The state that the files are in now; None if it is another one or unknown.
        """
        files = self._files or ()
        (page_cache.drop if state == COLD else page_cache.fill)(files)
        share = page_cache.resident_frac(files)
        if share is None:
            return None
        reached = share <= page_cache.COLD_FRAC if state == COLD else share >= page_cache.WARM_FRAC
        return state if reached else None

    def open(self, at_ns: int, state: str | None) -> None:
        """Let the worker load at an instant of its clock, with the page cache in a state."""
        self._opened = _Opened(at_ns, state)
        self._open.set()


class HasLoadBarrier:
    """What the driver calls on a worker that waits; each method as in `LoadBarrier`."""

    def __init__(self) -> None:
        self.barrier = LoadBarrier()

    def waiting_ns(self) -> int | None:
        """Return this process's clock if the worker waits; None if it does not."""
        return self.barrier.waiting_ns()

    def set_page_cache(self, state: str) -> str | None:
        """Bring this node's page cache into a state, and return the one that it is in."""
        return self.barrier.set_page_cache(state)

    def open_barrier(self, at_ns: int, state: str | None) -> None:
        """Let the worker load at an instant of its clock."""
        self.barrier.open(at_ns, state)


def _files(load: Load) -> tuple[Path, ...]:
    """Return the files that an engine may read: graph and weights, and what is in the cache."""
    path = load.model.path
    graph = graph_files(path) if path.is_file() else ()
    if not graph:
        return ()  # a simulated engine reads none
    below = (file for file in load.cache_dir.rglob("*") if file.is_file())
    return tuple(dict.fromkeys((*graph, *below)))
