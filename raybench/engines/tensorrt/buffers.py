"""Device and pinned host memory, streams and events of a runner, and freeing them."""

from __future__ import annotations

import ctypes
import math
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.errors import PointError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from raybench.engines.tensorrt.cuda import Cuda, Handle
    from raybench.models.items.batches import BatchPool

Array = np.ndarray[Any, Any]

ALIGNMENT = 256
"""TensorRT requires addresses of inputs and outputs to be multiples of this."""


@dataclass(frozen=True)
class Port:
    """An input or output of the plan at the batch of the point.

    Attributes:
        name: name of the tensor.
        dtype: element type in the plan, which may be narrower than in the graph.
        shape: shape with every dimension fixed.
        is_input: whether it is an input, else an output.
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
    """The resources of one batch in flight.

    Attributes:
        stream: runs everything of the slot in order.
        context: execution context, shared with the other slots of the lane.
        device: device address by name of port.
        host: pinned outputs by name of port.
        begin, copied, started, computed, done: events in the order of the stream.
        before: index of the lane's slot whose turn comes before this one's.
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


class Buffers:
    """Everything a runner allocates; `free` releases it in reverse order.

    Args:
        cuda: the CUDA runtime; the device is current.
        ports: inputs and outputs of the plan.
        transfers: whether each slot needs device memory for inputs of its own.
    """

    def __init__(self, cuda: Cuda, ports: Sequence[Port], transfers: bool) -> None:
        self._cuda = cuda
        self.inputs = [port for port in ports if port.is_input]
        self.outputs = [port for port in ports if not port.is_input]
        self._transfers = transfers
        self._stack = ExitStack()

    def own(self, resource: Any, release: Callable[[Any], None]) -> Any:
        """Return a resource after noting how `free` releases it."""
        self._stack.callback(quietly, release, resource)
        return resource

    def free(self) -> None:
        """Release everything."""
        self._stack.close()

    def slot(self, context: Any, before: int, spin: bool) -> Slot:
        """Return a new slot on an execution context."""
        ports = [*self.inputs, *self.outputs] if self._transfers else self.outputs
        begin, copied, started, computed, done = (self._event(spin) for _ in range(5))
        return Slot(
            self.own(self._cuda.stream(), self._cuda.drop_stream),
            context,
            {port.name: self._device(port.nbytes) for port in ports},
            {port.name: self._pinned(port.dtype, port.shape) for port in self.outputs},
            begin,
            copied,
            started,
            computed,
            done,
            before,
        )

    def _event(self, spin: bool) -> Handle:
        return self.own(self._cuda.event(timing=True, spin=spin), self._cuda.drop_event)

    def _device(self, nbytes: int) -> int:
        return int(self.own(self._cuda.malloc(max(nbytes, 1)), self._cuda.free))

    def _pinned(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
        nbytes = math.prod(shape) * dtype.itemsize
        address = self.own(self._cuda.host_alloc(max(nbytes, 1)), self._cuda.host_free)
        raw: Any = (ctypes.c_byte * max(nbytes, 1)).from_address(address)
        flat: Array = np.frombuffer(raw, dtype, math.prod(shape))
        return flat.reshape(shape)

    def pin(self, batches: BatchPool, count: int) -> list[dict[str, int]]:
        """Copy the pool into pinned memory; return each batch's host addresses by name of input."""
        fed = [batches.batch(index) for index in range(count)]
        pinned: list[dict[str, int]] = [{} for _ in fed]
        for port in self.inputs:
            pool = batches.stored(port.name)
            offsets = [_offset(pool, batch[port.name]) for batch in fed]
            end = max(offsets) + math.prod(port.shape)
            copy = self._pinned(port.dtype, (end,))
            np.copyto(copy, pool.reshape(-1)[:end], casting="same_kind")
            for addresses, offset in zip(pinned, offsets, strict=True):
                addresses[port.name] = copy.ctypes.data + offset * copy.itemsize
        return pinned

    def upload(self, batches: BatchPool, count: int, stream: Handle) -> list[dict[str, int]]:
        """Copy each batch to the device, aligned on its own; return the device addresses."""
        sources: list[dict[str, int]] = [{} for _ in range(count)]
        for port in self.inputs:
            staging = self._pinned(port.dtype, port.shape)
            for i, addresses in enumerate(sources):
                np.copyto(staging, batches.batch(i)[port.name], casting="same_kind")
                addresses[port.name] = self._device(port.nbytes)
                self._cuda.copy_in(addresses[port.name], staging.ctypes.data, port.nbytes, stream)
                self._cuda.drain(stream)
        return sources


def quietly(release: Callable[[Any], None], resource: Any) -> None:
    """Release a resource; a lost device refuses, but then the resource is gone anyway."""
    try:
        release(resource)
    except PointError:
        return


def io_bytes(ports: Sequence[Port], slots: int, batches: int, transfers: bool) -> int:
    """Return the device memory that a runner allocates for inputs and outputs."""
    inputs = sum(_aligned(port.nbytes) for port in ports if port.is_input)
    outputs = sum(_aligned(port.nbytes) for port in ports if not port.is_input)
    return inputs * (slots if transfers else batches) + outputs * slots


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def _offset(pool: Array, view: Array) -> int:
    """Return the number of elements of the pool before its view."""
    return int((view.ctypes.data - pool.ctypes.data) // pool.itemsize)
