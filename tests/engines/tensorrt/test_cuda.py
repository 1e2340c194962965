"""Cuda: every return code is looked at, and errors carry stage and size."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from helpers.fake_gpu import Code, FakeGpu, FakeTrt

from raybench.engines.tensorrt.cuda import Cuda, _uuid
from raybench.engines.tensorrt.failures import DeviceLost
from raybench.errors import EngineFailure, EngineUnavailable, OutOfMemory

if TYPE_CHECKING:
    from collections.abc import Callable

CALLS: dict[str, Callable[[Cuda], object]] = {
    "cudaSetDevice": lambda cuda: cuda.use(0),
    "cudaMemGetInfo": lambda cuda: cuda.memory(),
    "cudaMalloc": lambda cuda: cuda.malloc(8),
    "cudaFree": lambda cuda: cuda.free(8),
    "cudaHostAlloc": lambda cuda: cuda.host_alloc(8),
    "cudaFreeHost": lambda cuda: cuda.host_free(8),
    "cudaStreamCreateWithFlags": lambda cuda: cuda.stream(),
    "cudaStreamDestroy": lambda cuda: cuda.drop_stream(1),
    "cudaStreamSynchronize": lambda cuda: cuda.drain(1),
    "cudaEventCreateWithFlags": lambda cuda: cuda.event(timing=True, spin=False),
    "cudaEventDestroy": lambda cuda: cuda.drop_event(1),
    "cudaEventRecord": lambda cuda: cuda.record(1, 1),
    "cudaStreamWaitEvent": lambda cuda: cuda.wait(1, 1),
    "cudaEventSynchronize": lambda cuda: cuda.block_on(1),
    "cudaEventElapsedTime": lambda cuda: cuda.elapsed_ns(1, 2),
    "cudaStreamBeginCapture": lambda cuda: cuda.begin_capture(1),
    "cudaStreamEndCapture": lambda cuda: cuda.end_capture(1),
    "cudaGraphUpload": lambda cuda: cuda.upload(1, 1),
    "cudaGraphLaunch": lambda cuda: cuda.launch(1, 1),
    "cudaGraphExecDestroy": lambda cuda: cuda.drop_graph(1),
}


@pytest.mark.parametrize("name", CALLS)
def test_no_return_code_is_overlooked(trt: FakeTrt, gpu: FakeGpu, name: str) -> None:
    cuda = Cuda()
    cuda.stage = "run"
    gpu.fail[name] = Code.cudaErrorInvalidValue
    with pytest.raises(EngineFailure, match=f"{name} returned cudaErrorInvalidValue"):
        CALLS[name](cuda)
    assert gpu.calls[-1] == "cudaGetLastError"  # else the next call would report this one


@pytest.mark.parametrize("copy", ["copy_in", "copy_out"])
def test_a_failed_copy_is_reported(trt: FakeTrt, gpu: FakeGpu, copy: str) -> None:
    gpu.fail["cudaMemcpyAsync"] = Code.cudaErrorInvalidValue
    with pytest.raises(EngineFailure, match="cudaMemcpyAsync"):
        getattr(Cuda(), copy)(1, 2, 3, 4)


@pytest.mark.parametrize(
    ("name", "ask"), [("cudaMalloc", Cuda.malloc), ("cudaHostAlloc", Cuda.host_alloc)]
)
def test_running_out_tells_the_bytes(
    trt: FakeTrt, gpu: FakeGpu, name: str, ask: Callable[[Cuda, int], int]
) -> None:
    gpu.fail[name] = Code.cudaErrorMemoryAllocation
    cuda = Cuda()
    cuda.stage = "input"
    with pytest.raises(OutOfMemory) as caught:
        ask(cuda, 4096)
    assert (caught.value.stage, caught.value.requested_bytes) == ("input", 4096)


def test_a_sticky_error_is_not_swallowed(trt: FakeTrt, gpu: FakeGpu) -> None:
    gpu.fail["cudaMemGetInfo"] = Code.cudaErrorIllegalAddress
    with pytest.raises(DeviceLost):
        Cuda().memory()
    assert gpu.calls[-1] == "cudaMemGetInfo"


def test_no_driver_is_no_device(trt: FakeTrt, gpu: FakeGpu) -> None:
    gpu.fail["cudaGetDeviceCount"] = Code.cudaErrorInvalidValue
    assert Cuda().device_count() == 0


def test_without_the_bindings_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda", None)
    monkeypatch.delitem(sys.modules, "cuda.bindings.runtime", raising=False)
    with pytest.raises(EngineUnavailable, match="cuda-bindings"):
        Cuda()


def test_uuid_is_written_as_nvml_writes_it() -> None:
    assert _uuid(bytes(range(16))) == "GPU-00010203-0405-0607-0809-0a0b0c0d0e0f"
    assert _uuid(b"short") is None
    assert _uuid(None) is None
