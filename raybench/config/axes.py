"""Values of the axes as they are written in a file or on the command line, checked."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

from raybench.config.convert import switch, whole_number
from raybench.config.words import refuse_unwritable, shown
from raybench.errors import ConfigError, nearest
from raybench.experiment import LENGTHS, PIPELINES, PRECISIONS, TAKES, parse_load

if TYPE_CHECKING:
    from collections.abc import Callable

MOST = {
    "batch_size": 2**31 - 1,
    "workers": 2**15 - 1,
    "inflight": 2**15 - 1,
    "instances": 48,
    "cores": 4096,
    "prompt": 8192,
    "context": 2**17,
    "new_tokens": 2**17,
}
"""Largest numbers that the columns of the table hold; a GPU has at most 48 clients of MPS.

The mask of a prompt is a constant of its graph, 256 MiB for the longest; a context longer than 131,072
tokens is beyond what decoders are trained for.
"""
UNCHANGED = "unchanged"
"""The power limit of a device that is left as it is set."""
MOST_WATTS = 100_000
"""A higher power limit is a slip: no board takes as much."""

_NONE = "none"
_KEYWORDS = {
    "workers": ("auto", "all"),
    "batch_size": ("max",),
    "cores": (_NONE,),
    **dict.fromkeys(LENGTHS, ("auto",)),
}
"""What an axis of whole numbers takes beside them."""
_NAMES = {"precision": PRECISIONS, "pipeline": PIPELINES}
"""The names that an axis takes, where it takes no other."""


def parse_axis(axis: str, written: Any) -> tuple[Any, ...]:
    """Return the values of an axis, from one value or a list of values.

    Raises:
        ConfigError: naming the axis, the value and what the axis takes.
    """
    values = list(written) if isinstance(written, (list, tuple)) else [written]
    if not values or values in ([""], [None]):
        raise ConfigError(f"grid.{axis} is empty. Give it at least one value.")
    return tuple(_parse_value(axis, value) for value in values)


def _parse_value(axis: str, value: Any) -> Any:
    if isinstance(value, str) and "," in value and axis != "model":
        raise ConfigError(
            f"grid.{axis} takes one value or a list in brackets, not {shown(value)}. "
            f'Write "{axis}=[{value.strip("()[] ")}]".'
        )
    if axis in MOST:
        return _whole_number(axis, value)
    if axis in _READERS:
        return _READERS[axis](value)
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str) or not value:
        raise ConfigError(f"grid.{axis} takes names, not {shown(value)}. Write a name.")
    refuse_unwritable(value, axis)
    if value not in _NAMES.get(axis, (value,)):
        raise ConfigError(f"Unknown {axis} {shown(value)}. {nearest(value, _NAMES[axis])}")
    return str(value)


def _whole_number(axis: str, value: Any) -> int | str | None:
    keywords = _KEYWORDS.get(axis, ())
    if _NONE in keywords and value in (None, _NONE):
        return None
    if isinstance(value, str) and value in keywords:
        return value
    number = whole_number(value)
    if number is None or not 1 <= number <= MOST[axis]:
        takes = " or ".join((f"whole numbers from 1 to {MOST[axis]}", *keywords))
        raise ConfigError(f"grid.{axis} takes {takes}, not {_written(value)}. Correct the value.")
    return number


def _load(value: Any) -> str:
    load = parse_load(value)
    if load is None:
        raise ConfigError(f"grid.load takes {TAKES}, not {_written(value)}. Correct the value.")
    return str(load)


def _watts(value: Any) -> float | None:
    """Return a power limit; None for one that is left as it is set."""
    if value is None or value == UNCHANGED:
        return None
    try:
        watts = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        watts = math.nan
    if not 0 < watts <= MOST_WATTS:
        raise ConfigError(
            f"grid.power_limit_w takes watts above 0 and up to {MOST_WATTS:,}, or {UNCHANGED}, not "
            f"{_written(value)}. Correct the value."
        )
    return watts


def _switch(value: Any) -> bool:
    state = switch(value)
    if state is None:
        raise ConfigError(
            f"grid.transfers takes on or off, not {_written(value)}. Correct the value."
        )
    return state


_READERS: dict[str, Callable[[Any], Any]] = {
    "transfers": _switch,
    "load": _load,
    "power_limit_w": _watts,
}


def _written(value: Any) -> str:
    """Return a value as it is quoted; digits of a number that is no more than that are not."""
    return (
        str(value) if isinstance(value, str) and whole_number(value) is not None else shown(value)
    )
