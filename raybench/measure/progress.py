"""Progress of running streams, as the driver sees it from outside, in whole blocks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from raybench.measure.blocks import by_cell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True)
class WorkerStatus:
    """Status of one running worker at the last snapshot; unknown values are None.

    Attributes:
        host: name of its node.
        device: for people, e.g. "GPU 0"; only one worker at a time uses it on that host.
        items_per_s: over the last blocks.
        latency_ms: median of the batches since the previous snapshot.
        power_w: of the device, last reading.
        temp_c: of the device, last reading.
    """

    host: str
    device: str
    items_per_s: float | None
    latency_ms: float | None
    power_w: float | None
    temp_c: float | None


@dataclass(frozen=True)
class TrialProgress:
    """Progress of one running trial at the last snapshot.

    Attributes:
        elapsed_s: how long its phase has lasted.
        limit_s: how long its phase may last.
        items_per_s: of all workers together; None before the first block.
        relative: half-width of the interval over the mean; None before the first interval.
        workers: status of each worker.
        batches: completed by the worker that has completed fewest.
        waiting_s: since a batch of that worker was last seen to be completed.
    """

    elapsed_s: float
    limit_s: float
    items_per_s: float | None
    relative: float | None
    workers: Sequence[WorkerStatus] = ()
    batches: int = 0
    waiting_s: float = 0.0


class Completions:
    """When each worker was last seen to have completed a batch, on the driver's clock.

    Args:
        workers: number of workers.
    """

    def __init__(self, workers: int) -> None:
        self._seen = [(0, 0.0)] * workers

    def add(self, done: Sequence[int], now_s: float) -> None:
        """Note how many batches each worker has completed, `now_s` after the common start."""
        self._seen = [
            before if batches == before[0] else (batches, now_s)
            for before, batches in zip(self._seen, done, strict=True)
        ]

    def waiting(self, now_s: float) -> tuple[int, float]:
        """Return the batches of the worker that is furthest behind, and how long it waits."""
        batches, since_s = min(self._seen)
        return batches, max(now_s - since_s, 0.0)


class BlockRates:
    """Collects the block edges of all workers as they arrive and computes rates by grid cell.

    Args:
        workers: number of workers.
        batch_size: items of a batch; 1 in open loop, where edges count items.
        block_ns: length of a grid cell.
    """

    def __init__(self, workers: int, batch_size: int, block_ns: int) -> None:
        self._batch_size = batch_size
        self._block_ns = block_ns
        self._edges: list[list[int]] = [[] for _ in range(workers)]
        self._edge_ns: list[list[int]] = [[] for _ in range(workers)]
        self._temp_c: list[list[float]] = [[] for _ in range(workers)]
        self._speeds: list[list[float]] = [[] for _ in range(workers)]

    def add(
        self,
        worker: int,
        edges: Sequence[int],
        edge_ns: Sequence[int],
        temp_c: Sequence[float] | None = None,
    ) -> None:
        """Append the new edges of a worker.

        Args:
            worker: its rank.
            edges: index of the batch at each new edge.
            edge_ns: time of each edge in ns since the common start.
            temp_c: temperature of the device at each edge, NaN where unknown; None if all are.
        """
        self._edges[worker] += [int(edge) for edge in edges]
        self._edge_ns[worker] += [int(ns) for ns in edge_ns]
        self._temp_c[worker] += [math.nan] * len(edges) if temp_c is None else temp_c

    def add_speeds(self, worker: int, speeds: Sequence[float]) -> None:
        """Append what a worker's device did at its new edges, in batches per second of busy time."""
        self._speeds[worker] += speeds

    @property
    def speeds(self) -> NDArray[np.float64]:
        """Batches per second of busy time in each grid cell, shape as `rates`; for open loop."""
        return self._in_common([np.array(worker[1:]) for worker in self._speeds])

    @property
    def rates(self) -> NDArray[np.float64]:
        """Items/s in each grid cell, shape (workers, k), for the k cells that all workers have."""
        edges = [np.array(each, np.float64) for each in self._edges]
        stamps = [np.array(each, np.float64) for each in self._edge_ns]
        return self._in_common(
            [
                np.diff(edge) * self._batch_size * 1e9 / np.diff(ns)
                for edge, ns in zip(edges, stamps, strict=True)
            ]
        )

    @property
    def lengths(self) -> NDArray[np.float64]:
        """Length of the block in each grid cell, in cells, shape as `rates`; a stall makes it long."""
        return self._in_common(
            [np.diff(np.array(ns, np.float64)) / self._block_ns for ns in self._edge_ns]
        )

    @property
    def temperatures_c(self) -> NDArray[np.float64] | None:
        """Device temperatures at the end of each cell's block, shape as `rates`; None if unknown."""
        if all(math.isnan(c) for worker in self._temp_c for c in worker):
            return None
        temperatures = self._in_common([np.array(worker[1:]) for worker in self._temp_c])
        return temperatures if temperatures.size else None

    def _in_common(self, per_block: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        """Return the values of each worker's blocks in the grid cells that all workers have."""
        stamps = [np.array(ns, np.int64) for ns in self._edge_ns]
        if any(len(edge_ns) < 2 for edge_ns in stamps):
            return np.empty((len(stamps), 0))
        ends = [(edge_ns[0] // self._block_ns, edge_ns[-1] // self._block_ns) for edge_ns in stamps]
        first = max(begin for begin, _ in ends)
        last = max(min(end for _, end in ends), first)
        return np.array(
            [
                by_cell(values, edge_ns, self._block_ns)[first - begin : last - begin]
                for values, edge_ns, (begin, _) in zip(per_block, stamps, ends, strict=True)
            ]
        )
