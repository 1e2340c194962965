"""The stream of batches of one loaded plan: copies, compute and what is captured of it.

A slot holds everything that one batch in flight needs. Slots that share an execution context form a
lane: their computes run one after another on one stream, their copies on streams beside it, each on
buffers of its own slot. So copies cost nothing while they are shorter than the compute. Kernels
alone are captured, in one graph a slot: which batch of the pool a slot computes is decided by the
copy, because the arguments of hundreds of graphs would be cold on the device (3 % at batch 1 on an
H200).
"""

from __future__ import annotations

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
    """

    contexts: Sequence[Any]
    ports: Sequence[Port]
    batches: BatchPool
    slots: int
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
        self._transfers = config.transfers
        self._graphs: list[Handle | None] = [None] * config.slots
        self._last = 0
        self._buffers = buffers = Buffers(cuda, config.ports, config.transfers)
        self._inputs, self._outputs = buffers.inputs, buffers.outputs
        self._count = fed_batches(config.slots, config.batches.count, config.transfers)
        cuda.stage = "input"
        try:
            lanes = [buffers.lane(context) for context in self.contexts]
            self._slots = [
                buffers.slot(lanes[i % len(lanes)], config.spin) for i in range(config.slots)
            ]
            if config.transfers:
                self._sources = buffers.pin(config.batches, self._count)
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
        if not all(map(_capturable, self._slots)):
            return False
        graphs: list[Handle | None] = []
        try:
            graphs.extend(map(self._captured, self._slots))
        except failures.DeviceLost:
            raise
        except PointError:
            for graph in graphs:
                quietly(self._cuda.drop_graph, graph)
            return False
        for graph in graphs:
            self._buffers.own(graph, self._cuda.drop_graph)
        self._graphs = graphs
        return True

    def _captured(self, slot: Slot) -> Handle:
        cuda, stream = self._cuda, slot.lane.compute
        cuda.begin_capture(stream)
        try:
            self._execute(slot)
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

    def _execute(self, slot: Slot) -> None:
        context = slot.lane.context
        for name, address in slot.device.items():
            if not context.set_tensor_address(name, address):
                raise failures.of_library("run", self._journal.lines(), f"bind {name!r}")
        if not context.execute_async_v3(int(slot.lane.compute)):
            raise failures.of_library("run", self._journal.lines(), "run a batch")

    # the stream

    def submit(self, sequence: int) -> None:
        """Enqueue a batch; returns at once."""
        index = sequence % len(self._slots)
        slot, graph = self._slots[index], self._graphs[index]
        cuda, stream = self._cuda, slot.lane.compute
        if self._transfers:
            self._copy_in(slot, sequence % self._count)
            cuda.wait(stream, slot.copied)
        cuda.record(slot.started, stream)
        if graph is None:
            self._execute(slot)
        else:
            cuda.launch(graph, stream)
        cuda.record(slot.computed, stream)
        if self._transfers:
            cuda.wait(slot.lane.copy_out, slot.computed)
            self._copy_out(slot)
            cuda.record(slot.done, slot.lane.copy_out)

    def _copy_in(self, slot: Slot, batch: int) -> None:
        cuda, stream, source = self._cuda, slot.lane.copy_in, self._sources[batch]
        cuda.record(slot.begin, stream)
        for port in self._inputs:
            cuda.copy_in(slot.device[port.name], source[port.name], port.nbytes, stream)
        cuda.record(slot.copied, stream)

    def _copy_out(self, slot: Slot) -> None:
        for port in self._outputs:
            host = slot.host[port.name].ctypes.data
            self._cuda.copy_out(host, slot.device[port.name], port.nbytes, slot.lane.copy_out)

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
            self._cuda.drain(slot.lane.copy_out)
        return {name: array.copy() for name, array in slot.host.items()}

    def profile(self, batches: int, report: Callable[[], None]) -> None:
        """Run batches one by one on the first slot, outside graphs; call `report` after each."""
        slot = self._slots[0]
        for sequence in range(batches):
            if self._transfers:
                self._copy_in(slot, sequence % self._count)
                self._cuda.drain(slot.lane.copy_in)
            self._execute(slot)
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


def _capturable(slot: Slot) -> bool:
    """Return whether the library can run a batch in a capture; only that for RTX can say no."""
    ask = getattr(slot.lane.context, "is_stream_capturable", None)
    return ask is None or bool(ask(int(slot.lane.compute)))
