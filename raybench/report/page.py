"""A report as one HTML page that needs no network, no other files and no scripts.

All text may come from names in the data, so it is escaped, and the page's content security policy
allows only its own script.
"""

from __future__ import annotations

import base64
import hashlib
import re
from html import escape
from importlib import resources
from typing import TYPE_CHECKING

from raybench.report.document import Figure, Paragraph, Table, Tally
from raybench.report.symbols import TAGS, glyph
from raybench.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.report.document import Column, Document, Part, Section, TableCell

MOST_OF_DRAWING = 150_000
"""Letters of a drawing in the page; one with more is an image there, and its SVG a file beside it."""
_LONG = 24
"""Length above which a name or a text may be broken into lines."""
_SENTENCES = 120
"""Length above which a text needs long lines, or its row grows tall."""
_BREAK = re.compile(r"([_./:-])(?=\w)")
_CLASSES = {
    "factor": "f", "count": "c", "number": "n", "interval": "i", "verdict": "w", "text": "t",
    "drawing": "d",
}  # fmt: skip
"""CSS class by kind of column, short because a page may have ten thousand cells."""


def page(document: Document) -> str:
    """Return the whole page."""
    css, js = _asset("page.css"), _asset("page.js")
    digest = base64.b64encode(hashlib.sha256(js.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    sections = "\n".join(_section(section) for section in document.sections)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{text(document.title)}</title>
<link rel="icon" href="data:,">
<style>{css}</style>
</head>
<body>
{_navigation(document)}
<main>
<header>
<p class="eyebrow">raybench report</p>
<h1>{text(document.title)}</h1>
<p class="sub">{text(document.subtitle)}</p>
</header>
{sections}
</main>
<script>{js}</script>
</body>
</html>
"""


def text(value: str) -> str:
    """Escape a text for HTML; control characters and marks of direction become visible."""
    return escape(printable(value), quote=True)


def _asset(name: str) -> str:
    return resources.files("raybench.report").joinpath("assets").joinpath(name).read_text("utf-8")


def _navigation(document: Document) -> str:
    links = "".join(
        f'<a href="#{text(section.name)}">{text(section.title)}</a>'
        for section in document.sections
    )
    toggle = '<button type="button" id="theme" hidden>Theme: system</button>'
    return f'<nav aria-label="Sections"><div>{links}</div>{toggle}</nav>'


def _section(section: Section) -> str:
    parts = "\n".join(_part(part) for part in section.parts)
    name = text(section.name)
    return (
        f'<section id="{name}" aria-labelledby="{name}-head">\n'
        f'<h2 id="{name}-head">{text(section.title)}</h2>\n{parts}\n</section>'
    )


def _part(part: Part) -> str:
    if isinstance(part, Paragraph):
        lead = f"<b>{text(part.lead)}</b> " if part.lead else ""
        return f'<p class="{part.tone}">{lead}{text(part.text)}</p>'
    if isinstance(part, Tally):
        return _tally(part)
    return _table(part) if isinstance(part, Table) else _figure(part)


def _tally(tally: Tally) -> str:
    tiles = "".join(
        f"<li><b>{count:,}</b> {_verdict(word, ())}</li>" for word, count in tally.counts
    )
    return f'<ul class="tally">{tiles}</ul>'


def _figure(figure: Figure) -> str:
    name = text(figure.name)
    return (
        f'<figure id="{name}"><div class="plot" style="--natural:{figure.width_px}px">'
        f'{_drawing(figure)}</div><figcaption><b id="{name}-title">{text(figure.title)}</b> '
        f'{text(figure.caption)} <span class="files"><a href="figures/{name}.svg">SVG</a> '
        f'<a href="figures/{name}.png">PNG</a></span></figcaption></figure>'
    )


def _drawing(figure: Figure) -> str:
    """Return the drawing; one of thousands of marks as an image, which is smaller and drawn faster."""
    image = base64.b64encode(figure.png).decode()
    if len(figure.inline) <= max(MOST_OF_DRAWING, len(image)):
        return figure.inline
    return f'<img src="data:image/png;base64,{image}" alt="" aria-labelledby="{text(figure.name)}-title">'


def _table(table: Table) -> str:
    heads = "".join(_head(column) for column in table.columns)
    body = "\n".join(
        f"<tr>{''.join(_cell(c, k) for c, k in zip(row, table.columns, strict=True))}</tr>"
        for row in table.rows
    )
    name = text(table.name)
    caption = f"<caption>{text(table.caption)}</caption>" if table.caption else ""
    return (
        f'<div class="table" id="{name}"><div class="tools" hidden></div>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(table.caption)}">'
        f"<table>{caption}<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}\n</tbody></table>"
        "</div></div>"
    )


def _head(column: Column) -> str:
    unit = f' <span class="unit">{text(column.unit)}</span>' if column.unit else ""
    return f'<th scope="col" class="{_CLASSES[column.kind]}">{text(column.title)}{unit}</th>'


def _cell(cell: TableCell, column: Column) -> str:
    long = column.kind == "factor" and len(cell.text) > _LONG
    css = f' class="{_CLASSES[column.kind]}{_length(cell, column)}"'
    if column.kind == "verdict":
        return f"<td{css}>{_verdict(cell.text, cell.marks)}</td>"
    if cell.drawing is not None:
        return f"<td{css}>{cell.drawing}</td>"
    content = text(cell.text)
    if long and column.kind == "factor":
        content = _BREAK.sub(r"\1<wbr>", content)
    return f"<td{css}>{content}</td>"


def _length(cell: TableCell, column: Column) -> str:
    """Return the CSS class of a cell whose text is long, after a space."""
    if column.kind not in ("factor", "text") or len(cell.text) <= _LONG:
        return ""
    return " s" if column.kind == "text" and len(cell.text) > _SENTENCES else " l"


def _verdict(word: str, marks: Sequence[str]) -> str:
    tags = "".join(f' <span class="tag">{text(TAGS[m])}</span>' for m in marks if m in TAGS)
    kind = re.sub(r"[^a-z]", "-", word.lower())
    return f'<span class="v v-{kind}">{glyph(word)} {text(word.replace("_", " "))}</span>{tags}'
