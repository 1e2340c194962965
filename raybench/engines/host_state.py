"""State in the memory of the host, for engines that compute there."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.engines.ring_blocks import RingBlock, ring_blocks
from raybench.models.items.batches import refuse_larger_than_memory
from raybench.models.items.initial_state import InitialState

if TYPE_CHECKING:
    from raybench.engines.base import Load

    Array = np.ndarray[Any, Any]

_LINE = 64
"""Memory begins at a multiple of this, a cache line."""


def slot_count(load: Load) -> int:
    """Return how many batches are bound: those of the pool, and with state no fewer than are in flight.

    A slot is for the same batch of the pool each time. One is enough where no batch holds anything: a step
    of decoder_125m took OpenVINO 4 to 10 % longer with four requests in turn than with one.
    """
    count, model = load.batches.count, load.model
    if not model.state:
        return count
    return count * -(-load.inflight // count) if model.fed_inputs else load.inflight


class HostState:
    """Memory of a model's state, which an engine binds once to what runs the batches of each slot.

    All slots read the same inputs, and `renew` writes there what a batch leaves to the next.

    Args:
        load: what the engine loads.

    Attributes:
        inputs: what every batch reads, by name.
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
        self.inputs: dict[str, Array] = {}
        sizes = {name: dtype.itemsize for name, dtype in self._types.items()}
        for block in ring_blocks(model.state, self._shapes, sizes):
            self._place(block)
        for tensor in model.state:
            if tensor.ring_axis is None:  # a ring of length 1
                nbytes = math.prod(self._shapes[tensor.input]) * sizes[tensor.input]
                self._place(RingBlock((tensor,), 1, 1, nbytes))
        self.restart()

    def _place(self, block: RingBlock) -> None:
        """Make a block of rings, and one of new rows for each slot."""
        memory = _memory(block.nbytes[0])
        new = [_memory(block.nbytes[1]) for _ in self._outputs]
        for ring, begin, new_begin in block.offsets():
            shape, dtype = self._shapes[ring.input], self._types[ring.input]
            self.inputs[ring.input] = _view(memory, begin, shape, dtype)
            for outputs, rows in zip(self._outputs, new, strict=True):
                outputs[ring.output] = _view(rows, new_begin, ring.output_shape(shape), dtype)
        self._rings.append(memory.reshape(-1, block.length, block.row_bytes))
        for of_slot, rows in zip(self._new, new, strict=True):
            of_slot.append(rows.reshape(-1, block.row_bytes))

    def outputs(self, slot: int) -> dict[str, Array]:
        """Return where a batch in this slot writes what renews the state, by name."""
        return self._outputs[slot]

    def renew(self, sequence: int) -> None:
        """Write what a batch, which must be done, leaves to the next into the inputs."""
        new = self._new[sequence % len(self._new)]
        for ring, rows in zip(self._rings, new, strict=True):
            ring[:, sequence % ring.shape[1]] = rows

    def restart(self) -> None:
        """Put back what batch 0 reads."""
        for name, array in self.inputs.items():
            self._initial.write(name, array)

    def free(self) -> None:
        """Drop the memory, which what it was bound to must no longer use."""
        self._rings, self._new, self._outputs, self.inputs = [], [], [], {}


def _memory(nbytes: int) -> Array:
    """Return zeros from a cache line on; zeros also where only alignment needs memory."""
    raw = np.zeros(nbytes + _LINE, np.uint8)
    begin = -raw.ctypes.data % _LINE
    return raw[begin : begin + nbytes]


def _view(memory: Array, begin: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return a tensor in a block of bytes."""
    return memory[begin : begin + math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)
