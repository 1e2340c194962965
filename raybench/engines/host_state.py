"""State in the memory of the host, for engines that compute there."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.engines.ring_blocks import ring_blocks
from raybench.models.items.batches import refuse_larger_than_memory
from raybench.models.items.initial_state import InitialState

if TYPE_CHECKING:
    from raybench.engines.base import Load
    from raybench.engines.ring_blocks import RingBlock

    Array = np.ndarray[Any, Any]

_LINE = 64
"""Memory begins at a multiple of this, a cache line."""


def slot_count(load: Load) -> int:
    """Return how many batches are bound: those of the pool, and with state no fewer than are in flight.

    A slot is for the same batch of the pool each time.
    """
    count = load.batches.count
    return count * -(-load.inflight // count) if load.model.state else count


class HostState:
    """Memory of a model's state, which an engine binds once for each slot of its batches.

    An input that an output replaces lies where the slot before has that output, so nothing is copied. A
    ring is read by all slots, and `renew` writes a batch's new rows into it.

    Args:
        load: what the engine loads.
    """

    def __init__(self, load: Load) -> None:
        model, batch_size = load.model, load.batches.batch_size
        refuse_larger_than_memory(model.state_inputs, batch_size)
        self._initial = InitialState.of(model, load.batches)
        self._types = {spec.name: np.dtype(spec.dtype) for spec in model.state_inputs}
        self._shapes = {spec.name: spec.with_batch(batch_size) for spec in model.state_inputs}
        self._outputs: list[dict[str, Array]] = [{} for _ in range(slot_count(load))]
        self._new: list[list[Array]] = [[] for _ in self._outputs]
        self._rings: list[Array] = []
        sizes = {name: dtype.itemsize for name, dtype in self._types.items()}
        rings: dict[str, Array] = {}
        for block in ring_blocks(model.state, self._shapes, sizes):
            rings |= self._place(block)
        replaced = [tensor for tensor in model.state if tensor.ring_axis is None]
        for tensor in replaced:
            shape, dtype = self._shapes[tensor.input], self._types[tensor.input]
            for outputs in self._outputs:
                memory = _memory(math.prod(shape) * dtype.itemsize)
                outputs[tensor.output] = _view(memory, 0, shape, dtype)
        self._inputs = [
            {**rings, **{each.input: self._outputs[slot - 1][each.output] for each in replaced}}
            for slot in range(len(self._outputs))
        ]
        self.restart()

    def _place(self, block: RingBlock) -> dict[str, Array]:
        """Make a block of rings, and one of new rows for each slot; return the rings by input."""
        memory = _memory(block.nbytes[0])
        new = [_memory(block.nbytes[1]) for _ in self._outputs]
        rings = {}
        for ring, begin, new_begin in block.offsets():
            shape, dtype = self._shapes[ring.input], self._types[ring.input]
            rings[ring.input] = _view(memory, begin, shape, dtype)
            for outputs, rows in zip(self._outputs, new, strict=True):
                outputs[ring.output] = _view(rows, new_begin, ring.output_shape(shape), dtype)
        self._rings.append(memory.reshape(-1, block.length, block.row_bytes))
        for of_slot, rows in zip(self._new, new, strict=True):
            of_slot.append(rows.reshape(-1, block.row_bytes))
        return rings

    def inputs(self, slot: int) -> dict[str, Array]:
        """Return what a batch in this slot reads, by name."""
        return self._inputs[slot]

    def outputs(self, slot: int) -> dict[str, Array]:
        """Return where a batch in this slot writes what renews the state, by name."""
        return self._outputs[slot]

    def renew(self, sequence: int) -> None:
        """Write the new rows of a batch, which must be done, into the rings."""
        new = self._new[sequence % len(self._new)]
        for ring, rows in zip(self._rings, new, strict=True):
            ring[:, sequence % ring.shape[1]] = rows

    def restart(self) -> None:
        """Put back what batch 0 reads."""
        for name, array in self._inputs[0].items():
            self._initial.write(name, array)

    def free(self) -> None:
        """Drop the memory, which what it was bound to must no longer use."""
        self._rings, self._new, self._inputs, self._outputs = [], [], [], []


def _memory(nbytes: int) -> Array:
    """Return zeros from a cache line on; zeros also where only alignment needs memory."""
    raw = np.zeros(nbytes + _LINE, np.uint8)
    begin = -raw.ctypes.data % _LINE
    return raw[begin : begin + nbytes]


def _view(memory: Array, begin: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return a tensor in a block of bytes."""
    return memory[begin : begin + math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)
