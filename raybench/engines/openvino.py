"""OpenVINO: the default engine on CPU cores."""

from __future__ import annotations

import functools
import json
import logging
import re
import statistics
import time
from bisect import bisect_left
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

from typing_extensions import override

from raybench.engines import openvino_layers, refusals
from raybench.engines.base import (
    EngineBase,
    EngineInfo,
    EngineTraits,
    KeepsState,
    Layer,
    ReadsHostInputs,
    ReportsLayers,
    TakesPartBatches,
)
from raybench.engines.host_state import HostState, slot_count
from raybench.errors import PointError, Unsupported
from raybench.experiment import AS_IS, INT8_WEIGHTS

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from typing_extensions import Self

    from raybench.engines.base import Load
    from raybench.machine.devices import Device

HINTS = {"fp32": "f32", "int8": "f32", INT8_WEIGHTS: "f32", "bf16": "bf16", AS_IS: "f32"}
"""Arithmetic of everything the graph leaves in float. Always set: the library's own default is bf16
where the CPU has it, and an "fp32" row would be twice too fast."""
_CALLS = refusals.LibraryCalls(
    "OpenVINO",
    (Exception,),  # that of a conversion derives from it alone
    re.compile(r"[Ff]ailed to allocate (\d+) bytes"),
    {
        re.compile(r"(?:operations|failed for): (?P<op>.+?)(?: -- |$)"): (
            "OpenVINO cannot convert {op} of this graph. Use engine=onnxruntime, or export the model "
            "with other operators."
        ),
        re.compile(
            r"(?:with name|name:) '?(?P<node>[^\s']+).*?"
            r"(?i:unsupported|not supported|not implemented|n't support|not support)"
        ): (
            "OpenVINO has no kernel for node {node!r} as it stands in this graph. Use "
            "engine=onnxruntime, or another precision."
        ),
        re.compile(r"CALLBACK HAS THROWN"): (
            "A pass of OpenVINO over this graph fails. Use engine=onnxruntime, or another precision."
        ),
        re.compile(r"OpConversionFailure|(?i:unsupported op|is not implemented)"): (
            "OpenVINO cannot run an operator of this graph. Use engine=onnxruntime."
        ),
    },
)

logger = logging.getLogger(__name__)

_UNFUSED = (
    "OpenVINO would fuse products of small int8 matrices into a layer that computes them wrongly, so "
    "the graph is compiled without layers of that kind (SNIPPETS_MODE=DISABLE)."
)


@dataclass(frozen=True)
class OpenVINOSettings:
    """Options of the engine `openvino`.

    Attributes:
        threads: number of threads that compute one batch; they share the worker's core.
    """

    threads: int = 1


class OpenVINOEngine(EngineBase, ReportsLayers, TakesPartBatches, KeepsState, ReadsHostInputs):
    """One compiled model at a static batch; one infer request for each batch of the pool.

    With one batch in flight it infers on the calling thread; with more it queues requests
    and the runtime's own thread works through them.

    Parts of batches have compiled models of their own, each at a static size. One model of a dynamic
    shape would take 6 % longer for a full batch of LeNet, and 62 % longer for batches that differ in
    size, since it is prepared again at every change.
    """

    traits = EngineTraits(
        name="openvino",
        settings=OpenVINOSettings,
        device_kinds=("cpu",),
        # version 2026.4.1 runs GoogLeNet in s8s8 with 6 dB to fp32 (ONNX Runtime: 36 dB on the
        # same graph); in u8s8 with 37 dB, and faster
        int8_dialect="u8s8",
        bf16_dialect="native",
    )

    @classmethod
    @override
    def unavailable(cls) -> str | None:
        """Return why OpenVINO cannot run here."""
        if find_spec("openvino") is None:
            return "Engine 'openvino' needs the package openvino, which is missing. Run pip install openvino."
        return None

    @classmethod
    @override
    def unsupported(cls, precision: str, device: Device, transfers: bool) -> str | None:
        """Refuse precisions that OpenVINO would silently replace by another one."""
        if not transfers:
            return refusals.NO_BUS
        if precision == "bf16":
            if "BF16" not in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
                return f"{device.name} has no bf16 arithmetic. Use precision=fp32 or int8."
            return None
        if precision not in HINTS:
            instead = "int8 with an fp32 rest" if precision == "int8_fp16" else "another precision"
            return (
                f"OpenVINO on a CPU would run {precision} as {instead}. "
                f"Use precision=fp32, or int8, int8_weights or bf16 where the model can be made so."
            )
        return None

    @classmethod
    @override
    def load(cls, load: Load) -> Self:
        """Compile at the point's batch and bind every batch of the pool to a request."""
        kind: Any = OpenVINOWithState if load.model.state else cls
        return cast("Self", kind(load))

    def __init__(self, load: Load) -> None:
        import openvino as ov

        hint = HINTS[load.model.precision]
        threads = load.options.threads
        self._batches = load.batches  # the runtime reads this memory and does not own it
        began = time.perf_counter()
        shapes = _shapes(load, load.batches.batch_size)
        graph, resizable = _CALLS.run("build", lambda: _read(load.model.path, shapes))
        self._properties: dict[str, Any] = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": hint,
            "ENABLE_CPU_PINNING": False,  # the worker has pinned the process already
            **openvino_layers.properties(load.model),
        }
        if resizable and load.takes_parts and load.inflight > 1:
            # else each size would have a queue of its own, and two batches would run at once
            self._properties["EXCLUSIVE_ASYNC_REQUESTS"] = True
        self._graph = graph
        self._names = {spec.name for spec in load.model.outputs}
        asked = self._properties
        self._compiled, self._properties = _compile_right(graph, asked)
        parts = _compile_parts(graph, load, asked) if resizable else {}
        repaired = (_UNFUSED,) if "SNIPPETS_MODE" in self._properties else ()
        built = time.perf_counter()
        self._refuse_other_precision(hint)
        openvino_layers.refuse_wide_weights(self._compiled, load.model)
        self._requests = _CALLS.run(
            "load",
            lambda: [self._request(self._compiled, i) for i in range(slot_count(load))],
        )
        self._wait = load.inflight > 1 and not load.model.state
        self._last = self._requests[0]
        self._submitted = list(self._requests)
        self.sizes = (*parts, load.batches.batch_size)
        of_parts = _CALLS.run("load", lambda: self._part_requests(parts))
        self._of_size = (*of_parts, self._requests)
        self.info = EngineInfo(
            version=ov.get_version().split("-")[0],
            build_s=built - began,
            load_s=time.perf_counter() - built,
            threads=threads,
            notes=(
                *refusals.half_on_cpu(load.model),
                *openvino_layers.notes(self._compiled, load.model),
                *repaired,
            ),
        )

    def _part_requests(self, parts: dict[int, Any]) -> list[list[Any]]:
        """Return the requests of each size below a full batch, and run each size once."""
        requests = [
            [self._request(compiled, i, size) for i in range(self._batches.count)]
            for size, compiled in parts.items()
        ]
        for of_size in requests:
            of_size[0].infer()  # the first batch still prepares memory
        return requests

    def _refuse_other_precision(self, hint: str) -> None:
        used = self._compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        if used not in (hint, {"f32": "float", "bf16": "bfloat16"}[hint]):
            raise Unsupported(
                f"OpenVINO was asked for {hint} and compiled for {used}. Use another precision."
            )

    def _request(self, compiled: Any, index: int, size: int | None = None) -> Any:
        """Return a request for a batch of the pool, or for its first items."""
        import openvino as ov

        batches, request = self._batches, compiled.create_infer_request()
        arrays = batches.batch(index) if size is None else batches.part(index, size)
        for name, array in arrays.items():
            request.set_tensor(name, ov.Tensor(array, shared_memory=True))
        return request

    @override
    def submit(self, sequence: int) -> None:
        """Infer now, or queue the request when several may be in flight."""
        index = sequence % len(self._requests)
        self._submitted[index] = request = self._requests[index]
        if self._wait:
            request.start_async()
        else:
            _CALLS.run("run", request.infer)

    @override
    def submit_part(self, sequence: int, items: int) -> None:
        """Infer or queue as many of the batch's items as the next size has."""
        requests = self._of_size[bisect_left(self.sizes, items)]
        index = sequence % len(requests)
        self._submitted[index] = request = requests[index]
        if self._wait:
            request.start_async()
        else:
            _CALLS.run("run", request.infer)

    @override
    def collect(self, sequence: int) -> None:
        """Wait for a queued request; any other is done already."""
        self._last = self._submitted[sequence % len(self._requests)]
        if self._wait:
            _CALLS.run("run", self._last.wait)

    @override
    def host_inputs(self, index: int) -> dict[str, np.ndarray[Any, Any]]:
        """Return the pool's own memory, which requests read in place."""
        return self._batches.batch(index)

    @override
    def outputs(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return copies of the last batch's outputs, by name.

        A port has every name that the graph gives its value, on the way and as an output.
        """
        return {
            name: self._last.get_tensor(port).data.copy()
            for port in self._last.model_outputs
            for name in (port.names & self._names or {port.get_any_name()})
        }

    @override
    def layers(self, batches: int) -> tuple[Layer, ...]:
        """Return the median time of each layer that ran, from a second compilation with counters."""
        compiled = _compile(self._graph, {**self._properties, "PERF_COUNT": True})
        request = self._request(compiled, 0)
        request.infer()  # the first batch still prepares memory
        by_layer: dict[str, list[Any]] = {}
        for _ in range(batches):
            request.infer()
            for entry in request.profiling_info:
                if entry.status.name == "EXECUTED":
                    by_layer.setdefault(entry.node_name, []).append(entry)
        return tuple(_layer(name, entries) for name, entries in by_layer.items())

    @override
    def close(self) -> None:
        """Drop the requests and the compiled model."""
        self._requests = self._submitted = []
        self._of_size = ()
        self._compiled = None
        self._last = None


class OpenVINOWithState(OpenVINOEngine):
    """A compiled model whose batches renew inputs of the next; each infers on the calling thread."""

    def __init__(self, load: Load) -> None:
        self._state = _CALLS.run("load", lambda: HostState(load))
        super().__init__(load)

    @override
    def _request(self, compiled: Any, index: int, size: int | None = None) -> Any:
        """Return a request for a slot, whose state is bound as well."""
        import openvino as ov

        request = super()._request(compiled, index % self._batches.count, size)
        for name, array in (self._state.inputs | self._state.outputs(index)).items():
            request.set_tensor(name, ov.Tensor(array, shared_memory=True))
        return request

    @override
    def submit(self, sequence: int) -> None:
        """Infer, and write the new rows into the rings."""
        super().submit(sequence)
        self._state.renew(sequence)

    @override
    def restart(self) -> None:
        """Put the first state back."""
        self._state.restart()

    @override
    def close(self) -> None:
        """Drop everything."""
        super().close()
        self._state.free()


def _shapes(load: Load, size: int) -> dict[str, list[int]]:
    """Return the shapes of all inputs for a batch of this size."""
    return {spec.name: list(spec.with_batch(size)) for spec in load.model.inputs}


def _read(path: Path, shapes: dict[str, list[int]]) -> tuple[Any, bool]:
    """Return the graph at these shapes of its inputs, and whether it takes others, too."""
    try:
        graph = _core().read_model(path)
    except RuntimeError as error:
        if "Conversion is failed for" not in str(error):
            raise
        # some operators, STFT among them, are converted only where the batch is a number
        return _convert(path, shapes), False
    graph.reshape(shapes)
    return graph, True


def _convert(path: Path, shapes: dict[str, list[int]]) -> Any:
    import openvino as ov
    from openvino.frontend import FrontEndManager

    frontend = FrontEndManager().load_by_framework("onnx")
    model = frontend.load(str(path))
    for place in model.get_inputs():
        for name in place.get_names():
            if name in shapes:
                model.set_partial_shape(place, ov.PartialShape(shapes[name]))
    return frontend.convert(model)


@functools.cache
def _core() -> Any:
    """Return the library's one entry point of this process, which is never freed.

    It gives the thread that compiles a stack for signals, and freeing it frees that stack, too, but leaves
    it in use: the next signal would end the process.
    """
    import openvino as ov

    return ov.Core()


def _compile(graph: Any, properties: dict[str, Any]) -> Any:
    return _CALLS.run("build", lambda: _core().compile_model(graph, "CPU", properties))


def _compile_right(graph: Any, properties: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the compiled graph without the layers that are known to be wrong, and its properties."""
    compiled = _compile(graph, properties)
    if openvino_layers.fuses_int8_products(compiled):
        properties = {**properties, "SNIPPETS_MODE": "DISABLE"}
        compiled = _compile(graph, properties)
    return compiled, properties


def _compile_parts(graph: Any, load: Load, properties: dict[str, Any]) -> dict[int, Any]:
    """Return the graph compiled at sizes below a full batch, by items, rising.

    All keep their constants in the same memory. A size that memory or the graph does not allow ends
    it: what is smaller is padded to the sizes that there are.
    """
    parts: dict[int, Any] = {}
    try:
        for size in reversed(load.part_sizes[:-1]):
            resized = graph.clone()
            _CALLS.run("build", functools.partial(resized.reshape, _shapes(load, size)))
            parts[size], _ = _compile_right(resized, properties)
    except PointError:
        logger.info("OpenVINO has no smaller size of this graph", exc_info=True)
    return dict(sorted(parts.items()))


def _layer(name: str, entries: list[Any]) -> Layer:
    """Return a layer from its counters, one for each batch."""
    time_ns = statistics.median(entry.real_time.total_seconds() for entry in entries) * 1e9
    info = json.dumps({"kernel": entries[0].exec_type})
    return Layer(name, entries[0].node_type, round(time_ns), info)
