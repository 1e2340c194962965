"""Tables for programs and pages: JSON, CSV and Markdown, as `show` and `compare` print them."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from typing import TYPE_CHECKING, Any

from raybench.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pyarrow as pa

_MARKUP = re.compile(r"([|<`])")


def to_json(facts: Any) -> str:
    """Return JSON in ASCII; what is unknown or not finite is null."""
    return json.dumps(_known(facts), indent=2, default=str, allow_nan=False) + "\n"


def _known(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _known(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_known(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def to_csv(rows: pa.Table, terminal: bool = False) -> str:
    """Return CSV as RFC 4180 defines it, but for its line ends.

    Unknown is empty, the items of a list are separated by spaces.

    Args:
        rows: with columns of scalars or lists.
        terminal: whether it is shown to a person; the cells are then made safe to print.
    """
    return csv_text(rows.column_names, (row.values() for row in rows.to_pylist()), terminal)


def csv_text(names: Sequence[str], rows: Iterable[Iterable[Any]], terminal: bool = False) -> str:
    """Return CSV as `to_csv` does, from the values of each row."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        cells = [_cell(value) for value in row]
        writer.writerow([printable(cell) for cell in cells] if terminal else cells)
    return text.getvalue()


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else value


def markdown_text(words: object) -> str:
    """Return text for a cell or a line of Markdown: safe to print, and no markup of its own."""
    return _MARKUP.sub(r"\\\1", printable(words))


def to_markdown(titles: Sequence[str], right: Sequence[bool], rows: Iterable[Sequence[str]]) -> str:
    """Return a table as Markdown.

    Args:
        titles: of the columns.
        right: which columns hold numbers and are aligned to the right.
        rows: cells as plain text.
    """
    rule = ["---:" if numbers else "---" for numbers in right]
    lines = [[markdown_text(cell) for cell in row] for row in (titles, *rows)]
    lines.insert(1, rule)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
