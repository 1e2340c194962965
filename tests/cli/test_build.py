"""`raybench build`: plans for GPUs that are not here, found by the runs that need them."""

import json
import os
import sys
from importlib.machinery import ModuleSpec

import onnx
import pytest
from helpers.fake_gpu import FakeGpu
from helpers.fake_rtx import FakeRtx
from helpers.tiny_graphs import graph_of
from onnx import TensorProto, helper

from raybench.cli.main import main
from raybench.engines import registry
from raybench.engines.tensorrt import library
from raybench.machine import nvml

NO_WHEEL = "tensorrt-rtx-cu12-bindings is not installed: make test installs it on x86-64 Linux"


@pytest.fixture(params=["fake", "library"])
def rtx(request, monkeypatch, tmp_path):
    """TensorRT for RTX or its fake, without a GPU; returns a model that both take."""
    if request.param == "library":
        pytest.importorskip("tensorrt_rtx_bindings", reason=NO_WHEEL)
    else:
        fake = FakeRtx(FakeGpu())
        fake.__spec__ = ModuleSpec(fake.__name__, None, origin="fake")
        monkeypatch.setitem(sys.modules, "tensorrt_rtx_bindings", fake)
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    tensors = [(name, TensorProto.FLOAT, ["N", 4]) for name in "xy"]
    onnx.save(graph_of(nodes, tensors[:1], tensors[1:]), tmp_path / "relu.onnx")
    return f"model={tmp_path / 'relu.onnx'}"


@pytest.fixture
def build(tmp_path, monkeypatch, capsys, tiny):
    """Return a function that builds for the tiny model: exit code, lines and errors."""
    monkeypatch.setenv("RAYBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES", ""))
    monkeypatch.setattr(nvml, "inventory", lambda: ())
    monkeypatch.chdir(tmp_path)

    def run(*words):
        model = () if any(word.startswith("model=") for word in words) else (f"model={tiny}",)
        code = main(["build", *model, *words])
        captured = capsys.readouterr()
        return code, captured.out.splitlines(), captured.err

    return run


def plans(tmp_path):
    headers = (tmp_path / "cache" / "tensorrt").glob("*.json")
    return [json.loads(path.read_text())["facts"] for path in headers]


def test_plans_are_built_without_a_gpu_and_then_found(rtx, build, tmp_path):
    words = (rtx, "device=gpu", "engine=tensorrt_rtx", "precision=[fp32,fp16]", "batch_size=[1,2]")
    code, lines, _ = build(*words)
    assert code == 0
    assert sum("plan built" in line for line in lines) == 4
    assert {facts["target"] for facts in plans(tmp_path)} == {"8.0+"}
    assert len(plans(tmp_path)) == 4
    code, lines, _ = build(*words)
    assert code == 0
    assert sum("plan found" in line for line in lines) == 4
    assert not (tmp_path / "results").exists()


def test_what_cannot_be_built_is_said_and_the_rest_is_built(rtx, build):
    words = (rtx, "device=gpu", "engine=tensorrt_rtx", "precision=[fp16,fp8]")
    code, lines, _ = build(*words)
    assert code == 0
    assert any(": unsupported. Precision 'fp8'" in line for line in lines)
    assert lines[-1].startswith("1 plan in ")
    code, lines, _ = build(rtx, "device=gpu", "engine=tensorrt_rtx", "engine.target=9.0")
    assert code == 1
    assert ": unsupported. engine.target='9.0' is unknown." in lines[0]
    assert lines[-1].startswith("0 plans in ")


def test_an_engine_that_builds_on_its_gpu_is_refused_where_there_is_none(build, monkeypatch):
    monkeypatch.setattr(registry.get("tensorrt"), "unavailable", lambda: None)
    code, lines, errors = build("device=gpu", "engine=tensorrt")
    assert (code, lines) == (2, [])
    assert "builds on the GPU that it builds for" in errors
    assert "use engine=tensorrt_rtx" in errors


def test_a_missing_library_is_refused_with_what_to_install(build, monkeypatch):
    monkeypatch.setattr(library, "installed", lambda edition: None)
    code, lines, errors = build("device=gpu", "engine=tensorrt_rtx")
    assert (code, lines) == (2, [])
    assert "pip install 'raybench[tensorrt-rtx]'" in errors


def test_the_process_may_use_all_its_cores_again_afterwards(build):
    cores = os.sched_getaffinity(0)
    assert build("device=cpu", "engine=onnxruntime")[0] == 0
    assert os.sched_getaffinity(0) == cores


def test_engines_without_plans_have_their_graphs_made(build, tmp_path):
    code, lines, _ = build("device=cpu", "engine=onnxruntime", "precision=int8")
    assert code == 0
    assert "graph ready" in lines[0]
    assert list((tmp_path / "cache" / "models").iterdir())
    assert build("device=cpu", "engine=simulated")[1] == ["There is nothing to build."]


@pytest.mark.parametrize(
    "words", [("accelerator=[L4,A100]",), ("workers=[1,64]",), ("batch_size=[1,max]",)], ids=str
)
def test_what_only_other_machines_have_is_built_for(rtx, build, words):
    code, lines, _ = build(rtx, "device=gpu", "engine=tensorrt_rtx", *words)
    assert code == 0
    assert lines[-1].startswith("1 plan in ")  # both kinds of GPU share it
    assert any("batch_size=max" in line for line in lines) is ("max" in words[0])


def test_doctor_says_that_plans_can_be_built_where_no_gpu_is(monkeypatch, capsys):
    monkeypatch.setattr(nvml, "inventory", lambda: ())
    monkeypatch.setattr(registry.get("tensorrt_rtx"), "unavailable", lambda: None)
    main(["doctor"])
    (line,) = [
        line for line in capsys.readouterr().out.splitlines() if "engine tensorrt_rtx" in line
    ]
    assert "needs an NVIDIA GPU" in line
    assert line.endswith("Its plans can be built here: raybench build.")
