"""Separates the words of a command into options and positional arguments."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raybench.config.words import Word, shown, split
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
    """Recognise `name=value`, `--name=value` and `--name value` for the options of a command.

    The name of an existing folder is never an option, although it may contain an equals sign.

    Args:
        verb: name of the command, for messages.
        words: of the command, after its verb.
        options: names of its options.
        switches: options that may be written without a value, which then is "true".
        equals_in_positional: whether `name=value` may be a positional argument; the address of a
            bucket, which may have an equals sign after ://, always may.

    Raises:
        ConfigError: for an option that is unknown, empty or given twice.
    """
    positional: list[str] = []
    values: dict[str, str] = {}
    for word in split(words, switches):
        if word.value is not None and os.path.isdir(word.text):
            positional.append(word.text)
        elif word.name in options and (word.value is not None or word.name in switches):
            if word.name in values:
                raise ConfigError(f"{word.name} is given twice. Give it once.")
            if word.value == "":
                raise ConfigError(f"{word.name} is empty. Give it a value, or leave it out.")
            values[word.name] = "true" if word.value is None else word.value
        elif word.dashed:
            raise _unknown_option(word, options)
        elif word.value is not None and not equals_in_positional and "://" not in word.name:
            raise ConfigError(f"{verb} knows no {word.name!r}. {nearest(word.name, options)}")
        elif not word.text:
            raise ConfigError(f"{verb} was given an empty word. Leave it out, or give it a value.")
        else:
            positional.append(word.text)
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


def _unknown_option(word: Word, options: Collection[str]) -> ConfigError:
    if word.name in options:
        return ConfigError(f"{word.text} has no value. Write {word.name}=VALUE.")
    return ConfigError(f"Unknown option {shown(word.text)}. {nearest(word.name, options)}")


def to_bool(name: str, value: str) -> bool:
    """Convert the value of a switch.

    Raises:
        ConfigError: when it is neither true nor false.
    """
    if value.lower() not in ("true", "false"):
        raise ConfigError(f"{name} takes true or false, not {shown(value)}. Correct the value.")
    return value.lower() == "true"


def to_share(name: str, value: str) -> float:
    """Convert "0.01" or "1%" to a share of one.

    Raises:
        ConfigError: when it is neither.
    """
    try:
        share = float(value.removesuffix("%")) / (100 if value.endswith("%") else 1)
    except ValueError:
        share = math.nan
    if not 0 <= share < math.inf:
        raise ConfigError(
            f"{name} takes a share such as 0.01, not {shown(value)}. Correct the value."
        )
    return share
