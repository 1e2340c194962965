"""The schema of everything that can be set, and the request that comes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from raybench.experiment import MeasureSettings, ModelSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from raybench.experiment import Experiment


AS_WRITTEN = "as written"
Unread = Annotated[Any, AS_WRITTEN]
"""A value whose type is known later: that of an axis, or of an option of an engine."""


@dataclass(frozen=True)
class ClusterSettings:
    """Where Ray runs and how points share its devices.

    Attributes:
        address: "local" starts Ray on this machine; "auto" or "host:port" joins a running cluster;
            None follows RAY_ADDRESS and starts Ray where that is not set.
        gpus: number of GPUs to declare when Ray is started here; None asks the driver.
        cpus: number of CPU cores to offer as devices when Ray is started here; None offers all.
        dashboard: whether to serve Ray's dashboard when Ray is started here.
        start_timeout_s: longest wait for the devices of a point.
        prepare_timeout_s: longest preparation of a point: graph, engine, first inference.
        stall_timeout_s: a worker that completes no batch for this long counts as hung.
        isolation: which points may run at the same time: "cluster" runs one at a time, "node" never
            runs two on one node, "gpu" runs as many as there are devices for.
        placement: "pack" puts the workers of a point on as few nodes as possible, "spread" on as
            many as possible.
        select: labels that a node must have to be used, e.g. {pool: bench}.
        uniform: what to do when nodes differ in the versions of libraries or drivers: "warn"
            reports the differences and flags the rows, "require" refuses to measure.
        retries: how often a failed point is tried again in fresh workers.
        processes: "fresh" starts workers for every point; "kept" reuses them on CPU cores for the
            next point of the same round and engine. Trials of a point never share a worker.
        builds_per_gpu: most engine plans that are built at once on a GPU, before anything is measured,
            each by a process and at least one core of its own.
    """

    address: str | None = None
    gpus: int | None = None
    cpus: int | None = None
    dashboard: bool = True
    start_timeout_s: float = 60.0
    prepare_timeout_s: float = 1800.0
    stall_timeout_s: float = 30.0
    isolation: Literal["cluster", "node", "gpu"] = "node"
    placement: Literal["pack", "spread"] = "pack"
    select: dict[str, str] = field(default_factory=dict)
    uniform: Literal["warn", "require"] = "warn"
    retries: int = 1
    processes: Literal["fresh", "kept"] = "fresh"
    builds_per_gpu: int = 4


@dataclass(frozen=True)
class DeviceSettings:
    """Which devices are measured, and the sizes that suit them.

    Attributes:
        kind: kind of device; "auto" follows the engine.
        batch_size: batch that experiments use unless they say otherwise.
        batch_ladder: batches of an experiment over batch sizes.
        large_item_batch_size: batch of large items, such as images of 640 x 640 or 30 s of speech.
        inflight: batches in flight in throughput mode.
        precisions: what an experiment over precisions compares.
        float_precision: floating-point type that networks usually run in.
        transfers: whether they are on where an experiment asks for the device without its link; a core
            has none.
        decoder: that suits the device's memory; its parts are NAME_prefill and NAME_step.
        copy_engine: that comes nearest to what memory can where `copy` measures it beside other models.
        memory_limit: treat devices as no larger than this, in bytes or as "24GiB"; None for all.
    """

    kind: Literal["auto", "cpu", "gpu"] = "auto"
    batch_size: int = 1
    batch_ladder: list[int] = field(default_factory=lambda: [1])
    inflight: int = 1
    precisions: list[str] = field(default_factory=lambda: ["fp32", "int8"])
    float_precision: str = "fp32"
    transfers: bool = True
    memory_limit: Any = None
    large_item_batch_size: int = 1
    decoder: str = "decoder_125m"
    copy_engine: str = "auto"


@dataclass(frozen=True)
class ResultsSettings:
    """Where rows are stored, and which optional tables are stored with them.

    Attributes:
        dir: folder, or address of a bucket such as s3://bucket/prefix.
        samples: "all" also stores the latency of every batch.
        layers: whether to also store the time of every layer.
    """

    dir: str = "results"
    samples: Literal["none", "all"] = "none"
    layers: bool = False


@dataclass(frozen=True)
class GridSettings:
    """One grid as written: a value or a list of values for each axis; None where not given."""

    model: Unread = None
    precision: Unread = None
    batch_size: Unread = None
    workers: Unread = None
    engine: Unread = None
    inflight: Unread = None
    transfers: Unread = None
    accelerator: Unread = None
    load: Unread = None
    instances: Unread = None
    power_limit_w: Unread = None
    prompt: Unread = None
    context: Unread = None
    new_tokens: Unread = None
    pipeline: Unread = None
    cores: Unread = None


@dataclass(frozen=True)
class ScalingSettings:
    """What speedup is compared with.

    Attributes:
        baseline: "one" measures one worker on any device; "solo" measures one worker on every
            device in turn, once a trial, for speedup over the same devices each alone; "pairs" also
            measures two workers on every pair of devices, for what each costs the other.
    """

    baseline: Literal["one", "solo", "pairs"] = "one"


@dataclass(frozen=True)
class Settings:
    """The schema of everything that can be set; an unknown key is refused.

    Attributes:
        grid: axes of the experiment.
        grids: further grids, each on top of `grid`; the experiment is their union.
        exclude: combinations that are left out.
        trials: repeats of each point in fresh workers.
        builds: separately built plans of each point, each measured `trials` times, for engines that choose
            kernels by timing them and so build another plan each time (tensorrt).
        seed: seed of the order of points and of the synthetic data.
        order: "interleaved" shuffles every round of trials, "grid" keeps the order of the file.
        rerun: which stored rows to measure again.
        preset: name of the group that fills `measure`.
        measure: how long and how precisely each point is measured.
        model: shapes, ranges and seed of models.
        engine: options of the engines.
        device: kind of device and the sizes that suit it.
        cluster: where Ray runs.
        results: where rows are stored.
        scaling: what speedup is compared with.
        slo_ms: open loop: bound on the latency of an item, from its arrival to its result.
        percentile: of the latencies that is to keep the bound, from 50 to 99.9.
        find_rate: whether to search, for each point in closed loop, the highest rate of arrivals at
            which it keeps the bound.
        demand: items/s for which the number of devices is wanted.
        rack_power_w: power of a rack, for which a ladder of power limits says what its devices serve.
        tags: labels that every row of the run holds, e.g. {rack: b7}; a label may have a value for
            each host, e.g. {rack: {n01: b7, n02: b8}}.
    """

    grid: GridSettings = field(default_factory=GridSettings)
    grids: list[GridSettings] = field(default_factory=list)
    exclude: list[GridSettings] = field(default_factory=list)
    trials: int = 1
    builds: int = 1
    seed: int = 0
    order: Literal["interleaved", "grid"] = "interleaved"
    rerun: Literal["none", "failed", "unstable", "all"] = "none"
    preset: str = "standard"
    measure: MeasureSettings = field(default_factory=MeasureSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    engine: dict[str, Unread] = field(default_factory=dict)
    device: DeviceSettings = field(default_factory=DeviceSettings)
    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    results: ResultsSettings = field(default_factory=ResultsSettings)
    scaling: ScalingSettings = field(default_factory=ScalingSettings)
    slo_ms: float | None = None
    percentile: float = 99.0
    find_rate: bool = False
    demand: float | None = None
    rack_power_w: float | None = None
    tags: dict[str, Unread] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """Everything a run needs to know: the experiment and the devices it is to run on.

    Attributes:
        experiment: with every engine resolved.
        cluster: where Ray runs and how points share its devices.
        results: where rows are stored.
        devices: number of devices of each kind, and of each type of GPU as "gpu/H100".
        rerun: which stored rows to measure again.
        rack_power_w: power of a rack, of which is said what it serves; None for none.
    """

    experiment: Experiment
    cluster: ClusterSettings
    results: ResultsSettings
    devices: Mapping[str, int]
    rerun: str
    rack_power_w: float | None = None
