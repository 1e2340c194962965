"""Watch: what the driver knows of running streams, in whole blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


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

    def add(self, worker: int, edges: Sequence[int], edge_ns: Sequence[int]) -> None:
        """Append new edges of a worker: batch index and stamp since the common start."""
        self._edges[worker] += [int(edge) for edge in edges]
        self._edge_ns[worker] += [int(ns) for ns in edge_ns]

    @property
    def rates(self) -> NDArray[np.float64]:
        """Items per second of each block, shape (workers, k), k blocks that all workers have."""
        k = min(len(edges) for edges in self._edges) - 1
        if k < 1:
            return np.empty((len(self._edges), 0))
        edges = np.array([e[: k + 1] for e in self._edges], np.float64)
        stamps = np.array([ns[: k + 1] for ns in self._edge_ns], np.float64)
        return np.diff(edges, axis=1) * self._batch_size * 1e9 / np.diff(stamps, axis=1)
