"""The only access to the CUDA runtime; every return code is checked.

cuda-bindings is imported when the first `Cuda` is made, not before.
"""

from __future__ import annotations

import importlib
from typing import Any

from raybench.engines.tensorrt import failures
from raybench.errors import EngineUnavailable

Handle = Any
"""A stream, event or graph of cuda-bindings; int(handle) is its address."""

Rows = tuple[int, int]
"""Address of the first of several rows, and the bytes from one to the next."""


class Cuda:
    """The functions of the CUDA runtime that an engine needs, on the current device.

    Attributes:
        stage: stage of the engine (build, load, input, run), for error messages.
    """

    def __init__(self) -> None:
        try:
            self._rt: Any = importlib.import_module("cuda.bindings.runtime")
        except ImportError as error:
            raise EngineUnavailable(
                f"Engine 'tensorrt' needs the package cuda-bindings: {error}. "
                "Run pip install 'raybench[tensorrt]'."
            ) from error
        self._to_device = self._rt.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._to_host = self._rt.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._within = self._rt.cudaMemcpyKind.cudaMemcpyDeviceToDevice
        self._mode = self._rt.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self.stage = "load"

    def _call(self, name: str, *arguments: Any, asked: int | None = None) -> Any:
        code, *values = getattr(self._rt, name)(*arguments)
        if int(code):
            raise self._error(name, code, asked)
        return values[0] if len(values) == 1 else tuple(values)

    def _error(self, name: str, code: Any, asked: int | None = None) -> Exception:
        if int(code) not in failures.STICKY:
            self._rt.cudaGetLastError()  # else the next call of the library would report this error
        return failures.of_cuda(
            name, int(code), getattr(code, "name", str(code)), self.stage, asked
        )

    # device

    def device_count(self) -> int:
        """Return the number of visible devices; 0 without a driver. Creates no context."""
        code, count = self._rt.cudaGetDeviceCount()
        return 0 if int(code) else int(count)

    def use(self, device: int) -> None:
        """Make the device current for this thread and create its context."""
        self._call("cudaSetDevice", device)
        self._call("cudaFree", 0)

    def capability(self, device: int) -> tuple[int, int]:
        """Return the compute capability, e.g. (9, 0). Creates no context."""
        kinds = self._rt.cudaDeviceAttr
        major = self._call(
            "cudaDeviceGetAttribute", kinds.cudaDevAttrComputeCapabilityMajor, device
        )
        minor = self._call(
            "cudaDeviceGetAttribute", kinds.cudaDevAttrComputeCapabilityMinor, device
        )
        return int(major), int(minor)

    def identity(self, device: int) -> dict[str, Any]:
        """Return name, uuid, multiprocessors and memory of a device."""
        facts = self._call("cudaGetDeviceProperties", device)
        name = facts.name.decode() if isinstance(facts.name, bytes) else str(facts.name)
        return {
            "name": name.rstrip("\0"),
            "uuid": _uuid(getattr(facts, "uuid", None)),
            "multiprocessors": int(facts.multiProcessorCount),
            "memory_bytes": int(facts.totalGlobalMem),
        }

    def versions(self) -> tuple[int, int]:
        """Return the CUDA versions of driver and runtime, e.g. (13000, 12090)."""
        return int(self._call("cudaDriverGetVersion")), int(self._call("cudaRuntimeGetVersion"))

    def memory(self) -> tuple[int, int]:
        """Return free and total bytes of the device."""
        free, total = self._call("cudaMemGetInfo")
        return int(free), int(total)

    # memory

    def malloc(self, nbytes: int) -> int:
        """Allocate device memory; return its address."""
        return int(self._call("cudaMalloc", nbytes, asked=nbytes))

    def free(self, address: int) -> None:
        """Free device memory."""
        self._call("cudaFree", address)

    def host_alloc(self, nbytes: int) -> int:
        """Allocate pinned host memory; return its address."""
        return int(self._call("cudaHostAlloc", nbytes, 0, asked=nbytes))

    def host_free(self, address: int) -> None:
        """Free pinned host memory."""
        self._call("cudaFreeHost", address)

    def copy_in(self, device: int, host: int, nbytes: int, stream: Handle) -> None:
        """Enqueue a copy from the host to the device."""
        code = self._rt.cudaMemcpyAsync(device, host, nbytes, self._to_device, stream)[0]
        if int(code):
            raise self._error("cudaMemcpyAsync", code)

    def copy_out(self, host: int, device: int, nbytes: int, stream: Handle) -> None:
        """Enqueue a copy from the device to the host."""
        code = self._rt.cudaMemcpyAsync(host, device, nbytes, self._to_host, stream)[0]
        if int(code):
            raise self._error("cudaMemcpyAsync", code)

    def copy_within(self, to: int, source: int, nbytes: int, stream: Handle) -> None:
        """Enqueue a copy from device memory to device memory."""
        self._call("cudaMemcpyAsync", to, source, nbytes, self._within, stream)

    def copy_rows(self, to: Rows, source: Rows, rows: int, stream: Handle) -> None:
        """Enqueue a copy of equally long rows, at a distance each, from device memory to device memory."""
        (address, pitch), (from_address, from_pitch) = to, source
        code = self._rt.cudaMemcpy2DAsync(
            address, pitch, from_address, from_pitch, from_pitch, rows, self._within, stream
        )[0]
        if int(code):
            raise self._error("cudaMemcpy2DAsync", code)

    # streams and events

    def stream(self) -> Handle:
        """Create a stream that does not wait for the default one."""
        return self._call("cudaStreamCreateWithFlags", self._rt.cudaStreamNonBlocking)

    def drain(self, stream: Handle) -> None:
        """Block until all work of a stream is done."""
        self._call("cudaStreamSynchronize", stream)

    def drop_stream(self, stream: Handle) -> None:
        """Destroy a stream."""
        self._call("cudaStreamDestroy", stream)

    def event(self, timing: bool, spin: bool) -> Handle:
        """Create an event; waiting for it spins, or sleeps until the device interrupts."""
        flags = 0 if timing else int(self._rt.cudaEventDisableTiming)
        if not spin:
            flags |= int(self._rt.cudaEventBlockingSync)
        return self._call("cudaEventCreateWithFlags", flags)

    def drop_event(self, event: Handle) -> None:
        """Destroy an event."""
        self._call("cudaEventDestroy", event)

    def record(self, event: Handle, stream: Handle) -> None:
        """Enqueue the event."""
        code = self._rt.cudaEventRecord(event, stream)[0]
        if int(code):
            raise self._error("cudaEventRecord", code)

    def wait(self, stream: Handle, event: Handle) -> None:
        """Make the stream wait for the event's last record."""
        code = self._rt.cudaStreamWaitEvent(stream, event, 0)[0]
        if int(code):
            raise self._error("cudaStreamWaitEvent", code)

    def block_on(self, event: Handle) -> None:
        """Block this thread until the event's last record is done."""
        code = self._rt.cudaEventSynchronize(event)[0]
        if int(code):
            raise self._error("cudaEventSynchronize", code)

    def elapsed_ns(self, start: Handle, end: Handle) -> int:
        """Return the device time between two finished events, in steps of about 0.5 microseconds."""
        code, ms = self._rt.cudaEventElapsedTime(start, end)
        if int(code):
            raise self._error("cudaEventElapsedTime", code)
        return max(int(ms * 1e6), 0)

    # graphs

    def begin_capture(self, stream: Handle) -> None:
        """Start to capture what this thread enqueues on the stream instead of running it."""
        self._call("cudaStreamBeginCapture", stream, self._mode)

    def end_capture(self, stream: Handle) -> Handle:
        """Return the graph of what was captured, ready to launch."""
        graph = self._call("cudaStreamEndCapture", stream)
        try:
            return self._call("cudaGraphInstantiate", graph, 0)
        finally:
            self._call("cudaGraphDestroy", graph)

    def abandon_capture(self, stream: Handle) -> None:
        """Leave capture mode after a failure and discard what was captured."""
        code, graph = self._rt.cudaStreamEndCapture(stream)
        if not int(code) and int(graph):
            self._rt.cudaGraphDestroy(graph)
        self._rt.cudaGetLastError()

    def upload(self, graph: Handle, stream: Handle) -> None:
        """Upload a graph to the device, so that its first launch costs no more than later ones."""
        self._call("cudaGraphUpload", graph, stream)

    def launch(self, graph: Handle, stream: Handle) -> None:
        """Enqueue a graph."""
        code = self._rt.cudaGraphLaunch(graph, stream)[0]
        if int(code):
            raise self._error("cudaGraphLaunch", code)

    def drop_graph(self, graph: Handle) -> None:
        """Destroy a graph."""
        self._call("cudaGraphExecDestroy", graph)


def _uuid(raw: Any) -> str | None:
    """Convert the 16 bytes of a GPU's UUID to the text that NVML uses."""
    data = getattr(raw, "bytes", raw)
    if isinstance(data, str):
        data = data.encode("latin-1")
    if not isinstance(data, (bytes, bytearray)) or len(data) < 16:
        return None
    text = bytes(data[:16]).hex()
    return f"GPU-{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
