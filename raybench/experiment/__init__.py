"""Experiments, the points that their axes expand to, and the hashes that identify them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from raybench.experiment.load import (
    CLOSED,
    MOST_ITEMS_PER_S,
    MOST_SHARE,
    TAKES,
    OfferedLoad,
    parse_load,
)
from raybench.text import canonical_hash

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "ANY", "AS_IS", "AXES", "CLOSED", "DECLARED", "ENVIRONMENT", "INT8_WEIGHTS", "JPEG", "LENGTHS", "METHOD_VERSION",
    "MOST_ITEMS_PER_S", "MOST_SHARE", "NO_PIPELINE", "PIPELINES", "PRECISIONS", "QUANTISED",
    "SYNTHETIC", "TAKES", "EngineChoice", "Experiment", "InputFiles", "MeasureSettings",
    "ModelSettings", "OfferedLoad", "Point", "parse_load",
]  # fmt: skip

METHOD_VERSION = 1
"""Incremented when an estimator or the meaning of a stored number changes."""
ENVIRONMENT = (
    "driver_version",
    "cuda_driver_version",
    "cuda_runtime_version",
    "tensorrt_version",
    "onnxruntime_version",
    "openvino_version",
    "cpu_model",
    "container_digest",
)
"""Facts that, beside the devices, must be equal for two measurements to be of one environment.

They are columns of the table `environment`, and their names are hashed into environment_id.
"""

DECLARED = "\x74old"
"""First word of the stored name of a GPU that the cluster declares and no driver confirms.

Rows hold it and environment ids are hashes over it, so the value never changes. What is printed says
"declared". Spelled with an escape, since the glossary bans the word itself from the sources.
"""
AXES = (
    "model", "precision", "batch_size", "workers", "engine", "inflight", "transfers", "accelerator",
    "load", "instances", "power_limit_w", "prompt", "context", "new_tokens",
    "pipeline", "cores",
)  # fmt: skip
ANY = "any"
_NEWER_MODEL_SETTINGS = ("values", "inputs")
"""Fields of `ModelSettings` that came after the first rows: while empty they are in no id."""
_OF_CLOSED_LOOP = ("row_every_s", "page_cache")
_NEWER_MEASURE_SETTINGS = {
    "max_wait_ms": 0.0, "balancer": "split", "slo_ms": 0.0, "slo_percentile": 99.0,
    "row_every_s": 0.0, "page_cache": "as_is",
}  # fmt: skip
"""Fields of `MeasureSettings` that came later, with the defaults with which they are in no id."""
LENGTHS = ("prompt", "context", "new_tokens")
"""Axes that are lengths in tokens, which decoders have."""
NO_PIPELINE, JPEG = "none", "jpeg"
PIPELINES = (NO_PIPELINE, JPEG)
_NEWER_FACTORS = {
    "load": CLOSED, "instances": 1, "power_limit_w": None, "build": 0, **dict.fromkeys(LENGTHS),
    "pipeline": NO_PIPELINE, "cores": None,
}  # fmt: skip
"""The same for factors."""
SYNTHETIC = "synthetic"
"""Where the inputs of a point come from when no files were given."""
QUANTISED = ("int8", "int8_fp16")
INT8_WEIGHTS = "int8_weights"
"""Precision of which the matrices alone are int8, and the arithmetic is fp32."""
PRECISIONS = ("fp32", "tf32", "fp16", "bf16", *QUANTISED, INT8_WEIGHTS, "fp8", "as_is")
AS_IS = "as_is"
"""Precision of a file that comes reduced: it runs unchanged and is compared with no fp32 graph."""


@dataclass(frozen=True)
class ModelSettings:
    """Settings of a model beyond its name.

    Attributes:
        shapes: sizes of dynamic dimensions, by symbol ("sequence") or by input ("ids": [N, 128]).
        ranges: lowest and highest value of an integer input, by input name.
        seed: seed of the random weights of a zoo model.
        values: value of an input, by input name: a number, or a nested list in the shape of an item.
        inputs: file or folder with real inputs: FILE.npz, or a folder of .npy files or images; empty
            for synthetic ones.
    """

    shapes: dict[str, Any] = field(default_factory=dict)
    ranges: dict[str, list[int]] = field(default_factory=dict)
    seed: int = 0
    values: dict[str, Any] = field(default_factory=dict)
    inputs: str = ""


@dataclass(frozen=True)
class InputFiles:
    """The real inputs of a point, as they were found.

    Attributes:
        name: of the file or folder, without its path.
        items: number of items.
        sha256: hash of their content.
        casts: types that are converted for the model, e.g. "ids: int64 to int32".
        unused: names of arrays that are no inputs of the model.
    """

    name: str
    items: int
    sha256: str
    casts: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    @override
    def __str__(self) -> str:
        items = "item" if self.items == 1 else "items"
        return f"file {self.name}; {self.items} {items}; sha256 {self.sha256[:12]}"


@dataclass(frozen=True)
class MeasureSettings:
    """How and how long a point is measured; presets fill it.

    Attributes:
        block_s: length of a block, the unit of analysis.
        block_min_batches: fewest batches in a block.
        warmup_min_s: shortest warm-up.
        warmup_min_batches: fewest batches of warm-up.
        warmup_max_s: longest warm-up.
        warmup_window_blocks: blocks in each of the two windows that must agree.
        warmup_advance_blocks: blocks between two comparisons of the windows.
        warmup_agree: largest relative difference of windows that agree.
        min_s: shortest measurement; the driver first checks the target then.
        max_s: longest measurement; a row that misses the target by then is unstable.
        look_s: time between two checks of the target.
        looks_in_a_row: consecutive checks that must find the target met.
        target: half-width of the 95 % confidence interval over the mean.
        n_eff_min: fewest independent blocks that the window must be worth.
        verdict_best: best verdict that this preset may give.
        max_wait_ms: open loop: longest time that an item waits for others to fill its batch.
        balancer: open loop: how items come to the workers. "split" gives each worker an equal share
            of the rate and a queue of its own; "shared" has one queue, on one node, of which a worker
            that is free takes the next items.
        slo_ms: open loop: bound on the latency of an item; 0 for none.
        slo_percentile: percentile of the latencies that is to keep the bound.
        row_every_s: soak, which lasts for `max_s` and keeps sums in place of the time of each batch:
            time between two rows of the table `soak`, kept whatever ends the run. 0 for no soak.
        page_cache: cold start: all workers load at one instant, with the files of model and plan out
            of the page cache ("cold") or in it ("warm"). "as_is" changes nothing.
    """

    block_s: float = 1.0
    block_min_batches: int = 4
    warmup_min_s: float = 5.0
    warmup_min_batches: int = 20
    warmup_max_s: float = 60.0
    warmup_window_blocks: int = 10
    warmup_advance_blocks: int = 5
    warmup_agree: float = 0.005
    min_s: float = 30.0
    max_s: float = 120.0
    look_s: float = 10.0
    looks_in_a_row: int = 2
    target: float = 0.005
    n_eff_min: float = 10.0
    verdict_best: str = "stable"
    max_wait_ms: float = 0.0
    balancer: str = "split"
    slo_ms: float = 0.0
    slo_percentile: float = 99.0
    row_every_s: float = 0.0
    page_cache: str = "as_is"


@dataclass(frozen=True)
class Point:
    """One cell of the grid, with everything that affects its measurement.

    A trial is one repeat of it in fresh workers. Field names are part of the id.

    Attributes:
        model_identity: zoo recipe and seed, or the hash of a file.
        device: "gpu" or "cpu".
        engine_options: (name, value) of every option of the engine, sorted by name.
        memory_limit_bytes: memory that the point may use on each device; None for all of it.
        largest: whether `batch_size` is to become the largest batch that fits.
        accelerator: type of GPU, by Ray's name; "any" accepts every type.
        inputs: the real inputs; None for synthetic ones.
        load: as on the axis; see `OfferedLoad`.
        instances: engines on each device, each with a worker of its own.
        power_limit_w: power limit that each device is set to; None leaves it as it is set.
        build: which of several separately built plans, from 0.
        prompt: tokens that a decoder reads at once; None for a model that reads no prompt.
        context: tokens in the cache beside which a decoder generates the next; None without a cache.
        new_tokens: tokens that it generates before its positions begin again; None without a cache.
        pipeline: what makes the inputs while they are streamed: "jpeg" decodes images; "none" has them.
        cores: that make them for each device; None without a pipeline.
    """

    model: str
    model_identity: str
    model_settings: ModelSettings
    precision: str
    batch_size: int
    workers: int
    engine: str
    engine_options: tuple[tuple[str, Any], ...]
    inflight: int
    transfers: bool
    device: str
    memory_limit_bytes: int | None
    measure: MeasureSettings
    preset: str
    largest: bool = False
    accelerator: str = ANY
    inputs: InputFiles | None = None
    load: str = CLOSED
    instances: int = 1
    power_limit_w: float | None = None
    build: int = 0
    prompt: int | None = None
    context: int | None = None
    new_tokens: int | None = None
    pipeline: str = NO_PIPELINE
    cores: int | None = None

    @property
    def sized_settings(self) -> ModelSettings:
        """Return the settings of the model with the lengths of a decoder among its shapes."""
        lengths = {axis: getattr(self, axis) for axis in LENGTHS}
        known = {axis: tokens for axis, tokens in lengths.items() if tokens is not None}
        if not known:
            return self.model_settings
        return replace(self.model_settings, shapes={**self.model_settings.shapes, **known})

    @property
    def tokens_per_item(self) -> int | None:
        """Return how many tokens of a decoder an item is; None for any other model."""
        return self.prompt if self.context is None else 1

    @property
    def engines(self) -> int:
        """Return how many engines run at the same time, on all devices."""
        return self.workers * self.instances

    @property
    def engine_memory_limit_bytes(self) -> int | None:
        """Return the memory that each engine may use: an equal share of its device's."""
        limit = self.memory_limit_bytes
        return None if limit is None else limit // self.instances

    @property
    def wants(self) -> str:
        """Kind of device it needs, as a key of device counts: "cpu", "gpu" or "gpu/H100"."""
        return self.device if self.accelerator == ANY else f"{self.device}/{self.accelerator}"

    @cached_property
    def is_share(self) -> bool:
        """Whether its load is a share of the rate of its point in closed loop."""
        load = parse_load(self.load)
        return load is not None and load.share is not None

    @cached_property
    def closed(self) -> Point:
        """The same point in closed loop, whose rate is the capacity."""
        return replace(self, load=CLOSED)

    @cached_property
    def id(self) -> str:
        """Hash of everything that affects the measurement, as 20 hex digits.

        It is the same across processes, key orders and Python versions. Names and paths do not
        count: `model_identity` stands for the model, and a hash for real inputs.
        """
        return self._hashed("max" if self.largest else self.batch_size)

    @cached_property
    def series(self) -> str:
        """Id of the series of the point: equal for points that differ in the batch size only."""
        return self._hashed(0)

    def _hashed(self, batch_size: int | str) -> str:
        """Return the id of this point with another batch size; "max" stands for the largest."""
        facts = {**self._facts, "batch_size": batch_size}
        return canonical_hash(facts, 20)

    def described(self) -> dict[str, Any]:
        """Return every field by name, without those that are newer and not used."""
        # asdict copies every value of every level, which took 4 s for 10,000 points
        facts = {each.name: getattr(self, each.name) for each in fields(self)}
        for name in ("model_settings", "measure", "inputs"):
            if facts[name] is not None:
                facts[name] = dict(vars(facts[name]))
        for name in _NEWER_MODEL_SETTINGS:
            if not facts["model_settings"][name]:
                del facts["model_settings"][name]
        if self.inputs is None:
            del facts["inputs"]
        for factor, usual in _NEWER_FACTORS.items():
            if facts[factor] == usual:
                del facts[factor]
        for name, value in _NEWER_MEASURE_SETTINGS.items():
            unused = self.load == CLOSED and name not in _OF_CLOSED_LOOP
            if unused or facts["measure"][name] == value:
                del facts["measure"][name]
        return facts

    @cached_property
    def _facts(self) -> dict[str, Any]:
        facts = self.described()
        if self.inputs is not None:
            facts["inputs"] = self.inputs.sha256
        facts["model_settings"].pop("inputs", None)
        for name in ("model", "preset", "largest"):
            del facts[name]
        facts["engine_options"] = dict(self.engine_options)
        facts["method_version"] = METHOD_VERSION
        if facts["accelerator"] == ANY:
            del facts["accelerator"]
        return facts


@dataclass(frozen=True)
class EngineChoice:
    """An engine on the axis, resolved to a name, a kind of device and options."""

    name: str
    device: str
    options: tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Experiment:
    """A named question: its axes, and how each point is measured.

    Attributes:
        name: name of its file.
        question: first line of the file.
        grids: values of every axis; the experiment is the union of the grids' products.
            `workers` may hold "auto".
        exclude: values of axes; a point that matches all axes of one entry is left out.
        engines: what each name on the engine axis was resolved to.
        preset: name of the group that filled `measure`.
        trials: repeats of each point in fresh workers.
        seed: seed of the order of points and of the synthetic data.
        order: "interleaved" shuffles every round of trials, "grid" keeps the order of the file.
        memory_limit_bytes: memory that a point may use on each device; None for all of it.
        solo: whether points of one worker are measured on every device, once a trial.
        pairs: whether points of two workers are measured on every pair of devices, once a trial.
        find_rate: whether to search the highest rate under the latency bound for each point.
        demand_items_per_s: rate for which the number of devices is wanted; None for none.
        tags: labels that the user gave the run; they are in no id.
        builds: separately built plans of each point whose engine builds another one each time.
    """

    name: str
    question: str
    grids: tuple[Mapping[str, tuple[Any, ...]], ...]
    exclude: tuple[Mapping[str, tuple[Any, ...]], ...]
    engines: Mapping[str, EngineChoice]
    model: ModelSettings
    measure: MeasureSettings
    preset: str
    trials: int
    seed: int
    order: str
    memory_limit_bytes: int | None
    solo: bool = False
    pairs: bool = False
    find_rate: bool = False
    demand_items_per_s: float | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    builds: int = 1
