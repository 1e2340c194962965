"""Checks values by the types of their keys, and gets them ready for OmegaConf, which converts them."""

from __future__ import annotations

import enum
import os
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from typing_extensions import override

from raybench.config.places import kinds, top_level, unknown_key
from raybench.config.references import ITEM, TYPED, Template, interpolated, literal, register
from raybench.config.settings import AS_WRITTEN, Settings
from raybench.config.words import InlineText, refuse_unwritable, shown, structure
from raybench.errors import ConfigError, closest

_WHOLE = re.compile(r"[+-]?[0-9]+(_[0-9]+)*", re.ASCII)
_NUMBER = re.compile(
    r"[+-]?(([0-9][0-9_]*(\.[0-9_]*)?|\.[0-9][0-9_]*)([eE][+-]?[0-9]+)?|inf|nan)",
    re.ASCII | re.IGNORECASE,
)
_SWITCHES = {
    "true": True, "yes": True, "on": True, "1": True,
    "false": False, "no": False, "off": False, "0": False,
}  # fmt: skip
_NOTHING = ("null", "~")
_LONGEST = 40


@dataclass(frozen=True)
class Where:
    """The place of a value, for messages.

    Attributes:
        key: with its sections.
        source: file or command line.
    """

    key: str
    source: str

    @override
    def __str__(self) -> str:
        return f"{self.key} in {self.source}"

    def below(self, name: str) -> Where:
        """Return the place of a key below this one."""
        return Where(f"{self.key}.{name}" if self.key else name, self.source)

    def refuse(self, takes: str, value: Any, advice: str = "Correct the value.") -> ConfigError:
        """Return the refusal of a value."""
        return ConfigError(f"{self} takes {takes}, not {shown(_plainly(value))}. {advice}")


def checked(kind: Any, value: Any, where: Where) -> Any:
    """Return a value as OmegaConf takes it for a key of this type; it then converts the text.

    Args:
        kind: the type, as the schema's dataclasses or an engine's options declare it.
        value: text of a word or a file, or a value from Python.
        where: its place.

    Raises:
        ConfigError: naming place, value and what the key takes.
    """
    if isinstance(value, Template):
        return interpolated(value, str(where), TYPED if kind is Any else "")
    if kind is Any:
        return guess(value, where)
    origin = typing.get_origin(kind)
    if origin is Annotated:
        return _annotated(kind, value, where)
    if origin in (types.UnionType, typing.Union):
        return _one_of(typing.get_args(kind), value, where)
    if isinstance(kind, type) and is_dataclass(kind):
        return _section(kind, value, where)
    if value is None or value == "":
        raise ConfigError(f"{where} is empty. Give it a value, or leave it out.")
    if origin is Literal:
        return _choice(typing.get_args(kind), value, where)
    if origin in (list, tuple) or kind in (list, tuple):
        return _list(kind, value, where)
    if origin is dict or kind is dict:
        return _mapping(kind, value, where)
    return _scalar(kind, value, where)


# ---------------------------------------------------------------- single values


def whole_number(value: Any) -> int | None:
    """Return a whole number, given as one or written in decimal digits; None if it is none."""
    if isinstance(value, str):
        text = value.strip()
        return int(text) if _WHOLE.fullmatch(text) and len(text) <= _LONGEST else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def number(value: Any) -> float | None:
    """Return a number, given as one or written in decimal digits; None if it is none."""
    if isinstance(value, str):
        text = value.strip()
        if not _NUMBER.fullmatch(text) or len(text) > _LONGEST:
            return None
        try:
            return float(text)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def switch(value: Any) -> bool | None:
    """Return true or false, given as such or written as a word for it; None if it is neither."""
    if isinstance(value, str):
        return _SWITCHES.get(value.strip().lower())
    return value if isinstance(value, bool) else None


def guess(value: Any, where: Where) -> Any:
    """Return the value that a text stands for where a key takes several types.

    Decimal numbers, true, false and null are what they say; all else is text.
    """
    if isinstance(value, Template):
        return interpolated(value, str(where), TYPED)
    if isinstance(value, InlineText):
        value = structure(value)
    if isinstance(value, Mapping):
        return {_name(key, where): guess(inner, where) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [guess(inner, where) for inner in value]
    if not isinstance(value, str):
        return value
    found = typed(text_of(value, where))
    return literal(found) if isinstance(found, str) else found


def typed(text: str) -> Any:
    """Return the number, switch or nothing that a text is, or the text."""
    if text.lower() in _NOTHING:
        return None
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    whole = whole_number(text)
    if whole is not None:
        return whole
    found = number(text)
    return text if found is None else found


def text_of(value: Any, where: Where) -> str:
    """Return a text as it was written.

    Raises:
        ConfigError: for what is no text, is empty, or that no file or table could hold.
    """
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        raise where.refuse("text", value)
    if not value:
        raise ConfigError(f"{where} is empty. Give it a value, or leave it out.")
    refuse_unwritable(value, where.key)
    return str(value)


def _scalar(kind: Any, value: Any, where: Where) -> Any:
    """Check a value that OmegaConf would take otherwise than documented, or refuse in its words."""
    if kind is str:
        return literal(text_of(value, where))
    if kind in _READERS:
        read, takes = _READERS[kind]
        if read(value) is None:
            raise where.refuse(takes, value)
        return value.strip() if isinstance(value, str) else value
    if isinstance(kind, type) and isinstance(value, kind):
        return value
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _choice(tuple(kind.__members__), value, where)
    if kind is Path:
        return literal(text_of(value, where))
    raise where.refuse(f"a {getattr(kind, '__name__', kind)}", value, "Set it from Python.")


_READERS = {
    bool: (switch, "true or false"),
    int: (whole_number, "a whole number"),
    float: (number, "a number"),
}


def _choice(choices: Sequence[Any], value: Any, where: Where) -> Any:
    for choice in choices:
        if value == choice or (isinstance(value, str) and value == str(choice)):
            return choice
    names = [str(choice) for choice in choices]
    takes = f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]
    near = closest(value, names) if isinstance(value, str) else None
    raise where.refuse(takes, value, f"Did you mean {near!r}?" if near else "Correct the value.")


def _one_of(choices: Sequence[Any], value: Any, where: Where) -> Any:
    """Return a value as the first type that takes it; what is not set may be written null."""
    real = [choice for choice in choices if choice is not type(None)]
    if len(real) < len(choices) and (
        value is None or (isinstance(value, str) and value.lower() in _NOTHING)
    ):
        return None
    return checked(real[0], value, where) if len(real) == 1 else guess(value, where)


# ---------------------------------------------------------------- lists, mappings, sections


def _annotated(kind: Any, value: Any, where: Where) -> Any:
    if AS_WRITTEN in kind.__metadata__:
        return _as_written(value, where, resolver="")
    return checked(typing.get_args(kind)[0], value, where)


def _as_written(value: Any, where: Where, resolver: str = ITEM) -> Any:
    """Return a value whose type is known later; only its references are followed."""
    if isinstance(value, Template):
        return interpolated(value, str(where), resolver)
    if isinstance(value, Mapping):
        return {_name(key, where): _as_written(item, where) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_written(item, where) for item in value]
    return literal(value) if isinstance(value, str) else value


def _list(kind: Any, value: Any, where: Where) -> Any:
    if isinstance(value, InlineText):
        value = structure(value)
    if not isinstance(value, (list, tuple)):
        of = " of grids" if where.key in ("grids", "exclude") else ""
        raise where.refuse(f"a list{of}", value, "Write a list: [..., ...].")
    args = typing.get_args(kind)
    inner = args[0] if args else Any
    items = [checked(inner, item, where) for item in value]
    return tuple(items) if tuple in (kind, typing.get_origin(kind)) else items


def _mapping(kind: Any, value: Any, where: Where) -> dict[str, Any]:
    if isinstance(value, InlineText):
        value = structure(value)
    if not isinstance(value, Mapping):
        raise where.refuse("names and their values", value, "Write {NAME: VALUE}.")
    args = typing.get_args(kind)
    inner = args[1] if args else Any
    return {
        _name(key, where): checked(inner, item, where.below(str(key)))
        for key, item in value.items()
    }


def _name(key: Any, where: Where) -> str:
    if isinstance(key, bool) or not isinstance(key, (str, int)):
        raise where.refuse("names that are text", key)
    refuse_unwritable(str(key), where.key)
    return str(key)


def _section(kind: type, value: Any, where: Where) -> dict[str, Any]:
    """Return the converted keys of a section, those alone that are given."""
    if isinstance(value, InlineText):
        value = structure(value)
    names = kinds(kind)
    if not isinstance(value, Mapping):
        example = where.below(next(iter(names))).key
        raise where.refuse(f"keys such as {example}", value, "Name the key.")
    content = {}
    for key, item in value.items():
        if key not in names:
            siblings = top_level() if kind is Settings else names
            raise unknown_key(
                where.below(str(key)).key, where.source, siblings, getattr(key, "position", None)
            )
        content[str(key)] = checked(names[key], item, where.below(str(key)))
    return content


def _plainly(value: Any) -> Any:
    """Return a value without the classes that say where a text came from."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plainly(item) for key, item in value.items()}
    return [_plainly(item) for item in value] if isinstance(value, (list, tuple)) else value


register(typed)
