"""sentences: what sections say in words: findings with their marks, and what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.report.document import Paragraph

if TYPE_CHECKING:
    from collections.abc import Iterable

_MOST_GAPS = 10


def marked(sentence: str, marks: Iterable[str]) -> str:
    """The sentence with what must be told of the rows behind it."""
    told = [mark for mark in ("simulated", "unstable") if mark in set(marks)]
    return f"{sentence} ({', '.join(told)})" if told and sentence else sentence


def missing(sentences: Iterable[str]) -> list[Paragraph]:
    """What could not be said and why: each once, and not more of them than anyone reads."""
    unique = list(dict.fromkeys(sentence for sentence in sentences if sentence))
    parts = [Paragraph(sentence, "missing", "Missing.") for sentence in unique[:_MOST_GAPS]]
    if len(unique) > _MOST_GAPS:
        parts.append(Paragraph(f"And {len(unique) - _MOST_GAPS} more of the kind.", "note"))
    return parts
