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
        batch_size, state = load.batches.batch_size, load.model.state
        refuse_larger_than_memory(load.model.state_inputs, batch_size)
        self._initial = InitialState.of(load.model, load.batches)
        specs = {spec.name: spec for spec in load.model.state_inputs}
        dtypes = {name: np.dtype(spec.dtype) for name, spec in specs.items()}
        shapes = {name: spec.with_batch(batch_size) for name, spec in specs.items()}
        blocks = ring_blocks(state, shapes, {name: each.itemsize for name, each in dtypes.items()})
        self._rings = [_memory(block.nbytes[0]) for block in blocks]
        self._new = [
            [_memory(block.nbytes[1]) for block in blocks] for _ in range(slot_count(load))
        ]
        rings: dict[str, Array] = {}
        self._outputs: list[dict[str, Array]] = [{} for _ in self._new]
        for index, block in enumerate(blocks):
            for ring, begin, new_begin in block.offsets():
                name, axis = ring.input, ring.ring_axis or 0
                shape, dtype = shapes[name], dtypes[name]
                rings[name] = _view(self._rings[index], begin, shape, dtype)
                row = (*shape[:axis], 1, *shape[axis + 1 :])
                for new, outputs in zip(self._new, self._outputs, strict=True):
                    outputs[ring.output] = _view(new[index], new_begin, row, dtype)
            self._rings[index] = self._rings[index].reshape(-1, block.length, block.row_bytes)
            for new in self._new:
                new[index] = new[index].reshape(-1, block.row_bytes)
        replaced = [tensor for tensor in state if tensor.ring_axis is None]
        for tensor in replaced:
            shape, dtype = shapes[tensor.input], dtypes[tensor.input]
            for outputs in self._outputs:
                memory = _memory(math.prod(shape) * dtype.itemsize)
                outputs[tensor.output] = _view(memory, 0, shape, dtype)
        self._inputs = [
            {**rings, **{each.input: self._outputs[slot - 1][each.output] for each in replaced}}
            for slot in range(len(self._outputs))
        ]
        self.restart()

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


def _memory(nbytes: int) -> Array:
    """Return zeros from a cache line on; zeros also where only alignment needs memory."""
    raw = np.zeros(nbytes + _LINE, np.uint8)
    begin = -raw.ctypes.data % _LINE
    return raw[begin : begin + nbytes]


def _view(memory: Array, begin: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return a tensor in a block of bytes."""
    return memory[begin : begin + math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)
