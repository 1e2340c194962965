"""Seeded random inputs that rotate and together exceed every cache of the host."""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.machine import sysfs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from raybench.models.model import TensorSpec

_MIN_BATCHES, _MAX_BATCHES = 4, 256
_MEASURED, _CALIBRATION = 0, 1


class BatchPool:
    """A pool of random items; a batch is a contiguous view of it at a rotating offset.

    Floats are uniform in [-1, 1) and never 0, integers uniform in their range, both ends
    included. The pool has at least `min_bytes`, unless 256 batches are less: engines bind each
    batch, and reading inputs that small costs nothing. It is never larger than twice `min_bytes`,
    or than one batch and three items if that is more.

    Args:
        specs: the inputs.
        batch_size: items in a batch.
        seed: the same seed gives the same items.
        ranges: lowest and highest value by name of integer input; 0 and 1 for those not in it.
        min_bytes: smallest size over all inputs; None for twice the last-level cache.

    Attributes:
        specs: the inputs.
        batch_size: items in a batch.
        count: number of distinct batches, 4 to 256.
        nbytes: memory of the pool.
        key: text that identifies the items, together with the specs.
    """

    def __init__(
        self,
        specs: tuple[TensorSpec, ...],
        batch_size: int,
        seed: int,
        ranges: Mapping[str, Sequence[int]],
        min_bytes: int | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} is below 1")
        self.specs = specs
        self.batch_size = batch_size
        floor = 2 * sysfs.last_level_cache_bytes() if min_bytes is None else min_bytes
        item_bytes = sum(_item_bytes(spec) for spec in specs)
        self.count, self._stride = _plan(batch_size, -(-floor // item_bytes) if item_bytes else 0)
        items = (self.count - 1) * self._stride + batch_size
        self._items = _draw(specs, items, (_MEASURED, seed), ranges)
        self.nbytes = sum(values.nbytes for values in self._items.values())
        self.key = f"{seed}/{sorted((name, tuple(bounds)) for name, bounds in ranges.items())}"

    def first(self, items: int) -> dict[str, np.ndarray[Any, Any]]:
        """Return views of the first items of the pool, beginning with batch 0; at most all items."""
        return {name: values[:items] for name, values in self._items.items()}

    def batch(self, index: int) -> dict[str, np.ndarray[Any, Any]]:
        """Return batch `index` (0 <= index < count): contiguous views, shape (batch_size, ...)."""
        if not 0 <= index < self.count:
            raise IndexError(f"batch {index} of {self.count}")
        start = index * self._stride
        return {
            name: values[start : start + self.batch_size] for name, values in self._items.items()
        }


def calibration_batches(
    specs: tuple[TensorSpec, ...],
    ranges: Mapping[str, Sequence[int]],
    batches: int,
    batch_size: int,
) -> list[dict[str, np.ndarray[Any, Any]]]:
    """Return batches of the pools' distribution that are in no pool, whatever its seed."""
    items = _draw(specs, batches * batch_size, (_CALIBRATION, 0), ranges)
    starts = range(0, batches * batch_size, batch_size)
    return [
        {name: values[start : start + batch_size] for name, values in items.items()}
        for start in starts
    ]


def _plan(batch_size: int, wanted: int) -> tuple[int, int]:
    """Return number of batches and distance between them, in items, to span `wanted` items."""
    if _MIN_BATCHES * batch_size <= 2 * wanted:
        count = max(_MIN_BATCHES, math.ceil(wanted / batch_size))
        return min(count, _MAX_BATCHES), batch_size
    # four separate batches would be more than twice what is wanted: let them overlap
    return _MIN_BATCHES, max(1, math.ceil((wanted - batch_size) / (_MIN_BATCHES - 1)))


def _item_bytes(spec: TensorSpec) -> int:
    return math.prod(spec.with_batch(1)) * np.dtype(spec.dtype).itemsize


def _draw(
    specs: Sequence[TensorSpec],
    items: int,
    seed: tuple[int, int],
    ranges: Mapping[str, Sequence[int]],
) -> dict[str, np.ndarray[Any, Any]]:
    drawn: dict[str, np.ndarray[Any, Any]] = {}
    for spec in specs:
        rng = np.random.Generator(np.random.SFC64([*seed, zlib.crc32(spec.name.encode())]))
        shape, dtype = spec.with_batch(items), np.dtype(spec.dtype)
        if dtype.kind == "f":
            drawn[spec.name] = _floats(rng, shape).astype(dtype, copy=False)
        else:
            low, high = (0, 1) if dtype.kind == "b" else ranges.get(spec.name, (0, 1))
            drawn[spec.name] = rng.integers(low, high, shape, dtype, endpoint=True)
    return drawn


def _floats(
    rng: np.random.Generator, shape: tuple[int, ...]
) -> np.ndarray[Any, np.dtype[np.float32]]:
    values = rng.random(shape, np.float32)
    values *= 2
    values -= 1
    values[values == 0] = np.float32(2.0**-24)  # half a step: zeros may be skipped by hardware
    return values
