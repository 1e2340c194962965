"""Runner: buffers, streams, events and graphs of one loaded plan.

A slot holds everything that one batch in flight needs: a stream, device buffers, pinned outputs,
events. Slots that share an execution context form a lane; they take turns, and each waits for the
compute of the one before it, never for its copies. So the copies of a batch run beside the compute
of its neighbour and meet only their own buffers.
"""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.engines.tensorrt import failures
from raybench.errors import PointError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import ExitStack

    from raybench.engines.base import DeviceSpans
    from raybench.engines.tensorrt.cuda import Cuda, Handle
    from raybench.engines.tensorrt.library import Journal
    from raybench.models.batches import BatchPool

Array = np.ndarray[Any, Any]

MOST_GRAPHS = 512
"""A graph holds the addresses of its slot and of its batch, so there is one for each pair."""

ALIGNMENT = 256
"""TensorRT wants the addresses of its inputs and outputs to be multiples of this."""


@dataclass(frozen=True)
class Port:
    """An input or output of the plan at the batch of the point.

    Attributes:
        name: of the tensor.
        dtype: of its elements in the plan, which may be narrower than in the graph.
        shape: with every dimension known.
        is_input: else an output.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    is_input: bool

    @property
    def nbytes(self) -> int:
        """Bytes of the whole tensor."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, eq=False)
class Slot:
    """What one batch in flight needs.

    Attributes:
        stream: everything of the slot runs here, in order.
        context: shared with the other slots of the lane.
        device: address on the device by name of port.
        host: pinned outputs by name.
        begin, copied, started, computed, done: events in the order of the stream.
        before: number of the slot of the lane whose turn comes before this one's.
    """

    stream: Handle
    context: Any
    device: dict[str, int]
    host: dict[str, Array]
    begin: Handle
    copied: Handle
    started: Handle
    computed: Handle
    done: Handle
    before: int


def slot_count(inflight: int, streams: int) -> int:
    """Number of slots: at least two for each lane, one for each batch in flight."""
    return max(2, -(-inflight // streams)) * streams


def rotation(slots: int, batches: int) -> int:
    """How many of the batches are fed in turn: the most that meet the slots in few pairs.

    223 batches and 4 slots would meet in 892 pairs, each a graph to capture; 222 meet in 444.
    """
    most = max(MOST_GRAPHS, slots)
    return next(n for n in range(batches, 0, -1) if math.lcm(slots, n) <= most)


class Runner:
    """Enqueues batches on a plan and waits for them.

    Args:
        cuda: the door; the device is current.
        journal: what TensorRT says.
        contexts: one for each lane, at the shapes of the ports.
        ports: inputs and outputs of the plan.
        batches: what to feed.
        slots: from `slot_count`.
        count: how many of the batches to feed, from `rotation`.
        transfers: copy inputs and outputs with every batch; else inputs lie on the device.
        spin: wait spinning instead of sleeping.
        stack: takes everything that must be given back.

    Attributes:
        nbytes: device memory for inputs and outputs.
    """

    def __init__(
        self,
        cuda: Cuda,
        journal: Journal,
        contexts: Sequence[Any],
        ports: Sequence[Port],
        batches: BatchPool,
        slots: int,
        count: int,
        transfers: bool,
        spin: bool,
        stack: ExitStack,
    ) -> None:
        self._cuda = cuda
        self._journal = journal
        self._inputs = [port for port in ports if port.is_input]
        self._outputs = [port for port in ports if not port.is_input]
        self._transfers = transfers
        self._count = count
        self._stack = stack
        self._graphs: dict[tuple[int, int], Handle] = {}
        self._copies_in_graph = False
        self._last = 0
        cuda.stage = "input"
        lanes = len(contexts)
        self._slots = [
            self._slot(contexts[i % lanes], (i - lanes) % slots, spin) for i in range(slots)
        ]
        self._sources = self._pin(batches) if transfers else self._reside(batches)

    # memory

    def _slot(self, context: Any, before: int, spin: bool) -> Slot:
        ports = [*self._inputs, *self._outputs] if self._transfers else self._outputs
        begin, copied, started, computed, done = (self._event(spin) for _ in range(5))
        return Slot(
            self._own(self._cuda.stream(), self._cuda.drop_stream),
            context,
            {port.name: self._device(port.nbytes) for port in ports},
            {port.name: self._pinned(port.dtype, port.shape) for port in self._outputs},
            begin,
            copied,
            started,
            computed,
            done,
            before,
        )

    def _own(self, thing: Any, give_back: Callable[[Any], None]) -> Any:
        self._stack.callback(quietly, give_back, thing)
        return thing

    def _event(self, spin: bool) -> Handle:
        return self._own(self._cuda.event(timing=True, spin=spin), self._cuda.drop_event)

    def _device(self, nbytes: int) -> int:
        return int(self._own(self._cuda.malloc(max(nbytes, 1)), self._cuda.free))

    def _pinned(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
        nbytes = math.prod(shape) * dtype.itemsize
        address = self._own(self._cuda.host_alloc(max(nbytes, 1)), self._cuda.host_free)
        raw: Any = (ctypes.c_byte * max(nbytes, 1)).from_address(address)
        flat: Array = np.frombuffer(raw, dtype, math.prod(shape))
        return flat.reshape(shape)

    def _pin(self, batches: BatchPool) -> list[dict[str, int]]:
        """Host addresses of every batch by name of input, in one pinned copy of the pool."""
        whole = batches.first(batches.batch_size * self._count)
        pinned = {}
        for port in self._inputs:
            pinned[port.name] = self._pinned(port.dtype, whole[port.name].shape)
            np.copyto(pinned[port.name], whole[port.name], casting="same_kind")
        return [
            {name: _address_in(pinned[name], whole[name], view) for name, view in batch.items()}
            for batch in map(batches.batch, range(self._count))
        ]

    def _reside(self, batches: BatchPool) -> list[dict[str, int]]:
        """Device addresses of every batch by name of input; each batch aligned on its own."""
        sources: list[dict[str, int]] = [{} for _ in range(self._count)]
        for port in self._inputs:
            staging = self._pinned(port.dtype, port.shape)
            for i, addresses in enumerate(sources):
                np.copyto(staging, batches.batch(i)[port.name], casting="same_kind")
                addresses[port.name] = self._device(port.nbytes)
                stream = self._slots[0].stream
                self._cuda.copy_in(addresses[port.name], staging.ctypes.data, port.nbytes, stream)
                self._cuda.drain(stream)
        return sources

    # one batch

    def _enqueue(self, index: int, batch: int, external: bool = False) -> None:
        """Everything of one batch but the last event, for now or into a capture."""
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
        """Run each slot once, so that what TensorRT puts off is done before a capture."""
        self._cuda.stage = "run"
        for index, slot in enumerate(self._slots):
            self._enqueue(index, 0)
            self._cuda.record(slot.done, slot.stream)
            self._cuda.block_on(slot.done)

    def capture(self, copies: bool) -> bool:
        """Write every pair of slot and batch into a graph; False when that cannot be done.

        Args:
            copies: whether the copies and events of the batch are in the graph too.

        Raises:
            DeviceLost: for an error that stays.
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
            self._own(graph, self._cuda.drop_graph)
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
        # never inside a graph: the host waits for this launch's record, not for an older one
        self._cuda.record(slot.done, slot.stream)

    def collect(self, sequence: int) -> DeviceSpans:
        """Block until a batch is done; its copy in, compute and copy out in ns."""
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
        """Copies of the outputs of the batch collected last."""
        slot = self._slots[self._last]
        if not self._transfers:
            self._copy_out(slot)
            self._cuda.drain(slot.stream)
        return {name: array.copy() for name, array in slot.host.items()}

    def profile(self, batches: int, report: Callable[[], None]) -> None:
        """Run batches one by one on the first slot, outside graphs, telling of each when it is done."""
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


def quietly(give_back: Callable[[Any], None], thing: Any) -> None:
    """Give something back; a device that is lost refuses, and has taken it along anyway."""
    try:
        give_back(thing)
    except PointError:
        return


def io_bytes(ports: Sequence[Port], slots: int, batches: int, transfers: bool) -> int:
    """Device memory that a runner takes for inputs and outputs."""
    inputs = sum(_aligned(port.nbytes) for port in ports if port.is_input)
    outputs = sum(_aligned(port.nbytes) for port in ports if not port.is_input)
    return inputs * (slots if transfers else batches) + outputs * slots


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def _address_in(pinned: Array, whole: Array, view: Array) -> int:
    """Where a view of the pool lies in the pinned copy, whose elements may be narrower."""
    elements = (view.ctypes.data - whole.ctypes.data) // whole.itemsize
    return int(pinned.ctypes.data) + elements * pinned.itemsize
