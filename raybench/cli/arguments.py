"""Separates the words of a command into options and positional arguments."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raybench.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence


@dataclass(frozen=True)
class Arguments:
    """The words of a command.

    Attributes:
        positional: words that are not options, in order.
        options: values by name, as written.
    """

    positional: Sequence[str]
    options: Mapping[str, str]


def parse(
    verb: str,
    words: Sequence[str],
    options: Collection[str],
    *,
    switches: Collection[str] = (),
    equals_in_positional: bool = False,
) -> Arguments:
    """Recognise `name=value` and `--name=value` for the options of a command.

    The name of an existing folder is never an option, although it may contain an equals sign.

    Args:
        verb: name of the command, for messages.
        words: of the command, after its verb.
        options: names of its options.
        switches: options that may be written without a value, which then is "true".
        equals_in_positional: whether `name=value` may be a positional argument; the address of a
            bucket, which may have an equals sign after ://, always may.

    Raises:
        ConfigError: for an unknown option.
    """
    positional: list[str] = []
    values: dict[str, str] = {}
    for word in words:
        name, equals, value = word.lstrip("-").partition("=")
        if equals and os.path.isdir(word):
            positional.append(word)
        elif name in options and (equals or name in switches):
            values[name] = value if equals else "true"
        elif word.startswith("-"):
            raise ConfigError(f"Unknown option {word!r}. {nearest(name, options)}")
        elif equals and not equals_in_positional and "://" not in name:
            raise ConfigError(f"{verb} knows no {name!r}. {nearest(name, options)}")
        else:
            positional.append(word)
    return Arguments(positional, values)


def parse_format(options: Mapping[str, str], formats: Collection[str]) -> str:
    """Return the format that was asked for, a table by default.

    Raises:
        ConfigError: for one that there is not.
    """
    written = options.get("format", "table")
    form = {"md": "markdown", "text": "table"}.get(written.lower(), written.lower())
    if form not in formats:
        raise ConfigError(f"Unknown format {written!r}. {nearest(form, formats)}")
    return form


def to_bool(name: str, value: str) -> bool:
    """Convert the value of a switch.

    Raises:
        ConfigError: when it is neither true nor false.
    """
    if value.lower() not in ("true", "false"):
        raise ConfigError(f"{name} takes true or false, not {value!r}.")
    return value.lower() == "true"


def to_share(name: str, value: str) -> float:
    """Convert "0.01" or "1%" to a share of one.

    Raises:
        ConfigError: when it is neither.
    """
    try:
        return float(value.removesuffix("%")) / (100 if value.endswith("%") else 1)
    except ValueError:
        raise ConfigError(f"{name} takes a share such as 0.01, not {value!r}.") from None
