"""Turns `key=value` words and the files they name into a request, in two steps.

`read` checks everything that needs no devices; `Draft.resolve` adds what depends on them: sizes,
engines, kinds of device.
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any

from raybench.config.axes import MOST, parse_axis
from raybench.config.bounds import rack_power, with_bound
from raybench.config.files import experiment_path
from raybench.config.layers import merge_layers, merge_options, read_file, read_overrides
from raybench.config.pipelines import check_pipelines
from raybench.config.places import engines_with
from raybench.config.settings import GridSettings, Request
from raybench.config.soaks import checked_soak
from raybench.config.tags import flat_tags
from raybench.config.words import shown
from raybench.engines import registry
from raybench.errors import ConfigError, nearest
from raybench.experiment import AXES, EngineChoice, Experiment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from raybench.config.layers import Given, SettingsLayer
    from raybench.config.settings import ClusterSettings, Settings
    from raybench.experiment import MeasureSettings

    Unavailable = Callable[[str, str], str | None]

BALANCERS = ("split", "shared")
PAGE_CACHES = ("as_is", "cold", "warm")
MOST_BUILDS = 100
_VERDICTS = ("stable", "unstable", "unverified")
_LONGEST_S = 1e8
"""Three years: what is longer is a slip, and no clock or table has to hold it."""


def read(overrides: Sequence[Given]) -> Draft:
    """Read `key=value` words and the experiment file they name; the file is read once.

    Args:
        overrides: words, or keys with their values. One of them is experiment=NAME or
            experiment=FILE.yaml, or model=FILE.onnx for one point of that model.

    Raises:
        ConfigError: for anything unknown, mistyped or contradictory, naming key and remedy.
    """
    command, name = read_overrides(overrides)
    path = experiment_path(name)
    file = read_file(path)
    draft = Draft(path, command, file, merge_layers(command, file, "cpu"))
    _check_cluster(draft.cluster)
    for engine in draft.engines:
        if engine != "auto":
            registry.get(engine)
    return draft


@dataclass(frozen=True)
class Draft:
    """An experiment as written, before it is known which devices it will run on.

    Attributes:
        path: the experiment file.
        command: settings of the command line.
        file: settings of the experiment file.
        settings: all layers merged for CPU cores.
    """

    path: Path
    command: SettingsLayer
    file: SettingsLayer
    settings: Settings

    @property
    def cluster(self) -> ClusterSettings:
        """Where Ray runs; the same on every kind of device."""
        return self.settings.cluster

    @property
    def engines(self) -> list[str]:
        """Names on the engine axis, `auto` among them, without repeats."""
        grids = _grids(self.settings, self.command.axes)
        names = (name for grid in grids for name in parse_axis("engine", grid["engine"]))
        return list(dict.fromkeys(names))

    def resolve(
        self, devices: Mapping[str, int], unavailable: Unavailable = registry.unavailable_here
    ) -> Request:
        """Return the complete request for these devices.

        Args:
            devices: number of devices of each kind, and of each type of GPU as "gpu/H100".
            unavailable: takes an engine and a kind of device and returns why the engine cannot run
                on those devices, or None; decides what `engine: auto` means.

        Raises:
            ConfigError: for a value that these devices or engines do not take.
            EngineUnavailable: when `engine: auto` finds no engine.
        """
        command, file = self.command, self.file
        requested = [layer.rest.get("device", {}).get("kind") for layer in (command, file)]
        choose = partial(_choose_engine, devices=devices, unavailable=unavailable)
        kind = choose(self.engines[0], requested[0] or requested[1] or "auto")[1]
        settings = self.settings if kind == "cpu" else merge_layers(command, file, kind)
        experiment = _experiment(self, settings, choose)
        rack_power_w = rack_power(settings.rack_power_w, experiment.grids)
        cluster, results = settings.cluster, settings.results
        return Request(experiment, cluster, results, devices, settings.rerun, rack_power_w)


def _given_axes(grid: GridSettings) -> dict[str, Any]:
    return {axis: value for axis, value in asdict(grid).items() if value is not None}


def _grids(settings: Settings, forced: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return every grid with all its axes; those in `forced` override each grid's own."""
    base = _given_axes(settings.grid)  # holds `forced` too, with its interpolations resolved
    for axis in forced:
        if axis not in base:
            raise ConfigError(f"grid.{axis} is empty. Give it at least one value.")
    overrides = {axis: base[axis] for axis in forced}
    own = settings.grids or [GridSettings()]
    grids = [{**base, **_given_axes(grid), **overrides} for grid in own]
    for grid in grids:
        missing = [axis for axis in AXES if axis not in grid]
        if missing:
            raise ConfigError(
                f"The grid has no {missing[0]}. Add {missing[0]}=... or grid.{missing[0]} to the file."
            )
    return grids


def _choose_engine(
    name: str, kind: str, devices: Mapping[str, int], unavailable: Unavailable
) -> tuple[str, str]:
    """Return the engine that a name stands for and the kind of device it runs on."""
    if name == "auto":
        return registry.best(kind, devices, unavailable)
    engine = registry.get(name)
    if kind == "auto":
        present = [k for k in engine.traits.device_kinds if devices.get(k, 0)]
        return name, (present or list(engine.traits.device_kinds))[0]
    if kind not in engine.traits.device_kinds:
        raise ConfigError(
            f"Engine {name!r} does not run on device={kind}. "
            f"Use device={engine.traits.device_kinds[0]} or another engine."
        )
    return name, kind


def _experiment(
    draft: Draft, settings: Settings, choose: Callable[[str, str], tuple[str, str]]
) -> Experiment:
    grids = tuple(
        {axis: parse_axis(axis, grid[axis]) for axis in AXES}
        for grid in _grids(settings, draft.command.axes)
    )
    check_pipelines(settings, grids)
    names = list(dict.fromkeys(name for grid in grids for name in grid["engine"]))
    chosen = {name: choose(name, settings.device.kind) for name in names}
    options = _engine_options(settings.engine, [name for name, _ in chosen.values()])
    return Experiment(
        name=draft.path.stem,
        question=draft.file.question,
        grids=grids,
        exclude=tuple(
            {axis: parse_axis(axis, value) for axis, value in _given_axes(rule).items()}
            for rule in settings.exclude
        ),
        engines={
            written: EngineChoice(name, kind, options[name])
            for written, (name, kind) in chosen.items()
        },
        model=settings.model,
        measure=checked_soak(
            settings, with_bound(settings, _checked(settings.measure), grids), grids
        ),
        preset=settings.preset,
        trials=_whole("trials", settings.trials, 1, 2**15 - 1),
        builds=_whole("builds", settings.builds, 1, MOST_BUILDS),
        seed=_whole("seed", settings.seed, 0, 2**62),
        order=settings.order,
        solo=settings.scaling.baseline in ("solo", "pairs"),
        pairs=settings.scaling.baseline == "pairs",
        find_rate=settings.find_rate,
        demand_items_per_s=settings.demand,
        tags=flat_tags(settings.tags),
        memory_limit_bytes=parse_bytes("device.memory_limit", settings.device.memory_limit),
    )


def _whole(key: str, value: int, least: int, most: int) -> int:
    """Return a number within what its use and its column hold, the ends included."""
    if not least <= value <= most:
        raise ConfigError(
            f"{key} takes a whole number from {least} to {most}, not {value}. Correct the value."
        )
    return value


def _check_cluster(cluster: ClusterSettings) -> None:
    """Refuse impossible counts and times before Ray is asked for anything."""
    for name, least in (("gpus", 0), ("cpus", 1), ("retries", 0), ("builds_per_gpu", 1)):
        value = getattr(cluster, name)
        if value is not None and not least <= value <= MOST["workers"]:
            raise ConfigError(
                f"cluster.{name} takes a whole number from {least} to {MOST['workers']}, not {value}. "
                "Correct the value."
            )
    for name in ("start_timeout_s", "prepare_timeout_s", "stall_timeout_s"):
        _seconds(f"cluster.{name}", getattr(cluster, name))


def _seconds(key: str, value: float) -> None:
    if not 0 < value <= _LONGEST_S:  # nan neither
        raise ConfigError(
            f"{key} must be above 0 and at most {_LONGEST_S:,.0f}, not {value}. Correct the value."
        )


def _checked(measure: MeasureSettings) -> MeasureSettings:
    """Refuse impossible times before any point starts with them."""
    for name, value in asdict(measure).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"measure.{name} must be a finite number, not {value}.")
        if isinstance(value, (int, float)) and not 0 <= value <= _LONGEST_S:
            raise ConfigError(
                f"measure.{name} must be from 0 to {_LONGEST_S:,.0f}, not {value}. Correct the value."
            )
    for name in ("block_s", "min_s", "max_s", "look_s", "target"):
        if getattr(measure, name) <= 0:
            raise ConfigError(f"measure.{name} must be above 0, not {getattr(measure, name)}.")
    for name in ("warmup_window_blocks", "warmup_advance_blocks", "looks_in_a_row"):
        _whole(f"measure.{name}", getattr(measure, name), 1, 2**31 - 1)
    for low, high in (("min_s", "max_s"), ("warmup_min_s", "warmup_max_s")):
        least, most = getattr(measure, low), getattr(measure, high)
        if most < least:
            raise ConfigError(
                f"measure.{high}={most} is below measure.{low}={least}. Raise {high}."
            )
    _check_names(measure)
    return measure


def _check_names(measure: MeasureSettings) -> None:
    for name, known in (
        ("verdict_best", _VERDICTS),
        ("balancer", BALANCERS),
        ("page_cache", PAGE_CACHES),
    ):
        if getattr(measure, name) not in known:
            written = getattr(measure, name)
            raise ConfigError(f"Unknown measure.{name} {written!r}. {nearest(written, known)}")


def _engine_options(
    given: Mapping[str, Any], engines: list[str]
) -> dict[str, tuple[tuple[str, Any], ...]]:
    """Return the typed options of every engine; refuse a key that none of them has."""
    keys = {name: {f.name for f in fields(registry.get(name).traits.settings)} for name in engines}
    all_keys = set().union(*keys.values()) if keys else set()
    for key in given:
        if key not in all_keys:
            owners = engines_with(key)
            others = f"It is an option of {' and '.join(owners)}. " if owners else ""
            raise ConfigError(
                f"Unknown key {f'engine.{key}'!r} for {', '.join(engines)}. {others}{nearest(key, all_keys)}"
            )
    options = {}
    for name in engines:
        own = {key: value for key, value in given.items() if key in keys[name]}
        schema = registry.get(name).traits.settings
        typed = merge_options(schema, own, f"the options of {name}")
        usual = {f.name: f.default for f in fields(schema) if f.metadata.get("newer")}
        options[name] = tuple(sorted(item for item in typed.items() if item not in usual.items()))
    return options


_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def parse_bytes(key: str, value: Any) -> int | None:
    """Convert a number or a text such as "24GiB" to bytes; None stays None.

    Raises:
        ConfigError: naming the key when the value is neither.
    """
    if value is None:
        return None
    match = re.fullmatch(r"\s*([0-9]{1,18}(?:\.[0-9]+)?)\s*([kmg]i?)?b?\s*", str(value).lower())
    size = 0 if match is None else int(float(match[1]) * _UNITS[match[2] or ""])
    if isinstance(value, bool) or not 0 < size < 2**63:  # as its column holds it
        raise ConfigError(
            f"{key} takes a size such as 24GiB, not {shown(value)}. Correct the value."
        )
    return size
