"""Small tables below the result table, as aligned lines of text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def aligned(titles: Sequence[str], rows: Sequence[Sequence[str]], right: str) -> Iterator[str]:
    """Yield a line for the titles and for each row; columns without any value are left out.

    Args:
        titles: of the columns.
        rows: cells as plain text, empty where unknown.
        right: a letter for each column, "r" for those aligned to the right.
    """
    kept = [place for place in range(len(titles)) if any(row[place] for row in rows)]
    widths = {place: max(len(titles[place]), *(len(row[place]) for row in rows)) for place in kept}
    written = [[cell or ("-" if title else "") for cell, title in zip(row, titles, strict=True)]
               for row in rows]  # fmt: skip
    for row in (titles, *written):
        cells = (
            row[place].rjust(widths[place])
            if right[place] == "r"
            else row[place].ljust(widths[place])
            for place in kept
        )
        yield "  " + "  ".join(cells).rstrip()


def share_in_percent(share: float | None) -> str:
    """Return a share in percent; empty if unknown."""
    if share is None:
        return ""
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.1f} %"
