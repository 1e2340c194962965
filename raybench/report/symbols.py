"""Symbols and words for verdicts, statuses and marks, the same in every output."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.text import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from raybench.analysis.marks import Marked

GLYPHS = {
    "stable": "✓", "unverified": "?", "unstable": "~", "accept": "✓", "undecided": "?",
}  # fmt: skip
FAILED_GLYPH, OUTCOME_GLYPH = "✗", "∅"
OUTCOMES = ("out_of_memory", "unsupported", "infeasible")
CARET = "\N{BLACK DOWN-POINTING SMALL TRIANGLE}"
WORDS = {
    "simulated": "simulated, no hardware",
    "capped": "memory limited",
    "unstable": "unstable",
    "unverified": "unverified",
}
"""Each mark of `analysis.marks.MARKS` in words, in the order to list them."""
TAGS = {"simulated": "SIMULATED", "capped": f"{CARET} MEMORY LIMITED"}
"""Marks to show beside a verdict; `unstable` and `unverified` are verdicts themselves."""
_MEANING = {
    "simulated": "timings come from a formula",
    "capped": "run with less memory than the device has",
    "unstable": "contradicted by their own evidence",
    "unverified": "measured too briefly to claim more",
}


def glyph(word: str) -> str:
    """Return the symbol of a verdict or status."""
    if word in GLYPHS:
        return GLYPHS[word]
    if word == "ok":
        return "·"
    return OUTCOME_GLYPH if word in OUTCOMES else FAILED_GLYPH


def marks_in_words(marks: Iterable[str]) -> str:
    """Return the marks in words."""
    present = set(marks)
    return ", ".join(WORDS[mark] for mark in WORDS if mark in present)


def count_marks(points: Sequence[Marked]) -> dict[str, str]:
    """Return for each mark that occurs how many points have it, and what it means."""
    sentences = {}
    for mark, meaning in _MEANING.items():
        count = sum(mark in point.marks for point in points)
        if count:
            every = counted(len(points), "point")
            who = f"{count} of {every}" if count < len(points) else f"all {every}"
            sentences[mark] = f"{who if len(points) > 1 else 'the point'}, {meaning}"
    return sentences
