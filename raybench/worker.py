"""The worker: a process that owns one device and one engine. It does not depend on Ray."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from typing_extensions import override

from raybench.engines import plugins, registry
from raybench.engines.base import (
    FIRST,
    BuildsAhead,
    EngineBase,
    Layer,
    Load,
    ReportsLayers,
)
from raybench.engines.graphs import graph_for
from raybench.experiment import CLOSED, NO_PIPELINE
from raybench.machine import devices, environment, gpu_telemetry, host, mps, power_limit
from raybench.machine.crash_log import CrashLog, crashed_before
from raybench.measure.feeding import (
    NOT_FED,
    Fed,
    buffers_bytes,
    fed_by,
    inputs_of,
    running_fed_stream,
)
from raybench.measure.load_barrier import HasLoadBarrier
from raybench.measure.output_bits import (
    NO_BITS,
    bits_at_start,
    compare_with_fp32,
    reference_step,
    sha256_at_end,
)
from raybench.measure.prepared import Measurement, Prepared, WorkerHost
from raybench.measure.probe import probe_batch_s, time_batch
from raybench.measure.running_open_stream import harness_us, padding_notes, running_stream
from raybench.measure.running_stream import StreamSnapshot
from raybench.measure.sensors import Sensors
from raybench.models.cache import cache_dir
from raybench.models.comparison import OutputComparison, prepare_reference
from raybench.models.items.batches import BatchPool
from raybench.models.items.input_files import given_inputs, input_notes, refuse_others
from raybench.models.items.ragged import ragged_notes

if TYPE_CHECKING:
    from raybench.engines.base import Place
    from raybench.experiment import Point
    from raybench.machine.devices import Device
    from raybench.machine.power_limit import PowerLimit
    from raybench.measure.arrivals import WorkerArrivals
    from raybench.measure.running_open_stream import RunningOpenStream
    from raybench.measure.running_soak import RunningSoak
    from raybench.measure.running_stream import RunningStream

MAKING, LOADING, FIRST_BATCHES, STREAMING, TIMING = (
    "making the graph of",
    "loading the graph of",
    "running the first batches of",
    "streaming batches of",
    "timing the layers of",
)
"""What a worker notes that it begins with a graph, so that a library that crashes in it is named."""

LAYER_BATCHES = 20  # behind each layer's median time


@dataclass(frozen=True)
class _Loaded:
    """A worker's state between `prepare` and `close`."""

    point: Point
    device: Device
    engine: EngineBase
    batches: BatchPool
    gpu: gpu_telemetry.GpuTelemetry
    power: PowerLimit
    fed: Fed = NOT_FED


class Worker(HasLoadBarrier):
    """Owns one device and one engine for one trial of one point.

    `prepare`, `stream` and `close` are called in this order, possibly for several points in turn.
    `doing` may be called from another thread at any time, `snapshot` and `halt` while `stream` runs.

    Args:
        label: shown for the process, e.g. in Ray's dashboard.
        log: where it notes what it begins, to name the step in which a library ended it, if anywhere.
        place: of its device among all of the run.
    """

    def __init__(self, label: str, log: CrashLog | None = None, place: Place = FIRST) -> None:
        super().__init__()
        self._label, self._place = label, place
        self._log = self._steps = log or CrashLog()
        self._engine_step = ("", "")
        self._allowed_cpus = sorted(os.sched_getaffinity(0))
        self._host = host.HostTelemetry()
        self._loaded: _Loaded | None = None
        self._outputs = NO_BITS
        self._running: RunningStream | RunningOpenStream | RunningSoak | None = None

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
        self._steps = log = self._log if engine_class.traits.reads_graph else CrashLog()
        device = self._take_device(point, slot, rank)
        registry.refuse(point, device)
        asked_w = None if registry.limits_power(point.engine) else point.power_limit_w
        power = power_limit.limit(asked_w, device, rank % point.instances == 0)
        load = self._load(point, engine_class, device, seed, rank)
        model = load.model
        if device.kind == "cpu":
            devices.limit_memory(point.engine_memory_limit_bytes or devices.memory_share(sharers))
        telemetry = gpu_telemetry.GpuTelemetry(device.uuid)
        log.note(f"{LOADING} {point.model!r}")
        begun = self.barrier.wait(point.measure.page_cache, load)
        engine = plugins.load(engine_class, load)
        self._running = None
        self._loaded = _Loaded(point, device, engine, load.batches, telemetry, power)
        fed = fed_by(point, load, engine, seed, sharers, self._allowed_cpus)
        self._loaded = replace(self._loaded, fed=fed)
        log.note(f"{FIRST_BATCHES} {point.model!r}")
        first_ms = time_batch(engine, 0) * 1e3
        ready_s = (time.perf_counter_ns() - begun.at_ns) / 1e9
        compared = rank == 0 and engine_class.traits.reads_graph
        comparison = compare_with_fp32(engine, load, log) if compared else OutputComparison()
        log.note(f"{FIRST_BATCHES} {point.model!r}")
        self._outputs = bits_at_start(engine)
        prepared = Prepared(
            device=device,
            engine=registry.report(point.engine, engine),
            model=model,
            comparison=comparison,
            outputs=self._outputs,
            batch_s=max(probe_batch_s(engine), fed.batch_s),
            first_infer_ms=first_ms,
            ready_s=ready_s,
            begun=begun,
            harness_us=harness_us(point, engine.info.device_clock),
            input_shape=model.input_shapes(point.batch_size),
            input_notes=(*_notes_on_inputs(point, load, engine, device), *fed.notes),
            affinity=",".join(map(str, sorted(os.sched_getaffinity(0)))),
            variables=environment.variables(),
            software=environment.software_with_driver(device.uuid),
            mps=mps.is_on() if device.kind == "gpu" else None,
            power_limit_w=engine.info.power_limit_w or power.watts,
        )
        log.note("")
        return prepared

    def build(self, point: Point, slot: int | None, seed: int) -> tuple[str, ...]:
        """Build ahead what the point's workers need on this node: graph, fp32 outputs and plan.

        Args:
            point: to be measured.
            slot: number of the worker's device among those of its kind on the node; None for an
                engine that builds for devices that are not here.
            seed: of the synthetic batches.

        Returns:
            The files of the plan, as `BuildsAhead.prebuild` returns them; none for other engines.
        """
        engine_class, self._steps = registry.get(point.engine), self._log
        if slot is None:
            device = devices.elsewhere(point.device)
        else:
            device = self._take_device(point, slot)
            registry.refuse(point, device)
        load = self._load(point, engine_class, device, seed)
        if engine_class.traits.reads_graph and not crashed_before(reference_step(load.model)):
            self._log.note(reference_step(load.model))
            prepare_reference(load.model, load.batches, load.cache_dir)
        self._log.note(f"{LOADING} {point.model!r}")
        built = engine_class.prebuild(load) if issubclass(engine_class, BuildsAhead) else ()
        self._log.note("")
        return built

    def _load(
        self, point: Point, engine_class: type[EngineBase], device: Device, seed: int, rank: int = 0
    ) -> Load:
        """Create the model and its inputs for a device."""
        settings = point.sized_settings
        refuse_others(settings.inputs, point.inputs)
        self._log.note(f"{MAKING} {point.model!r}" if engine_class.traits.reads_graph else "")
        model = graph_for(point, engine_class, device)
        self._log.note("")
        ranges = {**model.ranges, **settings.ranges}
        specs = inputs_of(point, model)
        given = given_inputs(point.model, settings, specs)
        seeds = (seed, seed + rank)
        least_bytes = buffers_bytes(point, specs)
        pool = BatchPool(specs, point.batch_size, seeds, ranges, least_bytes, given=given)
        return Load(
            model=model,
            batches=pool,
            device=device,
            inflight=point.inflight,
            transfers=point.transfers,
            options=engine_class.traits.settings(**dict(point.engine_options)),
            memory_limit_bytes=point.engine_memory_limit_bytes,
            cache_dir=cache_dir(),
            rank=rank,
            instances=point.instances,
            power_limit_w=point.power_limit_w,
            part_batches=point.load != CLOSED and point.batch_size > 1,
            place=self._place,
            build=point.build,
            on_step=lambda *step: setattr(self, "_engine_step", step),
        )

    def _take_device(self, point: Point, slot: int, rank: int | None = None) -> Device:
        """Take a device, or for a measuring worker its part of one."""
        device = devices.take(point.device, slot, point.accelerator, self._allowed_cpus)
        if rank is None:
            return device
        return devices.pin_instance(device, rank % point.instances, point.instances)

    def doing(self) -> tuple[str, str]:
        """Return what `prepare` or `build` does now, and how far; callable while they run."""
        return self._engine_step if self._engine_step[0] else (self._steps.doing, "")

    def clock_ns(self) -> int:
        """Return this process's monotonic clock in ns."""
        return time.perf_counter_ns()

    def stream(
        self, start_ns: int, deadline_ns: int, block_ns: int, arrivals: WorkerArrivals | None = None
    ) -> Measurement:
        """Stream batches from the common start until halted; the timed part.

        Telemetry is sampled in threads of its own, from before the start to after the end.

        Args:
            start_ns: common start by this process's clock.
            deadline_ns: latest end by this process's clock, if nobody halts the stream.
            block_ns: length of a block in snapshots.
            arrivals: at this worker in open loop; None keeps the engine busy.
        """
        loaded = self._ready
        self._host.more_cpus = loaded.fed.cpus
        sensors = Sensors(loaded.device.kind, loaded.gpu, self._host)
        how = (loaded.point, loaded.engine, sensors, start_ns, block_ns)
        feeder = loaded.fed.feeder
        self._running = running = (
            running_stream(*how, arrivals) if feeder is None else running_fed_stream(*how, feeder)
        )
        self._log.note(f"{STREAMING} {loaded.point.model!r}")
        sensors.start(loaded.point.measure.row_every_s > 0)
        try:
            with plugins.blamed_on(loaded.point.engine, "submit or collect"):
                trace = running.stream.run(start_ns, deadline_ns)
        finally:
            readings = sensors.end()
        outputs_sha256 = sha256_at_end(loaded.engine, self._outputs)
        self._log.note("")
        loaded.power.check()
        return Measurement(trace, readings, outputs_sha256)

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
        if not isinstance(engine, ReportsLayers):
            return ()
        self._log.note(f"{TIMING} {self._ready.point.model!r}")
        layers = engine.layers(LAYER_BATCHES)
        self._log.note("")
        return layers

    def close(self) -> tuple[str, ...]:
        """Free the engine and the power limit; return what went wrong, a sentence each."""
        if self._loaded is None:
            return ()
        try:
            self._loaded.engine.close()
        finally:
            wrong = self._loaded.power.release()
        return wrong


def _notes_on_inputs(
    point: Point, load: Load, engine: EngineBase, device: Device
) -> tuple[str, ...]:
    """Return what is to be said of the batches, and of the numbers in them."""
    model = load.model
    return (
        *model.batch_notes(point.batch_size),
        *(input_notes(point.inputs, load.batches) if point.pipeline == NO_PIPELINE else ()),
        *ragged_notes(point.model, load.batches),
        *padding_notes(point, engine),
        *devices.saturation_notes(model.reduced_ops, model.dialect, device.kind),
    )
