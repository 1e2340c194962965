"""sentences: what sections say in words: findings with their marks, and what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raybench.report.document import Paragraph

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from raybench.report.labels import Naming

_MOST_GAPS = 10
_MOST_NAMES = 3


def marked(sentence: str, marks: Iterable[str]) -> str:
    """The sentence with what must be told of the rows behind it."""
    told = [mark for mark in ("simulated", "unstable") if mark in set(marks)]
    return f"{sentence} ({', '.join(told)})" if told and sentence else sentence


def gaps(ones: Sequence[Any], naming: Naming) -> list[str]:
    """What could not be said of curves, each sentence once, with whose it is unless all share it.

    Args:
        ones: with `series` and `missing`.
        naming: of their series.
    """
    whose: dict[str, list[str]] = {}
    for one in ones:
        for sentence in one.missing:
            whose.setdefault(sentence, []).append(naming.label(one.series))
    told = []
    for sentence, labels in whose.items():
        more = f" and {len(labels) - _MOST_NAMES} more" if len(labels) > _MOST_NAMES else ""
        names = f"{'; '.join(labels[:_MOST_NAMES])}{more}: "
        told.append(sentence if len(labels) == len(ones) else names + sentence)
    return told


def missing(sentences: Iterable[str]) -> list[Paragraph]:
    """What could not be said and why: each once, and not more of them than anyone reads."""
    unique = list(dict.fromkeys(sentence for sentence in sentences if sentence))
    parts = [Paragraph(sentence, "missing", "Missing.") for sentence in unique[:_MOST_GAPS]]
    if len(unique) > _MOST_GAPS:
        parts.append(Paragraph(f"And {len(unique) - _MOST_GAPS} more of the kind.", "note"))
    return parts
