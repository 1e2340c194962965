"""Layers of settings: YAML files and the command line, merged into the schema.

Later layers win: conf/config.yaml, conf/device/<kind>.yaml, conf/cluster/<name>.yaml,
conf/preset/<name>.yaml, the experiment file, the command line.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from raybench.config.files import OF_ONE_MODEL, experiment_files, group_path
from raybench.config.settings import GridSettings, Settings
from raybench.errors import ConfigError, nearest
from raybench.experiment import AXES
from raybench.paths import DATA

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


_ONLY_AXES = set(AXES) - {entry.name for entry in fields(Settings)}
"""Axes that share their name with no section of the settings."""
_NAMES = ("device", "cluster", "preset", "experiment", "rerun", "order")
"""Keys whose value on the command line is text, so that YAML does not read `yes` as true."""
_PATHS = ("results.dir", "model.inputs")
"""Keys below a section whose value is text: to YAML a path would end at ` #`."""


_OF_GRAPHS = ("model.shapes.", "model.ranges.", "model.values.")
"""What follows these is one key: names in graphs hold dots."""


@dataclass(frozen=True)
class SettingsLayer:
    """One source of settings.

    Attributes:
        source: its name in messages.
        axes: values of the axes, as written.
        rest: all other keys.
    """

    source: str
    axes: dict[str, Any]
    rest: dict[str, Any]

    def named_group(self, group: str) -> str | None:
        """Return the entry of a group that this layer names, as in `preset: quick`."""
        name = self.rest.get(group)
        return name if isinstance(name, str) else None


def read_file(path: Path) -> SettingsLayer:
    """Return the settings of a YAML file.

    Raises:
        ConfigError: when the file is not YAML, or holds something else than keys and values.
    """
    try:
        node = OmegaConf.load(path)
    except (yaml.YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path} is not readable YAML: {reason}. Correct the file.") from error
    content = OmegaConf.to_container(node, resolve=False)
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds a {type(content).__name__}, not keys and values.")
    return _layer(str(path), {str(key): value for key, value in content.items()})


def read_overrides(overrides: Sequence[str]) -> tuple[SettingsLayer, str]:
    """Return the settings given as `key=value` words, and the name of the experiment.

    Words that name a model and no experiment ask for that model alone.

    Raises:
        ConfigError: for a word that is not key=value, or when neither is named.
    """
    content: dict[str, Any] = {"grid": {}}
    dotted: list[str] = []
    for word in overrides:
        key, equals, value = word.partition("=")
        if not equals or not key:
            example = f"model={word}" if word.endswith(".onnx") else "for example trials=3"
            raise ConfigError(f"{word!r} is not key=value. Write {example}.")
        if value.startswith("[") and value.count("[") > value.count("]"):
            raise ConfigError(
                f"{word!r} has a bracket that is not closed. Put the whole word in quotes, as in "
                "'model.shapes.x=[N, 3]': without them the shell splits it at its spaces."
            )
        key = _without_grid(key)
        if key in AXES:
            path = key == "model" and value and not value.startswith(("[", "{", "!"))
            content["grid"][key] = value if path else _parse_value(word, value)
        elif key == "grid":
            content["grid"] |= _to_axes("the command line", _parse_value(word, value))
        elif key in _NAMES:
            content[key] = value
        else:
            dotted.append(word)
    name = content.pop("experiment", OF_ONE_MODEL if "model" in content["grid"] else None)
    if name is None:
        raise ConfigError(
            "No experiment was named. Add experiment=NAME, or model=FILE.onnx to measure that model "
            "alone. " + nearest("", experiment_files())
        )
    layer = _layer("the command line", content)
    for word in dotted:
        layer.rest.update(_merge_word(layer.rest, word))
    return layer, str(name)


def _without_grid(key: str) -> str:
    """Return the key of a word, that of an axis without `grid.`; refuse a key below an axis."""
    name = key.removeprefix("grid.")
    axis, dot, _ = name.partition(".")
    if (dot and axis in _ONLY_AXES) or (name != key and name not in AXES):
        raise ConfigError(f"Unknown key {key!r} in the command line. {nearest(axis, AXES)}")
    return name


def _to_axes(source: str, grid: Any) -> dict[str, Any]:
    """Return the axes of the key `grid`, which must hold a mapping."""
    if not isinstance(grid, dict):
        raise ConfigError(
            f"grid in {source} takes axes and their values, not {grid!r}. "
            "Write for example grid.batch_size=8."
        )
    return {str(axis): value for axis, value in grid.items()}


def _layer(source: str, content: dict[str, Any]) -> SettingsLayer:
    """Separate the axes from the rest; turn `device: cpu` into `device: {kind: cpu}`.

    A key with the name of an axis sets the axis when it holds a name, number or list
    (`engine: openvino`), and options when it holds a mapping (`engine: {threads: 1}`).
    """
    axes = _to_axes(source, content.pop("grid", None) or {})
    for axis in AXES:
        if axis in content and (axis in _ONLY_AXES or not isinstance(content[axis], dict)):
            axes[axis] = content.pop(axis)
    if isinstance(content.get("device"), str):
        content["device"] = {"kind": content["device"]}
    return SettingsLayer(source, axes, content)


def _parse_value(word: str, value: str) -> Any:
    try:
        return OmegaConf.to_container(OmegaConf.from_dotlist([f"value={value}"]))["value"]  # type: ignore[index, call-overload]
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{word!r} cannot be read: {' '.join(str(error).split())}.") from error


def _merge_word(rest: dict[str, Any], word: str) -> dict[str, Any]:
    key, _, value = word.partition("=")
    section = next((name for name in _OF_GRAPHS if key.startswith(name)), None)
    try:
        if key in _PATHS:
            parent, _, name = key.partition(".")
            entry = OmegaConf.create({parent: {name: value}})
        elif section is None:
            entry = OmegaConf.from_dotlist([word])
        else:
            node = {key.removeprefix(section): _parse_value(word, value)}
            for name in reversed(section.rstrip(".").split(".")):
                node = {name: node}
            entry = OmegaConf.create(node)
        merged = OmegaConf.merge(OmegaConf.create(rest), entry)
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{word!r} cannot be read: {' '.join(str(error).split())}.") from error
    return dict(OmegaConf.to_container(merged, resolve=False))  # type: ignore[arg-type]


# ---------------------------------------------------------------- merging


def merge_layers(command: SettingsLayer, file: SettingsLayer, kind: str) -> Settings:
    """Merge all layers for devices of one kind and resolve interpolations.

    Args:
        command: settings of the command line.
        file: settings of the experiment file.
        kind: "cpu" or "gpu".

    Raises:
        ConfigError: for an unknown key or a value of the wrong type.
    """
    # the group's own `kind: cpu` is the default for this kind and does not force it
    device = read_file(group_path("device", kind))
    layers = [read_file(DATA / "conf" / "config.yaml"), device]
    cluster = command.named_group("cluster")
    if cluster is None:
        cluster = file.named_group("cluster")
    if cluster is not None:
        layers.append(read_file(group_path("cluster", cluster)))
    chosen = [layer.rest["preset"] for layer in (command, file, device) if "preset" in layer.rest]
    preset = str(chosen[0])
    layers += [read_file(group_path("preset", preset)), file, command]
    base = OmegaConf.structured(Settings)
    axes: dict[str, Any] = {}
    for layer in layers:
        rest = {k: v for k, v in layer.rest.items() if not (k == "cluster" and isinstance(v, str))}
        _check_sections(rest, layer.source)
        base = merge_into(base, rest, layer.source)
        for axis in layer.axes:
            if axis not in AXES:
                raise ConfigError(
                    f"Unknown key 'grid.{axis}' in {layer.source}. {nearest(axis, AXES)}"
                )
        axes |= layer.axes  # whole values: one value replaces a list and is not merged with it
    base = merge_into(base, {"grid": axes, "preset": preset}, "the command line")
    try:
        return OmegaConf.to_object(base)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise ConfigError(f"{_key_of(error)}: {_first_line(error)}. Correct the value.") from error


def _check_sections(content: dict[str, Any], source: str) -> None:
    """Refuse a section without keys and a list of grids that is no list, by their names."""
    schema = Settings()
    for name, value in content.items():
        section = getattr(schema, name, None)
        if is_dataclass(section) and not isinstance(value, dict):
            key = f"{name}.{fields(section)[0].name}"
            raise ConfigError(
                f"{name} in {source} takes keys such as {key}, not {value!r}. Name the key."
            )
        if isinstance(section, list) and not isinstance(value, list):
            raise ConfigError(
                f"{name} in {source} takes a list of grids, not {value!r}. Write a list."
            )


def merge_into(base: Any, content: dict[str, Any], source: str) -> Any:
    """Merge settings into a node of the schema.

    Raises:
        ConfigError: for an unknown key, offering the nearest, or a value of the wrong type.
    """
    try:
        return OmegaConf.merge(base, OmegaConf.create(content))
    except ConfigKeyError as error:
        key = _key_of(error)
        parent, _, name = key.rpartition(".")
        in_grid = error.object_type is GridSettings
        offer = nearest(name, AXES if in_grid else _keys_below(parent))
        raise ConfigError(f"Unknown key {key!r} in {source}. {offer}") from error
    except OmegaConfBaseException as error:
        raise ConfigError(
            f"{_key_of(error)} in {source}: {_first_line(error)}. Correct the value."
        ) from error


def merge_options(schema: type, options: dict[str, Any], source: str) -> dict[str, Any]:
    """Return an engine's options with their types and defaults.

    Args:
        schema: the dataclass of the engine's options.
        options: those that were given, by name.
        source: where they come from, for messages.
    """
    merged = merge_into(OmegaConf.structured({"engine": schema}), {"engine": options}, source)
    typed: Any = OmegaConf.to_container(merged.engine)
    return dict(typed)


def _key_of(error: OmegaConfBaseException) -> str:
    """Return the full key that an OmegaConf error is about."""
    return str(getattr(error, "full_key", None) or getattr(error, "key", None) or "configuration")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".")


def _keys_below(parent: str) -> list[str]:
    """Return the keys that the schema has below a dotted path; without a path also the axes."""
    node: Any = Settings()
    for name in parent.split(".") if parent else []:
        node = getattr(node, name, None)
    names = [entry.name for entry in fields(node)] if is_dataclass(node) else []
    return names if parent else list({*names, *AXES})
