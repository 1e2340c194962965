from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from helpers.fake_gpu import FakeGpu, FakeRuntime, FakeTrt

from raybench.engines.base import Load
from raybench.engines.tensorrt.settings import TensorRTSettings
from raybench.machine import nvml
from raybench.machine.devices import Device
from raybench.models.batches import BatchPool
from raybench.models.model import Model, TensorSpec

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
