"""A stream while it runs: blocks cut so far, for those who watch it from outside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from raybench.machine.gpu_telemetry import temperatures_c
from raybench.measure.blocks import cut
from raybench.measure.stream import Stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from raybench.engines.base import Engine
    from raybench.experiment import Point
    from raybench.machine.gpu_telemetry import GpuTelemetry
    from raybench.measure.soak_block import SoakBlock


@dataclass(frozen=True)
class StreamSnapshot:
    """What a worker has done so far, in whole blocks.

    Attributes:
        done: batches completed.
        edges: int64, shape (k,): index of the batch at each edge since the last snapshot; in open
            loop, whose batches differ in size, the items done by then.
        edge_ns: int64, shape (k,): time of these edges since the start, by this worker's clock.
        temp_c: float64, shape (k,): of the GPU at each edge; NaN where unknown, and for a core,
            whose sensors jump by more than it warms up.
        latency_ms: median of the batches since the previous snapshot; None without one.
        power_w: of the GPU, last reading; None where unknown.
        now_c: temperature of the GPU, last reading; None where unknown.
        speeds: open loop: float64, shape (k,): batches per second of busy time in the block that ends
            at each edge, NaN at the first; None in closed loop.
        wait_batches: open loop: how long the first item of the last batch waited, in batches' time.
        waited_at: open loop: number of the last batch for which the worker waited.
        blocks: soak: the blocks since the last snapshot; a block may come later than its edge.
    """

    done: int
    edges: NDArray[np.int64]
    edge_ns: NDArray[np.int64]
    temp_c: NDArray[np.float64]
    latency_ms: float | None = None
    power_w: float | None = None
    now_c: float | None = None
    speeds: NDArray[np.float64] | None = None
    wait_batches: float = 0.0
    waited_at: int = 0
    blocks: tuple[SoakBlock, ...] = ()


class RunningStream:
    """A stream and the blocks cut from it so far, so that a snapshot costs only what is new.

    Args:
        point: that is measured.
        engine: that computes it.
        gpu: telemetry of its device.
        start_ns: common start by this process's clock.
        block_ns: length of a block.
        stream: of its batches; None for one that has its inputs.

    Attributes:
        stream: the stream itself.
    """

    def __init__(
        self,
        point: Point,
        engine: Engine,
        gpu: GpuTelemetry,
        start_ns: int,
        block_ns: int,
        stream: Stream | None = None,
    ) -> None:
        self.stream = stream or Stream(engine, point.batch_size, point.inflight)
        self._point = point
        self._gpu = gpu
        self._start_ns = start_ns
        self._block_ns = block_ns
        self._edges: list[int] = []
        self._edge_ns: list[int] = []

    def snapshot(self, first_edge: int) -> StreamSnapshot:
        """Cut the new batches into blocks and return the edges from number `first_edge` on."""
        point, samples = self._point, self._gpu.samples
        last_batch = self._edges[-1] if self._edges else 0
        submit_ns, done_ns = self.stream.since(last_batch)
        least = point.measure.block_min_batches
        blocks = cut(done_ns, self._start_ns, self._block_ns, least, point.batch_size)
        skip = 1 if self._edges else 0
        self._edges += [last_batch + int(edge) for edge in blocks.edges[skip:]]
        self._edge_ns += [int(ns) - self._start_ns for ns in blocks.edge_ns[skip:]]
        edge_ns = np.array(self._edge_ns[first_edge:], np.int64)
        return StreamSnapshot(
            self.stream.done,
            np.array(self._edges[first_edge:], np.int64),
            edge_ns,
            temperatures_c(samples, edge_ns + self._start_ns),
            float(np.median(done_ns - submit_ns)) / 1e6 if len(done_ns) else None,
            samples[-1].power_w if samples else None,
            samples[-1].temp_c if samples else None,
        )
