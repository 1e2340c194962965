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
    from collections.abc import Callable, Collection, Sequence

    from raybench.engines.tensorrt.cuda import Cuda, Handle
    from raybench.models.items.batches import BatchPool

Array = np.ndarray[Any, Any]

ALIGNMENT = 256
"""TensorRT requires addresses of inputs and outputs to be multiples of this."""
QUEUED_BYTES = 1 << 18
"""A copy out of less is over in 10 us, before the next batch is computed; an event more would cost each batch a call."""


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
class Lane:
    """An execution context and its streams; the copies of a batch run beside another's compute.

    Attributes:
        context: TensorRT's execution context, whose scratch memory one batch at a time may use.
        copy_in, compute, copy_out: a stream each.
    """

    context: Any
    copy_in: Handle
    compute: Handle
    copy_out: Handle


@dataclass(frozen=True, eq=False)
class Slot:
    """The resources of one batch in flight.

    Attributes:
        lane: where it runs, shared with other slots.
        device: device address by name of port.
        host: pinned outputs by name of port.
        begin, copied: around the copy in, on its stream.
        started, computed: around the compute, on its stream.
        leaving: before the copy out, on its stream, where earlier ones may keep it waiting; the same as
            `computed` where outputs are too small for that.
        done: after the copy out; the same as `computed` without transfers.
    """

    lane: Lane
    device: dict[str, int]
    host: dict[str, Array]
    begin: Handle
    copied: Handle
    started: Handle
    computed: Handle
    leaving: Handle
    done: Handle


class Buffers:
    """Everything a runner allocates; `free` releases it in reverse order.

    Args:
        cuda: the CUDA runtime; the device is current.
        ports: inputs and outputs of the plan.
        transfers: whether batches are copied, so that copies need events of their own.
        kept: names of outputs that stay on the device.
        placed: names of inputs and outputs that have memory elsewhere, as state has.

    Attributes:
        inputs, outputs: ports that are copied with every batch.
        kept: outputs that are not.
    """

    def __init__(
        self,
        cuda: Cuda,
        ports: Sequence[Port],
        transfers: bool,
        kept: Collection[str] = (),
        placed: Collection[str] = (),
    ) -> None:
        self._cuda = cuda
        self._ports = [port for port in ports if port.name not in placed]
        self.inputs = [port for port in self._ports if port.is_input]
        outputs = [port for port in ports if not port.is_input]
        self.outputs = [port for port in outputs if port.name not in kept]
        self.kept = [port for port in outputs if port.name in kept]
        queues = transfers and sum(port.nbytes for port in self.outputs) >= QUEUED_BYTES
        self._events = (transfers, transfers, True, True, queues, transfers)
        self._stack = ExitStack()

    def own(self, resource: Any, release: Callable[[Any], None]) -> Any:
        """Return a resource after noting how `free` releases it."""
        self._stack.callback(quietly, release, resource)
        return resource

    def free(self) -> None:
        """Release everything."""
        self._stack.close()

    def lane(self, context: Any) -> Lane:
        """Return new streams for an execution context."""
        streams = (self.own(self._cuda.stream(), self._cuda.drop_stream) for _ in range(3))
        return Lane(context, *streams)

    def slot(self, lane: Lane, spin: bool) -> Slot:
        """Return a new slot of a lane."""
        begin, copied, started, computed, leaving, done = (
            self._event(spin) if needed else None for needed in self._events
        )
        return Slot(
            lane,
            {port.name: self.device(port.nbytes) for port in self._ports},
            {port.name: self._pinned(port.dtype, port.shape) for port in self.outputs},
            begin,
            copied,
            started,
            computed,
            leaving or computed,
            done or computed,
        )

    def _event(self, spin: bool) -> Handle:
        return self.own(self._cuda.event(timing=True, spin=spin), self._cuda.drop_event)

    def device(self, nbytes: int) -> int:
        """Return the address of new device memory."""
        return int(self.own(self._cuda.malloc(max(nbytes, 1)), self._cuda.free))

    def _pinned(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
        nbytes = math.prod(shape) * dtype.itemsize
        address = self.own(self._cuda.host_alloc(max(nbytes, 1)), self._cuda.host_free)
        return at_address(address, dtype, shape)

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

    def upload(self, batch: dict[str, Array], slot: Slot) -> None:
        """Copy a batch into the device memory of a slot, where it stays."""
        for port in self.inputs:
            staging = self._pinned(port.dtype, port.shape)
            np.copyto(staging, batch[port.name], casting="same_kind")
            address = slot.device[port.name]
            self._cuda.copy_in(address, staging.ctypes.data, port.nbytes, slot.lane.copy_in)
        self._cuda.drain(slot.lane.copy_in)

    def send(self, array: Array, address: int, stream: Handle) -> None:
        """Copy an array to the device, and wait for it."""
        staging = self._cuda.host_alloc(array.nbytes)
        try:
            ctypes.memmove(staging, array.ctypes.data, array.nbytes)
            self._cuda.copy_in(address, staging, array.nbytes, stream)
            self._cuda.drain(stream)
        finally:
            quietly(self._cuda.host_free, staging)

    def fetch(self, port: Port, slot: Slot) -> Array:
        """Return a copy of an output that stays on the device."""
        staging = self._cuda.host_alloc(max(port.nbytes, 1))
        try:
            self._cuda.copy_out(staging, slot.device[port.name], port.nbytes, slot.lane.copy_out)
            self._cuda.drain(slot.lane.copy_out)
            array: Array = np.empty(port.shape, port.dtype)
            ctypes.memmove(array.ctypes.data, staging, port.nbytes)
            return array
        finally:
            quietly(self._cuda.host_free, staging)


def at_address(address: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    """Return host memory as an array, which is valid as long as the memory is."""
    raw: Any = (ctypes.c_byte * max(math.prod(shape) * dtype.itemsize, 1)).from_address(address)
    flat: Array = np.frombuffer(raw, dtype, math.prod(shape))
    return flat.reshape(shape)


def quietly(release: Callable[[Any], None], resource: Any) -> None:
    """Release a resource; a lost device refuses, but then the resource is gone anyway."""
    try:
        release(resource)
    except PointError:
        return


def io_bytes(ports: Sequence[Port], slots: int) -> int:
    """Return the device memory that a runner allocates for inputs and outputs."""
    return slots * sum(_aligned(port.nbytes) for port in ports)


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def _offset(pool: Array, view: Array) -> int:
    """Return the number of elements of the pool before its view."""
    return int((view.ctypes.data - pool.ctypes.data) // pool.itemsize)
