"""A small fake of the CUDA runtime and of TensorRT that enforces their rules.

Work runs at once when it is enqueued, and vector clocks check that the order was forced: two
accesses to the same bytes, one of them a write, must be ordered by a stream, an event or a wait of
the host, else `races` names them. Captures, alignment and the ban on TensorRT
objects without a device are enforced with the codes that the driver would return.
"""

# ruff: noqa: N815 - the fake has the names of the CUDA runtime

from __future__ import annotations

import ctypes
import enum
import json
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

Clock = dict[int, int]
HOST = 0
DIRECTIONS = {1: (True, False), 2: (False, True), 3: (True, True)}
"""Whether target and source of a copy are on the device, by kind."""


class Code(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInvalidResourceHandle = 400
    cudaErrorIllegalAddress = 700
    cudaErrorStreamCaptureUnsupported = 900
    cudaErrorStreamCaptureInvalidated = 901
    cudaErrorStreamCaptureIsolation = 905
    cudaErrorCapturedEvent = 907


@dataclass
class Memory:
    address: int
    nbytes: int
    on_device: bool
    raw: Any
    accesses: list[tuple[int, int, bool, int, int]] = field(default_factory=list)


@dataclass
class Stream:
    number: int
    clock: Clock = field(default_factory=dict)
    capture: list[Callable[[Stream], None]] | None = None
    captured_events: set[int] = field(default_factory=set)
    broken: bool = False


@dataclass
class Event:
    clock: Clock | None = None
    time: int = 0
    captured: bool = False


class FakeGpu:
    """One device; `races` holds every pair of accesses that nothing ordered."""

    def __init__(self, memory_bytes: int = 1 << 30) -> None:
        self.memory_bytes = memory_bytes
        self.devices = 1
        self.context_made = False
        self.fail: dict[str, Code] = {}
        self.calls: list[str] = []
        self.races: list[str] = []
        self.log = ""
        self.time = 0
        self.host: Clock = {HOST: 1}
        self.memories: dict[int, Memory] = {}
        self.streams: dict[int, Stream] = {}
        self.events: dict[int, Event] = {}
        self.graphs: dict[int, list[Callable[[Stream], None]]] = {}
        self._next = 1

    def handle(self) -> int:
        self._next += 1
        return self._next

    # memory and order

    def allocate(self, nbytes: int, on_device: bool) -> int:
        raw = (ctypes.c_byte * (nbytes + 256))()
        address = -(-ctypes.addressof(raw) // 256) * 256
        self.memories[address] = Memory(address, nbytes, on_device, raw)
        return address

    @property
    def used(self) -> int:
        return sum(memory.nbytes for memory in self.memories.values() if memory.on_device)

    def find(self, address: int, nbytes: int) -> Memory:
        for memory in self.memories.values():
            if memory.address <= address and address + nbytes <= memory.address + memory.nbytes:
                return memory
        raise AssertionError(f"{nbytes} bytes at {address:#x} are not allocated")

    def touch(self, stream: Stream, address: int, nbytes: int, write: bool, what: str) -> None:
        memory = self.find(address, nbytes)
        end = address + nbytes
        kept = []
        for low, high, wrote, who, tick in memory.accesses:
            apart = high <= address or end <= low or not (write or wrote)
            if not apart and stream.clock.get(who, 0) < tick:
                self.races.append(f"{what} is not ordered after an access by stream {who}")
            if apart or who != stream.number:
                kept.append((low, high, wrote, who, tick))
        kept.append((address, end, write, stream.number, stream.clock[stream.number]))
        memory.accesses = kept

    def host_reads(self, address: int, nbytes: int) -> None:
        self.touch(Stream(HOST, self.host), address, nbytes, False, "a read by the host")

    def enqueue(self, handle: Any, work: Callable[[Stream], None]) -> Code:
        stream = self.streams[int(handle)]
        if stream.capture is not None:
            stream.capture.append(work)
            return Code.cudaSuccess
        merge(stream.clock, self.host)
        self.run(stream, work)
        return Code.cudaSuccess

    def run(self, stream: Stream, work: Callable[[Stream], None]) -> None:
        stream.clock[stream.number] = stream.clock.get(stream.number, 0) + 1
        self.time += 1
        work(stream)


def merge(clock: Clock, other: Clock) -> None:
    for who, tick in other.items():
        clock[who] = max(clock.get(who, 0), tick)


class FakeRuntime(ModuleType):
    """Stands for cuda.bindings.runtime: every function returns a tuple whose first is the code."""

    cudaMemcpyKind = SimpleNamespace(
        cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2, cudaMemcpyDeviceToDevice=3
    )
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)
    cudaDeviceAttr = SimpleNamespace(
        cudaDevAttrComputeCapabilityMajor=75, cudaDevAttrComputeCapabilityMinor=76
    )
    cudaStreamNonBlocking = 1
    cudaEventBlockingSync = 1
    cudaEventDisableTiming = 2

    def __init__(self, gpu: FakeGpu) -> None:
        super().__init__("cuda.bindings.runtime")
        self.gpu = gpu

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name.startswith("cuda") and callable(found):
            gpu = super().__getattribute__("gpu")
            gpu.calls.append(name)
            if name in gpu.fail:
                if name == "cudaStreamEndCapture":  # it ends the capture all the same
                    for stream in gpu.streams.values():
                        stream.capture = None
                return lambda *_: (gpu.fail[name], 0)
        return found

    def cudaGetLastError(self) -> Any:
        return (Code.cudaSuccess,)

    def cudaGetDeviceCount(self) -> Any:
        return Code.cudaSuccess, self.gpu.devices

    def cudaSetDevice(self, device: int) -> Any:
        return (Code.cudaSuccess,)

    def cudaDeviceGetAttribute(self, attribute: int, device: int) -> Any:
        return Code.cudaSuccess, {75: 9, 76: 0}[attribute]

    def cudaGetDeviceProperties(self, device: int) -> Any:
        facts = SimpleNamespace(
            name=b"Fake GPU\0", multiProcessorCount=4, totalGlobalMem=self.gpu.memory_bytes
        )
        return Code.cudaSuccess, facts

    def cudaDriverGetVersion(self) -> Any:
        return Code.cudaSuccess, 13010

    def cudaRuntimeGetVersion(self) -> Any:
        return Code.cudaSuccess, 12090

    def cudaMemGetInfo(self) -> Any:
        return Code.cudaSuccess, self.gpu.memory_bytes - self.gpu.used, self.gpu.memory_bytes

    def _capturing(self) -> bool:
        return any(stream.capture is not None for stream in self.gpu.streams.values())

    def cudaMalloc(self, nbytes: int) -> Any:
        if self._capturing():
            return Code.cudaErrorStreamCaptureUnsupported, 0
        if self.gpu.used + nbytes > self.gpu.memory_bytes:
            return Code.cudaErrorMemoryAllocation, 0
        return Code.cudaSuccess, self.gpu.allocate(nbytes, on_device=True)

    def cudaHostAlloc(self, nbytes: int, flags: int) -> Any:
        return Code.cudaSuccess, self.gpu.allocate(nbytes, on_device=False)

    def cudaFree(self, address: int) -> Any:
        self.gpu.context_made = True
        if address:
            del self.gpu.memories[address]
        return (Code.cudaSuccess,)

    def cudaFreeHost(self, address: int) -> Any:
        del self.gpu.memories[address]
        return (Code.cudaSuccess,)

    def cudaMemcpyAsync(self, to: int, source: int, nbytes: int, kind: int, stream: int) -> Any:
        gpu = self.gpu
        places = gpu.find(to, nbytes).on_device, gpu.find(source, nbytes).on_device
        if places != DIRECTIONS[kind]:
            return (Code.cudaErrorInvalidValue,)

        def work(on: Stream) -> None:
            gpu.touch(on, source, nbytes, False, f"the read of copy {kind}")
            gpu.touch(on, to, nbytes, True, f"the write of copy {kind}")
            ctypes.memmove(to, source, nbytes)

        return (gpu.enqueue(stream, work),)

    def cudaMemcpy2DAsync(self, *arguments: Any) -> Any:
        to, pitch, source, source_pitch, width, rows, kind, stream = arguments
        gpu = self.gpu
        if kind != 3 or width > min(pitch, source_pitch):
            return (Code.cudaErrorInvalidValue,)
        spans = pitch * (rows - 1) + width, source_pitch * (rows - 1) + width
        if not (gpu.find(to, spans[0]).on_device and gpu.find(source, spans[1]).on_device):
            return (Code.cudaErrorInvalidValue,)

        def work(on: Stream) -> None:
            gpu.touch(on, source, spans[1], False, "the read of a copy of rows")
            gpu.touch(on, to, spans[0], True, "the write of a copy of rows")
            for row in range(rows):
                ctypes.memmove(to + row * pitch, source + row * source_pitch, width)

        return (gpu.enqueue(stream, work),)

    def cudaStreamCreateWithFlags(self, flags: int) -> Any:
        assert flags == self.cudaStreamNonBlocking
        handle = self.gpu.handle()
        self.gpu.streams[handle] = Stream(handle)
        return Code.cudaSuccess, handle

    def cudaStreamDestroy(self, stream: int) -> Any:
        del self.gpu.streams[stream]
        return (Code.cudaSuccess,)

    def cudaStreamSynchronize(self, stream: int) -> Any:
        found = self.gpu.streams[stream]
        if found.capture is not None:
            found.broken = True
            return (Code.cudaErrorStreamCaptureUnsupported,)
        merge(self.gpu.host, found.clock)
        return (Code.cudaSuccess,)

    def cudaEventCreateWithFlags(self, flags: int) -> Any:
        handle = self.gpu.handle()
        self.gpu.events[handle] = Event()
        return Code.cudaSuccess, handle

    def cudaEventDestroy(self, event: int) -> Any:
        del self.gpu.events[event]
        return (Code.cudaSuccess,)

    def cudaEventRecord(self, event: int, stream: int) -> Any:
        found, on = self.gpu.events[event], self.gpu.streams[stream]
        found.captured = on.capture is not None
        if found.captured:
            on.captured_events.add(event)
            return (Code.cudaSuccess,)

        def work(running: Stream) -> None:
            found.clock, found.time = dict(running.clock), self.gpu.time

        return (self.gpu.enqueue(stream, work),)

    def cudaStreamWaitEvent(self, stream: int, event: int, flags: int) -> Any:
        found, on = self.gpu.events[event], self.gpu.streams[stream]
        if flags:
            return (Code.cudaErrorInvalidValue,)
        if on.capture is not None:
            if event in on.captured_events:
                return (Code.cudaSuccess,)
            on.broken = True
            return (Code.cudaErrorStreamCaptureIsolation,)
        return (self.gpu.enqueue(stream, lambda running: merge(running.clock, found.clock or {})),)

    def cudaEventSynchronize(self, event: int) -> Any:
        found = self.gpu.events[event]
        if found.captured:
            return (Code.cudaErrorCapturedEvent,)
        merge(self.gpu.host, found.clock or {})
        return (Code.cudaSuccess,)

    def cudaEventElapsedTime(self, start: int, end: int) -> Any:
        first, last = self.gpu.events[start], self.gpu.events[end]
        if first.clock is None or last.clock is None or first.captured or last.captured:
            return Code.cudaErrorInvalidResourceHandle, 0.0
        return Code.cudaSuccess, (last.time - first.time) * 1e-3

    def cudaStreamBeginCapture(self, stream: int, mode: int) -> Any:
        found = self.gpu.streams[stream]
        found.capture, found.broken, found.captured_events = [], False, set()
        return (Code.cudaSuccess,)

    def cudaStreamEndCapture(self, stream: int) -> Any:
        found = self.gpu.streams[stream]
        work, found.capture = found.capture, None
        if work is None or found.broken:
            return Code.cudaErrorStreamCaptureInvalidated, 0
        handle = self.gpu.handle()
        self.gpu.graphs[handle] = work
        return Code.cudaSuccess, handle

    def cudaGraphInstantiate(self, graph: int, flags: int) -> Any:
        handle = self.gpu.handle()
        self.gpu.graphs[handle] = list(self.gpu.graphs[graph])
        return Code.cudaSuccess, handle

    def cudaGraphDestroy(self, graph: int) -> Any:
        del self.gpu.graphs[graph]
        return (Code.cudaSuccess,)

    def cudaGraphExecDestroy(self, graph: int) -> Any:
        del self.gpu.graphs[graph]
        return (Code.cudaSuccess,)

    def cudaGraphUpload(self, graph: int, stream: int) -> Any:
        return (Code.cudaSuccess,)

    def cudaGraphLaunch(self, graph: int, stream: int) -> Any:
        on = self.gpu.streams[stream]
        merge(on.clock, self.gpu.host)
        for work in self.gpu.graphs[graph]:
            self.gpu.run(on, work)
        return (Code.cudaSuccess,)


WEIGHTS = np.array([1, 2, 3, 4], np.float32)
"""The one model of the fake: y[n] = x[n] . WEIGHTS, x of shape (n, 4)."""


class FakeEngine:
    device_memory_size = 4096
    num_io_tensors = 2

    def __init__(self, gpu: FakeGpu, facts: dict[str, Any]) -> None:
        self.gpu = gpu
        self.facts = facts

    def get_tensor_name(self, index: int) -> str:
        return ("x", "y")[index]

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name="FLOAT")

    def get_tensor_mode(self, name: str) -> str:
        return {"x": "in", "y": "out"}[name]

    def create_execution_context(self) -> FakeContext | None:
        if self.gpu.used + self.device_memory_size > self.gpu.memory_bytes:
            return None
        return FakeContext(self.gpu, self.facts, self)

    def create_engine_inspector(self) -> Any:
        layers = [{"Name": "dot", "LayerType": "MatrixMultiply"}, "a layer built without details"]
        return SimpleNamespace(
            execution_context=None,
            get_engine_information=lambda form: json.dumps({"Layers": layers, "Bindings": ["x"]}),
        )


class FakeContext:
    profiler: Any = None
    enqueue_emits_profile = True

    def __init__(self, gpu: FakeGpu, facts: dict[str, Any], engine: FakeEngine) -> None:
        self.gpu = gpu
        self.facts = facts
        self.engine = engine
        self.unreported = False
        self.scratch = gpu.allocate(FakeEngine.device_memory_size, on_device=True)
        self.batch: int | None = None
        self.addresses: dict[str, int] = {}
        self.ran = False

    def __del__(self) -> None:
        self.gpu.memories.pop(self.scratch, None)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, high = self.facts["shapes"][name]
        self.batch = shape[0]
        return bool(low[0] <= shape[0] <= high[0])

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        assert self.batch is not None
        return (self.batch, 4) if name == "x" else (self.batch,)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return address % 256 == 0

    def execute_async_v3(self, stream: int) -> bool:
        gpu, batch, scratch = self.gpu, self.batch or 0, self.scratch
        x, y = self.addresses["x"], self.addresses["y"]
        if gpu.streams[stream].capture is not None and not self.ran:
            return False  # what it puts off until the first run cannot be captured
        self.ran = True
        assert not (self.profiler and self.unreported), "a batch whose layers nobody asked for"
        self.unreported = self.profiler is not None

        def work(on: Stream) -> None:
            gpu.touch(on, scratch, 64, True, "the scratch memory of a context")
            gpu.touch(on, x, batch * 16, False, "the read of an input")
            gpu.touch(on, y, batch * 4, True, "the write of an output")
            inputs: Any = (ctypes.c_float * (batch * 4)).from_address(x)
            outputs: Any = (ctypes.c_float * batch).from_address(y)
            values = np.frombuffer(inputs, np.float32).reshape(batch, 4)
            np.frombuffer(outputs, np.float32)[:] = values @ WEIGHTS

        return gpu.enqueue(stream, work) == Code.cudaSuccess

    def report_to_profiler(self) -> bool:
        assert not self.enqueue_emits_profile, (
            "asked for times that the enqueue has reported already"
        )
        self.unreported = False
        for name, ms in (("dot", 0.25), ("reformat", 0.05)):
            self.profiler.report_layer_time(name, ms)
        return True


class Flags(enum.IntEnum):
    """Flags of the builder and of the network in 10."""

    EXPLICIT_BATCH = 0
    STRONGLY_TYPED = 1
    TF32 = 6
    VERSION_COMPATIBLE = 10
    EXCLUDE_LEAN_RUNTIME = 11


class FakeConfig:
    profiling_verbosity: Any = None
    builder_optimization_level = 3
    avg_timing_iterations = 1

    def __init__(self) -> None:
        self.flags = {"TF32"}
        self.workspace: int | None = None
        self.cache: Any = None

    def set_memory_pool_limit(self, pool: str, nbytes: int) -> None:
        self.workspace = nbytes

    def set_flag(self, flag: Flags) -> None:
        if flag is Flags.VERSION_COMPATIBLE:  # seen with 8.6.0
            self.flags.discard(Flags.EXCLUDE_LEAN_RUNTIME.name)
        self.flags.add(flag.name)

    def clear_flag(self, flag: Flags) -> None:
        self.flags.discard(flag.name)

    def create_timing_cache(self, blob: bytes) -> Any:
        return SimpleNamespace(
            blob=blob, serialize=lambda: b"learnt", combine=lambda other, ignore: True
        )

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> None:
        self.cache = cache

    def get_timing_cache(self) -> Any:
        return self.cache

    def add_optimization_profile(self, profile: Any) -> None:
        self.profile = profile


class FakeProfile:
    def __init__(self) -> None:
        self.shapes: dict[str, Any] = {}

    def set_shape(self, name: str, low: Any, best: Any, high: Any) -> None:
        self.shapes[name] = (low, high)
        self.best = best


class FakeTrt(ModuleType):
    """Stands for tensorrt 10; every object of it but the logger needs a device."""

    __version__ = "10.13.3.9"

    def __init__(self, gpu: FakeGpu) -> None:
        super().__init__("tensorrt")
        self.__spec__ = ModuleSpec("tensorrt", None, origin="fake")
        self.gpu = gpu
        self.builds: list[dict[str, Any]] = []
        self.refuses: str | None = None
        self.loads: list[bytes] = []
        self.TensorIOMode = SimpleNamespace(INPUT="in", OUTPUT="out")
        self.NetworkDefinitionCreationFlag = Flags
        self.BuilderFlag = Flags
        self.MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")
        self.ProfilingVerbosity = SimpleNamespace(DETAILED="detailed")
        self.LayerInformationFormat = SimpleNamespace(JSON="json")
        self.logger: Any = None
        self.lean_path: str | None = None

    class IProfiler:
        """Derived from by whoever wants to hear of layers."""

    class ILogger:
        class Severity(enum.IntEnum):
            INTERNAL_ERROR = 0
            ERROR = 1
            WARNING = 2
            INFO = 3

    def _needs_device(self, logger: Any) -> None:
        assert self.gpu.context_made, "segmentation fault: a TensorRT object without a device"
        self.logger = logger

    def say(self, message: str) -> None:
        self.logger.log(self.ILogger.Severity.ERROR, message)

    def Runtime(self, logger: Any) -> Any:
        self._needs_device(logger)
        return SimpleNamespace(
            deserialize_cuda_engine=self._deserialize, load_runtime=self._load_runtime
        )

    def _load_runtime(self, path: str) -> Any:
        if not Path(path).is_file():
            self.say("Unable to load library")
            return None
        self.lean_path = path
        return SimpleNamespace(deserialize_cuda_engine=self._deserialize)

    def _deserialize(self, plan: bytes) -> FakeEngine | None:
        self.loads.append(plan)
        try:
            return FakeEngine(self.gpu, json.loads(plan))
        except ValueError:
            self.say("deserializing failed: magic tag does not match")
            return None

    def Builder(self, logger: Any) -> Any:
        self._needs_device(logger)
        tensor = SimpleNamespace(name="x", shape=(-1, 4), is_shape_tensor=False)
        return SimpleNamespace(
            create_network=lambda flags: SimpleNamespace(
                flags=flags, num_inputs=1, get_input=lambda i: tensor
            ),
            create_builder_config=FakeConfig,
            create_optimization_profile=FakeProfile,
            build_serialized_network=self._build,
        )

    def _build(self, network: Any, config: FakeConfig) -> bytes | None:
        if self.refuses:
            self.say(self.refuses)
            return None
        shapes = config.profile.shapes
        self.builds.append(
            {
                "flags": config.flags,
                "workspace": config.workspace,
                "typed": network.flags,
                "best": config.profile.best,
            }
        )
        return json.dumps({"shapes": shapes, "build": len(self.builds)}).encode()

    def OnnxParser(self, network: Any, logger: Any) -> Any:
        bad = SimpleNamespace(
            desc=lambda: "No importer registered for op: Warp", node_name=lambda: "warp_7"
        )
        return SimpleNamespace(
            parse_from_file=lambda path: b"bad" not in Path(path).read_bytes(),
            num_errors=1,
            get_error=lambda i: bad,
        )


class FakeLean(FakeTrt):
    """Stands for tensorrt_lean of a later minor version: it runs plans and builds none."""

    __version__ = "10.16.1.11"

    def __init__(self, gpu: FakeGpu, name: str = "tensorrt_lean") -> None:
        super().__init__(gpu)
        self.__name__ = name

    def __getattribute__(self, name: str) -> Any:
        if name == "Builder":
            raise AttributeError(name)
        return super().__getattribute__(name)


class FakeDispatch(FakeLean):
    """Stands for tensorrt_dispatch: it runs plans only by the lean library that it loads."""

    def __init__(self, gpu: FakeGpu) -> None:
        super().__init__(gpu, "tensorrt_dispatch")

    def Runtime(self, logger: Any) -> Any:
        runtime = super().Runtime(logger)
        runtime.deserialize_cuda_engine = lambda plan: self.say("Unexpected call to stub")
        return runtime
