"""The fake of TensorRT as TensorRT for RTX: built without a device, compiled where it is loaded."""

from __future__ import annotations

import enum
import json
import weakref
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from helpers.fake_gpu import FakeConfig, FakeContext, FakeEngine, FakeGpu, FakeTrt
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Iterator


class RtxFlags(enum.IntEnum):
    """Flags of the builder and of the network."""

    STRONGLY_TYPED = 0
    TF32 = 6
    REQUIRE_USER_ALLOCATION = 24


class FakeRtxConfig(FakeConfig):
    num_compute_capabilities = 0

    def __init__(self) -> None:
        super().__init__()
        self.capabilities: dict[int, str] = {}

    def set_compute_capability(self, capability: str, index: int) -> bool:
        assert index < self.num_compute_capabilities
        self.capabilities[index] = capability
        return True

    @override
    def create_timing_cache(self, blob: bytes) -> Any:
        raise AssertionError("a timing cache asks for a GPU and is without effect")


class FakeKernelCache:
    """Holds what was compiled: the names of shapes, after the environment that it is valid in."""

    def __init__(self, rtx: FakeRtx) -> None:
        self._rtx = rtx
        self._compiled: set[str] = set()

    def deserialize(self, blob: bytes) -> bool:
        environment, *compiled = json.loads(blob)
        valid = bool(environment == self._rtx.environment)
        self._compiled |= set(compiled) if valid else set()
        return valid

    def serialize(self) -> bytes:
        return json.dumps([self._rtx.environment, *sorted(self._compiled)]).encode()


class FakeRuntimeConfig:
    """Holds no cache alive, and no context holds its configuration."""

    cuda_graph_strategy = "disabled"
    dynamic_shapes_kernel_specialization_strategy = "lazy"

    def __init__(self, rtx: FakeRtx) -> None:
        self._rtx = rtx
        self._cache: Any = None

    def create_runtime_cache(self) -> FakeKernelCache:
        return FakeKernelCache(self._rtx)

    def set_runtime_cache(self, cache: FakeKernelCache) -> bool:
        self._cache = weakref.ref(cache)
        return True


class FakeRtxContext(FakeContext):
    _capturable = True

    def __init__(self, engine: FakeRtxEngine, config: FakeRuntimeConfig) -> None:
        super().__init__(engine.gpu, engine.facts, engine)
        self._rtx = engine.rtx
        self._config = weakref.ref(config)

    def is_stream_capturable(self, stream: int) -> bool:
        return self._capturable

    @override
    def execute_async_v3(self, stream: int) -> bool:
        config = self._config()
        assert config is not None
        cache = config._cache()
        assert cache is not None, "a cache that is freed before its contexts"
        if not self.ran and str(self.batch) not in cache._compiled:
            assert self.gpu.streams[stream].capture is None
            cache._compiled.add(str(self.batch))
            self._rtx.compilations += 1
        return super().execute_async_v3(stream)


class FakeRtxEngine(FakeEngine):
    rtx: FakeRtx

    def create_runtime_config(self) -> FakeRuntimeConfig:
        return FakeRuntimeConfig(self.rtx)

    @override
    def create_execution_context(self, config: Any = None) -> FakeRtxContext:
        assert config.dynamic_shapes_kernel_specialization_strategy == "eager"
        assert config.cuda_graph_strategy == "disabled"
        return FakeRtxContext(self, config)


class FakeRtx(FakeTrt):
    """Stands for tensorrt_rtx_bindings 1.7."""

    __version__ = "1.7.1.116"

    def __init__(self, gpu: FakeGpu) -> None:
        super().__init__(gpu)
        self.__name__ = "tensorrt_rtx_bindings"
        self.environment = "compiler 1"
        self.compilations = 0
        self.BuilderFlag = self.NetworkDefinitionCreationFlag = RtxFlags
        names = ("SM75", "SM80", "SM86", "SM89", "SM120", "SM121")
        self.ComputeCapability = SimpleNamespace(**{name: name for name in names})
        self.CudaGraphStrategy = SimpleNamespace(DISABLED="disabled")
        self.DynamicShapesKernelSpecializationStrategy = SimpleNamespace(EAGER="eager")

    @override
    def Builder(self, logger: Any) -> Any:
        made, self.gpu.context_made = self.gpu.context_made, True
        builder = super().Builder(logger)
        self.gpu.context_made = made
        builder.create_builder_config = FakeRtxConfig
        return builder

    @override
    def _build(self, network: Any, config: Any) -> bytes | None:
        plan = super()._build(network, config)
        if plan is not None:
            self.builds[-1]["capabilities"] = list(config.capabilities.values())
        return plan

    @override
    def _deserialize(self, plan: bytes) -> FakeEngine | None:
        self.loads.append(plan)
        engine = FakeRtxEngine(self.gpu, json.loads(plan))
        engine.rtx = self
        return engine


def names() -> Iterator[str]:
    """Yield every name that the fake offers beyond that of TensorRT."""
    for owner, kind in (
        ("IBuilderConfig", FakeRtxConfig),
        ("IExecutionContext", FakeRtxContext),
        ("ICudaEngine", FakeRtxEngine),
        ("IRuntimeCache", FakeKernelCache),
        ("IRuntimeConfig", FakeRuntimeConfig),
    ):
        yield from (f"{owner}.{name}" for name in vars(kind) if not name.startswith("_"))
    rtx = FakeRtx(FakeGpu())
    for owner in (
        "CudaGraphStrategy", "ComputeCapability", "DynamicShapesKernelSpecializationStrategy",
    ):  # fmt: skip
        yield from (f"{owner}.{name}" for name in vars(getattr(rtx, owner)))
    yield from (f"BuilderFlag.{name}" for name in RtxFlags.__members__ if name != "STRONGLY_TYPED")
