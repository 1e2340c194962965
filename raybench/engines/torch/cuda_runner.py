"""The stream of batches on a GPU: copies and compute of several batches at once.

A slot holds everything that one batch in flight needs. Computes run one after another on one stream, copies
on a stream beside it for each direction, from and to pinned memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from raybench.engines.tensorrt.runner import fed_batches, slot_count
from raybench.engines.torch.calls import CALLS
from raybench.engines.torch.conversion import tensor_of
from raybench.engines.torch.cpu_runner import numpy_of
from raybench.engines.torch.state import TorchState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np

    from raybench.engines.base import DeviceSpans, Load
    from raybench.engines.torch.cuda import TorchCuda
    from raybench.models.items.batches import BatchPool


@dataclass(eq=False)
class TorchSlot:
    """The resources of one batch in flight.

    Attributes:
        inputs: on the device, by name.
        begin, copied: around the copy in, on its stream.
        started, computed: around the compute, on its stream.
        leaving: before the copy out, on its stream: earlier ones may keep it waiting.
        done: after the copy out; without transfers `computed`.
        outputs: on the device, of the last batch; they live until the next, so that their copy may
            run beside other computes.
        host: pinned memory for the outputs that cross the bus, by name.
        launch: launches the slot's graph; None where the module is called.
    """

    inputs: dict[str, Any]
    begin: Any
    copied: Any
    started: Any
    computed: Any
    leaving: Any
    done: Any
    outputs: dict[str, Any] = field(default_factory=dict)
    host: dict[str, Any] = field(default_factory=dict)
    launch: Callable[[], None] | None = None


class CudaRunner:
    """Enqueues batches and waits for them.

    Args:
        cuda: the device, made current.
        module: on the device; takes the inputs of a batch in order, and returns the outputs so.
        load: what to run.
        lay_out: puts an input into the memory layout that the module wants.
    """

    def __init__(
        self,
        cuda: TorchCuda,
        module: Callable[..., Any],
        load: Load,
        lay_out: Callable[[Any], Any],
    ) -> None:
        self._cuda = cuda
        self._module = module
        self._lay_out = lay_out
        self._transfers = load.transfers
        self._inputs = [spec.name for spec in load.model.inputs]
        self._outputs = [spec.name for spec in load.model.outputs]
        self._crossing = [
            name for name in self._outputs if load.transfers and name not in load.model.kept_outputs
        ]
        self._state = TorchState(load, cuda.device) if load.model.state else None
        self._copy_in, self._compute, self._copy_out = (cuda.stream() for _ in range(3))
        slots = slot_count(load.inflight, 1)
        self._count = fed_batches(slots, load.batches.count, load.transfers)
        self._sources = _pinned(cuda, load.batches, self._count)
        self._slots = [self._slot(index % self._count) for index in range(slots)]
        self._last = self._slots[0]
        cuda.drain()
        for index, slot in enumerate(self._slots):
            self._prepare(index, slot, load.options.cuda_graphs)
        if not load.transfers:
            self._sources = []
        self.restart()

    def _slot(self, batch: int) -> TorchSlot:
        """Return a new slot with a batch of the pool on the device."""
        events = [self._cuda.event() for _ in range(6)]
        source = self._sources[batch]
        device = self._cuda.device
        inputs = {name: tensor.to(device, copy=True) for name, tensor in source.items()}
        if not self._transfers:
            events[-1] = events[3]
        return TorchSlot(inputs, *events)

    def _prepare(self, index: int, slot: TorchSlot, as_graph: bool) -> None:
        """Run a slot once, which may compile; make memory for its outputs, and its graph if asked for."""
        self._execute(slot)
        self._cuda.drain()
        if as_graph:
            slot.launch, slot.outputs = self._cuda.captured(
                lambda: self._call(slot.inputs), self._compute
            )
        slot.host = {name: self._cuda.pinned_like(slot.outputs[name]) for name in self._crossing}
        self.submit(index)
        self.collect(index)

    def _execute(self, slot: TorchSlot) -> None:
        with self._cuda.on(self._compute):
            if slot.launch is not None:
                slot.launch()
            else:
                slot.outputs = self._call(slot.inputs)

    def _call(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Compute a batch, which renews the state."""
        kept = {} if self._state is None else self._state.tensors
        with torch.inference_mode():
            results = self._module(
                *(
                    kept[name] if name in kept else self._lay_out(inputs[name])
                    for name in self._inputs
                )
            )
            outputs = dict(zip(self._outputs, results, strict=True))
            if self._state is not None:
                self._state.renew(outputs)
        return outputs

    def submit(self, sequence: int) -> None:
        """Enqueue copy in, compute and copy out of a batch."""
        CALLS.run("run", lambda: self._submit(sequence))

    def _submit(self, sequence: int) -> None:
        slot, compute = self._slots[sequence % len(self._slots)], self._compute
        if self._transfers:
            slot.begin.record(self._copy_in)
            with self._cuda.on(self._copy_in):
                for name, source in self._sources[sequence % self._count].items():
                    slot.inputs[name].copy_(source, non_blocking=True)
            slot.copied.record(self._copy_in)
            compute.wait_event(slot.copied)
        slot.started.record(compute)
        self._execute(slot)
        slot.computed.record(compute)
        if self._transfers:
            self._copy_out.wait_event(slot.computed)
            slot.leaving.record(self._copy_out)
            with self._cuda.on(self._copy_out):
                for name, target in slot.host.items():
                    target.copy_(slot.outputs[name], non_blocking=True)
            slot.done.record(self._copy_out)

    def host_inputs(self, index: int) -> dict[str, np.ndarray[Any, Any]]:
        """Return the pinned memory that a batch of the pool is copied from; only with transfers."""
        return {name: tensor.numpy() for name, tensor in self._sources[index].items()}

    def collect(self, sequence: int) -> DeviceSpans:
        """Block until a batch is done; return its copy in, compute and copy out in ns."""
        self._last = slot = self._slots[sequence % len(self._slots)]
        return CALLS.run("run", lambda: self._spans(slot))

    def _spans(self, slot: TorchSlot) -> DeviceSpans:
        slot.done.synchronize()
        compute = _between(slot.started, slot.computed)
        if not self._transfers:
            return 0, compute, 0
        return _between(slot.begin, slot.copied), compute, _between(slot.leaving, slot.done)

    def outputs(self) -> list[np.ndarray[Any, Any]]:
        """Return copies of the outputs of the batch collected last, in order."""
        tensors = {**self._last.outputs, **self._last.host}
        return [numpy_of(tensors[name]) for name in self._outputs]

    def restart(self) -> None:
        """Put the first state back."""
        if self._state is not None:
            self._cuda.drain()
            self._state.restart()
            self._cuda.drain()

    def close(self) -> None:
        """Wait for what is in flight, then free everything."""
        self._cuda.drain()
        self._slots, self._sources = [], []
        self._last = TorchSlot({}, None, None, None, None, None, None)
        self._state = None
        self._cuda.close()


def _between(start: Any, end: Any) -> int:
    """Return the device's time between two finished events in ns."""
    return max(int(start.elapsed_time(end) * 1e6), 0)


def _pinned(cuda: TorchCuda, batches: BatchPool, count: int) -> list[dict[str, Any]]:
    """Return the first batches of the pool in pinned memory, which has each item once."""
    views = [batches.batch(index) for index in range(count)]
    pinned: list[dict[str, Any]] = [{} for _ in views]
    for spec in batches.specs:
        stored = batches.stored(spec.name)
        flat = cuda.pinned(tensor_of(stored)).reshape(-1)
        for tensors, view in zip(pinned, views, strict=True):
            array = view[spec.name]
            begin = (array.ctypes.data - stored.ctypes.data) // array.itemsize
            tensors[spec.name] = flat[begin : begin + array.size].reshape(array.shape)
    return pinned
