"""Worker: the process that owns one device and one engine. It does not know Ray."""

from __future__ import annotations

import os
import platform
import statistics
import time
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from typing_extensions import override

from raybench.engines import registry
from raybench.engines.base import BuildsAhead, EngineBase, EngineInfo, Layer, Load, ReportsLayers
from raybench.errors import Unsupported
from raybench.machine import devices, environment, gpu_telemetry, host, nvml
from raybench.measure.blocks import cut
from raybench.measure.stream import Stream, Trace, own_cost_us
from raybench.measure.telemetry_columns import Readings
from raybench.models.batches import BatchPool
from raybench.models.cache import cache_dir
from raybench.models.fidelity import Fidelity, fidelity
from raybench.models.model import Model
from raybench.models.prepare import prepare
from raybench.models.reference import reference_outputs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from raybench.experiment import Point
    from raybench.machine.devices import Device

FIDELITY_ITEMS = 8
"""Items of the first batch that are compared with fp32: a thousand numbers each."""

LAYER_BATCHES = 20
"""Batches behind each layer's median time."""

MEMORY_SHARE = 0.9
"""Part of a node's memory that all workers together may map."""

PROBE_S = 0.03
"""How long a loaded engine is tried out to learn the time of a batch, which only sets how long
blocks must be: it matters where a batch takes that long, and then one tells."""


@dataclass(frozen=True)
class Place:
    """Where a worker found itself.

    Attributes:
        nice: the process's niceness; above 0 it yields to others.
    """

    hostname: str
    pid: int
    nice: int


@dataclass(frozen=True)
class Prepared:
    """What preparing a worker taught.

    Attributes:
        software: versions of libraries and driver on this node, by column of `environment`.
        batch_s: median time of a batch in a short try; seconds.
        first_infer_ms: time of the very first batch.
        fidelity: of the first outputs to fp32; None where not computed.
        harness_us: time of the measuring loop itself, one batch.
        affinity: CPUs that the process is pinned to.
        variables: of the process's environment that bear on the measurement.
    """

    device: Device
    engine: EngineInfo
    model: Model
    batch_s: float
    first_infer_ms: float
    fidelity: Fidelity | None
    harness_us: float
    input_shape: str
    affinity: str
    variables: dict[str, str]
    software: dict[str, str | None]


@dataclass(frozen=True)
class Look:
    """What a worker has done so far, in whole blocks.

    Attributes:
        done: batches completed.
        edge_ns: int64, shape (k + 1,): stamps of the edges since the start, by this worker.
        edges: int64, shape (k + 1,): index of the batch at each edge.
        temp_c: float64, shape (k + 1,): of the GPU at each edge; NaN where unknown and for a core,
            whose sensors jump by more than it warms up.
        latency_ms: median of the batches since the look before; None without one.
        power_w: of the GPU, last reading; None where unknown.
        now_c: of the GPU, last reading; None where unknown.
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
    """What one worker brings back from a stream: its records, and the readings beside them."""

    trace: Trace
    readings: Readings


@dataclass
class _Cut:
    """Blocks cut so far, so that a look costs only what is new."""

    edges: list[int] = field(default_factory=list)
    edge_ns: list[int] = field(default_factory=list)


class Worker:
    """Owns one device and one engine for one trial of one point."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._allowed = sorted(os.sched_getaffinity(0))
        self._point: Point | None = None
        self._engine: Any = None
        self._batches: BatchPool | None = None
        self._stream: Stream | None = None
        self._device: Device | None = None
        self._gpu = gpu_telemetry.GpuTelemetry(None)
        self._host = host.HostTelemetry()
        self._cut = _Cut()
        self._start_ns = 0
        self._block_ns = 0

    @override
    def __repr__(self) -> str:
        return self._label

    def place(self) -> Place:
        """Where this process runs and what it was given."""
        return Place(platform.node(), os.getpid(), os.nice(0))

    def prepare(self, point: Point, rank: int, slot: int, seed: int, sharers: int = 1) -> Prepared:
        """Take the device, make the model, load the engine, run its first batches. Untimed.

        Args:
            point: what will be measured.
            rank: of this worker among those of the point.
            slot: number of the worker's device among those of its kind on the node; picks the core.
            seed: of the synthetic batches.
            sharers: workers that share the memory of this node; a core's worker without a limit of
                its own gets its part, so that a batch too large ends the worker and not the node.
        """
        self._point = point
        engine_class = registry.get(point.engine)
        load = self._load(point, engine_class, rank, slot, seed)
        device, model = load.device, load.model
        self._device, self._batches = device, load.batches
        self._gpu = gpu_telemetry.GpuTelemetry(device.uuid)
        if device.kind == "cpu":
            share = int(MEMORY_SHARE * devices.memory_bytes() / sharers)
            devices.limit_memory(point.memory_limit_bytes or share)
        self._engine = engine_class.load(load)
        first_ms = self._one_batch(0) * 1e3
        compared = self._compare(model) if rank == 0 and engine_class.traits.reads_graph else None
        return Prepared(
            device=device,
            engine=self._engine.info,
            model=model,
            batch_s=self._batch_s(),
            first_infer_ms=first_ms,
            fidelity=compared,
            harness_us=own_cost_us(point.inflight, self._engine.info.device_clock),
            input_shape=_shapes(model, point.batch_size),
            affinity=",".join(map(str, sorted(os.sched_getaffinity(0)))),
            variables=environment.variables(),
            software=_software(device),
        )

    def build(self, point: Point, slot: int, seed: int) -> tuple[str, ...]:
        """Make what the point's workers will find on this node: graph, fp32 outputs, plan.

        Args:
            point: that will be measured.
            slot: number of the worker's device among those of its kind on the node.
            seed: of the synthetic batches.

        Returns:
            The files of the plan, as `BuildsAhead.prebuild` returns them; none for other engines.
        """
        engine_class = registry.get(point.engine)
        load = self._load(point, engine_class, 0, slot, seed)
        if engine_class.traits.reads_graph:
            self._reference(load.model, load.batches)
        return engine_class.prebuild(load) if issubclass(engine_class, BuildsAhead) else ()

    def _load(
        self, point: Point, engine_class: type[EngineBase], rank: int, slot: int, seed: int
    ) -> Load:
        """Take the device, refuse what cannot be had on it, make the model and its inputs."""
        device = self._take_device(point.device, slot, point.accelerator)
        reason = engine_class.unavailable() or engine_class.unsupported(
            point.precision, device, point.transfers
        )
        if reason is not None:
            raise Unsupported(reason)
        model = self._model(point, engine_class)
        ranges = {**model.ranges, **point.model_settings.ranges}
        return Load(
            model=model,
            batches=BatchPool(model.inputs, point.batch_size, seed + rank, ranges),
            device=device,
            inflight=point.inflight,
            transfers=point.transfers,
            options=engine_class.traits.settings(**dict(point.engine_options)),
            memory_limit_bytes=point.memory_limit_bytes,
            cache_dir=cache_dir(),
            rank=rank,
        )

    def _take_device(self, kind: str, slot: int, told: str) -> Device:
        devices.pin(self._allowed)  # a process that was kept is pinned to its last device
        if kind == "cpu":
            mine = devices.cores()[slot]
            devices.pin([mine])
            return devices.core(mine)
        # the driver's order, which Ray counts in, and not CUDA's own, which puts the fastest first
        os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
        device = devices.gpu(os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0], told)
        if device.cpus:
            devices.pin(list(device.cpus))
        return device

    def _model(self, point: Point, engine_class: type[EngineBase]) -> Model:
        traits = engine_class.traits
        dialect = {"int8": traits.int8_dialect, "bf16": traits.bf16_dialect}.get(point.precision)
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

    def _one_batch(self, sequence: int) -> float:
        began = time.perf_counter()
        self._engine.submit(sequence)
        self._engine.collect(sequence)
        return time.perf_counter() - began

    def _batch_s(self) -> float:
        times = [self._one_batch(1)]
        while sum(times) < PROBE_S and len(times) < 1000:
            times.append(self._one_batch(1 + len(times)))
        return statistics.median(times)

    def _compare(self, model: Model) -> Fidelity | None:
        assert self._batches is not None
        outputs = self._engine.outputs()
        if not outputs:
            return None
        reference = self._reference(model, self._batches)
        items = min(FIDELITY_ITEMS, self._batches.batch_size)
        found = {name: outputs[name][:items] for name in reference}
        return fidelity(reference, found, model.softmax_outputs)

    def _reference(self, model: Model, batches: BatchPool) -> dict[str, NDArray[Any]]:
        items = min(FIDELITY_ITEMS, batches.batch_size)
        return reference_outputs(model, batches, items, cache_dir())

    def clock_ns(self) -> int:
        """This process's monotonic clock."""
        return time.perf_counter_ns()

    def stream(self, start_ns: int, deadline_ns: int, block_ns: int) -> Measurement:
        """Stream batches from the common start until halted; the timed part.

        Telemetry samples beside it in threads of its own, from before the start to after the end.

        Args:
            start_ns: common start by this process's clock.
            deadline_ns: backstop by this process's clock.
            block_ns: length of a block, for looks.
        """
        assert self._point is not None
        assert self._device is not None
        self._start_ns, self._block_ns, self._cut = start_ns, block_ns, _Cut()
        self._stream = Stream(self._engine, self._point.batch_size, self._point.inflight)
        self._gpu.start()
        self._host.start()
        try:
            trace = self._stream.run(start_ns, deadline_ns)
        finally:
            gpu, beside = self._gpu.end(), self._host.end()
        return Measurement(
            trace, Readings(self._device.kind, platform.node(), os.getpid(), gpu, beside)
        )

    def look(self, known: int) -> Look:
        """The blocks from edge number `known` on; called beside the stream."""
        stream, point = self._stream, self._point
        if stream is None or point is None:
            return Look(0, np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
        first = self._cut.edges[-1] if self._cut.edges else 0
        submit_ns, done_ns = stream.since(first)
        fresh = cut(
            done_ns,
            self._start_ns,
            self._block_ns,
            point.measure.block_min_batches,
            point.batch_size,
        )
        skip = 1 if self._cut.edges else 0
        self._cut.edges += [first + int(edge) for edge in fresh.edges[skip:]]
        self._cut.edge_ns += [int(ns) - self._start_ns for ns in fresh.edge_ns[skip:]]
        edge_ns = np.array(self._cut.edge_ns[known:], np.int64)
        last = self._gpu.samples[-1] if self._gpu.samples else None
        return Look(
            stream.done,
            np.array(self._cut.edges[known:], np.int64),
            edge_ns,
            gpu_telemetry.temperatures_c(self._gpu.samples, edge_ns + self._start_ns),
            float(np.median(done_ns - submit_ns)) / 1e6 if len(done_ns) else None,
            last.power_w if last else None,
            last.temp_c if last else None,
        )

    def halt(self) -> None:
        """End the stream after the batch that completes next."""
        if self._stream is not None:
            self._stream.halt()

    def layers(self) -> tuple[Layer, ...]:
        """The layers of the built model, timed in a run of their own after the stream."""
        if isinstance(self._engine, ReportsLayers):
            return self._engine.layers(LAYER_BATCHES)
        return ()

    def close(self) -> None:
        """Free the engine."""
        if self._engine is not None:
            self._engine.close()


@lru_cache(maxsize=8)
def _software(device: Device) -> dict[str, str | None]:
    driver = nvml.environment(device.uuid).get("driver_version") if device.uuid else None
    return {**environment.software(), "driver_version": driver}


def _shapes(model: Model, batch_size: int) -> str:
    """Shapes of all inputs, e.g. "data:8x3x227x227"."""
    return ";".join(
        f"{spec.name}:{'x'.join(map(str, spec.with_batch(batch_size)))}" for spec in model.inputs
    )
