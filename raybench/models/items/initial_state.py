"""The content of a model's state before batch 0: drawn once for each tensor, and repeated to fill it."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from raybench.models.items.batches import BatchPool
    from raybench.models.model import Model, TensorSpec

    Array = np.ndarray[Any, Any]

LARGEST_BLOCK = 1 << 20
"""Elements that are drawn for a tensor: a cache of many GiB repeats them."""


@dataclass(frozen=True)
class InitialState:
    """What the inputs that a device keeps hold before batch 0, equal for all workers of a point.

    Floats are uniform in [-1, 1) and numbers of half precision, so that a graph in fp16 begins with the values
    of the fp32 graph; integers are uniform in their range, both ends included.

    Attributes:
        specs: the inputs.
        batch_size: items in a batch.
        seed: the same seed gives the same bits.
        ranges: lowest and highest value by name of integer input; 0 and 1 for those not in it.
    """

    specs: tuple[TensorSpec, ...] = ()
    batch_size: int = 1
    seed: int = 0
    ranges: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, model: Model, batches: BatchPool) -> InitialState:
        """Return the state with which a model begins, of the seed of its batch 0."""
        return cls(model.state_inputs, batches.batch_size, batches.seed, batches.ranges)

    @property
    def nbytes(self) -> int:
        """Bytes of all inputs of a batch."""
        return sum(
            math.prod(spec.with_batch(self.batch_size)) * np.dtype(spec.dtype).itemsize
            for spec in self.specs
        )

    def block(self, name: str, size: int) -> Array:
        """Return the first elements of an input, flat; the rest repeats them.

        Args:
            name: of the input.
            size: elements that the input has in all.
        """
        (spec,) = (spec for spec in self.specs if spec.name == name)
        return self._drawn(name, size, np.dtype(spec.dtype))

    def _drawn(self, name: str, size: int, dtype: np.dtype[Any]) -> Array:
        size = min(size, LARGEST_BLOCK)
        rng = np.random.Generator(np.random.SFC64([self.seed, zlib.crc32(name.encode())]))
        if dtype.kind == "f":
            halves = (2 * rng.random(size, np.float32) - 1).astype(np.float16)
            return halves.astype(dtype, copy=False)
        low, high = (0, 1) if dtype.kind == "b" else self.ranges.get(name, (0, 1))
        return rng.integers(low, high, size, dtype, endpoint=True)

    def write(self, name: str, array: Array) -> None:
        """Fill a contiguous array with the content of an input, in the type of the array."""
        block, flat = self._drawn(name, array.size, array.dtype), array.reshape(-1)
        for begin in range(0, flat.size, block.size):
            part = flat[begin : begin + block.size]
            part[...] = block[: part.size]

    def first(self, items: int) -> dict[str, Array]:
        """Return the content for the first items of a batch, in fp32 where it is narrower."""
        return {spec.name: self._first(spec, items) for spec in self.specs}

    def _first(self, spec: TensorSpec, items: int) -> Array:
        axis = spec.batch_axis
        dtype = np.dtype("float32" if spec.dtype == "float16" else spec.dtype)
        array = np.empty(spec.with_batch(items if axis == 0 else self.batch_size), dtype)
        self.write(spec.name, array)
        if axis:
            array = np.ascontiguousarray(array.take(range(items), axis=axis))
        return array
