"""Places in the schema: which keys there are, what each takes, and the nearest to a wrong one."""

from __future__ import annotations

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
    hints = typing.get_type_hints(section, include_extras=True)
    return {entry.name: hints[entry.name] for entry in fields(section)}


def path_of(key: str, source: str) -> tuple[str, ...]:
    """Return the sections and the name that a dotted key consists of.

    What follows a mapping of names is one name, dots and all: `model.shapes.a.b` ends in `a.b`.

    Raises:
        ConfigError: for an unknown key, offering the nearest.
    """
    path: tuple[str, ...] = ()
    rest = key.removeprefix("grid.")
    if rest in AXES:
        return (rest,)
    if rest != key:
        raise unknown_key(key, source, AXES)
    while True:
        kind = kind_at(path, source, key)
        if typing.get_origin(kind) is dict and path:
            return (*path, rest)
        name, dot, rest = rest.partition(".")
        path = (*path, name)
        if not dot:
            kind_at(path, source, key)
            return path


def kind_at(path: tuple[str, ...], source: str, key: str | None = None) -> Any:
    """Return the type of what stands at a place of the schema; a section is a dataclass.

    Args:
        path: sections and name.
        source: for messages.
        key: the key as written, for messages.

    Raises:
        ConfigError: when there is no such place, offering the nearest key.
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
            siblings = names if place else top_level()
            written = key or ".".join(str(part) for part in path)
            raise unknown_key(written, source, siblings, getattr(name, "position", None))
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


def _engine_options() -> Iterator[str]:
    for name in registry.BUILT_IN:
        try:
            settings = registry.get(name).traits.settings
        except (ConfigError, EngineUnavailable):  # pragma: no cover - needs a broken installation
            continue
        yield from (f"engine.{entry.name}" for entry in fields(settings))
