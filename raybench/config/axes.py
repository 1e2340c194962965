"""Values of the axes as they are written in a file or on the command line, checked."""

from __future__ import annotations

from typing import Any

from raybench.errors import ConfigError, nearest
from raybench.experiment import PRECISIONS

MOST = {"batch_size": 2**31 - 1, "workers": 2**15 - 1, "inflight": 2**15 - 1}
"""Largest numbers that the columns of the table hold."""


def parse_axis(axis: str, written: Any) -> tuple[Any, ...]:
    """Return the values of an axis, from one value or a list of values.

    Raises:
        ConfigError: naming the axis, the value and what the axis takes.
    """
    values = list(written) if isinstance(written, (list, tuple)) else [written]
    if not values:
        raise ConfigError(f"grid.{axis} is empty. Give it at least one value.")
    return tuple(_parse_value(axis, value) for value in values)


def _parse_value(axis: str, value: Any) -> Any:
    if axis in ("batch_size", "workers", "inflight"):
        return _whole_number(axis, value)
    if axis == "transfers":
        return _switch(axis, value)
    if not isinstance(value, str) or not value:
        raise ConfigError(f"grid.{axis} takes names, not {value!r}. Write a name.")
    if axis == "precision" and value not in PRECISIONS:
        raise ConfigError(f"Unknown precision {value!r}. {nearest(value, PRECISIONS)}")
    return value


def _whole_number(axis: str, value: Any) -> int | str:
    keyword = {"workers": "auto", "batch_size": "max"}.get(axis)
    if keyword is not None and value == keyword:
        return keyword
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST[axis]:
        takes = f"whole numbers from 1 to {MOST[axis]}" + (f" or {keyword}" if keyword else "")
        raise ConfigError(f"grid.{axis} takes {takes}, not {value!r}. Correct the value.")
    return value


def _switch(axis: str, value: Any) -> bool:
    switches = {True: True, False: False, "on": True, "off": False}
    if isinstance(value, (bool, str)) and value in switches:
        return switches[value]
    raise ConfigError(f"grid.{axis} takes on or off, not {value!r}. Correct the value.")
