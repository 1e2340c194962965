"""Write tables of Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def markdown(heads: Sequence[str], rows: Iterable[Sequence[Any]], right: str = "") -> list[str]:
    """Return the lines of a table.

    Args:
        heads: of the columns.
        rows: cells of each row, written by `str`.
        right: heads of the columns that are aligned to the right, separated by commas.
    """
    aligned = {head.strip() for head in right.split(",")}
    rules = ["---:" if head in aligned else "---" for head in heads]
    lines = [f"|{'|'.join(rules)}|", *(f"| {' | '.join(map(str, row))} |" for row in rows)]
    return [f"| {' | '.join(heads)} |", *lines]
