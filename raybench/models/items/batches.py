"""Seeded random inputs that rotate and together exceed every cache of the host."""

from __future__ import annotations

import hashlib
import math
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from raybench.errors import OutOfMemory
from raybench.machine import devices, sysfs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from raybench.models.model import TensorSpec

    Array = np.ndarray[Any, Any]
    Batch = dict[str, Array]

_MIN_BATCHES, _MAX_BATCHES = 4, 256
_MEASURED, _CALIBRATION = 0, 1


class ItemSource(Protocol):
    """Items of one input that are not drawn, such as those of files."""

    @property
    def key(self) -> str:
        """Return a text that identifies the items."""

    def take(self, count: int, seed: tuple[int, int]) -> Array:
        """Return items in an order that depends on the seed, shape (count, *item shape).

        All inputs of a model have the same order. Items are repeated where there are fewer.
        """


class BatchPool:
    """A pool of random items; a batch is a contiguous view of it at a rotating offset.

    Floats are uniform in [-1, 1) and never 0, integers uniform in their range, both ends
    included. The pool has at least `min_bytes`, unless 256 batches are less: engines bind each
    batch, and reading inputs that small costs nothing. It is never larger than twice `min_bytes`,
    or than one batch and three items if that is more.

    An input whose batch is not its first dimension is stored batch by batch: at most four batches
    if that is more than twice `min_bytes`. An input without a batch is one array in all batches.
    Where no input has a batch, the graph takes one size only, and each batch is drawn as a whole.

    Args:
        specs: the inputs.
        batch_size: items in a batch.
        seed: the same seed gives the same items; of a pair, the first number is the seed of batch 0,
            the second that of all items after it.
        ranges: lowest and highest value by name of integer input; 0 and 1 for those not in it.
        min_bytes: smallest size over all inputs; None for twice the last-level cache.
        given: items of the inputs that are not drawn, of the type of the input: a source of them,
            or an array of shape (items, *item shape), whose items are repeated in turn.

    Attributes:
        specs: the inputs.
        batch_size: items in a batch.
        count: number of batches, 4 to 256; distinct ones, if items are not repeated.
        items: number of items that the batches are made of.
        nbytes: memory of the pool.
        key: text that identifies the items, together with the specs.
        seed: of batch 0.
        ranges: lowest and highest value by name of integer input.
    """

    def __init__(
        self,
        specs: tuple[TensorSpec, ...],
        batch_size: int,
        seed: int | tuple[int, int],
        ranges: Mapping[str, Sequence[int]],
        min_bytes: int | None = None,
        given: Mapping[str, Array | ItemSource] | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} is below 1")
        refuse_larger_than_memory(specs, batch_size)
        self.specs = specs
        self.batch_size = batch_size
        floor = 2 * sysfs.last_level_cache_bytes() if min_bytes is None else min_bytes
        item_bytes = sum(_item_bytes(spec) for spec in _rotating(specs))
        wanted = -(-floor // item_bytes) if item_bytes else 0
        self.count, stride = _plan(batch_size if _batched(specs) else 1, wanted)
        first, rest = seed if isinstance(seed, tuple) else (seed, seed)
        items, of_first = (_Items((_MEASURED, one), ranges, given or {}) for one in (rest, first))
        leading = None if first == rest else of_first
        self._batches = _Batches(specs, batch_size, self.count, stride, items, leading)
        self.items = self._batches.items
        self.nbytes = sum(stored.nbytes for stored in self._batches.stored.values())
        bounds = sorted((name, tuple(bounds)) for name, bounds in ranges.items())
        seeds = f"{first}" if first == rest else f"{first}+{rest}"
        self.seed, self.ranges = first, ranges
        self.key = f"{seeds}/{bounds}" + (f"/{digest(given)}" if given else "")

    def stored(self, name: str) -> Array:
        """Return the array that all batches of an input are contiguous views of."""
        return self._batches.stored[name]

    @property
    def divisible(self) -> bool:
        """Whether the first items of every batch are contiguous, too: the batch comes first in each input."""
        return _batched(self.specs) and not any(spec.batch_axis for spec in self.specs)

    def part(self, index: int, items: int) -> Batch:
        """Return the first items of a batch of a divisible pool: contiguous views."""
        batch = self.batch(index)
        return {
            spec.name: batch[spec.name] if spec.batch_axis is None else batch[spec.name][:items]
            for spec in self.specs
        }

    def first(self, items: int) -> Batch:
        """Return the first items of batch 0, at most all of it, contiguous.

        Inputs without a batch are returned as they are.
        """
        batch = self.batch(0)
        return {spec.name: _leading(batch[spec.name], spec, items) for spec in self.specs}

    def batch(self, index: int) -> Batch:
        """Return batch `index` (0 <= index < count): contiguous views in the shapes of the specs."""
        if not 0 <= index < self.count:
            raise IndexError(f"batch {index} of {self.count}")
        return self._batches.batch(index)


def refuse_larger_than_memory(specs: tuple[TensorSpec, ...], batch_size: int) -> None:
    """Refuse a batch that this machine cannot hold, before it is drawn."""
    needed, memory = batch_size * sum(_item_bytes(spec) for spec in specs), devices.memory_bytes()
    if needed > memory:
        raise OutOfMemory("input", needed, f"the machine has {memory / 2**20:.0f} MiB")


def calibration_batches(
    specs: tuple[TensorSpec, ...],
    ranges: Mapping[str, Sequence[int]],
    batches: int,
    batch_size: int,
    given: Mapping[str, Array | ItemSource] | None = None,
) -> list[Batch]:
    """Return batches of the pools' distribution that are in no pool, whatever its seed.

    Given items are those of the pools, in an order of their own. The arguments are those of
    `BatchPool`; where no input has a batch, `batch_size` does not count.
    """
    items = _Items((_CALIBRATION, 0), ranges, given or {})
    made = _Batches(specs, batch_size, batches, batch_size if _batched(specs) else 1, items)
    return [made.batch(index) for index in range(batches)]


def digest(given: Mapping[str, Array | ItemSource]) -> str:
    """Return a hash over the names of inputs and the items that are given for them."""
    total = hashlib.sha256()
    for name, array in sorted(given.items(), key=lambda entry: entry[0]):
        if not isinstance(array, np.ndarray):
            total.update(f"{name}={array.key};".encode())
            continue
        total.update(f"{name}:{array.dtype.str}{array.shape};".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


@dataclass(frozen=True)
class _Items:
    """Source of items: given ones, else drawn.

    Attributes:
        seed: purpose and seed of the draw.
        ranges: lowest and highest value by name of integer input.
        given: items by name of input.
    """

    seed: tuple[int, int]
    ranges: Mapping[str, Sequence[int]]
    given: Mapping[str, Array | ItemSource]

    def take(self, spec: TensorSpec, items: int) -> Array:
        """Return items of an input, shape (items, *item shape)."""
        given = self.given.get(spec.name)
        if isinstance(given, np.ndarray):
            return given.take(np.arange(items), axis=0, mode="wrap")
        if given is not None:
            return given.take(items, self.seed)
        rng = np.random.Generator(np.random.SFC64([*self.seed, zlib.crc32(spec.name.encode())]))
        shape, dtype = (items, *_item_shape(spec)), np.dtype(spec.dtype)
        if dtype.kind == "f":
            return _floats(rng, shape).astype(dtype, copy=False)
        low, high = (0, 1) if dtype.kind == "b" else self.ranges.get(spec.name, (0, 1))
        return rng.integers(low, high, shape, dtype, endpoint=True)


class _Batches:
    """Batches that begin every `stride` items; `leading` replaces the items of batch 0.

    Attributes:
        items: number of items that they are made of.
        stored: by name of input: its items, if the batch comes first; else its batches, which is
            a single one for an input without a batch beside inputs that have one.
    """

    def __init__(
        self,
        specs: tuple[TensorSpec, ...],
        batch_size: int,
        count: int,
        stride: int,
        items: _Items,
        leading: _Items | None = None,
    ) -> None:
        self._specs, self._batch_size, self._stride = specs, batch_size, stride
        constant = {spec.name for spec in specs} - {spec.name for spec in _rotating(specs)}
        own = batch_size if _batched(specs) else 1
        self.items = total = (count - 1) * stride + own
        self.stored: dict[str, Array] = {}
        for spec in specs:
            drawn = items.take(spec, 1 if spec.name in constant else total)
            if leading is not None:
                drawn[:own] = leading.take(spec, min(own, len(drawn)))
            if spec.batch_axis:
                laid_out = np.empty((count, *spec.with_batch(batch_size)), drawn.dtype)
                for index, batch in enumerate(laid_out):
                    part = drawn[index * stride : index * stride + batch_size]
                    batch[...] = np.moveaxis(part, 0, spec.batch_axis)
                drawn = laid_out
            self.stored[spec.name] = drawn

    def batch(self, index: int) -> Batch:
        """Return a batch: contiguous views."""
        return {spec.name: self._of(spec, index) for spec in self._specs}

    def _of(self, spec: TensorSpec, index: int) -> Array:
        stored, start = self.stored[spec.name], index * self._stride
        if spec.batch_axis == 0:
            return stored[start : start + self._batch_size]
        return stored[index % len(stored), ...]  # an array even of a single number


def _batched(specs: Sequence[TensorSpec]) -> bool:
    return any(spec.batch_axis is not None for spec in specs)


def _rotating(specs: Sequence[TensorSpec]) -> list[TensorSpec]:
    """Return the inputs that differ from batch to batch: those with a batch, or all if none has."""
    return [spec for spec in specs if spec.batch_axis is not None] or list(specs)


def _plan(batch_size: int, wanted: int) -> tuple[int, int]:
    """Return number of batches and distance between them, in items, to span `wanted` items."""
    if _MIN_BATCHES * batch_size <= 2 * wanted:
        count = max(_MIN_BATCHES, math.ceil(wanted / batch_size))
        return min(count, _MAX_BATCHES), batch_size
    # four separate batches would be more than twice what is wanted: let them overlap
    return _MIN_BATCHES, max(1, math.ceil((wanted - batch_size) / (_MIN_BATCHES - 1)))


def _item_shape(spec: TensorSpec) -> tuple[int, ...]:
    shape = spec.with_batch(1)
    return tuple(size for axis, size in enumerate(shape) if axis != spec.batch_axis)


def _item_bytes(spec: TensorSpec) -> int:
    return math.prod(_item_shape(spec)) * np.dtype(spec.dtype).itemsize


def _leading(array: Array, spec: TensorSpec, items: int) -> Array:
    """Return the first items of a batch."""
    if spec.batch_axis is None:
        return array
    items = min(items, array.shape[spec.batch_axis])
    return np.ascontiguousarray(array.take(np.arange(items), axis=spec.batch_axis))


def _floats(
    rng: np.random.Generator, shape: tuple[int, ...]
) -> np.ndarray[Any, np.dtype[np.float32]]:
    values = rng.random(shape, np.float32)
    values *= 2
    values -= 1
    values[values == 0] = np.float32(2.0**-24)  # half a step: zeros may be skipped by hardware
    return values
