"""Engines of others: found by their entry points, and checked before anything relies on them."""

from __future__ import annotations

import contextlib
import inspect
import sys
from dataclasses import dataclass, is_dataclass, replace
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from raybench.engines.base import EngineBase, EngineInfo, EngineTraits
from raybench.errors import EngineFailure, EngineUnavailable, RaybenchError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from raybench.engines.base import DeviceSpans, Load

GROUP = "raybench.engines"
"""Entry points of this group add engines: name = "module:Class"."""
METHODS = ("load", "submit", "collect", "outputs", "close")
"""What an engine has to have, `close` by inheritance."""


@dataclass(frozen=True)
class Plugin:
    """An engine that an installed package offers.

    Attributes:
        name: as in `engine=NAME`.
        entries: the entry points of this name; more than one is a clash.
    """

    name: str
    entries: tuple[EntryPoint, ...]

    @property
    def origin(self) -> str:
        """Return the package and the class that it comes from, for a message."""
        return " and ".join(
            f"{entry.value} of {entry.dist.name}" if entry.dist else entry.value
            for entry in self.entries
        )

    @property
    def version(self) -> str | None:
        """Return the version of the package; None where it has none."""
        dist = self.entries[0].dist
        return str(dist.version) if dist else None


def found() -> dict[str, Plugin]:
    """Return the engines of installed packages by name."""
    entries: dict[str, dict[str, EntryPoint]] = {}
    for entry in entry_points(group=GROUP):
        entries.setdefault(entry.name, {}).setdefault(entry.value, entry)
    return {name: Plugin(name, tuple(each.values())) for name, each in entries.items()}


@lru_cache(maxsize=64)
def load_class(plugin: Plugin) -> type[EngineBase]:
    """Import the class of a plug-in and check that it is an engine.

    Raises:
        EngineUnavailable: saying which plug-in, of which package, and what is wrong with it.
    """
    if len(plugin.entries) > 1:
        raise EngineUnavailable(
            f"Two packages offer an engine {plugin.name!r}: {plugin.origin}. Uninstall one of them."
        )
    subject = f"Engine {plugin.name!r} ({plugin.origin})"
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what it prints is no part of our output
            engine: Any = plugin.entries[0].load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a module may raise anything, SystemExit too
        raise EngineUnavailable(
            f"{subject} cannot be imported: {_text(error)}. Fix or uninstall it."
        ) from error
    problem = problem_of(engine)
    if problem is not None:
        raise EngineUnavailable(f"{subject} {problem}. Fix or uninstall it.")
    if not engine.traits.name:
        engine.traits = replace(engine.traits, name=plugin.name)
    if engine.traits.name != plugin.name:
        raise EngineUnavailable(
            f"{subject} calls itself {engine.traits.name!r} in its traits. Give both one name."
        )
    loaded: type[EngineBase] = engine
    return loaded


def problem_of(engine: Any) -> str | None:
    """Return what keeps an object from being an engine's class, None if nothing does."""
    if not (isinstance(engine, type) and issubclass(engine, EngineBase)):
        return "does not derive from raybench.engines.base.EngineBase"
    traits: Any = engine.traits
    if not isinstance(traits, EngineTraits):
        return "has traits that are no raybench.engines.base.EngineTraits"
    lacking = [name for name in METHODS if name in engine.__abstractmethods__]
    if lacking:
        return f"lacks {', '.join(lacking)}"
    if not inspect.ismethod(engine.load):
        return "has a load that is no classmethod"
    kinds = traits.device_kinds
    if not (isinstance(kinds, tuple) and kinds and {*kinds} <= {"cpu", "gpu"}):
        return f"has device_kinds {kinds!r} in place of ('cpu',), ('gpu',) or both"
    return _problem_of_settings(traits.settings)


def _problem_of_settings(settings: Any) -> str | None:
    if not (isinstance(settings, type) and is_dataclass(settings)):
        return "has settings that are no dataclass"
    try:
        settings()
    except Exception as error:  # noqa: BLE001 - a dataclass may compute
        return f"has settings without defaults ({_text(error)})"
    return None


# --- what an engine does once it runs -------------------------------------------------------------


@contextlib.contextmanager
def blamed_on(engine: str, step: str) -> Iterator[None]:
    """Turn an exception of an engine's code into a failure that names the engine and the step.

    Raises:
        EngineFailure: for any exception but those of raybench and a lack of memory.
    """
    try:
        yield
    except (RaybenchError, MemoryError):
        raise
    except Exception as error:
        raise EngineFailure(f"Engine {engine!r} failed in {step}: {_text(error)}.") from error


def load(engine: type[EngineBase], wanted: Load) -> EngineBase:
    """Load an engine and check what it returned.

    Raises:
        PointError: what the engine raised, or that it returned something else.
    """
    name = engine.traits.name
    with blamed_on(name, "load"):
        loaded: Any = engine.load(wanted)
    if not isinstance(loaded, engine):
        raise EngineFailure(
            f"load of engine {name!r} returned {_kind(loaded)}, not a loaded {engine.__name__}."
        )
    info: Any = loaded.info
    if not isinstance(info, EngineInfo):
        raise EngineFailure(f"Engine {name!r} has {_kind(info)} for info, not an EngineInfo.")
    return loaded


def check_spans(engine: EngineBase, spans: DeviceSpans | None) -> None:
    """Refuse device times that are not what the engine says it returns.

    Raises:
        EngineFailure: when `collect` returned no three times although the engine has a clock.
    """
    if engine.info.device_clock and not (isinstance(spans, tuple) and len(spans) == 3):
        raise EngineFailure(
            f"Engine {engine.traits.name!r} has device_clock=True, and collect returned "
            f"{_kind(spans)}, not three times in ns."
        )


def _kind(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _text(error: BaseException) -> str:
    message = " ".join(str(error).split()).rstrip(".")[:300]
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
