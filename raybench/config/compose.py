"""Request: what the command line and the YAML files ask for, read once and checked.

Layers, later wins: conf/config.yaml, conf/device/<kind>.yaml, conf/cluster/<name>.yaml,
conf/preset/<name>.yaml, the experiment file, the command line. A key that is an axis's name and
holds a name, number or list sets that axis (`engine: openvino`); one that holds a mapping sets
options (`engine: {threads: 1}`).
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from raybench.engines import registry
from raybench.errors import ConfigError, nearest
from raybench.experiment import (
    AXES,
    EngineChoice,
    Experiment,
    MeasureSettings,
    ModelSettings,
    parse_axis,
)
from raybench.paths import HOUSE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Unavailable = Callable[[str, str], str | None]


@dataclass(frozen=True)
class ClusterSettings:
    """Where Ray runs.

    Attributes:
        address: "local" starts Ray on this machine; "auto" or "host:port" attaches to a cluster;
            None does what RAY_ADDRESS says, else starts Ray.
        gpus: GPUs that the embedded cluster is told to have; None asks the driver.
        cpus: CPU cores offered as devices by the embedded cluster; None offers all.
        dashboard: whether the embedded cluster runs Ray's dashboard.
        start_timeout_s: longest wait for the devices of a point.
        prepare_timeout_s: longest preparation of a point: graph, engine, first inference.
        stall_timeout_s: a worker that completes no batch for so long counts as hung.
        isolation: which points may run at the same time: "cluster" one at a time, "node" never
            two on one node, "gpu" as many as there are devices for.
        placement: "pack" puts the workers of a point on as few nodes as can be, "spread" on as
            many.
        select: labels that a node must have to be used, e.g. {pool: bench}.
        uniform: what to do when nodes differ in the versions of libraries or drivers: "warn" says
            so and flags the rows, "require" refuses to measure.
        retries: how often a point that failed is tried again, in fresh workers.
        processes: "fresh" starts workers for every point; "kept" lets them stay for the next
            point of the same round and engine. Trials of a point never share one.
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


@dataclass(frozen=True)
class DeviceSettings:
    """Which devices are measured, and the sizes that suit them."""

    kind: Literal["auto", "cpu", "gpu"] = "auto"
    batch_size: int = 1
    batch_ladder: list[int] = field(default_factory=lambda: [1])
    inflight: int = 1
    memory_limit: Any = None


@dataclass(frozen=True)
class ResultsSettings:
    """Where rows go, and whether raw batch latencies and layer times go with them."""

    dir: str = "results"
    samples: Literal["none", "all"] = "none"
    layers: bool = False


@dataclass(frozen=True)
class AxesSpec:
    """One grid as written: a value or a list for each axis."""

    model: Any = None
    precision: Any = None
    batch_size: Any = None
    workers: Any = None
    engine: Any = None
    inflight: Any = None
    transfers: Any = None
    accelerator: Any = None


@dataclass(frozen=True)
class ScalingSettings:
    """What speedup is held against.

    Attributes:
        baseline: "one" is one worker on whatever device; "solo" measures one worker on every device
            in turn, once a trial, for speedup over the same devices each alone.
    """

    baseline: Literal["one", "solo"] = "one"


@dataclass(frozen=True)
class Settings:
    """The schema of everything that can be set; an unknown key is refused."""

    grid: AxesSpec = field(default_factory=AxesSpec)
    grids: list[AxesSpec] = field(default_factory=list)
    exclude: list[AxesSpec] = field(default_factory=list)
    trials: int = 1
    seed: int = 0
    order: Literal["interleaved", "grid"] = "interleaved"
    rerun: Literal["none", "failed", "unstable", "all"] = "none"
    preset: str = "standard"
    measure: MeasureSettings = field(default_factory=MeasureSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    engine: dict[str, Any] = field(default_factory=dict)
    device: DeviceSettings = field(default_factory=DeviceSettings)
    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    results: ResultsSettings = field(default_factory=ResultsSettings)
    scaling: ScalingSettings = field(default_factory=ScalingSettings)


@dataclass(frozen=True)
class Request:
    """What the user asked for, complete."""

    experiment: Experiment
    cluster: ClusterSettings
    results: ResultsSettings
    devices: Mapping[str, int]
    rerun: str


@dataclass(frozen=True)
class _Layer:
    """One source of settings: its axes apart from the rest, and its name for messages."""

    source: str
    axes: dict[str, Any]
    rest: dict[str, Any]


# ---------------------------------------------------------------- reading


def experiment_files() -> dict[str, Path]:
    """Every experiment by name; a folder experiments/ in the working directory comes first."""
    files = {path.stem: path for path in sorted((HOUSE / "experiments").glob("*.yaml"))}
    files.update({path.stem: path for path in sorted(Path("experiments").glob("*.yaml"))})
    return files


def presets() -> dict[str, Path]:
    """Every preset by name."""
    return {path.stem: path for path in sorted((HOUSE / "conf" / "preset").glob("*.yaml"))}


def question(path: Path) -> str:
    """The question that an experiment file's first line asks."""
    with path.open(encoding="utf-8") as file:
        return file.readline().lstrip("# ").strip()


def _experiment_path(name: str) -> Path:
    if "/" in name or name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise ConfigError(
                f"Experiment file {name!r} does not exist. Give a path to a YAML file."
            )
        return path
    known = experiment_files()
    if name not in known:
        raise ConfigError(f"Unknown experiment {name!r}. {nearest(name, known)}")
    return known[name]


def _group(group: str, name: str) -> Path:
    folder = HOUSE / "conf" / group
    known = {path.stem: path for path in folder.glob("*.yaml")}
    if name not in known:
        raise ConfigError(f"Unknown {group} {name!r}. {nearest(name, known)}")
    return known[name]


def _read(path: Path) -> _Layer:
    try:
        node = OmegaConf.load(path)
    except (yaml.YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        words = " ".join(str(error).split())
        raise ConfigError(f"{path} is not readable YAML: {words}. Correct the file.") from error
    content = OmegaConf.to_container(node, resolve=False)
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds a {type(content).__name__}, not keys and values.")
    return _layer(str(path), {str(key): value for key, value in content.items()})


def _layer(source: str, content: dict[str, Any]) -> _Layer:
    """Part the axes from the rest; turn `device: cpu` into `device: {kind: cpu}`."""
    axes = dict(content.pop("grid", None) or {})
    for axis in AXES:
        if axis in content and not isinstance(content[axis], dict):
            axes[axis] = content.pop(axis)
    if isinstance(content.get("device"), str):
        content["device"] = {"kind": content["device"]}
    return _Layer(source, axes, content)


def _read_command_line(words: list[str]) -> tuple[_Layer, str]:
    """The overrides as a layer, and the experiment's name."""
    content: dict[str, Any] = {"grid": {}}
    dotted: list[str] = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise ConfigError(f"{word!r} is not key=value. Write for example trials=3.")
        key = key[5:] if key.startswith("grid.") and key[5:] in AXES else key
        if key in AXES:
            content["grid"][key] = _value(word, value)
        elif key in ("device", "cluster", "preset", "experiment"):
            content[key] = value
        else:
            dotted.append(f"{key}={value}")
    name = content.pop("experiment", None)
    if name is None:
        raise ConfigError(
            "No experiment was named. Add experiment=NAME. " + nearest("", experiment_files())
        )
    layer = _layer("the command line", content)
    for word in dotted:
        layer.rest.update(_merged_word(layer.rest, word))
    return layer, str(name)


def _value(word: str, value: str) -> Any:
    try:
        return OmegaConf.to_container(OmegaConf.from_dotlist([f"value={value}"]))["value"]  # type: ignore[index, call-overload]
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{word!r} cannot be read: {' '.join(str(error).split())}.") from error


def _merged_word(rest: dict[str, Any], word: str) -> dict[str, Any]:
    try:
        merged = OmegaConf.merge(OmegaConf.create(rest), OmegaConf.from_dotlist([word]))
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{word!r} cannot be read: {' '.join(str(error).split())}.") from error
    return dict(OmegaConf.to_container(merged, resolve=False))  # type: ignore[arg-type]


# ---------------------------------------------------------------- composing


def compose(
    words: list[str],
    devices: Callable[[ClusterSettings], Mapping[str, int]],
    unavailable: Unavailable = registry.unavailable_here,
) -> Request:
    """The request that the words of the command line make with the files they name.

    Args:
        words: key=value; one of them is experiment=NAME or a path to a YAML file.
        devices: told where Ray runs, gives the number of devices of each kind there. Called
            after everything else has been checked.
        unavailable: told an engine and a kind of device, why it cannot run on those, or None;
            decides what `engine: auto` means. Called after `devices`.

    Raises:
        ConfigError: for anything unknown, mistyped or contradictory, naming key and way out.
    """
    command, name = _read_command_line(words)
    path = _experiment_path(name)
    file = _read(path)
    draft = _settings(command, file, "cpu")
    engines = _engine_axis(draft, command.axes)
    for engine in engines:
        if engine != "auto":
            registry.get(engine)
    asked = command.rest.get("device", {}).get("kind") or file.rest.get("device", {}).get("kind")
    found = devices(draft.cluster)
    choose = partial(_choose, devices=found, unavailable=unavailable)
    kind = choose(engines[0], asked or "auto")[1]
    settings = draft if kind == "cpu" else _settings(command, file, kind)
    experiment = _experiment(path, settings, choose, command.axes)
    return Request(experiment, settings.cluster, settings.results, found, settings.rerun)


def _settings(command: _Layer, file: _Layer, kind: str) -> Settings:
    """All layers merged for devices of one kind; interpolations resolved."""
    # the group's own `kind: cpu` is the default for this kind, not a wish
    device = _read(_group("device", kind))
    layers = [_read(HOUSE / "conf" / "config.yaml"), device]
    cluster = next((x.rest["cluster"] for x in (command, file) if _named(x, "cluster")), None)
    if cluster is not None:
        layers.append(_read(_group("cluster", cluster)))
    chosen = [x.rest["preset"] for x in (command, file, device) if "preset" in x.rest]
    layers += [_read(_group("preset", str(chosen[0]))), file, command]
    base = OmegaConf.structured(Settings)
    axes: dict[str, Any] = {}
    for layer in layers:
        rest = {k: v for k, v in layer.rest.items() if not (k == "cluster" and isinstance(v, str))}
        base = _merge(base, rest, layer.source)
        for axis in layer.axes:
            if axis not in AXES:
                raise ConfigError(
                    f"Unknown key 'grid.{axis}' in {layer.source}. {nearest(axis, AXES)}"
                )
        axes |= layer.axes  # whole values: a word does not merge with the list that it replaces
    base = _merge(base, {"grid": axes, "preset": str(chosen[0])}, "the command line")
    try:
        return OmegaConf.to_object(base)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise ConfigError(f"{path_of(error)}: {_first_line(error)}. Correct the value.") from error


def _named(layer: _Layer, group: str) -> bool:
    return isinstance(layer.rest.get(group), str)


def _merge(base: Any, content: dict[str, Any], source: str) -> Any:
    try:
        return OmegaConf.merge(base, OmegaConf.create(content))
    except ConfigKeyError as error:
        key = path_of(error)
        parent, _, name = key.rpartition(".")
        offer = nearest(name, _keys_at(parent))
        raise ConfigError(f"Unknown key {key!r} in {source}. {offer}") from error
    except OmegaConfBaseException as error:
        raise ConfigError(
            f"{path_of(error)} in {source}: {_first_line(error)}. Correct the value."
        ) from error


def path_of(error: OmegaConfBaseException) -> str:
    """The full key that an OmegaConf error is about."""
    return str(getattr(error, "full_key", None) or getattr(error, "key", None) or "configuration")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".")


def _keys_at(parent: str) -> list[str]:
    """The keys that the schema knows below a dotted path."""
    node: Any = Settings()
    for name in re.sub(r"\[\d+\]", "", parent).split(".") if parent else []:
        node = AxesSpec() if name in ("grids", "exclude") else getattr(node, name, None)
    if is_dataclass(node):
        return [entry.name for entry in fields(node)]
    return []


# ---------------------------------------------------------------- from settings to experiment


def _written(spec: AxesSpec) -> dict[str, Any]:
    return {axis: value for axis, value in asdict(spec).items() if value is not None}


def _grids(settings: Settings, forced: Mapping[str, Any]) -> list[dict[str, Any]]:
    base = _written(settings.grid)  # holds what is forced too, with its interpolations resolved
    kept = {axis: base[axis] for axis in forced}
    grids = [{**base, **_written(spec), **kept} for spec in settings.grids or [AxesSpec()]]
    for grid in grids:
        missing = [axis for axis in AXES if axis not in grid]
        if missing:
            raise ConfigError(
                f"The grid has no {missing[0]}. Add {missing[0]}=... or grid.{missing[0]} to the file."
            )
    return grids


def _engine_axis(settings: Settings, forced: Mapping[str, Any]) -> list[str]:
    written = (parse_axis("engine", grid["engine"]) for grid in _grids(settings, forced))
    return list(dict.fromkeys(name for names in written for name in names))


def _choose(
    name: str, kind: str, devices: Mapping[str, int], unavailable: Unavailable
) -> tuple[str, str]:
    """Settle an engine's name and the kind of device it runs on."""
    if name == "auto":
        return registry.best(kind, devices, unavailable)
    engine = registry.get(name)
    if kind == "auto":
        held = [k for k in engine.device_kinds if devices.get(k, 0)]
        return name, (held or list(engine.device_kinds))[0]
    if kind not in engine.device_kinds:
        raise ConfigError(
            f"Engine {name!r} does not run on device={kind}. "
            f"Use device={engine.device_kinds[0]} or another engine."
        )
    return name, kind


def _experiment(
    path: Path,
    settings: Settings,
    choose: Callable[[str, str], tuple[str, str]],
    forced: Mapping[str, Any],
) -> Experiment:
    grids = tuple(
        {axis: parse_axis(axis, grid[axis]) for axis in AXES} for grid in _grids(settings, forced)
    )
    names = list(dict.fromkeys(name for grid in grids for name in grid["engine"]))
    chosen = {name: choose(name, settings.device.kind) for name in names}
    options = _engine_options(settings.engine, [name for name, _ in chosen.values()])
    return Experiment(
        name=path.stem,
        question=question(path),
        grids=grids,
        exclude=tuple(
            {axis: parse_axis(axis, value) for axis, value in _written(rule).items()}
            for rule in settings.exclude
        ),
        engines={
            written: EngineChoice(name, kind, options[name])
            for written, (name, kind) in chosen.items()
        },
        model=settings.model,
        measure=_checked(settings.measure),
        preset=settings.preset,
        trials=_positive("trials", settings.trials),
        seed=settings.seed,
        order=settings.order,
        solo=settings.scaling.baseline == "solo",
        memory_limit_bytes=parse_bytes("device.memory_limit", settings.device.memory_limit),
    )


def _positive(key: str, value: int) -> int:
    if value < 1:
        raise ConfigError(f"{key} takes a whole number from 1, not {value}. Correct the value.")
    return value


def _checked(measure: MeasureSettings) -> MeasureSettings:
    """Refuse times that cannot be, so that no point starts with them."""
    for name in ("block_s", "min_s", "max_s", "look_s"):
        if getattr(measure, name) <= 0:
            raise ConfigError(f"measure.{name} must be above 0, not {getattr(measure, name)}.")
    if measure.max_s < measure.min_s:
        raise ConfigError(
            f"measure.max_s={measure.max_s} is below measure.min_s={measure.min_s}. Raise max_s."
        )
    if measure.warmup_max_s < measure.warmup_min_s:
        raise ConfigError(
            f"measure.warmup_max_s={measure.warmup_max_s} is below "
            f"measure.warmup_min_s={measure.warmup_min_s}. Raise warmup_max_s."
        )
    return measure


def _engine_options(
    written: Mapping[str, Any], engines: list[str]
) -> dict[str, tuple[tuple[str, Any], ...]]:
    """Typed options of every engine in the grid; a key that none of them knows is refused."""
    known = {name: {f.name for f in fields(registry.get(name).Settings)} for name in engines}
    everything = set().union(*known.values()) if known else set()
    for key in written:
        if key not in everything:
            raise ConfigError(
                f"Unknown key 'engine.{key}' for {', '.join(engines)}. {nearest(key, everything)}"
            )
    options = {}
    for name in engines:
        schema = OmegaConf.structured({"engine": registry.get(name).Settings})
        mine = {key: value for key, value in written.items() if key in known[name]}
        merged = _merge(schema, {"engine": mine}, f"the options of {name}")
        typed: Any = OmegaConf.to_container(merged.engine)
        options[name] = tuple(sorted(typed.items()))
    return options


_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def parse_bytes(key: str, value: Any) -> int | None:
    """Bytes from a number or from text such as "24GiB"; None stays None.

    Raises:
        ConfigError: naming the key when it is neither.
    """
    if value is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmg]i?)?b?\s*", str(value).lower())
    if isinstance(value, bool) or match is None or float(match[1]) <= 0:
        raise ConfigError(f"{key} takes a size such as 24GiB, not {value!r}. Correct the value.")
    return int(float(match[1]) * _UNITS[match[2] or ""])
