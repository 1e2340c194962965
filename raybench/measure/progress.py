"""Watch: what the driver knows of running streams, in whole blocks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Pulse:
    """How one running worker is doing, as of the last look; None for what is not known.

    Attributes:
        host: where it runs.
        device: in words, e.g. "GPU 0"; one worker at a time has it on that host.
        items_per_s: over the last blocks.
        latency_ms: median of the batches since the look before.
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
class Glance:
    """How a running point is doing, as of the last look.

    Attributes:
        gone_s: how long its phase has lasted.
        most_s: how long that may last.
        items_per_s: of all workers together; None before the first block.
        relative: half-width of the interval over the mean; None while there is none.
        pulses: of each worker.
    """

    gone_s: float
    most_s: float
    items_per_s: float | None
    relative: float | None
    pulses: Sequence[Pulse] = ()


class Watch:
    """Edges of all workers as they come in; block rates from them.

    Args:
        workers: how many.
        batch_size: items of a batch.
    """

    def __init__(self, workers: int, batch_size: int) -> None:
        self._batch_size = batch_size
        self._edges: list[list[int]] = [[] for _ in range(workers)]
        self._edge_ns: list[list[int]] = [[] for _ in range(workers)]
        self._temp_c: list[list[float]] = [[] for _ in range(workers)]

    def add(
        self,
        worker: int,
        edges: Sequence[int],
        edge_ns: Sequence[int],
        temp_c: Sequence[float] | None = None,
    ) -> None:
        """Append new edges of a worker: batch index and stamp since the common start.

        Args:
            worker: its number.
            edges: index of the batch at each new edge.
            edge_ns: its stamp.
            temp_c: of the device at that time; NaN or None where unknown.
        """
        self._edges[worker] += [int(edge) for edge in edges]
        self._edge_ns[worker] += [int(ns) for ns in edge_ns]
        self._temp_c[worker] += [math.nan] * len(edges) if temp_c is None else temp_c

    @property
    def rates(self) -> NDArray[np.float64]:
        """Items per second of each block, shape (workers, k), k blocks that all workers have."""
        k = self._blocks
        if not k:
            return np.empty((len(self._edges), 0))
        edges = np.array([e[: k + 1] for e in self._edges], np.float64)
        stamps = np.array([ns[: k + 1] for ns in self._edge_ns], np.float64)
        return np.diff(edges, axis=1) * self._batch_size * 1e9 / np.diff(stamps, axis=1)

    @property
    def temperatures_c(self) -> NDArray[np.float64] | None:
        """Of each worker's device at the end of each block, shape as `rates`; None if all unknown."""
        k = self._blocks
        if not k or all(math.isnan(c) for told in self._temp_c for c in told):
            return None
        return np.array([told[1 : k + 1] for told in self._temp_c])

    @property
    def _blocks(self) -> int:
        return max(min(len(edges) for edges in self._edges) - 1, 0)
