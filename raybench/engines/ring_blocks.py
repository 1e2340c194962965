"""Where state lies in memory: rings of a kind in one block, so that one strided copy renews them all.

A decoder has two rings for each layer, of the same shape. They lie one after another, and so do the new
rows of a batch, in the same order. Ring t begins at row `t * rows` of both blocks, where a row of the
block of rings is a whole ring of `length` rows.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from raybench.models.state import StateTensor

ALIGNMENT = 256
"""Each ring and each tensor of new rows begins at a multiple of this, as TensorRT requires."""


@dataclass(frozen=True)
class RingBlock:
    """Rings of the same size in one block of memory, and the block of their new rows.

    Attributes:
        rings: in the order of memory.
        rows: new rows of one ring for a batch, with those that only align the next one.
        length: rows that a ring holds for each of them.
        row_bytes: of one row.
    """

    rings: tuple[StateTensor, ...]
    rows: int
    length: int
    row_bytes: int

    @property
    def ring_bytes(self) -> int:
        """Bytes from one ring to the next."""
        return self.rows * self.length * self.row_bytes

    @property
    def new_bytes(self) -> int:
        """Bytes from the new rows of one ring to those of the next."""
        return self.rows * self.row_bytes

    @property
    def nbytes(self) -> tuple[int, int]:
        """Bytes of the block of rings, and of the block of new rows."""
        return len(self.rings) * self.ring_bytes, len(self.rings) * self.new_bytes

    def offsets(self) -> Iterator[tuple[StateTensor, int, int]]:
        """Yield each ring, where it begins in the block, and where its new rows begin in theirs."""
        for place, ring in enumerate(self.rings):
            yield ring, place * self.ring_bytes, place * self.new_bytes


def ring_blocks(
    state: Sequence[StateTensor],
    shapes: Mapping[str, tuple[int, ...]],
    item_bytes: Mapping[str, int],
) -> tuple[RingBlock, ...]:
    """Return the blocks that hold all rings of a model.

    Args:
        state: of the model.
        shapes: of the inputs, by name, with their batch.
        item_bytes: of one element, by name of input.
    """
    alike: dict[tuple[int, int, int], list[StateTensor]] = defaultdict(list)
    for tensor in state:
        axis = tensor.ring_axis
        if axis is None:
            continue
        shape = shapes[tensor.input]
        row_bytes = math.prod(shape[axis + 1 :]) * item_bytes[tensor.input]
        alike[math.prod(shape[:axis]), shape[axis], row_bytes].append(tensor)
    return tuple(
        RingBlock(tuple(rings), _aligned(rows, row_bytes), length, row_bytes)
        for (rows, length, row_bytes), rings in alike.items()
    )


def _aligned(rows: int, row_bytes: int) -> int:
    """Return the fewest rows, at least so many, that end at a multiple of the alignment."""
    step = ALIGNMENT // math.gcd(ALIGNMENT, row_bytes)
    return -(-rows // step) * step
