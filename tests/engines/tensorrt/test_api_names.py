"""The fake of TensorRT offers no name that the real library lacks.

The lists under api/ were read from the Python modules of 8.6, 10 and 11; they hold names only. As
the engine runs on the fake in all other tests, every name it uses there is checked here. What 11 has
is checked on a library as well, since TensorRT for RTX has the API of 11 and is installed for tests.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from helpers import fake_rtx
from helpers.fake_gpu import FakeConfig, FakeContext, FakeEngine, FakeGpu, FakeProfile, FakeTrt

from raybench.engines.tensorrt import builder
from raybench.engines.tensorrt.start import DTYPES

if TYPE_CHECKING:
    from collections.abc import Iterator

API = Path(__file__).parent / "api"
VERSIONS = {
    version: frozenset(
        line
        for line in (API / f"trt{version}.txt").read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    )
    for version in (86, 10, 11)
}

CLASSES = {
    FakeEngine: "ICudaEngine",
    FakeContext: "IExecutionContext",
    FakeConfig: "IBuilderConfig",
    FakeProfile: "IOptimizationProfile",
}

NOT_IN_ALL = {
    "NetworkDefinitionCreationFlag.EXPLICIT_BATCH": {86, 10},
    "NetworkDefinitionCreationFlag.STRONGLY_TYPED": {10, 11},
    "ICudaEngine.device_memory_size": {86, 10},
    "ICudaEngine.device_memory_size_v2": {10, 11},
    "ParserError.node_name": {10, 11},
    "BuilderFlag.FP16": {86, 10},
    "BuilderFlag.INT8": {86, 10},
    "BuilderFlag.OBEY_PRECISION_CONSTRAINTS": {86, 10},
    "DataType.INT64": {10, 11},
    "PreviewFeature.PROFILE_SHARING_0806": {86, 10},
}
"""Names that some versions lack; the engine checks the version, or whether there is one."""

BEYOND_THE_FAKE = {
    "NetworkDefinitionCreationFlag.EXPLICIT_BATCH",
    "NetworkDefinitionCreationFlag.STRONGLY_TYPED",
    "ICudaEngine.device_memory_size_v2",
    "IBuilderConfig.set_preview_feature",
    "IBuilderConfig.set_tactic_sources",
    "PreviewFeature.PROFILE_SHARING_0806",
    "TacticSource.EDGE_MASK_CONVOLUTIONS",
    "TacticSource.JIT_CONVOLUTIONS",
    "BuilderFlag.OBEY_PRECISION_CONSTRAINTS",
    "INetworkDefinition.get_layer",
    "INetworkDefinition.num_layers",
    "ITensor.dtype",
    *(f"BuilderFlag.{name}" for name in ("FP16", "INT8", "TF32")),
    *(f"BuilderFlag.{name}" for name in ("VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME")),
    *(f"DataType.{name}" for name in DTYPES),
}
"""Names that the engine uses only with other versions, or picks by a string."""


def _public(owner: str, names: Any) -> Iterator[str]:
    return (f"{owner}.{name}".lstrip(".") for name in names if not name.startswith("_"))


def _offered() -> set[str]:
    """Return every name of TensorRT that the fake offers."""
    trt = FakeTrt(FakeGpu())
    trt.gpu.context_made = True
    objects = {
        "Runtime": trt.Runtime(None),
        "Builder": (built := trt.Builder(None)),
        "INetworkDefinition": (network := built.create_network(0)),
        "ITensor": network.get_input(0),
        "OnnxParser": (parser := trt.OnnxParser(network, None)),
        "ParserError": parser.get_error(0),
        "ITimingCache": FakeConfig().create_timing_cache(b""),
        "EngineInspector": FakeEngine(trt.gpu, {}).create_engine_inspector(),
        "TensorIOMode": trt.TensorIOMode,
        "MemoryPoolType": trt.MemoryPoolType,
        "ProfilingVerbosity": trt.ProfilingVerbosity,
        "LayerInformationFormat": trt.LayerInformationFormat,
    }
    own = {"INetworkDefinition.flags", "ITimingCache.blob"}  # what the fake notes for its tests
    names = {"Builder", "Runtime", "OnnxParser", "ILogger", "IProfiler"}
    names.update(objects)
    names.update(_public("ILogger.Severity", trt.ILogger.Severity.__members__))
    for owner, offered in objects.items():
        assert isinstance(offered, SimpleNamespace)
        names.update(_public(owner, vars(offered)))
    for fake, owner in CLASSES.items():
        names.update(_public(owner, vars(fake)))
    return names - own


@pytest.mark.parametrize("name", sorted(_offered() | BEYOND_THE_FAKE))
def test_a_name_exists_in_the_versions_that_use_it(name: str) -> None:
    have = {version for version, names in VERSIONS.items() if name in names}
    assert have == NOT_IN_ALL.get(name, set(VERSIONS))


def test_the_fake_offers_the_calls_that_matter() -> None:
    assert _offered() >= {
        "Builder.build_serialized_network",
        "IExecutionContext.execute_async_v3",
        "IExecutionContext.report_to_profiler",
        "Runtime.deserialize_cuda_engine",
        "IBuilderConfig.builder_optimization_level",
    }


def test_every_builder_flag_is_checked() -> None:
    order = builder.Order(Path(), "", "int8", {}, None, 3, 8, version_compatible=True)
    old = SimpleNamespace(__name__="tensorrt", __version__="8.6.0")
    flags = {name for rest in builder.INT8_REST for name in _flags(old, order, rest)}
    assert {f"BuilderFlag.{name}" for name in flags} <= BEYOND_THE_FAKE


def _flags(trt: Any, order: builder.Order, rest: str) -> set[str]:
    facts = {**order.__dict__, "int8_rest": rest}
    on, off = builder.flags(trt, builder.Order(**facts))
    return on | off


@pytest.mark.parametrize("name", sorted(_offered() | BEYOND_THE_FAKE | set(fake_rtx.names())))
def test_tensorrt_for_rtx_has_the_names_of_11_and_its_own(name: str) -> None:
    reason = "tensorrt-rtx-cu12-bindings is not installed: make test installs it on x86-64 Linux"
    owner: Any = pytest.importorskip("tensorrt_rtx_bindings", reason=reason)
    absent = 11 not in NOT_IN_ALL.get(name, {11})
    for part in name.split("."):
        owner = getattr(owner, part, None)
    assert (owner is None) is absent
