"""The engines on NVIDIA GPUs: one plan of TensorRT, or of TensorRT for RTX, on one GPU.

Tested with TensorRT 8.6.0 on an H100 and an H200; the code for 10 and 11 has not run on a GPU yet, and
neither have models with state.
TensorRT for RTX 1.7.1 has built plans; it has not run one on a GPU yet.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from raybench.engines import refusals
from raybench.engines.base import (
    BuildsAhead,
    EngineBase,
    EngineInfo,
    EngineTraits,
    KeepsState,
    ReadsHostInputs,
    ReportsLayers,
    TakesPartBatches,
)
from raybench.engines.tensorrt import (
    builder,
    chip,
    failures,
    kernels,
    library,
    profiles,
    start,
    targets,
)
from raybench.engines.tensorrt.buffers import at_address
from raybench.engines.tensorrt.build_progress import BuildProgress
from raybench.engines.tensorrt.builder import Order, order_of
from raybench.engines.tensorrt.device import (
    Context,
    load_builder,
    plan_facts,
    prepare_device,
    target_facts,
)
from raybench.engines.tensorrt.plans import EnginePlan, PlanCache
from raybench.engines.tensorrt.settings import RtxSettings, TensorRTSettings
from raybench.engines.tensorrt.state_runner import StateRunner
from raybench.errors import EngineUnavailable, Unsupported
from raybench.experiment import AS_IS

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from typing_extensions import Self

    from raybench.engines.base import DeviceSpans, Layer, Load
    from raybench.engines.tensorrt.runner import BatchGraphs, Runner
    from raybench.machine.devices import Device

FOLDER = "tensorrt"
"""Folder of plans and timing caches below the node's cache."""

MIN_CAPABILITY = {
    "fp32": (5, 0), "tf32": (8, 0), "fp16": (5, 3), "int8": (6, 1), "int8_fp16": (6, 1), AS_IS: (5, 0),
}  # fmt: skip
"""Oldest compute capability whose hardware has the precision."""


@dataclass(frozen=True)
class LoadedPlan:
    """A plan that TensorRT has deserialised.

    Attributes:
        plan: the plan.
        engine: TensorRT's engine made of it.
        began: when its deserialisation began, by `time.perf_counter`.
    """

    plan: EnginePlan
    engine: Any
    began: float


class TensorRTEngine(
    EngineBase, ReportsLayers, BuildsAhead, TakesPartBatches, KeepsState, ReadsHostInputs
):
    """One plan on one GPU.

    A dynamic plan runs batches that are not full at the next power of two, a static plan pads them.
    """

    traits = EngineTraits(
        name="tensorrt",
        settings=TensorRTSettings,
        device_kinds=("gpu",),
        extra="tensorrt",
        builds_differ=True,
    )
    edition: ClassVar[library.Edition] = library.TENSORRT

    @classmethod
    @override
    def unavailable(cls) -> str | None:
        """Return why the library cannot run here and what to install. Nothing is imported."""
        if library.installed(cls.edition) is None:
            return library.missing(cls.edition)
        if not _has_bindings():
            return (
                f"Engine {cls.traits.name!r} needs the package cuda-bindings, which is missing. "
                f"Run pip install 'raybench[{cls.traits.extra}]'."
            )
        return None

    @classmethod
    @override
    def unsupported(cls, precision: str, device: Device, transfers: bool) -> str | None:
        """Refuse precisions that TensorRT would silently replace by another one."""
        reason = refusals.declared_gpu(device)
        if reason is not None:
            return reason
        if precision not in MIN_CAPABILITY:
            return (
                f"No graph of this project makes TensorRT compute in {precision}. "
                f"Use precision={', '.join(name for name in MIN_CAPABILITY if name != AS_IS)}."
            )
        actual, needed = chip.capability(device), MIN_CAPABILITY[precision]
        if actual is not None and actual < needed:
            return (
                f"{device.name} has compute capability {actual[0]}.{actual[1]}, and {precision} "
                f"needs {needed[0]}.{needed[1]}. Use precision=fp32."
            )
        return None

    @classmethod
    @override
    def load(cls, load: Load) -> Self:
        """Find or build the plan, load it, allocate all memory, capture the graphs."""
        with _unavailable_is_unsupported():
            return cls(load)

    @classmethod
    @override
    def plan_batch(cls, options: TensorRTSettings | RtxSettings, batch_size: int) -> int:
        """Return the largest batch of a dynamic plan, else the batch itself."""
        return max(batch_size, options.largest_batch or 0)

    @classmethod
    @override
    def prebuild(cls, load: Load) -> tuple[str, ...]:
        """Put the plan of a load into the cache; return its files there.

        Several processes may build at once, each plan once; their timings then disturb each other.
        """
        with _unavailable_is_unsupported():
            plan = build_plan(prepare_device(load), load).plan
        return tuple(f"{FOLDER}/{name}" for name in plan.files)

    def __init__(self, load: Load) -> None:
        self._runner: Runner | None = None
        self._parts: tuple[BatchGraphs | None, ...] = ()
        self._kernels: kernels.Kernels | None = None
        self._context: Context | None = prepare_device(load, self.edition)
        cuda = self._context.cuda
        free_before, _ = cuda.memory()
        start.check_inputs(load, free_before)
        loaded = build_plan(self._context, load)
        plan = loaded.plan
        cuda.stage = "load"
        self._kernels = kernels.of(self._context, loaded.engine, plan.key, load)
        make = self._kernels.execution_context
        given = (self._context, loaded.engine, len(plan.data), load, make)
        self._runner, notes = start.start(*given)
        try:
            parts = start.add_parts(*given, self._runner)
            self.sizes = (*parts, load.batches.batch_size)
            self._parts = (*parts.values(), None)
            notes += self._kernels.keep()
            held = max(free_before - cuda.memory()[0], 0)
            start.require_memory("load", held, load.memory_limit_bytes)
        except BaseException:
            self.close()
            raise
        self.info = EngineInfo(
            version=str(self._context.trt.__version__),
            build_s=plan.build_s,
            load_s=time.perf_counter() - loaded.began,
            build_cache_hit=plan.hit,
            engine_bytes=len(plan.data),
            engine_sha256=plan.sha256,
            device_memory_bytes=held,
            device_clock=True,
            notes=notes,
        )
        cuda.stage = "run"

    @override
    def submit(self, sequence: int) -> None:
        """Enqueue copy in, compute and copy out of a batch; returns at once."""
        self._running().submit(sequence)

    @override
    def submit_part(self, sequence: int, items: int) -> None:
        """Enqueue as many of the batch's items as the next size has; returns at once."""
        self._running().submit(sequence, self._parts[bisect_left(self.sizes, items)])

    @override
    def collect(self, sequence: int) -> DeviceSpans:
        """Block until the batch is done; return its spans by the device's clock."""
        return self._running().collect(sequence)

    @override
    def host_inputs(self, index: int) -> dict[str, np.ndarray[Any, Any]]:
        """Return the pinned memory of a batch, from which it is copied each time that it is submitted."""
        runner = self._running()
        source = runner.sources[index]
        ports = runner.inputs
        return {port.name: at_address(source[port.name], port.dtype, port.shape) for port in ports}

    @override
    def outputs(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return copies of the last batch's outputs, by name."""
        return self._running().outputs()

    @override
    def restart(self) -> None:
        """Put the first state back; a model without state has nothing to put back."""
        runner = self._running()
        if isinstance(runner, StateRunner):
            runner.restart()

    @override
    def layers(self, batches: int) -> tuple[Layer, ...]:
        """Profile the first execution context, and add what the inspector reports of each layer."""
        runner = self._running()
        assert self._context is not None
        trt, context = self._context.trt, runner.contexts[0]
        runner.drain()
        profile = profiles.attach(trt, context)
        runner.profile(1 + batches, profile.close_batch)
        return profile.layers(profiles.inspect(trt, context))

    def _running(self) -> Runner:
        assert self._runner is not None, "the engine is closed"
        return self._runner

    @override
    def close(self) -> None:
        """Wait for what is in flight, then free everything."""
        if self._runner is not None:
            self._runner.close()
        self._runner = None
        self._parts = ()
        self._kernels = None
        self._context = None


class TensorRTRtxEngine(TensorRTEngine):
    """One plan of TensorRT for RTX on one GPU.

    Building (`build_s`) makes a plan for many kinds of GPU and needs none; loading (`load_s`)
    compiles its kernels for the one at hand, unless the node's cache has them.
    """

    traits = EngineTraits(
        name="tensorrt_rtx", settings=RtxSettings, device_kinds=("gpu",), extra="tensorrt-rtx"
    )
    edition = library.RTX
    builds_anywhere = True

    @classmethod
    @override
    def unavailable(cls) -> str | None:
        """Return why the library cannot run here, such as GPUs none of which it serves."""
        refused = [targets.refusal(*gpu) for gpu in chip.capabilities().items()]
        return super().unavailable() or (refused[0] if refused and all(refused) else None)

    @classmethod
    @override
    def unsupported(cls, precision: str, device: Device, transfers: bool) -> str | None:
        """Refuse GPUs that the library does not serve, before anything is built for them."""
        refused = targets.refusal(device.name, chip.capability(device))
        return refused or super().unsupported(precision, device, transfers)

    @classmethod
    @override
    def builder_missing(cls) -> str | None:
        """Return what to install; unlike running a plan, building one needs the library alone."""
        return None if library.installed(cls.edition) else library.missing(cls.edition)

    @classmethod
    @override
    def prebuild(cls, load: Load) -> tuple[str, ...]:
        """Put the plan of a load into the cache; uses no GPU."""
        with _unavailable_is_unsupported():
            trt, order = load_builder(load, cls.edition), order_of(load)
            facts = {**order.facts(), **target_facts(trt, load)}
            plan = PlanCache(load.cache_dir / FOLDER).get(
                facts, lambda: builder.build(trt, order, None)
            )
        return tuple(f"{FOLDER}/{name}" for name in plan.files)


def _find_plan(context: Context, load: Load, cache: PlanCache) -> EnginePlan:
    """Find the plan of a load in the cache, or build it."""
    order = order_of(load)
    facts = {**order.facts(), **plan_facts(context, load)}
    if load.build:  # the first build keeps the key that it has without others
        facts["build"] = load.build

    def build() -> builder.Built:
        progress = BuildProgress(load.on_step, cache.last_build_s(facts))
        try:
            return _build(context, cache, order, load, progress)
        finally:
            load.on_step("", "")

    return cache.get(facts, build)


def build_plan(context: Context, load: Load) -> LoadedPlan:
    """Find the plan of a load in the cache or build it, and deserialise it.

    A plan from the cache that does not load is built again where there is a builder.
    """
    cache = PlanCache(load.cache_dir / FOLDER)
    plan = _find_plan(context, load, cache)
    began = time.perf_counter()
    engine = context.runtime.deserialize_cuda_engine(plan.data)
    if engine is None and plan.hit and builder.available(context.trt):
        cache.discard(plan.key)
        context.journal.clear()
        plan = _find_plan(context, load, cache)
        began = time.perf_counter()
        engine = context.runtime.deserialize_cuda_engine(plan.data)
    if engine is None:
        raise failures.of_library("load", context.journal.lines(), "load its own plan")
    return LoadedPlan(plan, engine, began)


def _build(
    context: Context, cache: PlanCache, order: Order, load: Load, progress: BuildProgress
) -> builder.Built:
    trt = context.trt
    if load.build or not load.options.timing_cache:  # what another build has learnt makes it alike
        return builder.build(trt, order, None, progress)
    facts = plan_facts(context, load)
    name = f"{facts['library']} {facts['gpu']} {facts['driver']}".replace(" ", "_")
    built = builder.build(trt, order, cache.timing(name), progress)
    if built.timing_cache is not None:
        cache.learn(name, built.timing_cache, lambda a, b: builder.merge_timing(trt, a, b))
    return built


def _has_bindings() -> bool:
    try:
        return find_spec("cuda.bindings") is not None
    except (ImportError, ValueError):
        return False


@contextmanager
def _unavailable_is_unsupported() -> Iterator[None]:
    """Convert EngineUnavailable, which ends a run, into an outcome of the point."""
    try:
        yield
    except EngineUnavailable as error:
        raise Unsupported(str(error)) from error
