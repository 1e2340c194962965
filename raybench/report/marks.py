"""marks: what a reader must be told of a row, as a glyph and as words, the same everywhere."""

from __future__ import annotations

from raybench.report.table import FAILED_GLYPH, GLYPHS, OUTCOME_GLYPH, OUTCOMES

TAGS = {"simulated": "SIMULATED", "capped": "\N{BLACK DOWN-POINTING SMALL TRIANGLE} MEMORY LIMITED"}
"""Marks that stand beside a verdict; `unstable` and `unverified` are verdicts themselves."""


def glyph(word: str) -> str:
    """The sign of a verdict or status."""
    if word in GLYPHS:
        return GLYPHS[word]
    if word == "ok":
        return "·"
    return OUTCOME_GLYPH if word in OUTCOMES else FAILED_GLYPH
