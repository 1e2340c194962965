"""OpenVINO: the default engine on CPU cores."""

from __future__ import annotations

import json
import re
import statistics
import time
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from raybench.engines.base import EngineInfo, Layer
from raybench.errors import EngineFailure, OutOfMemory, Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from typing_extensions import Self

    from raybench.engines.base import Load
    from raybench.machine.devices import Device

HINTS = {"fp32": "f32", "int8": "f32", "bf16": "bf16"}
"""Arithmetic of everything that the graph leaves in float. Always set: the library's own default
is bf16 where the CPU has it, and an "fp32" row would be twice too fast."""


@dataclass(frozen=True)
class OpenVINOSettings:
    """Options of the engine `openvino`.

    Attributes:
        threads: that compute one batch; they share the worker's core.
    """

    threads: int = 1


class OpenVINOEngine:
    """One compiled model at a static batch; one infer request for each batch of the pool.

    With one batch in flight it infers on the calling thread; with more it queues requests
    and the runtime's own thread works through them.
    """

    name: ClassVar[str] = "openvino"
    extra: ClassVar[str | None] = None
    device_kinds: ClassVar[tuple[str, ...]] = ("cpu",)
    int8_dialect: ClassVar[str] = "u8s8"
    """Version 2026.4.1 runs GoogLeNet in s8s8 with 6 dB to fp32 (ONNX Runtime: 36 dB on the same
    graph); in u8s8 with 37 dB, and faster."""
    bf16_dialect: ClassVar[str | None] = "native"
    rewrites_lrn: ClassVar[bool] = False
    reads_graph: ClassVar[bool] = True
    Settings: ClassVar[type] = OpenVINOSettings

    @classmethod
    def unavailable(cls) -> str | None:
        """Why OpenVINO cannot run here, or None."""
        if find_spec("openvino") is None:
            return "Engine 'openvino' needs the package openvino, which is missing. Run pip install openvino."
        return None

    @classmethod
    def unsupported(cls, precision: str, device: Device, transfers: bool) -> str | None:
        """Precisions that OpenVINO would quietly run in another one are refused."""
        if not transfers:
            return "A CPU core has no bus to its memory, so transfers=off means nothing. Use transfers=on."
        if precision == "bf16":
            import openvino as ov

            if "BF16" not in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
                return f"{device.name} has no bf16 arithmetic. Use precision=fp32 or int8."
            return None
        if precision not in HINTS:
            return (
                f"OpenVINO on a CPU would run {precision} as another precision. "
                f"Use precision={', '.join(HINTS)}."
            )
        return None

    @classmethod
    def load(cls, load: Load) -> Self:
        """Compile at the point's batch and bind every batch of the pool to a request."""
        return cls(load)

    def __init__(self, load: Load) -> None:
        import openvino as ov

        hint = HINTS[load.model.precision]
        batch_size = load.batches.batch_size
        threads = load.options.threads
        self._batches = load.batches  # the runtime reads this memory and does not own it
        began = time.perf_counter()
        graph = ov.Core().read_model(load.model.path)
        graph.reshape({s.name: list(s.with_batch(batch_size)) for s in load.model.inputs})
        self._properties = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": hint,
            "ENABLE_CPU_PINNING": False,  # the worker has pinned the process already
        }
        self._graph = graph
        self._compiled = _compile(graph, self._properties)
        built = time.perf_counter()
        self._refuse_other_precision(hint)
        self._requests = _guarded(
            "load",
            lambda: [self._request(self._compiled, i) for i in range(load.batches.count)],
        )
        self._wait = load.inflight > 1
        self._last = self._requests[0]
        self.info = EngineInfo(
            version=ov.get_version().split("-")[0],
            build_s=built - began,
            load_s=time.perf_counter() - built,
            threads=threads,
        )

    def _refuse_other_precision(self, hint: str) -> None:
        used = self._compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        if used not in (hint, {"f32": "float", "bf16": "bfloat16"}[hint]):
            raise Unsupported(
                f"OpenVINO was asked for {hint} and compiled for {used}. Use another precision."
            )

    def _request(self, compiled: Any, index: int) -> Any:
        import openvino as ov

        request = compiled.create_infer_request()
        for name, array in self._batches.batch(index).items():
            request.set_tensor(name, ov.Tensor(array, shared_memory=True))
        return request

    def submit(self, sequence: int) -> None:
        """Infer now, or queue the request when several may be in flight."""
        request = self._requests[sequence % len(self._requests)]
        if self._wait:
            request.start_async()
        else:
            _guarded("run", request.infer)

    def collect(self, sequence: int) -> None:
        """Wait for a queued request; nothing to wait for otherwise."""
        self._last = self._requests[sequence % len(self._requests)]
        if self._wait:
            _guarded("run", self._last.wait)

    def outputs(self) -> dict[str, np.ndarray[Any, Any]]:
        """Copies of the last batch's outputs, by name."""
        return {
            port.get_any_name(): self._last.get_tensor(port).data.copy()
            for port in self._compiled.outputs
        }

    def layers(self, batches: int) -> tuple[Layer, ...]:
        """Compile once more with counters, and take the median of each layer that ran."""
        compiled = _compile(self._graph, {**self._properties, "PERF_COUNT": True})
        request = self._request(compiled, 0)
        request.infer()  # the first batch still prepares memory
        seen: dict[str, list[Any]] = {}
        for _ in range(batches):
            request.infer()
            for entry in request.profiling_info:
                if entry.status.name == "EXECUTED":
                    seen.setdefault(entry.node_name, []).append(entry)
        return tuple(_layer(name, entries) for name, entries in seen.items())

    def close(self) -> None:
        """Drop the requests and the compiled model."""
        self._requests = []
        self._compiled = None
        self._last = None


def _compile(graph: Any, properties: dict[str, Any]) -> Any:
    import openvino as ov

    return _guarded("build", lambda: ov.Core().compile_model(graph, "CPU", properties))


def _layer(name: str, entries: list[Any]) -> Layer:
    """A layer from its counters, one for each batch."""
    time_ns = statistics.median(entry.real_time.total_seconds() for entry in entries) * 1e9
    info = json.dumps({"kernel": entries[0].exec_type})
    return Layer(name, entries[0].node_type, round(time_ns), info)


def _guarded(stage: str, call: Callable[[], Any]) -> Any:
    """Run a call of the library; turn its words for memory into OutOfMemory."""
    try:
        return call()
    except MemoryError as error:
        raise OutOfMemory(stage, None, "the allocation failed") from error
    except RuntimeError as error:
        words = " ".join(str(error).split())
        size = re.search(r"[Ff]ailed to allocate (\d+) bytes", words)
        if size or "bad_alloc" in words:
            raise OutOfMemory(stage, int(size[1]) if size else None, words[-200:]) from error
        raise EngineFailure(f"OpenVINO failed at stage {stage!r}: {words[-500:]}") from error
