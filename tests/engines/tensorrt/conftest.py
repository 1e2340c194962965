from __future__ import annotations

import sys
from dataclasses import replace
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from helpers.fake_gpu import WEIGHTS, FakeGpu, FakeRuntime, FakeTrt
from helpers.first_gpu import first_gpu
from onnx import TensorProto, helper, numpy_helper

from raybench.engines.base import Load
from raybench.engines.tensorrt.engine import TensorRTEngine
from raybench.engines.tensorrt.settings import TensorRTSettings
from raybench.experiment import ModelSettings
from raybench.machine import nvml
from raybench.machine.devices import Device
from raybench.models.items.batches import BatchPool
from raybench.models.model import Model, TensorSpec
from raybench.models.prepare import prepare

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def gpu() -> FakeGpu:
    return FakeGpu()


@pytest.fixture
def trt(gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch) -> FakeTrt:
    """The fake library and driver, in the place of the real ones."""
    library = FakeTrt(gpu)
    runtime = FakeRuntime(gpu)
    for name in ("cuda", "cuda.bindings"):
        package = ModuleType(name)
        package.__path__ = []
        package.__spec__ = ModuleSpec(name, None, origin="fake", is_package=True)
        monkeypatch.setitem(sys.modules, name, package)
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", runtime)
    monkeypatch.setitem(sys.modules, "tensorrt", library)
    monkeypatch.setattr(nvml, "inventory", lambda: ())
    return library


@pytest.fixture
def make_load(tmp_path: Path) -> Callable[..., Load]:
    """A load of the fake's model; the pool has five distinct batches."""

    def make(
        batch_size: int = 3,
        inflight: int = 2,
        transfers: bool = True,
        limit: int | None = None,
        pool_bytes: int = 240,
        **options: Any,
    ) -> Load:
        path = tmp_path / "model.onnx"
        if not path.exists():
            path.write_text("good")
        x, y = TensorSpec("x", "float32", ("N", 4)), TensorSpec("y", "float32", ("N",))
        model = Model(
            "toy", "fp32", None, path, "0" * 64, (x,), (y,), 4, 4, path, "0" * 64, frozenset()
        )
        return Load(
            model=model,
            batches=BatchPool((x,), batch_size, 0, {}, min_bytes=pool_bytes),
            device=Device("gpu", "Fake GPU", 0, "GPU-0", "0"),
            inflight=inflight,
            transfers=transfers,
            options=TensorRTSettings(**options),
            memory_limit_bytes=limit,
            cache_dir=tmp_path / "cache",
        )

    return make


@pytest.fixture(params=["fake", pytest.param("gpu", marks=pytest.mark.gpu)])
def make_load_on(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Load]:
    """`make_load` on the fake, and the same network and modes on this machine's first GPU."""
    make: Callable[..., Load] = request.getfixturevalue("make_load")
    if request.param == "fake":
        request.getfixturevalue("trt")
        return make
    device = first_gpu()
    reason = TensorRTEngine.unavailable() or TensorRTEngine.unsupported("fp32", device, True)
    if reason:
        pytest.skip(reason)
    path = tmp_path / "dot.onnx"
    onnx.save_model(_dot(), path)
    model = prepare(str(path), ModelSettings(), "fp32", None, tmp_path / "cache")

    def make_on_gpu(**arguments: Any) -> Load:
        return replace(make(**arguments), model=model, device=device)

    return make_on_gpu


def _dot() -> onnx.ModelProto:
    """Return the network of the fake: y[n] = x[n] . WEIGHTS."""
    nodes = [
        helper.make_node("MatMul", ["x", "weights"], ["column"]),
        helper.make_node("Reshape", ["column", "flat"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "dot",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("N", 4))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ("N",))],
        [
            numpy_helper.from_array(WEIGHTS.reshape(4, 1), "weights"),
            numpy_helper.from_array(np.array([-1], np.int64), "flat"),
        ],
    )
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
