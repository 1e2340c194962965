"""marks: what a reader must be told of a row, as a glyph and as words, the same everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

GLYPHS = {"stable": "✓", "unverified": "?", "unstable": "~"}
FAILED_GLYPH, OUTCOME_GLYPH = "✗", "∅"
OUTCOMES = ("out_of_memory", "unsupported", "infeasible")
CARET = "\N{BLACK DOWN-POINTING SMALL TRIANGLE}"
WORDS = {
    "simulated": "simulated, no hardware",
    "capped": "memory limited",
    "unstable": "unstable",
    "unverified": "unverified",
}
"""Each mark of `points.MARKS` in words, in the order in which they are told."""
TAGS = {"simulated": "SIMULATED", "capped": f"{CARET} MEMORY LIMITED"}
"""Marks that stand beside a verdict; `unstable` and `unverified` are verdicts themselves."""
_MEANING = {
    "simulated": "timings come from a formula",
    "capped": "run with less memory than the device has",
    "unstable": "contradicted by their own evidence",
    "unverified": "measured too briefly to claim more",
}


class Marked(Protocol):
    """Anything of an analysis that has marks."""

    @property
    def marks(self) -> tuple[str, ...]:
        """See `points.MARKS`."""


def glyph(word: str) -> str:
    """The sign of a verdict or status."""
    if word in GLYPHS:
        return GLYPHS[word]
    if word == "ok":
        return "·"
    return OUTCOME_GLYPH if word in OUTCOMES else FAILED_GLYPH


def words(marks: Iterable[str]) -> str:
    """Marks in words."""
    present = set(marks)
    return ", ".join(WORDS[mark] for mark in WORDS if mark in present)


def counted(points: Sequence[Marked]) -> dict[str, str]:
    """By mark that occurs: how many of the points have it, and what it means."""
    found = {}
    for mark, meaning in _MEANING.items():
        count = sum(mark in point.marks for point in points)
        if count:
            who = "all" if count == len(points) else f"{count} of {len(points)}"
            found[mark] = f"{who} points, {meaning}"
    return found
