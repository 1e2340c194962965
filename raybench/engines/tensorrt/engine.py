"""TensorRTEngine: the engine on NVIDIA GPUs.

Run with TensorRT 8.6.0 on an H100 and an H200; the paths of 10 and 11 have not yet run on a GPU.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from raybench.engines.base import EngineInfo
from raybench.engines.tensorrt import builder, failures, library, profiles
from raybench.engines.tensorrt.cuda import Cuda
from raybench.engines.tensorrt.plans import PlanCache
from raybench.engines.tensorrt.runner import Port, Runner, io_bytes, quietly, rotation, slot_count
from raybench.errors import EngineFailure, EngineUnavailable, OutOfMemory, Unsupported
from raybench.machine import nvml

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self

    from raybench.engines.base import DeviceSpans, Layer, Load
    from raybench.engines.tensorrt.plans import EnginePlan
    from raybench.machine.devices import Device

FOLDER = "tensorrt"
"""Of plans and timing caches, below the cache of the node."""

LEAST_CAPABILITY = {"fp32": (5, 0), "tf32": (8, 0), "fp16": (5, 3), "int8": (6, 1)}
"""Oldest compute capability whose hardware has the precision."""

_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
    "UINT8": "uint8",
}
"""Elements that may cross the bus; TensorRT's own table raises for what numpy has not got."""


@dataclass(frozen=True)
class TensorRTSettings:
    """Options of the engine `tensorrt`.

    Attributes:
        streams: execution contexts that compute at the same time; the batches take turns.
        cuda_graphs: launch each batch as a graph.
        copies_in_graph: copies and events are in the graph: two calls a batch.
        spin: wait for a batch by spinning, which answers sooner and takes the core.
        workspace_mib: most scratch memory of a layer; None for all of the device.
        optimization_level: of the builder, 0 to 5.
        timing_rounds: how often the builder times each tactic.
        timing_cache: keep what the builder learns about layers for later builds.
        jit_convolutions: let the builder try convolutions that it compiles on the spot.
        largest_batch: build one dynamic plan for every batch from 1 to this; None for a static plan
            of the point's batch.
        best_batch: the batch that a dynamic plan is tuned for; None for the largest.
        int8_rest: what layers outside Q/DQ may use in TensorRT 8.6: "graph" (fp32), "tf32" or "fp16".
        version_compatible: plans that the lean and the dispatch runtime can run, too. Run with 8.6.0
            of all three; a newer version of the same major was not tried.
    """

    streams: int = 1
    cuda_graphs: bool = True
    copies_in_graph: bool = True
    spin: bool = True
    workspace_mib: int | None = None
    optimization_level: int = 3
    timing_rounds: int = 8
    timing_cache: bool = True
    jit_convolutions: bool = True
    largest_batch: int | None = None
    best_batch: int | None = None
    int8_rest: str = "graph"
    version_compatible: bool = False


class TensorRTEngine:
    """One plan on one GPU."""

    name: ClassVar[str] = "tensorrt"
    extra: ClassVar[str | None] = "tensorrt"
    device_kinds: ClassVar[tuple[str, ...]] = ("gpu",)
    int8_dialect: ClassVar[str] = "s8s8"
    bf16_dialect: ClassVar[str | None] = None
    rewrites_lrn: ClassVar[bool] = False
    reads_graph: ClassVar[bool] = True
    Settings: ClassVar[type] = TensorRTSettings

    @classmethod
    def unavailable(cls) -> str | None:
        """Why TensorRT cannot run here and what to install, or None. Nothing is imported."""
        if library.installed() is None:
            return (
                f"Engine 'tensorrt' needs the package tensorrt, which is missing. {library.INSTALL}"
            )
        if not _has_bindings():
            return (
                "Engine 'tensorrt' needs the package cuda-bindings, which is missing. "
                "Run pip install 'raybench[tensorrt]'."
            )
        return None

    @classmethod
    def unsupported(cls, precision: str, device: Device, transfers: bool) -> str | None:
        """Precisions that TensorRT would quietly run in another one are refused."""
        if device.declared:
            return (
                "The cluster was told of this GPU, but no NVIDIA driver confirms it. "
                "Start the worker where nvidia-smi lists it, or use engine=simulated."
            )
        if precision not in LEAST_CAPABILITY:
            return (
                f"No graph of this project makes TensorRT compute in {precision}. "
                f"Use precision={', '.join(LEAST_CAPABILITY)}."
            )
        found = _capability(device)
        least = LEAST_CAPABILITY[precision]
        if found is not None and found < least:
            return (
                f"{device.name} has compute capability {found[0]}.{found[1]}, and {precision} needs "
                f"{least[0]}.{least[1]}. Use precision=fp32."
            )
        return None

    @classmethod
    def load(cls, load: Load) -> Self:
        """Find or build the plan, load it, take all memory, capture the graphs."""
        loaded = cls(load)
        with loaded._closed_on_error():
            loaded._open(load)
        return loaded

    @classmethod
    def plan_batch(cls, options: TensorRTSettings, batch_size: int) -> int:
        """The largest of a dynamic plan, else the batch itself."""
        return max(batch_size, options.largest_batch or 0)

    @classmethod
    def prebuild(cls, load: Load) -> tuple[str, ...]:
        """Put the plan of a load into the cache; its files there.

        Several processes may build at once, each plan once; what a builder times is then disturbed
        by the others.
        """
        begun = cls(load)
        with begun._closed_on_error():
            plan, _, _ = begun._plan(load)
        begun.close()
        return tuple(f"{FOLDER}/{name}" for name in plan.files)

    def __init__(self, load: Load) -> None:
        self._stack = ExitStack()
        self._runner: Runner | None = None
        self._contexts: list[Any] = []
        self._runtime: Any = None
        with self._closed_on_error():
            self._begin(load)

    @contextmanager
    def _closed_on_error(self) -> Iterator[None]:
        try:
            yield
        except EngineUnavailable as error:
            self.close()
            raise Unsupported(str(error)) from error
        except BaseException:
            self.close()
            raise

    def _begin(self, load: Load) -> None:
        """Find library and device, and make the runtime; nothing is taken on the device yet."""
        _refuse_options(load.options)
        trt = library.load()
        self._cuda = cuda = Cuda()
        if not cuda.device_count():
            raise Unsupported(  # before any object of TensorRT: without a device they crash
                "Engine 'tensorrt' sees no CUDA device in this process. "
                "Check nvidia-smi and CUDA_VISIBLE_DEVICES."
            )
        cuda.use(load.device.index)
        self._trt = trt
        self._logger, self._journal = library.logger(trt)
        self._journal.clear()
        self._runtime = self._able_runtime(load.options.version_compatible)
        cuda.stage = "build"

    def _able_runtime(self, compatible: bool) -> Any:
        """The library's runtime; the dispatch runtime runs nothing itself and loads the lean library.

        No code comes from a plan: version-compatible ones are built without their runtime.
        """
        trt = self._trt
        dispatch = library.dispatch(trt)
        if (dispatch or library.lean(trt)) and not compatible:
            raise Unsupported(
                f"{trt.__name__} runs only plans that were built with engine.version_compatible=true. "
                "Set that, or install the full tensorrt."
            )
        runtime = trt.Runtime(self._logger)
        if not dispatch:
            return runtime
        path = library.lean_path()
        if path is None:
            raise Unsupported(
                f"{trt.__name__} runs plans by the library of the package tensorrt_lean, which is "
                "missing. Install tensorrt_lean of the version that built the plans."
            )
        loaded = runtime.load_runtime(str(path))
        if loaded is None:
            raise failures.of_library("load", self._journal.lines(), f"load {path.name}")
        return loaded

    def _open(self, load: Load) -> None:
        cuda = self._cuda
        slots = slot_count(load.inflight, load.options.streams)
        count = rotation(slots, load.batches.count)
        self._refuse_inputs(load, slots, count)
        free_before, _ = cuda.memory()
        plan, engine, began = self._plan(load)
        cuda.stage = "load"
        notes = self._start(load, engine, len(plan.data), slots, count)
        held = max(free_before - cuda.memory()[0], 0)
        _refuse("load", held, load.memory_limit_bytes)
        self.info = EngineInfo(
            version=str(self._trt.__version__),
            build_s=plan.build_s,
            load_s=time.perf_counter() - began,
            build_cache_hit=plan.hit,
            engine_bytes=len(plan.data),
            engine_sha256=plan.sha256,
            device_memory_bytes=held,
            device_clock=True,
            notes=notes,
        )
        cuda.stage = "run"

    # plan

    def _plan(self, load: Load) -> tuple[EnginePlan, Any, float]:
        """The plan, the engine made of it, and when the plan was there.

        A plan from the cache that will not load is built again where there is a builder.
        """
        order = _order(load)
        facts = {**order.facts(), **self._here(load)}
        cache = PlanCache(load.cache_dir / FOLDER)
        plan = cache.get(facts, lambda: self._build(cache, order, load))
        began = time.perf_counter()
        engine = self._runtime.deserialize_cuda_engine(plan.data)
        if engine is None and plan.hit and builder.available(self._trt):
            cache.discard(plan.key)
            self._journal.clear()
            plan = cache.get(facts, lambda: self._build(cache, order, load))
            began = time.perf_counter()
            engine = self._runtime.deserialize_cuda_engine(plan.data)
        if engine is None:
            raise failures.of_library("load", self._journal.lines(), "load its own plan")
        return plan, engine, began

    def _here(self, load: Load) -> dict[str, Any]:
        """What of this machine decides a plan."""
        device = load.device.index
        facts = self._cuda.identity(device)
        _same_device(facts["uuid"], load.device)
        return {
            "library": _library(self._trt, load.options.version_compatible),
            "gpu": facts["name"],
            "multiprocessors": facts["multiprocessors"],
            "gpu_memory_bytes": facts["memory_bytes"],
            "capability": list(self._cuda.capability(device)),
            "driver": _driver(load.device) or self._cuda.versions()[0],
        }

    def _build(self, cache: PlanCache, order: builder.Order, load: Load) -> builder.Built:
        trt = self._trt
        if not load.options.timing_cache:
            return builder.build(trt, order, None)
        facts = self._here(load)
        name = f"{facts['library']} {facts['gpu']} {facts['driver']}".replace(" ", "_")
        built = builder.build(trt, order, cache.timing(name))
        if built.timing_cache is not None:
            cache.learn(name, built.timing_cache, lambda a, b: builder.merge_timing(trt, a, b))
        return built

    # memory

    def _refuse_inputs(self, load: Load, slots: int, count: int) -> None:
        """Refuse before building what cannot fit for its inputs alone."""
        copies = slots if load.transfers else count
        one = sum(array.nbytes for array in load.batches.batch(0).values())
        _refuse("input", copies * one, load.memory_limit_bytes)

    def _start(
        self, load: Load, engine: Any, plan_bytes: int, slots: int, count: int
    ) -> tuple[str, ...]:
        """Take contexts, buffers and graphs, in that order; what there is to note of it."""
        options, limit = load.options, load.memory_limit_bytes
        scratch = options.streams * _scratch_bytes(engine)
        _refuse("load", plan_bytes + scratch, limit)  # weights take about what the plan does
        shapes = {spec.name: spec.with_batch(load.batches.batch_size) for spec in load.model.inputs}
        self._contexts = [self._context(engine, shapes) for _ in range(options.streams)]
        ports = _ports(self._trt, engine, self._contexts[0])
        io = io_bytes(ports, slots, count, load.transfers)
        _refuse("input", plan_bytes + scratch + io, limit)
        self._runner = Runner(
            self._cuda,
            self._journal,
            self._contexts,
            ports,
            load.batches,
            slots,
            count,
            load.transfers,
            options.spin,
            self._stack,
        )
        self._runner.warm()
        if options.cuda_graphs and not self._runner.capture(options.copies_in_graph):
            return ("graph_capture_failed",)
        return ()

    def _context(self, engine: Any, shapes: dict[str, tuple[int, ...]]) -> Any:
        context = engine.create_execution_context()
        if context is None:
            raise failures.of_library("load", self._journal.lines(), "make an execution context")
        for name, shape in shapes.items():
            if not context.set_input_shape(name, shape):
                doing = f"take shape {shape} for input {name!r}"
                raise failures.of_library("load", self._journal.lines(), doing)
        return context

    # the stream

    def submit(self, sequence: int) -> None:
        """Enqueue copy in, compute and copy out of a batch; returns at once."""
        self._running().submit(sequence)

    def collect(self, sequence: int) -> DeviceSpans:
        """Block until the batch is done; its spans by the device's clock."""
        return self._running().collect(sequence)

    def outputs(self) -> dict[str, np.ndarray[Any, Any]]:
        """Copies of the last batch's outputs, by name."""
        return self._running().outputs()

    def layers(self, batches: int) -> tuple[Layer, ...]:
        """Profile the first context, and add what the inspector tells of each layer."""
        runner, context = self._running(), self._contexts[0]
        runner.drain()
        profile = profiles.attach(self._trt, context)
        runner.profile(1 + batches, profile.close_batch)
        return profile.layers(profiles.inspect(self._trt, context))

    def _running(self) -> Runner:
        assert self._runner is not None, "the engine is closed"
        return self._runner

    def close(self) -> None:
        """Wait for what is in flight, then free everything."""
        if self._runner is not None:
            quietly(lambda runner: runner.drain(), self._runner)
        self._runner = None
        self._stack.close()
        self._contexts = []
        self._runtime = None


def _has_bindings() -> bool:
    try:
        return find_spec("cuda.bindings") is not None
    except (ImportError, ValueError):
        return False


def _same_device(uuid: str | None, device: Device) -> None:
    """Refuse to measure one GPU and watch another: the runtime may count in an order of its own.

    A slice is left out: some runtimes tell its board's UUID in place of its own.
    """
    if uuid is None or device.uuid is None or device.uuid.startswith("MIG-"):
        return
    if uuid != device.uuid:
        raise EngineFailure(
            f"CUDA's device {device.index} is {uuid}, and Ray gave {device.visible!r}, which the "
            f"driver knows as {device.uuid}. Set CUDA_DEVICE_ORDER=PCI_BUS_ID where Ray is started."
        )


def _gpu(device: Device) -> nvml.Gpu | None:
    return next((gpu for gpu in nvml.inventory() if gpu.uuid == device.uuid), None)


def _library(trt: Any, compatible: bool) -> str:
    """What of the library decides a plan: of a compatible one only the major version.

    The lean runtime finds by it what the full library of another minor version has built.
    """
    if compatible:
        return f"TensorRT {library.version(trt)[0]}"
    return f"{trt.__name__} {trt.__version__}"


def _driver(device: Device) -> str | None:
    gpu = _gpu(device)
    return None if gpu is None else gpu.driver_version


def _capability(device: Device) -> tuple[int, int] | None:
    gpu = _gpu(device)
    if gpu is None or gpu.compute_capability is None:
        return None
    major, minor = gpu.compute_capability.split(".")
    return int(major), int(minor)


def _refuse_options(options: TensorRTSettings) -> None:
    """An option out of its range ends the point before anything is loaded."""
    for name, least, most in (
        ("streams", 1, 64),
        ("optimization_level", 0, 5),
        ("timing_rounds", 1, 1000),
    ):
        value = getattr(options, name)
        if not least <= value <= most:
            raise Unsupported(f"{name}={value} of engine 'tensorrt' is not in {least}..{most}.")
    if not 1 <= (options.best_batch or 1) <= (options.largest_batch or 1):
        raise Unsupported(
            f"best_batch={options.best_batch} is not in 1..largest_batch={options.largest_batch}."
        )
    if options.int8_rest not in builder.INT8_REST:
        known = ", ".join(builder.INT8_REST)
        raise Unsupported(f"int8_rest={options.int8_rest!r} is unknown. Use one of {known}.")


def _order(load: Load) -> builder.Order:
    options, batch_size = load.options, load.batches.batch_size
    largest = options.largest_batch
    if largest is not None and batch_size > largest:
        raise Unsupported(
            f"batch_size={batch_size} is above largest_batch={largest} of the dynamic plan. "
            "Raise largest_batch."
        )
    lowest, best, most = batch_size, batch_size, batch_size
    if largest is not None:
        lowest, best, most = 1, options.best_batch or largest, largest
    workspace = None if options.workspace_mib is None else options.workspace_mib << 20
    bounds = [size for size in (workspace, load.memory_limit_bytes) if size is not None]
    return builder.Order(
        onnx_path=load.model.path,
        onnx_sha256=load.model.sha256,
        precision=load.model.precision,
        shapes={
            spec.name: (spec.with_batch(lowest), spec.with_batch(best), spec.with_batch(most))
            for spec in load.model.inputs
        },
        workspace_bytes=min(bounds, default=None),
        optimization_level=options.optimization_level,
        avg_timing=options.timing_rounds,
        int8_rest=options.int8_rest,
        jit_convolutions=options.jit_convolutions,
        version_compatible=options.version_compatible,
    )


def _refuse(stage: str, nbytes: int, limit: int | None) -> None:
    if limit is not None and nbytes > limit:
        words = f"device.memory_limit is {limit / 2**20:.0f} MiB"
        raise OutOfMemory(stage, nbytes, words)


def _scratch_bytes(engine: Any) -> int:
    size = getattr(engine, "device_memory_size_v2", None)
    return int(engine.device_memory_size if size is None else size)


def _ports(trt: Any, engine: Any, context: Any) -> tuple[Port, ...]:
    """Inputs and outputs as the plan has them, at the context's shapes."""
    ports = []
    for name in (engine.get_tensor_name(i) for i in range(engine.num_io_tensors)):
        shape = tuple(int(dim) for dim in context.get_tensor_shape(name))
        kind = engine.get_tensor_dtype(name).name
        if min(shape, default=0) < 0:
            raise Unsupported(f"Output {name!r} has shape {shape}: its size depends on the data.")
        if kind not in _DTYPES:
            raise Unsupported(f"Tensor {name!r} is {kind}, which numpy has not got.")
        is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        ports.append(Port(name, np.dtype(_DTYPES[kind]), shape, is_input))
    return tuple(ports)
