"""A report as Markdown, with its figures as files beside it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from raybench.report.document import Figure, Paragraph, Table, Tally
from raybench.report.symbols import TAGS, glyph
from raybench.text import printable

if TYPE_CHECKING:
    from raybench.report.document import Column, Document, Part, TableCell

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|~$#])")


def markdown(document: Document) -> str:
    """Return the document as Markdown, without the drawings in tables."""
    lines = [f"# {text(document.title)}", "", text(document.subtitle), ""]
    for section in document.sections:
        lines += [f"## {text(section.title)}", ""]
        for part in section.parts:
            lines += [*_part(part), ""]
    return "\n".join(lines).rstrip() + "\n"


def text(value: str) -> str:
    """Escape a text and put it on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(printable(value).split()))


def _part(part: Part) -> list[str]:
    if isinstance(part, Paragraph):
        lead = f"**{text(part.lead)}** " if part.lead else ""
        return [f"{lead}{text(part.text)}"]
    if isinstance(part, Tally):
        return [", ".join(f"{count} {glyph(w)} {text(w)}" for w, count in part.counts)]
    if isinstance(part, Figure):
        image = f"![{text(part.title)}](figures/{part.name}.png)"
        return [image, "", f"**{text(part.title)}.** {text(part.caption)}"]
    return _table(part)


def _table(table: Table) -> list[str]:
    kept = [k for k, column in enumerate(table.columns) if column.kind != "drawing"]
    columns = [table.columns[k] for k in kept]
    heads = [text(f"{c.title} ({c.unit})" if c.unit else c.title) for c in columns]
    right = ("number", "count", "interval")
    rules = ["---:" if c.kind in right else ":---" for c in columns]
    rows = [[_cell(row[k], table.columns[k]) for k in kept] for row in table.rows]
    caption = [text(table.caption), ""] if table.caption else []
    return [*caption, *(f"| {' | '.join(line)} |" for line in (heads, rules, *rows))]


def _cell(cell: TableCell, column: Column) -> str:
    if column.kind != "verdict":
        return text(cell.text)
    tags = "".join(f" {TAGS[mark]}" for mark in cell.marks if mark in TAGS)
    return f"{glyph(cell.text)} {text(cell.text)}{tags}"
