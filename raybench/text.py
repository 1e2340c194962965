"""Text: words of others made safe to print, counts in words, and the JSON that ids are hashes of.

Names of models and files, reasons of libraries, notes and host names may hold anything, also what a
terminal obeys. Whatever raybench prints passes `printable`.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_BREAKS = re.compile(r"[\t\n\v\f\r\x85\u2028\u2029]+")
"""Whatever ends a line or moves on in it; a line of ours stays one line."""
_OBEYED = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # C0 and C1: ESC, BEL, BS, CSI, OSC
    "\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # direction, invisible
    "\U000e0000-\U000e007f"  # tags, which are invisible too
    "\ud800-\udfff]"  # bytes of a file name that are not UTF-8
)


def printable(words: object) -> str:
    r"""Return text on one line, without anything that a terminal would obey.

    Line breaks and tabs become a space; control characters, also those that change the direction
    of writing, become visible escapes such as \x1b.
    """
    text = str(words)
    if text.isascii() and text.isprintable():
        return text
    return _OBEYED.sub(_escape, _BREAKS.sub(" ", text))


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return (
        f"\\x{code:02x}"
        if code < 0x100
        else f"\\u{code:04x}"
        if code < 0x10000
        else f"\\U{code:08x}"
    )


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: "1 point", "1,200 points".

    Args:
        number: how many there are.
        noun: the singular.
        plural: where it is not the singular with an s.
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def agreeing(number: int, singular: str, plural: str) -> str:
    """Return the form of a verb that agrees with a number of things."""
    return singular if number == 1 else plural


# Ids of points, environments, models and plans are hashes over these bytes: a change here would
# measure every point anew and miss every cache.


def canonical_json(value: Any, default: Callable[[Any], Any] | None = None) -> str:
    """Return JSON with sorted keys, no spaces and ASCII only.

    Args:
        value: what to write.
        default: converts what JSON cannot hold; by default that is a TypeError.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=default)


def canonical_hash(value: Any, digits: int, default: Callable[[Any], Any] | None = None) -> str:
    """Return the first hex digits of the SHA-256 over the canonical JSON of a value."""
    return hashlib.sha256(canonical_json(value, default).encode()).hexdigest()[:digits]
