"""Layers of settings: YAML files and the command line, merged into the schema.

Later layers win: conf/config.yaml, conf/device/<kind>.yaml, conf/cluster/<name>.yaml,
conf/preset/<name>.yaml, the experiment file, the command line.
"""

from __future__ import annotations

import contextlib
import functools
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from omegaconf import OmegaConf
from omegaconf.errors import InterpolationValidationError, OmegaConfBaseException

from raybench.config.convert import Where, checked, text_of
from raybench.config.files import OF_ONE_MODEL, experiment_files, group_path, meant_by
from raybench.config.places import COMMAND, EXPERIMENT, kind_at, path_of
from raybench.config.references import broken_reference
from raybench.config.settings import Settings
from raybench.config.words import InlineText, has_open_bracket, shown, split, structure
from raybench.config.yaml_files import first_comment, read_text, read_yaml
from raybench.errors import ConfigError, nearest
from raybench.experiment import AXES
from raybench.paths import DATA

if TYPE_CHECKING:
    from pathlib import Path

Given: TypeAlias = "str | tuple[str, Any]"
"""A word of the command line, or a key and its value from Python."""
_Path: TypeAlias = "tuple[str, ...]"

_FILE = "(file)"
"""Where `cluster: attach` stands among the keys of the cluster."""


@dataclass(frozen=True)
class SettingsLayer:
    """One source of settings.

    Attributes:
        source: its name in messages.
        axes: values of the axes, as written.
        rest: all other keys.
        cluster: the file of `conf/cluster/` that it names, as in `cluster: attach`.
        question: the comment that a file begins with.
    """

    source: str
    axes: dict[str, Any]
    rest: dict[str, Any]
    cluster: str | None = None
    question: str = ""


def read_file(path: Path) -> SettingsLayer:
    """Return the settings of a YAML file.

    Raises:
        ConfigError: when the file is not YAML, or holds something else than known keys and values.
    """
    text = read_text(path)
    content = read_yaml(path, text)
    if content is not None and not isinstance(content, dict):
        held = "a list" if isinstance(content, list) else "text"
        raise ConfigError(f"{path} holds {held}, not keys and values. Give an experiment's file.")
    return _layer(_flat((), content or {}, str(path)), str(path), first_comment(text))


@functools.cache
def _read_shipped(path: Path) -> SettingsLayer:
    """Return the settings of a file that comes with raybench, read once."""
    return read_file(path)


def read_overrides(overrides: Sequence[Given]) -> tuple[SettingsLayer, str]:
    """Return the settings given in words or from Python, and the name of the experiment.

    Settings that name a model and no experiment ask for that model alone.

    Raises:
        ConfigError: for a word that is not key=value, a key that is unknown or given twice, or when
            neither is named.
    """
    names: list[str] = []
    leaves: list[tuple[_Path, Any]] = []
    for key, value in _settings(overrides):
        if key == EXPERIMENT:
            names.append(text_of(value, Where(EXPERIMENT, COMMAND)))
        else:
            leaves += _flat(path_of(key, COMMAND), value, COMMAND)
    if len(names) > 1:
        raise _twice(EXPERIMENT, *names[:2])
    layer = _layer(leaves, COMMAND)
    if names:
        return layer, names[0]
    if any("model" in axes for axes in (layer.axes, *layer.rest.get("grids", []))):
        return layer, OF_ONE_MODEL
    raise ConfigError(
        "No experiment was named. Add experiment=NAME, or model=FILE.onnx to measure that model "
        f"alone. {nearest('', experiment_files())}"
    )


def _settings(overrides: Sequence[Given]) -> Iterator[tuple[str, Any]]:
    """Yield key and value of each word, and those from Python as they are."""
    before = ""
    for word in split([given for given in overrides if isinstance(given, str)]):
        if word.value is None or not word.name:
            raise _no_setting(word.text, word.name, before)
        yield word.name, InlineText(word.value)
        before = word.value
    yield from (given for given in overrides if not isinstance(given, str))


def _no_setting(text: str, name: str, before: str) -> ConfigError:
    """Return the refusal of a word that is not key=value."""
    if has_open_bracket(before):
        return ConfigError(
            f"{shown(text)} is not key=value, and the word before it has a bracket that is not closed. "
            "Put the whole word in quotes, as in 'model.shapes.x=[N, 3]': without them the shell "
            "splits it at its spaces."
        )
    if text.startswith("-") and name:
        path_of(name, COMMAND)
        return ConfigError(f"{shown(text)} has no value. Write {name}=VALUE.")
    advice = meant_by(name) if name == text else None
    return ConfigError(f"{shown(text)} is not key=value. {advice or 'Write for example trials=3.'}")


# ---------------------------------------------------------------- one layer


def _flat(path: _Path, value: Any, source: str) -> Iterator[tuple[_Path, Any]]:
    """Yield the values below a place by their paths; sections and mappings of names are opened.

    A key with the name of an axis sets the axis when it holds a name, number or list
    (`engine: openvino`), and options when it holds a mapping (`engine: {threads: 1}`).
    """
    kind = kind_at(path)
    if is_dataclass(kind) or typing.get_origin(kind) is dict:
        if value is None:  # a section of a file whose keys are all commented out
            return
        held = structure(value) if isinstance(value, InlineText) and value[:1] == "{" else value
        if isinstance(held, Mapping):
            for name, inner in held.items():
                below = path_of(name if isinstance(name, str) else str(name), source, path)
                yield from _flat(below, inner, source)
            return
    if len(path) == 1 and path[0] in AXES:
        yield ("grid", *path), _opened(value)
    elif path == ("device",):
        yield ("device", "kind"), value
    elif path == ("cluster",):
        yield ("cluster", _FILE), value
    else:
        yield path, _opened(value) if path[0] == "grid" else value


def _opened(value: Any) -> Any:
    """Return the list in the brackets of a word, for an axis; all other values as they are."""
    return structure(value) if isinstance(value, InlineText) else value


def _layer(leaves: Iterable[tuple[_Path, Any]], source: str, question: str = "") -> SettingsLayer:
    """Return the layer of some values, checked by the types of their keys."""
    tree: dict[str, Any] = {}
    for path, value in leaves:
        _put(tree, path, value)
    cluster = tree["cluster"].pop(_FILE, None) if isinstance(tree.get("cluster"), dict) else None
    if cluster is not None:
        cluster = text_of(cluster, Where("cluster", source))
    rest = checked(Settings, tree, Where("", source))
    return SettingsLayer(source, rest.pop("grid", {}), rest, cluster, question)


def _put(tree: dict[str, Any], path: _Path, value: Any) -> None:
    node = tree
    for name in path[:-1]:
        inner = node.setdefault(name, {})
        if not isinstance(inner, dict):
            raise _twice(".".join(path), inner, value)
        node = inner
    if path[-1] in node:
        raise _twice(".".join(path), node[path[-1]], value)
    node[path[-1]] = value


def _twice(key: str, first: Any, second: Any) -> ConfigError:
    return ConfigError(
        f"{key.removeprefix('grid.').replace('.' + _FILE, '')} is given twice, as {_short(first)} and "
        f"as {_short(second)}. Give it once."
    )


def _short(value: Any) -> str:
    return "several keys" if isinstance(value, dict) else shown(value)


# ---------------------------------------------------------------- merging


def merge_layers(command: SettingsLayer, file: SettingsLayer, kind: str) -> Settings:
    """Merge all layers for devices of one kind and follow references.

    Args:
        command: settings of the command line.
        file: settings of the experiment file.
        kind: "cpu" or "gpu".

    Raises:
        ConfigError: for a reference that leads nowhere, or to a value of the wrong type.
    """
    # the group's own `kind: cpu` is the default for this kind and does not force it
    device = _read_shipped(group_path("device", kind))
    paths = [DATA / "conf" / "config.yaml", group_path("device", kind)]
    cluster = command.cluster if command.cluster is not None else file.cluster
    if cluster is not None:
        paths.append(group_path("cluster", cluster))
    chosen = [layer.rest["preset"] for layer in (command, file, device) if "preset" in layer.rest]
    paths.append(group_path("preset", str(chosen[0])))
    axes: dict[str, Any] = {}  # whole values: one value replaces a list and is not merged with it
    for layer in (*map(_read_shipped, paths), file, command):
        axes |= layer.axes
    last = {"grid": axes, "preset": chosen[0]}
    try:
        merged = OmegaConf.merge(_shipped(tuple(paths)), file.rest, command.rest, last)
        return OmegaConf.to_object(merged)  # type: ignore[return-value]
    except (OmegaConfBaseException, RecursionError) as error:
        raise _unresolved(error, file.source) from error


def _unresolved(error: OmegaConfBaseException | RecursionError, source: str) -> ConfigError:
    """Return the refusal of a reference.

    Words and values from Python refer to nothing, and shipped files to nothing that could be wrong
    alone, so that the experiment's file is the source.
    """
    if isinstance(error, RecursionError) or "recursion depth" in str(error):
        return ConfigError(f"{source} has a chain of references that is too long. Shorten it.")
    if isinstance(error, InterpolationValidationError) and error.full_key:
        key, in_list, _ = error.full_key.partition("[")
        with contextlib.suppress(KeyError):  # a name in a mapping that holds a dot
            value = [error.value] if in_list else error.value
            checked(kind_at(tuple(key.split("."))), value, Where(key, source))
    return broken_reference(error, source)


@functools.cache
def _shipped(paths: tuple[Path, ...]) -> Any:
    """Return the schema with the settings of files that come with raybench."""
    return OmegaConf.merge(_schema(Settings), *(_read_shipped(path).rest for path in paths))


@functools.cache
def _schema(kind: type) -> Any:
    """Return the typed nodes of a dataclass; they are copied, never changed."""
    return OmegaConf.structured(kind)


def merge_options(schema: type, options: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return an engine's options with their types and defaults.

    Args:
        schema: the dataclass of the engine's options.
        options: those that were given, by name.
        source: where they come from, for messages.

    Raises:
        ConfigError: one is missing, of another type, or refused by the options themselves.
    """
    # only here is it known whether brackets are a list, so that all text counts as that of a word
    words = {key: InlineText(v) if isinstance(v, str) else v for key, v in options.items()}
    given = checked(schema, words, Where("engine", source))
    try:
        merged = OmegaConf.merge(_schema(schema), given)
        for option in sorted(OmegaConf.missing_keys(merged)):
            raise ConfigError(f"{source} need engine.{option}, which has no default. Set it.")
        values = dict(OmegaConf.to_container(merged, resolve=True))  # type: ignore[arg-type]
    except (OmegaConfBaseException, NameError, TypeError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        name = getattr(error, "full_key", None)
        key = f"engine.{name}" if name else "an option"
        raise ConfigError(f"{source} cannot hold {key}: {reason}. Correct the value.") from error
    try:
        schema(**values)
    except ValueError as error:  # of a `__post_init__`, which knows what the engine can do
        raise ConfigError(f"{str(error).rstrip('.')}. Correct the value.") from error
    return values
