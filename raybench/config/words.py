"""Words of a command, taken as written: `name=value`, with or without dashes, and lists inside one."""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raybench.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

_UNWRITABLE = {"Cc": "a control character", "Cs": "bytes that are not UTF-8"}
_LINE_ENDS = "\u2028\u2029"
_DOUBLE = re.compile(r'"(?:[^"\\]|\\.)*"')
_SINGLE = re.compile(r"'(?:[^']|'')*'")
_DEEPEST = 20
_CLOSED_BY = {"[": "]", "{": "}"}


class InlineText(str):
    """The value of a word; a key that takes no text finds a list or mapping in its brackets."""

    __slots__ = ()


@dataclass(frozen=True)
class Word:
    """One word of a command, or two: `--name value`.

    Attributes:
        text: as it was written.
        name: what stands before the equals sign, without dashes.
        value: what stands behind it; None without an equals sign.
        dashed: whether it began with a dash.
    """

    text: str
    name: str
    value: str | None
    dashed: bool


def split(words: Sequence[str], switches: Collection[str] = ()) -> Iterator[Word]:
    """Yield the words of a command with names and values apart.

    A word with dashes and no equals sign takes the next word as its value, if that has neither.

    Args:
        words: as the shell hands them over.
        switches: names that have no value.

    Raises:
        ConfigError: for a word that holds control characters or is not UTF-8.
    """
    rest = list(words)
    while rest:
        text = rest.pop(0)
        refuse_unwritable(text)
        name, equals, value = text.partition("=")
        dashed = name.startswith("-")
        name = name.lstrip("-")
        if dashed and not equals and name not in switches and rest and _is_value(rest[0]):
            text, equals, value = f"{text} {rest[0]}", "=", rest.pop(0)
        yield Word(text, name, value if equals else None, dashed)


def _is_value(word: str) -> bool:
    return not word.startswith("-") and "=" not in word


def refuse_unwritable(text: str, where: str = "") -> None:
    """Refuse text that no file, table or terminal could hold as it is.

    Raises:
        ConfigError: for control characters, ends of lines and bytes that are not UTF-8.
    """
    for character in text:
        why = _UNWRITABLE.get(unicodedata.category(character))
        if why is not None or character in _LINE_ENDS:
            subject = f"{where}={shown(text)}" if where else shown(text)
            raise ConfigError(f"{subject} holds {why or 'an end of a line'}. Rename or remove it.")


def shown(value: Any) -> str:
    """Return a value as a message quotes it: on one line, and not longer than that."""
    quoted = repr(str(value) if isinstance(value, str) else value)
    return quoted if len(quoted) <= 120 else f"{quoted[:100]}...{quoted[-10:]}"


# ---------------------------------------------------------------- lists in a word


def has_open_bracket(text: str) -> bool:
    """Return whether a text begins a list or mapping that it does not end."""
    return text.startswith(("[", "{")) and any(
        text.count(left) > text.count(right) for left, right in _CLOSED_BY.items()
    )


def structure(text: str) -> Any:
    """Return the list or mapping that a text is, or the text itself if it is neither.

    Commas separate, quotes protect, and all else is as written: `[a #1.onnx, "c,d.onnx", 007]`.

    Raises:
        ConfigError: for brackets or quotes that are not closed.
    """
    if not text.startswith(("[", "{")):
        return text
    reader = _BracketReader(text)
    value = reader.read(0)
    if reader.place < len(text):  # a name such as [old]/net.onnx
        return text
    return text if value == {text[1:-1].strip(): None} else value


class _BracketReader:
    """Reads a list or mapping from its first bracket to the one that closes it.

    Attributes:
        place: of the next character.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self.place = 0

    def read(self, depth: int) -> Any:
        """Return the value that begins here."""
        if depth > _DEEPEST:
            raise ConfigError(f"{shown(self._text)} is nested too deeply. Use fewer brackets.")
        self._skip()
        opening = self._text[self.place : self.place + 1]
        if opening not in _CLOSED_BY or not opening:
            return self._scalar(",]}")
        self.place += 1
        return self._list(depth) if opening == "[" else self._mapping(depth)

    def _list(self, depth: int) -> list[Any]:
        items: list[Any] = []
        while not self._ends("]"):
            items.append(self.read(depth + 1))
            self._comma("]")
        return items

    def _mapping(self, depth: int) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        while not self._ends("}"):
            key = self._scalar(",}", is_key=True)
            if key in entries:
                raise ConfigError(f"{shown(self._text)} names {key!r} twice. Name it once.")
            self._skip()
            if self._text[self.place : self.place + 1] == ":":
                self.place += 1
                entries[key] = self.read(depth + 1)
            else:
                entries[key] = None
            self._comma("}")
        return entries

    def _ends(self, closing: str) -> bool:
        self._skip()
        if self.place >= len(self._text):
            raise ConfigError(
                f"{shown(self._text)} has a bracket that is not closed. Put the whole word in quotes, "
                "as in 'model.shapes.x=[N, 3]': without them the shell splits it at its spaces."
            )
        ends = self._text[self.place] == closing
        self.place += ends
        return ends

    def _comma(self, closing: str) -> None:
        self._skip()
        here = self._text[self.place : self.place + 1]
        if here == ",":
            self.place += 1
        elif here not in (closing, ""):
            raise ConfigError(
                f"{shown(self._text)} has {here!r} where a comma or {closing!r} belongs. "
                "Put names that hold brackets, commas or quotes in double quotes."
            )

    def _skip(self) -> None:
        while self._text[self.place : self.place + 1] == " ":
            self.place += 1

    def _scalar(self, ends: str, *, is_key: bool = False) -> str:
        self._skip()
        for pattern, value_of in ((_DOUBLE, _double), (_SINGLE, _single)):
            match = pattern.match(self._text, self.place)
            if match:
                self.place = match.end()
                return value_of(match[0])
        if self._text[self.place : self.place + 1] in ('"', "'"):
            raise ConfigError(f"{shown(self._text)} has a quote that is not closed. Close it.")
        start, depth = self.place, 0
        while self.place < len(self._text):
            here = self._text[self.place]
            if depth == 0 and (here in ends or (is_key and self._at_colon())):
                break
            depth += (here in "[{") - (here in "]}")
            self.place += 1
        found = self._text[start : self.place].strip()
        if not found:
            raise ConfigError(f"{shown(self._text)} has an empty place. Give every place a value.")
        return found

    def _at_colon(self) -> bool:
        return re.compile(r":(?=[ \[{\"'])").match(self._text, self.place) is not None


def _double(quoted: str) -> str:
    try:
        return str(json.loads(quoted))
    except ValueError:
        raise ConfigError(
            f"{shown(quoted)} has a backslash that means nothing. Write two for one."
        ) from None


def _single(quoted: str) -> str:
    return quoted[1:-1].replace("''", "'")
