"""Intended arrivals of items in open loop: a seeded schedule that nothing that happens changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

PIECE_ITEMS = 2048
"""Arrivals that are drawn at once, which takes less than 0.1 ms."""
DRAIN_MS = 5000.0
SHARED = "shared"
"""Name of the balancer with one queue for all workers."""


@dataclass(frozen=True)
class WorkerArrivals:
    """The arrivals of one worker.

    Attributes:
        kind: "poisson" has independent exponential gaps, "constant" equal ones.
        items_per_s: mean rate at this worker.
        first: when the first item of a constant rate arrives, in gaps after the start.
        seed: of the gaps.
        max_wait_ms: longest time that an item waits for others to fill its batch.
        drain_ms: longest time after the end in which what had arrived by then is served.
        tickets: path of the `Tickets` of the queue that it shares with others; "" for a queue of
            its own.
    """

    kind: Literal["poisson", "constant"]
    items_per_s: float
    first: float
    seed: tuple[int, ...]
    max_wait_ms: float = 0.0
    drain_ms: float = DRAIN_MS
    tickets: str = ""


@dataclass(frozen=True)
class Arrivals:
    """The arrivals at all workers of a point, split evenly or in one queue.

    N Poisson processes of rate lambda / N are one of lambda whose items are routed at random. Workers
    with a constant rate take turns. In a shared queue every worker draws all arrivals, those that one
    worker alone would have, and takes what no other has taken. The gaps of a seed are the same at every rate, in units of their
    mean: a search over rates compares like with like.

    Attributes:
        kind: "poisson" or "constant".
        items_per_s: mean rate at all workers together.
        workers: that share it.
        seed: of the gaps; a worker adds its rank.
        max_wait_ms: longest time that an item waits for others to fill its batch.
        shared: whether all workers serve one queue.
    """

    kind: Literal["poisson", "constant"]
    items_per_s: float
    workers: int = 1
    seed: tuple[int, ...] = (0,)
    max_wait_ms: float = 0.0
    shared: bool = False

    def of_worker(self, rank: int, tickets: str = "") -> WorkerArrivals:
        """Return the arrivals of the worker of this rank.

        Args:
            rank: of the worker.
            tickets: path of the `Tickets` of a shared queue.
        """
        of, place = (1, 0) if self.shared else (self.workers, rank)
        return WorkerArrivals(
            self.kind,
            self.items_per_s / of,
            (place + 1) / of,
            (*self.seed, place),
            self.max_wait_ms,
            tickets=tickets,
        )


class ArrivalTimes:
    """Draws the arrivals of one worker, piece by piece, so that an hour of them needs no memory.

    Args:
        arrivals: of the worker.
        start_ns: the common start.
    """

    def __init__(self, arrivals: WorkerArrivals, start_ns: int) -> None:
        self._arrivals = arrivals
        self._start_ns = start_ns
        self._gap_ns = 1e9 / arrivals.items_per_s
        self._random = np.random.default_rng(arrivals.seed)
        self._gaps = 0.0 if arrivals.kind == "poisson" else arrivals.first - 1
        """Time of the last arrival that was drawn, in mean gaps after the start."""

    def draw(self, count: int = PIECE_ITEMS) -> NDArray[np.int64]:
        """Return the next arrivals in ns, int64, shape (count,), never falling."""
        if self._arrivals.kind == "poisson":
            gaps = self._gaps + np.cumsum(self._random.standard_exponential(count))
        else:
            gaps = self._gaps + np.arange(1.0, count + 1)
        self._gaps = float(gaps[-1])
        times: NDArray[np.int64] = self._start_ns + (gaps * self._gap_ns).astype(np.int64)
        return times
