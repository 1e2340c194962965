"""The stream of batches of a plan whose state stays on the device.

All batches compute on one stream, so that each reads what the one before has left. An input that an
output replaces lies where the slot before has that output: nothing is copied for it, and a captured
graph holds for it. A ring lies at one place for all slots. Its new row is written behind the kernels on
their stream, outside the graph, since its place moves on with every batch: one strided copy for all
rings of a size.

Run on an H200 with TensorRT 8.6.0, as CUDA graphs and call by call.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from typing_extensions import override

from raybench.engines.ring_blocks import ring_blocks
from raybench.engines.tensorrt.runner import BatchGraphs, Runner, RunnerConfig
from raybench.errors import Unsupported

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.engines.ring_blocks import RingBlock
    from raybench.engines.tensorrt.buffers import Array, Port
    from raybench.engines.tensorrt.device import Context
    from raybench.models.items.initial_state import InitialState
    from raybench.models.state import StateTensor


class _Rings(NamedTuple):
    """A block of rings on the device, and the new rows of each slot."""

    block: RingBlock
    address: int
    new: Sequence[int]


class StateRunner(Runner):
    """Enqueues batches that renew inputs of the next, on one stream.

    Args:
        context: the device.
        config: what to run and how, with one execution context.
        state: of the model.
        initial: what batch 0 reads.
    """

    def __init__(
        self,
        context: Context,
        config: RunnerConfig,
        state: tuple[StateTensor, ...],
        initial: InitialState,
    ) -> None:
        super().__init__(context.cuda, context.journal, config)
        self._initial = initial
        ports = {port.name: port for port in config.ports}
        self._held = [ports[tensor.input] for tensor in state]
        self._rings: list[_Rings] = []
        try:
            for tensor in state:
                _require_same_type(ports[tensor.input], ports[tensor.output])
            self._place(state)
        except BaseException:
            self._buffers.free()
            raise

    def _place(self, state: tuple[StateTensor, ...]) -> None:
        """Give every slot the addresses of its state."""
        device, slots = self._buffers.device, self._slots
        shapes = {port.name: port.shape for port in self._held}
        sizes = {port.name: port.dtype.itemsize for port in self._held}
        for block in ring_blocks(state, shapes, sizes):
            ring_bytes, new_bytes = block.nbytes
            rings = _Rings(block, device(ring_bytes), [device(new_bytes) for _ in slots])
            for ring, begin, new_begin in block.offsets():
                for slot, new in zip(slots, rings.new, strict=True):
                    slot.device[ring.input] = rings.address + begin
                    slot.device[ring.output] = new + new_begin
            self._rings.append(rings)
        for tensor in state:
            if tensor.ring_axis is None:
                for index, slot in enumerate(slots):
                    slot.device[tensor.input] = slots[index - 1].device[tensor.output]

    @override
    def warm(self) -> None:
        """Run each slot once from the first state, since values decide which memory a graph reads."""
        self.restart()
        super().warm()

    def restart(self) -> None:
        """Put the first state back where batch 0 reads it."""
        self.drain()
        for port in self._held:
            block = self._initial.block(port.name, math.prod(port.shape))
            self._fill(port, np.ascontiguousarray(block.astype(port.dtype, casting="same_kind")))

    def _fill(self, port: Port, block: Array) -> None:
        """Send a block to the beginning of an input, and repeat it there until it is full."""
        slot = self._slots[0]
        address, stream = slot.device[port.name], slot.lane.compute
        self._buffers.send(block, address, stream)
        filled = block.nbytes
        while filled < port.nbytes:
            more = min(filled, port.nbytes - filled)
            self._cuda.copy_within(address + filled, address, more, stream)
            filled += more
        self._cuda.drain(stream)

    @override
    def submit(self, sequence: int, part: BatchGraphs | None = None) -> None:
        """Enqueue a batch, and the copies of its new rows; returns at once."""
        index = sequence % len(self._slots)
        slot, batch, cuda = self._slots[index], self._full, self._cuda
        graph, stream = batch.graphs[index], slot.lane.compute
        if self._transfers:
            self._copy_in(slot, sequence % self._count, batch.inputs)
            cuda.wait(stream, slot.copied)
        cuda.record(slot.started, stream)
        if graph is None:
            self._execute(slot, slot.lane.context)
        else:
            cuda.launch(graph, stream)
        for block, address, new in self._rings:
            row, ring = block.row_bytes, block.row_bytes * block.length
            to = address + sequence % block.length * row, ring
            cuda.copy_rows(to, (new[index], row), block.rows * len(block.rings), stream)
        cuda.record(slot.computed, stream)
        if self._transfers:
            self._send_off(slot, batch.outputs)


def placed(state: tuple[StateTensor, ...]) -> frozenset[str]:
    """Return the inputs and outputs whose memory is not that of a slot."""
    return frozenset(tensor.input for tensor in state) | ring_outputs(state)


def ring_outputs(state: tuple[StateTensor, ...]) -> frozenset[str]:
    """Return the outputs that are new rows of rings."""
    return frozenset(tensor.output for tensor in state if tensor.ring_axis is not None)


def _require_same_type(before: Port, after: Port) -> None:
    """Refuse a plan that reads a state in another type than it writes it."""
    if before.dtype != after.dtype:
        raise Unsupported(
            f"The plan reads state {before.name!r} as {before.dtype} and writes it, as {after.name!r}, as "
            f"{after.dtype}. Export the model with one type for both."
        )
