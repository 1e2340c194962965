"""The stream of batches of one loaded plan: copies, compute and what is captured of it.

A slot holds everything that one batch in flight needs. Slots that share an execution context form a
lane: their computes run one after another on one stream, their copies on streams beside it, each on
buffers of its own slot. So copies cost nothing while they are shorter than the compute. Kernels
alone are captured, in one graph a slot: which batch of the pool a slot computes is decided by the
copy, because the arguments of hundreds of graphs would be cold on the device (3 % at batch 1 on an
H200).

Batches that are not full have graphs of their own, a graph a slot and size. Each size has execution
contexts of its own as well, since a graph is valid while its context keeps its shapes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
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


def slot_count(inflight: int, streams: int) -> int:
    """Return the number of slots: at least two for each lane, one for each batch in flight."""
    return max(2, -(-inflight // streams)) * streams


def fed_batches(slots: int, batches: int, transfers: bool) -> int:
    """Return how many batches of the pool to feed in turn.

    With transfers all. Without, each slot keeps one batch in its device memory, so that the number
    divides that of the slots.
    """
    if transfers:
        return batches
    return next(n for n in range(min(slots, batches), 0, -1) if slots % n == 0)


@dataclass(frozen=True)
class RunnerConfig:
    """What a runner runs and how.

    Attributes:
        contexts: one execution context for each lane, at the shapes of the ports.
        ports: inputs and outputs of the plan.
        batches: the pool of inputs.
        slots: number of slots, from `slot_count`.
        transfers: copy inputs and outputs with every batch; else inputs stay on the device.
        spin: wait by spinning instead of sleeping.
        kept: names of outputs that stay on the device.
        placed: names of inputs and outputs whose memory is not that of a slot.
    """

    contexts: Sequence[Any]
    ports: Sequence[Port]
    batches: BatchPool
    slots: int
    transfers: bool
    spin: bool
    kept: frozenset[str] = frozenset()
    placed: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class BatchGraphs:
    """What runs batches of one size.

    Attributes:
        contexts: one execution context for each lane, at the shapes of the ports.
        inputs, outputs: what is copied of such a batch.
        kept: outputs that stay on the device.
        graphs: one for each slot; None where batches are enqueued call by call.
    """

    contexts: tuple[Any, ...]
    inputs: Sequence[Port]
    outputs: Sequence[Port]
    kept: Sequence[Port]
    graphs: Sequence[Handle | None]


class Runner:
    """Enqueues batches on a plan and waits for them.

    Args:
        cuda: the CUDA runtime; the device is current.
        journal: what TensorRT logs.
        config: what to run and how.

    Attributes:
        contexts: one execution context for each lane.
        sources: pinned host addresses of each batch of the pool, by name of input; with transfers only.
        inputs: of a full batch.
    """

    def __init__(self, cuda: Cuda, journal: Journal, config: RunnerConfig) -> None:
        self._cuda = cuda
        self._journal = journal
        self.contexts = tuple(config.contexts)
        self._transfers = config.transfers
        self._last = 0
        self._kept = config.kept
        self._buffers = buffers = Buffers(
            cuda, config.ports, config.transfers, config.kept, config.placed
        )
        self._full = _of_size(self.contexts, buffers, [None] * config.slots)
        self.inputs = self._full.inputs
        self._ran = [self._full] * config.slots
        self._count = fed_batches(config.slots, config.batches.count, config.transfers)
        cuda.stage = "input"
        try:
            lanes = [buffers.lane(context) for context in self.contexts]
            self._slots = [
                buffers.slot(lanes[i % len(lanes)], config.spin) for i in range(config.slots)
            ]
            if config.transfers:
                self.sources = buffers.pin(config.batches, self._count)
            else:
                for index, slot in enumerate(self._slots):
                    buffers.upload(config.batches.batch(index % self._count), slot)
        except BaseException:
            buffers.free()
            raise

    # before the stream

    def warm(self) -> None:
        """Run each slot once, so that what TensorRT defers is done before a capture."""
        self._cuda.stage = "run"
        for index, slot in enumerate(self._slots):
            self.submit(index)
            self._cuda.block_on(slot.done)

    def capture(self) -> bool:
        """Capture the kernels of every slot into a graph; return whether that worked.

        Raises:
            DeviceLost: the device failed for good.
        """
        captured = self._with_graphs(self._full)
        self._full = captured or self._full
        self._ran = [self._full] * len(self._slots)
        return captured is not None

    def add_size(self, contexts: Sequence[Any], ports: Sequence[Port]) -> BatchGraphs | None:
        """Capture graphs for batches of another size; None if that does not work, as for full ones.

        Args:
            contexts: one execution context for each lane, at the shapes of the ports.
            ports: inputs and outputs of the plan; none is larger than in a full batch.

        Raises:
            DeviceLost: the device failed for good.
        """
        if None in self._full.graphs:
            return None
        sized = Buffers(self._cuda, ports, self._transfers, self._kept)
        for slot, context in zip(self._slots, contexts, strict=False):
            self._execute(slot, context)
            self._cuda.drain(slot.lane.compute)
        return self._with_graphs(_of_size(contexts, sized, ()))

    def _with_graphs(self, batch: BatchGraphs) -> BatchGraphs | None:
        """Capture a graph for each slot; None if that does not work."""
        contexts = batch.contexts
        pairs = [(slot, contexts[i % len(contexts)]) for i, slot in enumerate(self._slots)]
        if not all(_capturable(slot, context) for slot, context in pairs):
            return None
        graphs: list[Handle | None] = []
        try:
            graphs.extend(self._captured(slot, context) for slot, context in pairs)
        except failures.DeviceLost:
            raise
        except PointError:
            for graph in graphs:
                quietly(self._cuda.drop_graph, graph)
            return None
        for graph in graphs:
            self._buffers.own(graph, self._cuda.drop_graph)
        return replace(batch, graphs=graphs)

    def _captured(self, slot: Slot, context: Any) -> Handle:
        cuda, stream = self._cuda, slot.lane.compute
        cuda.begin_capture(stream)
        try:
            self._execute(slot, context)
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

    def _execute(self, slot: Slot, context: Any) -> None:
        for name, address in slot.device.items():
            if not context.set_tensor_address(name, address):
                raise failures.of_library("run", self._journal.lines(), f"bind {name!r}")
        if not context.execute_async_v3(int(slot.lane.compute)):
            raise failures.of_library("run", self._journal.lines(), "run a batch")

    # the stream

    def submit(self, sequence: int, part: BatchGraphs | None = None) -> None:
        """Enqueue a batch, all of it or a part that `add_size` has made ready; returns at once."""
        batch = part or self._full
        index = sequence % len(self._slots)
        slot, graph = self._slots[index], batch.graphs[index]
        self._ran[index] = batch
        cuda, stream = self._cuda, slot.lane.compute
        if self._transfers:
            self._copy_in(slot, sequence % self._count, batch.inputs)
            cuda.wait(stream, slot.copied)
        cuda.record(slot.started, stream)
        if graph is None:
            self._execute(slot, slot.lane.context)
        else:
            cuda.launch(graph, stream)
        cuda.record(slot.computed, stream)
        if self._transfers:
            self._send_off(slot, batch.outputs)

    def _send_off(self, slot: Slot, outputs: Sequence[Port]) -> None:
        """Copy the outputs of a batch to the host once it is computed."""
        cuda, stream = self._cuda, slot.lane.copy_out
        cuda.wait(stream, slot.computed)
        if slot.leaving is not slot.computed:
            cuda.record(slot.leaving, stream)
        _copy_out(cuda, slot, outputs)
        cuda.record(slot.done, stream)

    def _copy_in(self, slot: Slot, batch: int, ports: Sequence[Port]) -> None:
        cuda, stream, source = self._cuda, slot.lane.copy_in, self.sources[batch]
        cuda.record(slot.begin, stream)
        for port in ports:
            cuda.copy_in(slot.device[port.name], source[port.name], port.nbytes, stream)
        cuda.record(slot.copied, stream)

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
            cuda.elapsed_ns(slot.leaving, slot.done),
        )

    def outputs(self) -> dict[str, Array]:
        """Return copies of the outputs of the batch collected last."""
        slot, ran = self._slots[self._last], self._ran[self._last]
        if not self._transfers:
            _copy_out(self._cuda, slot, ran.outputs)
            self._cuda.drain(slot.lane.copy_out)
        copied = {port.name: _first(slot.host[port.name], port.shape) for port in ran.outputs}
        return copied | {port.name: self._buffers.fetch(port, slot) for port in ran.kept}

    def profile(self, batches: int, report: Callable[[], None]) -> None:
        """Run batches one by one on the first slot, outside graphs; call `report` after each."""
        slot = self._slots[0]
        for sequence in range(batches):
            if self._transfers:
                self._copy_in(slot, sequence % self._count, self._full.inputs)
                self._cuda.drain(slot.lane.copy_in)
            self._execute(slot, slot.lane.context)
            self._cuda.drain(slot.lane.compute)
            report()

    def drain(self) -> None:
        """Block until nothing is in flight."""
        for slot in self._slots:
            for stream in (slot.lane.copy_in, slot.lane.compute, slot.lane.copy_out):
                self._cuda.drain(stream)

    def close(self) -> None:
        """Wait for what is in flight, then free everything."""
        quietly(Runner.drain, self)
        self._buffers.free()


def _copy_out(cuda: Cuda, slot: Slot, ports: Sequence[Port]) -> None:
    for port in ports:
        host = slot.host[port.name].ctypes.data
        cuda.copy_out(host, slot.device[port.name], port.nbytes, slot.lane.copy_out)


def _first(array: Array, shape: tuple[int, ...]) -> Array:
    """Return a copy of the beginning of an array in a smaller shape."""
    return array.reshape(-1)[: math.prod(shape)].reshape(shape).copy()


def _of_size(
    contexts: Sequence[Any], buffers: Buffers, graphs: Sequence[Handle | None]
) -> BatchGraphs:
    return BatchGraphs(tuple(contexts), buffers.inputs, buffers.outputs, buffers.kept, graphs)


def _capturable(slot: Slot, context: Any) -> bool:
    """Return whether the library can run a batch in a capture; only that for RTX can say no."""
    ask = getattr(context, "is_stream_capturable", None)
    return ask is None or bool(ask(int(slot.lane.compute)))
