"""Buffers, streams, events and graphs of one loaded plan.

A slot holds everything that one batch in flight needs: a stream, device buffers, pinned outputs,
events. Slots that share an execution context form a lane; they take turns, and each waits for the
compute of the one before it, never for its copies. So the copies of a batch overlap the compute of
its neighbour and touch only their own buffers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raybench.engines.tensorrt import failures
from raybench.engines.tensorrt.buffers import Array, Buffers, Port, Slot, quietly
from raybench.errors import PointError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from raybench.engines.base import DeviceSpans
    from raybench.engines.tensorrt.cuda import Cuda, Handle
    from raybench.engines.tensorrt.library import Journal
    from raybench.models.items.batches import BatchPool

MOST_GRAPHS = 512
"""Most graphs of a runner: each holds the addresses of a slot and a batch, one for each pair."""


def slot_count(inflight: int, streams: int) -> int:
    """Return the number of slots: at least two for each lane, one for each batch in flight."""
    return max(2, -(-inflight // streams)) * streams


def rotation(slots: int, batches: int) -> int:
    """Return how many of the batches to feed in turn: the most with few pairs of slot and batch.

    223 batches and 4 slots form 892 pairs, each of which is a graph to capture; 222 form 444.
    """
    limit = max(MOST_GRAPHS, slots)
    return next(n for n in range(batches, 0, -1) if math.lcm(slots, n) <= limit)


@dataclass(frozen=True)
class RunnerConfig:
    """What a runner runs and how.

    Attributes:
        contexts: one execution context for each lane, at the shapes of the ports.
        ports: inputs and outputs of the plan.
        batches: the pool of inputs.
        slots: number of slots, from `slot_count`.
        count: how many of the batches to feed, from `rotation`.
        transfers: copy inputs and outputs with every batch; else inputs stay on the device.
        spin: wait by spinning instead of sleeping.
    """

    contexts: Sequence[Any]
    ports: Sequence[Port]
    batches: BatchPool
    slots: int
    count: int
    transfers: bool
    spin: bool


class Runner:
    """Enqueues batches on a plan and waits for them.

    Args:
        cuda: the CUDA runtime; the device is current.
        journal: what TensorRT logs.
        config: what to run and how.

    Attributes:
        contexts: one execution context for each lane.
    """

    def __init__(self, cuda: Cuda, journal: Journal, config: RunnerConfig) -> None:
        self._cuda = cuda
        self._journal = journal
        self.contexts = tuple(config.contexts)
        self._count = config.count
        self._graphs: dict[tuple[int, int], Handle] = {}
        self._copies_in_graph = False
        self._last = 0
        self._buffers = buffers = Buffers(cuda, config.ports, config.transfers)
        self._inputs, self._outputs = buffers.inputs, buffers.outputs
        self._transfers = config.transfers
        cuda.stage = "input"
        lanes = len(self.contexts)
        try:
            self._slots = [
                buffers.slot(self.contexts[i % lanes], (i - lanes) % config.slots, config.spin)
                for i in range(config.slots)
            ]
            self._sources = (
                buffers.pin(config.batches, config.count)
                if config.transfers
                else buffers.upload(config.batches, config.count, self._slots[0].stream)
            )
        except BaseException:
            buffers.free()
            raise

    # one batch

    def _enqueue(self, index: int, batch: int, external: bool = False) -> None:
        """Enqueue everything of a batch but its last event, to run now or into a capture."""
        slot = self._slots[index]
        cuda, stream = self._cuda, slot.stream
        source = self._sources[batch]
        cuda.record(slot.begin, stream, external)
        if self._transfers:
            for port in self._inputs:
                cuda.copy_in(slot.device[port.name], source[port.name], port.nbytes, stream)
        cuda.record(slot.copied, stream, external)
        cuda.wait(stream, self._slots[slot.before].computed, external)
        cuda.record(slot.started, stream, external)
        graph = None if external else self._graphs.get((index, batch))
        if graph is None:
            self._execute(slot, source)
        else:
            cuda.launch(graph, stream)
        cuda.record(slot.computed, stream, external)
        if self._transfers:
            self._copy_out(slot)

    def _execute(self, slot: Slot, source: dict[str, int]) -> None:
        context = slot.context
        for name, address in {**source, **slot.device}.items():
            if not context.set_tensor_address(name, address):
                raise failures.of_library("run", self._journal.lines(), f"bind {name!r}")
        if not context.execute_async_v3(int(slot.stream)):
            raise failures.of_library("run", self._journal.lines(), "run a batch")

    def _copy_out(self, slot: Slot) -> None:
        for port in self._outputs:
            host = slot.host[port.name].ctypes.data
            self._cuda.copy_out(host, slot.device[port.name], port.nbytes, slot.stream)

    def warm(self) -> None:
        """Run each slot once, so that what TensorRT defers is done before a capture."""
        self._cuda.stage = "run"
        for index, slot in enumerate(self._slots):
            self._enqueue(index, 0)
            self._cuda.record(slot.done, slot.stream)
            self._cuda.block_on(slot.done)

    def capture(self, copies: bool) -> bool:
        """Capture every pair of slot and batch into a graph; return whether that worked.

        Args:
            copies: whether the copies and events of the batch are part of the graph.

        Raises:
            DeviceLost: the device failed for good.
        """
        pairs = math.lcm(len(self._slots), self._count)
        graphs: dict[tuple[int, int], Handle] = {}
        try:
            for sequence in range(pairs):
                pair = (sequence % len(self._slots), sequence % self._count)
                graphs[pair] = self._captured(*pair, copies)
        except failures.DeviceLost:
            raise
        except PointError:
            for graph in graphs.values():
                quietly(self._cuda.drop_graph, graph)
            return False
        for graph in graphs.values():
            self._buffers.own(graph, self._cuda.drop_graph)
        self._graphs, self._copies_in_graph = graphs, copies
        return True

    def _captured(self, index: int, batch: int, copies: bool) -> Handle:
        slot = self._slots[index]
        cuda, stream = self._cuda, slot.stream
        cuda.begin_capture(stream)
        try:
            if copies:
                self._enqueue(index, batch, external=True)
            else:
                self._execute(slot, self._sources[batch])
        except PointError:
            cuda.abandon_capture(stream)
            raise
        graph = cuda.end_capture(stream)
        try:
            cuda.upload(graph, stream)
            cuda.drain(stream)
        except PointError:
            quietly(cuda.drop_graph, graph)
            raise
        return graph

    # the stream

    def submit(self, sequence: int) -> None:
        """Enqueue a batch; returns at once."""
        index = sequence % len(self._slots)
        slot, batch = self._slots[index], sequence % self._count
        if self._copies_in_graph:
            self._cuda.launch(self._graphs[index, batch], slot.stream)
        else:
            self._enqueue(index, batch)
        # never inside a graph: the host waits for the record of this launch, not of an older one
        self._cuda.record(slot.done, slot.stream)

    def collect(self, sequence: int) -> DeviceSpans:
        """Block until a batch is done; return its copy in, compute and copy out in ns."""
        cuda = self._cuda
        self._last = sequence % len(self._slots)
        slot = self._slots[self._last]
        cuda.block_on(slot.done)
        compute = cuda.elapsed_ns(slot.started, slot.computed)
        if not self._transfers:
            return 0, compute, 0
        return (
            cuda.elapsed_ns(slot.begin, slot.copied),
            compute,
            cuda.elapsed_ns(slot.computed, slot.done),
        )

    def outputs(self) -> dict[str, Array]:
        """Return copies of the outputs of the batch collected last."""
        slot = self._slots[self._last]
        if not self._transfers:
            self._copy_out(slot)
            self._cuda.drain(slot.stream)
        return {name: array.copy() for name, array in slot.host.items()}

    def profile(self, batches: int, report: Callable[[], None]) -> None:
        """Run batches one by one on the first slot, outside graphs; call `report` after each."""
        slot = self._slots[0]
        for sequence in range(batches):
            source = self._sources[sequence % self._count]
            if self._transfers:
                for port in self._inputs:
                    self._cuda.copy_in(
                        slot.device[port.name], source[port.name], port.nbytes, slot.stream
                    )
            self._execute(slot, source)
            self._cuda.drain(slot.stream)
            report()

    def drain(self) -> None:
        """Block until nothing is in flight."""
        for slot in self._slots:
            self._cuda.drain(slot.stream)

    def close(self) -> None:
        """Wait for what is in flight, then free everything."""
        quietly(Runner.drain, self)
        self._buffers.free()
