"""An open-loop stream while it runs: blocks and backlog so far, for those who watch from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from raybench.experiment import CLOSED, NO_PIPELINE
from raybench.machine.gpu_telemetry import temperatures_c
from raybench.measure.arrivals import SHARED
from raybench.measure.blocks import cut
from raybench.measure.fed_stream import fed_loop_cost_us
from raybench.measure.open_stream import OpenStream, open_loop_cost_us, sizes_of
from raybench.measure.running_soak import RunningSoak
from raybench.measure.running_stream import RunningStream, StreamSnapshot
from raybench.measure.shared_stream import SharedStream, shared_loop_cost_us
from raybench.measure.stream import loop_cost_us

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from raybench.engines.base import Engine
    from raybench.experiment import Point
    from raybench.machine.gpu_telemetry import GpuTelemetry
    from raybench.measure.arrivals import WorkerArrivals
    from raybench.measure.open_stream import BatchRecord
    from raybench.measure.sensors import Sensors


class RunningOpenStream:
    """As `RunningStream`, with items at the edges, since the batches differ in size.

    Args:
        point: that is measured.
        engine: that computes it.
        gpu: telemetry of its device.
        arrivals: of this worker.
        start_ns: common start by this process's clock.
        block_ns: length of a block.

    Attributes:
        stream: the stream itself.
    """

    def __init__(
        self,
        point: Point,
        engine: Engine,
        gpu: GpuTelemetry,
        arrivals: WorkerArrivals,
        start_ns: int,
        block_ns: int,
    ) -> None:
        queue = SharedStream if arrivals.tickets else OpenStream
        self.stream = queue(engine, point.batch_size, point.inflight, arrivals)
        self._least = point.measure.block_min_batches
        self._gpu = gpu
        self._wait_ns = arrivals.max_wait_ms * 1e6
        self._start_ns = start_ns
        self._block_ns = block_ns
        self._last_batch = 0
        self._waited_at = 0
        self._edge_ns: list[int] = []
        self._items: list[int] = []
        self._speeds: list[float] = []

    def snapshot(self, first_edge: int) -> StreamSnapshot:
        """Cut the new batches into blocks and return the edges from number `first_edge` on."""
        records = self.stream.records(self._last_batch)
        wait_ns, service_ns = self._backlog(records)
        self._add_edges(records)
        samples = self._gpu.samples
        edge_ns = np.array(self._edge_ns[first_edge:], np.int64)
        latency_ns = [record.done_ns - record.first_ns for record in records]
        return StreamSnapshot(
            self.stream.done,
            np.array(self._items[first_edge:], np.int64),
            edge_ns,
            temperatures_c(samples, edge_ns + self._start_ns),
            float(np.median(latency_ns)) / 1e6 if records else None,
            samples[-1].power_w if samples else None,
            samples[-1].temp_c if samples else None,
            np.array(self._speeds[first_edge:]),
            wait_ns / service_ns,
            self._waited_at,
        )

    def _backlog(self, records: Sequence[BatchRecord]) -> tuple[float, float]:
        """Return how long the first item of the last batch waited, and the mean time of a batch."""
        if not records:
            return 0.0, 1.0
        first = self._last_batch
        idle = [k for k, record in enumerate(records) if record.ready_ns == record.due_ns]
        self._waited_at = first + idle[-1] if idle else self._waited_at
        last = records[-1]
        wait_ns = last.submit_ns - last.first_ns - self._wait_ns
        return max(wait_ns, 0.0), max(float(_services(records).mean()), 1.0)

    def _add_edges(self, records: Sequence[BatchRecord]) -> None:
        """Cut the batches since the last edge, which is the first of them, at new edges."""
        done_ns = np.array([record.done_ns for record in records], np.int64)
        items = np.cumsum([record.items for record in records])
        busy_ns = np.cumsum(_services(records))
        blocks = cut(done_ns, self._start_ns, self._block_ns, self._least, 1)
        new = blocks.edges[1:] if self._items else blocks.edges
        if not len(new):
            return
        before = self._items[-1] - int(items[0]) if self._items else 0
        first = [0] if self._items else []
        ends = np.array([*first, *new], np.int64)
        speeds = np.diff(ends) * 1e9 / np.maximum(np.diff(busy_ns[ends]), 1)
        self._speeds += ([] if self._items else [float("nan")]) + speeds.tolist()
        self._edge_ns += (done_ns[new] - self._start_ns).tolist()
        self._items += (before + items[new]).tolist()
        self._last_batch += int(new[-1])


def _services(records: Sequence[BatchRecord]) -> NDArray[np.int64]:
    """Return how long each batch kept the engine, in ns."""
    submit_ns = np.array([record.submit_ns for record in records], np.int64)
    done_ns = np.array([record.done_ns for record in records], np.int64)
    began_ns = np.maximum(submit_ns, np.concatenate([submit_ns[:1], done_ns[:-1]]))
    services: NDArray[np.int64] = done_ns - began_ns
    return services


def running_stream(
    point: Point,
    engine: Engine,
    sensors: Sensors,
    start_ns: int,
    block_ns: int,
    arrivals: WorkerArrivals | None,
) -> RunningStream | RunningOpenStream | RunningSoak:
    """Return a stream of the load that a point is measured under; without arrivals a closed loop."""
    if point.measure.row_every_s > 0:
        return RunningSoak(point, engine, sensors, start_ns, block_ns)
    if arrivals is None:
        return RunningStream(point, engine, sensors.gpu, start_ns, block_ns)
    return RunningOpenStream(point, engine, sensors.gpu, arrivals, start_ns, block_ns)


def harness_us(point: Point, device_clock: bool) -> float:
    """Return the time in us that the loop of a point takes for a batch in this process."""
    cost_us = loop_cost_us if point.pipeline == NO_PIPELINE else fed_loop_cost_us
    if point.load != CLOSED:
        cost_us = shared_loop_cost_us if point.measure.balancer == SHARED else open_loop_cost_us
    return cost_us(point.inflight, device_clock)


def padding_notes(point: Point, engine: Engine) -> tuple[str, ...]:
    """Return what is to be known of batches that are not full: how many items the engine computes."""
    full = point.batch_size
    sizes = () if point.load == CLOSED or full == 1 else sizes_of(engine, full)
    if not sizes:
        return ()
    if len(sizes) == 1:
        return (
            f"A batch of fewer than {full} items was padded to {full}, and took the time of a full one.",
        )
    if len(sizes) == full:
        return (f"A batch of fewer than {full} items was computed without padding.",)
    return (
        f"A batch of fewer than {full} items was padded to the next of the sizes that the engine had: "
        f"{', '.join(map(str, sizes))}.",
    )
