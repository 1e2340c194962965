"""TensorRTRtxEngine on the fake: what it shares with TensorRT, and what is its own."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers.fake_gpu import WEIGHTS, FakeGpu
from helpers.fake_rtx import FakeRtx, FakeRtxContext

from raybench.engines import conformance, registry
from raybench.engines.tensorrt import kernels, start
from raybench.engines.tensorrt.engine import TensorRTRtxEngine
from raybench.engines.tensorrt.settings import RtxSettings
from raybench.errors import Unsupported
from raybench.machine import nvml
from raybench.machine.devices import Device

if TYPE_CHECKING:
    from collections.abc import Callable

    from raybench.engines.base import Load

    Make = Callable[..., Load]

ADA = nvml.Gpu(0, "GPU-0", "NVIDIA L4", compute_capability="8.9", driver_version="580.1")


@pytest.fixture
def rtx(trt: Any, gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch) -> FakeRtx:
    library = FakeRtx(gpu)
    library.__spec__ = trt.__spec__
    monkeypatch.setitem(sys.modules, "tensorrt_rtx_bindings", library)
    monkeypatch.setattr(nvml, "inventory", lambda: (ADA,))
    return library


@pytest.fixture
def make(make_load: Make, rtx: FakeRtx) -> Make:
    """`make_load` with the options of this engine."""

    def make_rtx(options: dict[str, Any] | None = None, **arguments: Any) -> Load:
        return replace(make_load(**arguments), options=RtxSettings(**(options or {})))

    return make_rtx


def on(name: str, capability: str, monkeypatch: pytest.MonkeyPatch) -> Device:
    gpu = nvml.Gpu(0, "GPU-0", name, compute_capability=capability)
    monkeypatch.setattr(nvml, "inventory", lambda: (gpu,))
    return Device("gpu", name, 0, "GPU-0", "0")


@pytest.mark.parametrize("options", [{}, {"cuda_graphs": False}, {"streams": 2}], ids=str)
@pytest.mark.parametrize("transfers", [True, False])
def test_keeps_the_contract(
    make: Make, gpu: FakeGpu, options: dict[str, Any], transfers: bool
) -> None:
    load = make(options, transfers=transfers)
    conformance.check(TensorRTRtxEngine, load, {"y": load.batches.batch(0)["x"] @ WEIGHTS})
    assert gpu.races == []


def test_builds_ahead_without_a_gpu_what_a_node_with_one_then_finds(
    make: Make, rtx: FakeRtx, gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nvml, "inventory", lambda: ())
    gpu.devices = 0
    load = make()
    files = TensorRTRtxEngine.prebuild(replace(load, device=replace(load.device, uuid=None)))
    assert gpu.calls == []
    assert all((load.cache_dir / name).is_file() for name in files)
    monkeypatch.setattr(nvml, "inventory", lambda: (ADA,))
    gpu.devices = 1
    engine = TensorRTRtxEngine.load(load)
    assert engine.info.build_cache_hit is True
    assert engine.info.version == "1.7.1.116"
    assert len(rtx.builds) == 1
    engine.close()


def test_all_gpus_share_a_plan_but_turing_whose_plans_are_its_own(
    make: Make, rtx: FakeRtx, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = []
    for name, capability in (("A100", "8.0"), ("RTX 5090", "12.0"), ("T4", "7.5")):
        device = on(name, capability, monkeypatch)
        plans.append(TensorRTRtxEngine.prebuild(replace(make(), device=device)))
    assert plans[0] == plans[1] != plans[2]
    assert [build["capabilities"] for build in rtx.builds] == [[], ["SM75"]]


def test_a_plan_for_one_kind_of_gpu_has_a_key_of_its_own_and_runs_on_that_kind_only(
    make: Make, rtx: FakeRtx, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = make({"target": "8.9"})
    assert TensorRTRtxEngine.prebuild(load) != TensorRTRtxEngine.prebuild(make())
    assert rtx.builds[0]["capabilities"] == ["SM89"]
    device = on("RTX 5090", "12.0", monkeypatch)
    with pytest.raises(
        Unsupported, match=r"engine.target=8.9 .* RTX 5090, of .* 12\.0, cannot run"
    ):
        TensorRTRtxEngine.load(replace(load, device=device))
    with pytest.raises(Unsupported, match=r"engine.target='9.0' is unknown. Use one of 8.0\+, 7.5"):
        TensorRTRtxEngine.load(make({"target": "9.0"}))


@pytest.mark.parametrize(
    ("name", "capability"),
    [("NVIDIA H200", "9.0"), ("NVIDIA B200", "10.0"), ("Tesla V100", "7.0"), ("Tesla P40", "6.1")],
)
def test_a_gpu_that_is_not_served_is_refused_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, name: str, capability: str
) -> None:
    device = on(name, capability, monkeypatch)
    reason = TensorRTRtxEngine.unsupported("fp16", device, True) or ""
    assert f"{name} has compute capability {capability}, and TensorRT for RTX serves" in reason
    assert reason.endswith("Use engine=tensorrt.")


@pytest.mark.parametrize("capability", ["8.0", "8.6", "8.9", "12.0", "12.1", "13.0"])
def test_a_gpu_that_is_served_runs_every_precision(
    monkeypatch: pytest.MonkeyPatch, capability: str
) -> None:
    device = on("RTX", capability, monkeypatch)
    for precision in ("fp32", "tf32", "fp16", "int8", "as_is"):
        assert TensorRTRtxEngine.unsupported(precision, device, True) is None


def test_turing_has_no_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    device = on("NVIDIA T4", "7.5", monkeypatch)
    assert TensorRTRtxEngine.unsupported("fp16", device, True) is None
    assert "tf32 needs 8.0" in (TensorRTRtxEngine.unsupported("tf32", device, True) or "")


@pytest.mark.parametrize(
    ("capabilities", "refused"), [(["9.0"], True), (["9.0", "8.9"], False), ([], False)], ids=str
)
def test_a_machine_none_of_whose_gpus_is_served_is_refused_before_anything_starts(
    rtx: FakeRtx, monkeypatch: pytest.MonkeyPatch, capabilities: list[str], refused: bool
) -> None:
    gpus = [
        nvml.Gpu(number, f"GPU-{number}", f"sm {capability}", compute_capability=capability)
        for number, capability in enumerate(capabilities)
    ]
    monkeypatch.setattr(nvml, "inventory", lambda: gpus)
    assert ("sm 9.0 has compute" in (TensorRTRtxEngine.unavailable() or "")) is refused


def test_kernels_are_compiled_once_and_then_found(make: Make, rtx: FakeRtx) -> None:
    for note, compilations in ((kernels.COMPILED, 1), (kernels.FOUND, 1), (kernels.FOUND, 1)):
        engine = TensorRTRtxEngine.load(make())
        assert (engine.info.notes, rtx.compilations) == ((note,), compilations)
        engine.close()


def test_kernels_of_another_compiler_are_compiled_again(make: Make, rtx: FakeRtx) -> None:
    TensorRTRtxEngine.load(make()).close()
    rtx.environment = "compiler 2"
    engine = TensorRTRtxEngine.load(make())
    assert engine.info.notes == (kernels.COMPILED,)
    engine.close()
    engine = TensorRTRtxEngine.load(make())
    assert engine.info.notes == (kernels.FOUND,)
    engine.close()


def test_kernels_are_kept_by_gpu_and_driver_and_not_at_all_if_asked(
    make: Make, rtx: FakeRtx, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make().cache_dir / kernels.FOLDER
    TensorRTRtxEngine.load(make({"kernel_cache": False})).close()
    assert not folder.exists()
    TensorRTRtxEngine.load(make()).close()
    newer = replace(ADA, driver_version="590.2")
    monkeypatch.setattr(nvml, "inventory", lambda: (newer,))
    TensorRTRtxEngine.load(make()).close()
    assert sorted(file.name.split("_", 1)[1] for file in folder.iterdir()) == [
        "Fake_GPU_580.1.kernels",
        "Fake_GPU_590.2.kernels",
    ]


def test_what_cannot_be_captured_is_enqueued_call_by_call(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeRtxContext, "_capturable", False)
    engine = TensorRTRtxEngine.load(make())
    assert start.NOT_CAPTURED in engine.info.notes
    engine.close()


def test_a_missing_library_says_what_to_install(
    rtx: FakeRtx, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert TensorRTRtxEngine.unavailable() is None
    monkeypatch.delitem(sys.modules, "cuda.bindings")
    assert "'raybench[tensorrt-rtx]'" in (TensorRTRtxEngine.unavailable() or "")
    monkeypatch.setattr("raybench.engines.tensorrt.library.find_spec", lambda name: None)
    assert "'raybench[tensorrt-rtx]'" in (TensorRTRtxEngine.unavailable() or "")


@pytest.mark.parametrize(
    ("missing", "best"),
    [
        ("", ("tensorrt", "gpu")),
        ("tensorrt", ("tensorrt_rtx", "gpu")),
        ("tensorrt tensorrt_rtx", ("openvino", "cpu")),
    ],
)
def test_auto_means_it_where_tensorrt_is_missing(missing: str, best: tuple[str, str]) -> None:
    def unavailable(name: str, kind: str) -> str | None:
        return f"no {name}" if name in missing.split() else None

    assert registry.best("auto", {"gpu": 1}, unavailable) == best


def test_outputs_are_those_of_the_batch(make: Make) -> None:
    load = make(inflight=1)
    engine = TensorRTRtxEngine.load(load)
    for sequence in range(6):
        engine.submit(sequence)
        engine.collect(sequence)
        batch = load.batches.batch(sequence % load.batches.count)
        assert np.allclose(engine.outputs()["y"], batch["x"] @ WEIGHTS)
    engine.close()


def test_kernels_that_cannot_be_stored_cost_nothing_but_the_next_load_its_time(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Any, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kernels, "write_atomically", full)
    engine = TensorRTRtxEngine.load(make())
    assert engine.info.notes == (kernels.COMPILED,)
    engine.close()
