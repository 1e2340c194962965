"""The worker: a process that owns one device and one engine. It does not depend on Ray."""

from __future__ import annotations

import os
import platform
import statistics
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from typing_extensions import override

from raybench.engines import registry
from raybench.engines.base import BuildsAhead, EngineBase, EngineInfo, Layer, Load, ReportsLayers
from raybench.errors import Unsupported
from raybench.machine import devices, environment, gpu_telemetry, host, nvml
from raybench.measure.blocks import cut
from raybench.measure.stream import Stream, StreamTrace, loop_cost_us
from raybench.measure.telemetry_columns import Readings
from raybench.models.batches import BatchPool
from raybench.models.cache import cache_dir
from raybench.models.comparison import OutputComparison, compare, failed, prepare_reference
from raybench.models.input_values import given_items
from raybench.models.model import Model
from raybench.models.prepare import prepare

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from raybench.experiment import Point
    from raybench.machine.devices import Device

LAYER_BATCHES = 20  # behind each layer's median time
MEMORY_SHARE = 0.9  # of a node's memory, that all workers together may map

PROBE_S = 0.03
"""Length of the probe that estimates the time of a batch, which only sizes blocks: one batch of a
slow model is enough."""


@dataclass(frozen=True)
class WorkerHost:
    """Host, process id and niceness of a worker.

    Attributes:
        hostname: of its node.
        pid: of its process.
        nice: niceness of the process; above 0 it yields to others.
    """

    hostname: str
    pid: int
    nice: int


@dataclass(frozen=True)
class Prepared:
    """Result of `Worker.prepare`.

    Attributes:
        device: that the worker was given.
        engine: facts about the loaded engine.
        model: that it runs.
        batch_s: median time of a batch in a short probe; seconds.
        first_infer_ms: time of the very first batch.
        comparison: of the first outputs with those of fp32.
        harness_us: time that the measuring loop itself takes for a batch.
        input_shape: shapes of all inputs, e.g. "data:8x3x227x227".
        affinity: CPUs that the process is pinned to, comma-separated.
        variables: environment variables of the process that influence the measurement.
        software: versions of libraries and driver on this node, by column of `environment`.
    """

    device: Device
    engine: EngineInfo
    model: Model
    batch_s: float
    first_infer_ms: float
    comparison: OutputComparison
    harness_us: float
    input_shape: str
    affinity: str
    variables: dict[str, str]
    software: dict[str, str | None]

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the row."""
        return (*self.engine.notes, *self.model.conversion.notes, *self.comparison.notes)


@dataclass(frozen=True)
class StreamSnapshot:
    """What a worker has done so far, in whole blocks.

    Attributes:
        done: batches completed.
        edges: int64, shape (k,): index of the batch at each edge since the last snapshot.
        edge_ns: int64, shape (k,): time of these edges since the start, by this worker's clock.
        temp_c: float64, shape (k,): of the GPU at each edge; NaN where unknown, and for a core,
            whose sensors jump by more than it warms up.
        latency_ms: median of the batches since the previous snapshot; None without one.
        power_w: of the GPU, last reading; None where unknown.
        now_c: temperature of the GPU, last reading; None where unknown.
    """

    done: int
    edges: NDArray[np.int64]
    edge_ns: NDArray[np.int64]
    temp_c: NDArray[np.float64]
    latency_ms: float | None = None
    power_w: float | None = None
    now_c: float | None = None


@dataclass(frozen=True)
class Measurement:
    """Raw result of one worker: the times of its batches, and telemetry."""

    trace: StreamTrace
    readings: Readings


@dataclass(frozen=True)
class _Loaded:
    """A worker's state between `prepare` and `close`."""

    point: Point
    device: Device
    engine: EngineBase
    batches: BatchPool
    gpu: gpu_telemetry.GpuTelemetry


class _RunningStream:
    """A stream and the blocks cut from it so far, so that a snapshot costs only what is new."""

    def __init__(self, loaded: _Loaded, start_ns: int, block_ns: int) -> None:
        point = loaded.point
        self.stream = Stream(loaded.engine, point.batch_size, point.inflight)
        self._loaded = loaded
        self._start_ns = start_ns
        self._block_ns = block_ns
        self._edges: list[int] = []
        self._edge_ns: list[int] = []

    def snapshot(self, first_edge: int) -> StreamSnapshot:
        """Cut the new batches into blocks and return the edges from number `first_edge` on."""
        point, gpu = self._loaded.point, self._loaded.gpu
        last_batch = self._edges[-1] if self._edges else 0
        submit_ns, done_ns = self.stream.since(last_batch)
        least = point.measure.block_min_batches
        blocks = cut(done_ns, self._start_ns, self._block_ns, least, point.batch_size)
        skip = 1 if self._edges else 0
        self._edges += [last_batch + int(edge) for edge in blocks.edges[skip:]]
        self._edge_ns += [int(ns) - self._start_ns for ns in blocks.edge_ns[skip:]]
        edge_ns = np.array(self._edge_ns[first_edge:], np.int64)
        samples = gpu.samples
        return StreamSnapshot(
            self.stream.done,
            np.array(self._edges[first_edge:], np.int64),
            edge_ns,
            gpu_telemetry.temperatures_c(samples, edge_ns + self._start_ns),
            float(np.median(done_ns - submit_ns)) / 1e6 if len(done_ns) else None,
            samples[-1].power_w if samples else None,
            samples[-1].temp_c if samples else None,
        )


class Worker:
    """Owns one device and one engine for one trial of one point.

    `prepare`, `stream` and `close` are called in this order, possibly for several points in turn.
    `snapshot` and `halt` may be called from another thread while `stream` runs.

    Args:
        label: shown for the process, e.g. in Ray's dashboard.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._allowed_cpus = sorted(os.sched_getaffinity(0))
        self._host = host.HostTelemetry()
        self._loaded: _Loaded | None = None
        self._running: _RunningStream | None = None

    @override
    def __repr__(self) -> str:
        return self._label

    @property
    def _ready(self) -> _Loaded:
        if self._loaded is None:
            raise RuntimeError(f"{self._label} has no engine: call prepare() first.")
        return self._loaded

    def host(self) -> WorkerHost:
        """Return where this process runs."""
        return WorkerHost(platform.node(), os.getpid(), os.nice(0))

    def prepare(self, point: Point, rank: int, slot: int, seed: int, sharers: int = 1) -> Prepared:
        """Take the device, create the model, load the engine and run its first batches. Untimed.

        Args:
            point: to be measured.
            rank: of this worker among those of the point.
            slot: number of the worker's device among those of its kind on the node; picks the core.
            seed: of the synthetic batches.
            sharers: workers that share the memory of this node. A core's worker without a limit of
                its own gets its share, so that too large a batch ends the worker and not the node.

        Raises:
            PointError: when the engine cannot run the point on this device.
        """
        engine_class = registry.get(point.engine)
        load = self._load(point, engine_class, rank, slot, seed)
        device, model = load.device, load.model
        if device.kind == "cpu":
            share = int(MEMORY_SHARE * devices.memory_bytes() / sharers)
            devices.limit_memory(point.memory_limit_bytes or share)
        telemetry = gpu_telemetry.GpuTelemetry(device.uuid)
        engine = engine_class.load(load)
        self._running = None
        self._loaded = _Loaded(point, device, engine, load.batches, telemetry)
        first_ms = _time_batch(engine, 0) * 1e3
        compared = rank == 0 and engine_class.traits.reads_graph
        return Prepared(
            device=device,
            engine=engine.info,
            model=model,
            comparison=_compare(engine, load) if compared else OutputComparison(),
            batch_s=_probe_batch_s(engine),
            first_infer_ms=first_ms,
            harness_us=loop_cost_us(point.inflight, engine.info.device_clock),
            input_shape=model.input_shapes(point.batch_size),
            affinity=",".join(map(str, sorted(os.sched_getaffinity(0)))),
            variables=environment.variables(),
            software=_software(device),
        )

    def build(self, point: Point, slot: int, seed: int) -> tuple[str, ...]:
        """Build ahead what the point's workers need on this node: graph, fp32 outputs and plan.

        Args:
            point: to be measured.
            slot: number of the worker's device among those of its kind on the node.
            seed: of the synthetic batches.

        Returns:
            The files of the plan, as `BuildsAhead.prebuild` returns them; none for other engines.
        """
        engine_class = registry.get(point.engine)
        load = self._load(point, engine_class, 0, slot, seed)
        if engine_class.traits.reads_graph:
            prepare_reference(load.model, load.batches, load.cache_dir)
        return engine_class.prebuild(load) if issubclass(engine_class, BuildsAhead) else ()

    def _load(
        self, point: Point, engine_class: type[EngineBase], rank: int, slot: int, seed: int
    ) -> Load:
        """Take the device, refuse what it cannot run, and create the model and its inputs."""
        device = self._take_device(point.device, slot, point.accelerator)
        reason = engine_class.unavailable() or engine_class.unsupported(
            point.precision, device, point.transfers
        )
        if reason is not None:
            raise Unsupported(reason)
        model = _prepare_model(point, engine_class, device)
        settings = point.model_settings
        ranges = {**model.ranges, **settings.ranges}
        given = given_items(model.name, model.inputs, settings.values)
        return Load(
            model=model,
            batches=BatchPool(model.inputs, point.batch_size, seed + rank, ranges, given=given),
            device=device,
            inflight=point.inflight,
            transfers=point.transfers,
            options=engine_class.traits.settings(**dict(point.engine_options)),
            memory_limit_bytes=point.memory_limit_bytes,
            cache_dir=cache_dir(),
            rank=rank,
        )

    def _take_device(self, kind: str, slot: int, accelerator: str) -> Device:
        devices.pin(self._allowed_cpus)  # a reused process is still pinned to its last device
        if kind == "cpu":
            core = devices.cores()[slot]
            devices.pin([core])
            return devices.core(core)
        # the driver's order, which Ray counts in, and not CUDA's own, which puts the fastest first
        os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        device = devices.gpu(visible[0], accelerator)
        if device.cpus:
            devices.pin(list(device.cpus))
        return device

    def clock_ns(self) -> int:
        """Return this process's monotonic clock in ns."""
        return time.perf_counter_ns()

    def stream(self, start_ns: int, deadline_ns: int, block_ns: int) -> Measurement:
        """Stream batches from the common start until halted; the timed part.

        Telemetry is sampled in threads of its own, from before the start to after the end.

        Args:
            start_ns: common start by this process's clock.
            deadline_ns: latest end by this process's clock, if nobody halts the stream.
            block_ns: length of a block in snapshots.
        """
        loaded = self._ready
        self._running = running = _RunningStream(loaded, start_ns, block_ns)
        loaded.gpu.start()
        self._host.start()
        try:
            trace = running.stream.run(start_ns, deadline_ns)
        finally:
            gpu_samples, host_samples = loaded.gpu.end(), self._host.end()
        readings = Readings(
            loaded.device.kind, platform.node(), os.getpid(), gpu_samples, host_samples
        )
        return Measurement(trace, readings)

    def snapshot(self, first_edge: int) -> StreamSnapshot:
        """Return the block edges from number `first_edge` on; callable while `stream` runs."""
        if self._running is None:
            none = np.empty(0, np.int64)
            return StreamSnapshot(0, none, none, np.empty(0))
        return self._running.snapshot(first_edge)

    def halt(self) -> None:
        """End the stream after the batch that completes next."""
        if self._running is not None:
            self._running.stream.halt()

    def layers(self) -> tuple[Layer, ...]:
        """Time the layers of the built model in a separate run after the stream."""
        engine = self._ready.engine
        return engine.layers(LAYER_BATCHES) if isinstance(engine, ReportsLayers) else ()

    def close(self) -> None:
        """Free the engine."""
        if self._loaded is not None:
            self._loaded.engine.close()


def _prepare_model(point: Point, engine_class: type[EngineBase], device: Device) -> Model:
    traits = engine_class.traits
    int8 = traits.int8_dialect
    if int8 == "u8s8" and device.kind == "cpu" and devices.saturates_int8():
        int8 = "u8s7"
    dialect = {"int8": int8, "bf16": traits.bf16_dialect}.get(point.precision)
    if not traits.reads_graph:
        return Model.named(point.model, point.precision, dialect)
    return prepare(
        point.model,
        point.model_settings,
        point.precision,
        dialect,
        cache_dir(),
        rewrite_lrn=traits.rewrites_lrn,
    )


def _time_batch(engine: EngineBase, sequence: int) -> float:
    began = time.perf_counter()
    engine.submit(sequence)
    engine.collect(sequence)
    return time.perf_counter() - began


def _probe_batch_s(engine: EngineBase) -> float:
    """Return the median time of a batch, from batches 1, 2, ... over `PROBE_S`."""
    times = [_time_batch(engine, 1)]
    while sum(times) < PROBE_S and len(times) < 1000:
        times.append(_time_batch(engine, 1 + len(times)))
    return statistics.median(times)


def _compare(engine: EngineBase, load: Load) -> OutputComparison:
    """Compare the outputs of the batch that was just run with those of fp32."""
    try:
        outputs = engine.outputs()
    except Exception as error:  # noqa: BLE001 - an output that cannot be read costs no row
        return failed("because they could not be read", error)
    return compare(outputs, load.model, load.batches, load.cache_dir)


@lru_cache(maxsize=8)
def _software(device: Device) -> dict[str, str | None]:
    driver = nvml.environment(device.uuid).get("driver_version") if device.uuid else None
    return {**environment.software(), "driver_version": driver}
