"""Experiments, the points that their axes expand to, and the hashes that identify them."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from raybench.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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
)  # fmt: skip
ANY = "any"
MOST_TRIALS = 50_000
"""Most trials of a run: several days of the shortest ones."""
_NEWER_MODEL_SETTINGS = ("values", "inputs")
"""Fields of `ModelSettings` that came after the first rows: while empty they are in no id."""
SYNTHETIC = "synthetic"
"""Where the inputs of a point come from when no files were given."""
QUANTISED = ("int8", "int8_fp16")
PRECISIONS = ("fp32", "tf32", "fp16", "bf16", *QUANTISED, "fp8", "as_is")
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

    @property
    def wants(self) -> str:
        """Kind of device it needs, as a key of device counts: "cpu", "gpu" or "gpu/H100"."""
        return self.device if self.accelerator == ANY else f"{self.device}/{self.accelerator}"

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
        facts = asdict(self)
        for name in _NEWER_MODEL_SETTINGS:
            if not facts["model_settings"][name]:
                del facts["model_settings"][name]
        if self.inputs is None:
            del facts["inputs"]
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


def worker_counts(devices: int) -> tuple[int, ...]:
    """Return the meaning of `workers: auto` on this many devices: 1, 2, 4 ... and all."""
    powers = [2**i for i in range(devices.bit_length()) if 2**i <= devices]
    return tuple(dict.fromkeys([*powers, devices])) if devices else ()


def expand(
    experiment: Experiment, devices: Mapping[str, int], identities: Mapping[str, str]
) -> tuple[Point, ...]:
    """Return all points of the experiment without repeats, in the order of its file.

    Args:
        experiment: with every engine resolved.
        devices: number of devices of each kind, for `workers: auto`.
        identities: `model_identity` of each model on the axis.

    Raises:
        ConfigError: when nothing is left after `exclude`, a value is repeated in an axis, or there are
            more trials than a run can hold.
    """
    points: dict[str, Point] = {}
    _refuse_many(experiment)
    for grid in experiment.grids:
        _refuse_repeats(grid)
        for cell in _cells(experiment, grid, devices):
            if not any(_matches(cell, rule) for rule in experiment.exclude):
                point = _point(experiment, cell, identities)
                points.setdefault(point.id, point)
    if not points:
        raise ConfigError(
            f"Experiment {experiment.name!r} has no points: its axes are empty or exclude drops "
            "every combination. Give each axis a value or loosen exclude."
        )
    return tuple(points.values())


def _refuse_many(experiment: Experiment) -> None:
    """Refuse grids that nobody could measure, before they fill the memory."""
    cells = sum(math.prod(len(values) for values in grid.values()) for grid in experiment.grids)
    if cells * experiment.trials > MOST_TRIALS:
        raise ConfigError(
            f"Experiment {experiment.name!r} has {cells:,} combinations in {experiment.trials:,} trials, "
            f"and a run takes {MOST_TRIALS:,} at most. Shorten an axis, or split the experiment."
        )


def _refuse_repeats(grid: Mapping[str, tuple[Any, ...]]) -> None:
    for axis, values in grid.items():
        seen: set[Any] = set()
        for value in values:
            if value in seen:
                raise ConfigError(
                    f"grid.{axis} holds {value!r} twice, and a point is measured once. "
                    "Name it once; use trials=N to repeat points."
                )
            seen.add(value)


def _cells(
    experiment: Experiment, grid: Mapping[str, tuple[Any, ...]], devices: Mapping[str, int]
) -> list[dict[str, Any]]:
    """Return the values of all axes for each cell of a grid."""
    cells: list[dict[str, Any]] = []
    others = [axis for axis in AXES if axis not in ("workers", "accelerator")]
    for values in itertools.product(*(grid[axis] for axis in others)):
        cell = dict(zip(others, values, strict=True))
        kind = experiment.engines[cell["engine"]].device
        for accelerator in _accelerators(kind, grid["accelerator"], devices):
            count = devices.get(kind if accelerator == ANY else f"{kind}/{accelerator}", 0)
            cells += [
                {**cell, "workers": workers, "device": kind, "accelerator": accelerator}
                for entry in grid["workers"]
                for workers in ((worker_counts(count) or (1,)) if entry == "auto" else (entry,))
            ]
    return cells


def _accelerators(
    kind: str, written: tuple[str, ...], devices: Mapping[str, int]
) -> tuple[str, ...]:
    """Return the GPU types an axis stands for; `auto` is every type if there are several."""
    if kind != "gpu":
        return (ANY,)
    types = sorted(key.partition("/")[2] for key in devices if key.startswith(f"{kind}/"))
    every = types if len(types) > 1 else [ANY]
    names = (name for entry in written for name in (every if entry == "auto" else [entry]))
    return tuple(dict.fromkeys(names))


def _matches(cell: Mapping[str, Any], rule: Mapping[str, tuple[Any, ...]]) -> bool:
    return all(cell[axis] in values for axis, values in rule.items())


def _point(experiment: Experiment, cell: Mapping[str, Any], identities: Mapping[str, str]) -> Point:
    choice = experiment.engines[cell["engine"]]
    largest = cell["batch_size"] == "max"
    return Point(
        model=cell["model"],
        model_identity=identities[cell["model"]],
        model_settings=experiment.model,
        precision=cell["precision"],
        batch_size=1 if largest else cell["batch_size"],
        workers=cell["workers"],
        engine=choice.name,
        engine_options=choice.options,
        inflight=cell["inflight"],
        transfers=cell["transfers"],
        device=choice.device,
        memory_limit_bytes=experiment.memory_limit_bytes,
        measure=experiment.measure,
        preset=experiment.preset,
        largest=largest,
        accelerator=cell["accelerator"] if choice.device == "gpu" else ANY,
    )


# Ids of points, environments, models and plans are hashes over these bytes: a change here would
# measure every point anew and miss every cache.


def canonical_json(value: Any, default: Callable[[Any], Any] | None = None) -> str:
    """Return JSON with sorted keys, no spaces and ASCII only.

    Args:
        value: what to write.
        default: converts what JSON cannot hold; by default that is a TypeError.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=default)


def canonical_hash(value: Any, digits: int, default: Callable[[Any], Any] | None = None) -> str:
    """Return the first hex digits of the SHA-256 over the canonical JSON of a value."""
    return hashlib.sha256(canonical_json(value, default).encode()).hexdigest()[:digits]
