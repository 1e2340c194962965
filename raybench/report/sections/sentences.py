"""Sentences of sections: findings with their marks, and what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raybench.report.document import Paragraph

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from raybench.report.labels import Naming

_MOST_GAPS = 10
_MOST_NAMES = 3


def marked(sentence: str, marks: Iterable[str]) -> str:
    """Return the sentence with the marks of the rows behind it."""
    shown = [mark for mark in ("simulated", "unstable") if mark in set(marks)]
    return f"{sentence} ({', '.join(shown)})" if shown and sentence else sentence


def gaps(curves: Sequence[Any], naming: Naming) -> list[str]:
    """Return what is missing of curves: each sentence once, with its series unless all share it.

    Args:
        curves: with `series` and `missing`.
        naming: of their series.
    """
    labels_of: dict[str, list[str]] = {}
    for one in curves:
        for sentence in one.missing:
            labels_of.setdefault(sentence, []).append(naming.label(one.series))
    sentences = []
    for sentence, labels in labels_of.items():
        more = f" and {len(labels) - _MOST_NAMES} more" if len(labels) > _MOST_NAMES else ""
        names = f"{'; '.join(labels[:_MOST_NAMES])}{more}: "
        sentences.append(sentence if len(labels) == len(curves) else names + sentence)
    return sentences


def missing(sentences: Iterable[str]) -> list[Paragraph]:
    """Return a paragraph for each different sentence, at most ten of them."""
    unique = list(dict.fromkeys(sentence for sentence in sentences if sentence))
    parts = [Paragraph(sentence, "missing", "Missing.") for sentence in unique[:_MOST_GAPS]]
    if len(unique) > _MOST_GAPS:
        parts.append(Paragraph(f"And {len(unique) - _MOST_GAPS} more of the kind.", "note"))
    return parts
