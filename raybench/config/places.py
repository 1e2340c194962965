"""Places in the schema: which keys there are, what each takes, and the nearest to a wrong one."""

from __future__ import annotations

import contextlib
import functools
import typing
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from raybench.config.settings import GridSettings, Settings
from raybench.engines import registry
from raybench.errors import ConfigError, EngineUnavailable, closest
from raybench.experiment import AXES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

EXPERIMENT = "experiment"
COMMAND = "the command line"


@functools.cache
def kinds(section: type) -> dict[str, Any]:
    """Return the type of every key of a section."""
    try:
        hints = typing.get_type_hints(section, include_extras=True)
    except (NameError, TypeError):  # a plug-in names types that exist for its type checker alone
        hints = {}
    return {entry.name: hints.get(entry.name, Any) for entry in fields(section)}


def path_of(key: str, source: str, section: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the sections and the name that a dotted key consists of.

    What follows a mapping of names is one name, dots and all: `model.shapes.a.b` ends in `a.b`.

    Args:
        key: as written.
        source: file or command line, for messages.
        section: where the key stands; none for the top.

    Raises:
        ConfigError: for an unknown key, offering the nearest.
    """
    path, rest = section, str(key)
    if not section:
        rest = rest.removeprefix("grid.")
        if rest in AXES:
            return (rest,)
        if rest != key:
            raise unknown_key(key, source, AXES, getattr(key, "position", None))
    while True:
        if typing.get_origin(kind_at(path)) is dict and path:
            return (*path, rest)
        name, dot, rest = rest.partition(".")
        path = (*path, name)
        _check(path, source, ".".join((*section, str(key))), getattr(key, "position", None))
        if not dot:
            return path


def _check(path: tuple[str, ...], source: str, key: str, position: str | None) -> None:
    """Refuse a place that does not exist, by the key as it was written."""
    try:
        kind_at(path)
    except KeyError as error:
        raise unknown_key(key, source, error.args[0], position) from None


def kind_at(path: tuple[str, ...]) -> Any:
    """Return the type of what stands at a place of the schema; a section is a dataclass.

    Raises:
        KeyError: when there is no such place, with the names that there are in its section.
    """
    if len(path) == 1 and path[0] in AXES and path[0] not in kinds(Settings):
        return kinds(GridSettings)[path[0]]
    kind: Any = Settings
    for place, name in enumerate(path):
        if typing.get_origin(kind) is dict:
            kind = typing.get_args(kind)[1]
            continue
        names = kinds(kind) if isinstance(kind, type) and is_dataclass(kind) else {}
        if name not in names:
            raise KeyError([*names] if place else top_level())
        kind = names[name]
    return kind


def top_level() -> list[str]:
    """Return every key that can stand alone."""
    return sorted({*kinds(Settings), *AXES, EXPERIMENT})


def unknown_key(
    key: str, source: str, siblings: Iterable[str], position: str | None = None
) -> ConfigError:
    """Return the refusal of a key, with the nearest of all keys and those of its place.

    Args:
        key: as written, with its sections.
        source: file or command line.
        siblings: names at its place.
        position: line and column in a file. A key of a file that is near no other is not repeated:
            the file may be something else than an experiment.
    """
    names = sorted(siblings)
    near = _nearest_key(key, names)
    known = f"Known: {', '.join(names)}." if names else "Nothing can stand there."
    if near is not None:
        return ConfigError(f"Unknown key {key!r} in {source}. Did you mean {near!r}? {known}")
    if position is not None:
        return ConfigError(f"Unknown key in {source} at {position}. {known}")
    return ConfigError(f"Unknown key {key!r} in {source}. {known}")


def _nearest_key(key: str, siblings: list[str]) -> str | None:
    """Return the nearest key: among its siblings, then as a whole, then by its last name."""
    section, _, name = key.rpartition(".")
    everywhere = [*AXES, *_every_key()]
    same = closest(key, everywhere, cutoff=0.99)  # results_dir
    if same is not None:
        return same
    found = closest(name, siblings, cutoff=0.7)
    if found is not None:
        return f"{section}.{found}" if section and found not in AXES else found
    if section not in _every_section():
        whole = closest(key, everywhere, cutoff=0.75)
        if whole is not None:
            return whole
    by_name = {entry.rpartition(".")[2]: entry for entry in reversed(everywhere)}
    last = closest(name, by_name, cutoff=0.8)
    return None if last is None else by_name[last]


def _every_section() -> set[str]:
    return {name for name, kind in kinds(Settings).items() if is_dataclass(kind)} | {"engine"}


def _every_key() -> list[str]:
    return [*_keys_of(Settings, ""), EXPERIMENT, *_engine_options()]


def _keys_of(section: type, prefix: str) -> Iterator[str]:
    for name, kind in kinds(section).items():
        if kind is GridSettings:
            continue
        yield f"{prefix}{name}"
        if isinstance(kind, type) and is_dataclass(kind):
            yield from _keys_of(kind, f"{prefix}{name}.")


def engines_with(option: str) -> list[str]:
    """Return the engines that come with raybench and have an option of this name."""
    return [name for name, options in _options_by_engine().items() if option in options]


def _engine_options() -> Iterator[str]:
    for options in _options_by_engine().values():
        yield from (f"engine.{option}" for option in options)


def _options_by_engine() -> dict[str, list[str]]:
    options = {}
    for name in registry.BUILT_IN:
        with contextlib.suppress(ConfigError, EngineUnavailable):  # a broken installation
            options[name] = [entry.name for entry in fields(registry.get(name).traits.settings)]
    return options
