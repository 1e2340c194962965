"""The content of a report, independent of whether it becomes a page or Markdown.

Sections hold paragraphs, tables and figures in reading order. All text is plain: the writer of a
format escapes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

Tone: TypeAlias = Literal["plain", "good", "bad", "open", "missing", "note"]
"""Kind of a paragraph: a finding (good, bad or open), something missing, or a remark."""


@dataclass(frozen=True)
class Paragraph:
    """A few sentences.

    Attributes:
        lead: emphasized topic in front of the text, e.g. `Reproduced.`
    """

    text: str
    tone: Tone = "plain"
    lead: str = ""


@dataclass(frozen=True)
class Column:
    """Head of a column.

    Attributes:
        unit: shown beside the title, e.g. `ms`.
        kind: `factor` and `count` can be filtered by value; `count` and `number` are aligned right
            and sorted as numbers; `interval` belongs to the number before it; `verdict` is a word
            with a symbol.
    """

    title: str
    unit: str = ""
    kind: Literal["factor", "count", "number", "interval", "verdict", "text", "drawing"] = "text"


@dataclass(frozen=True)
class TableCell:
    """One entry of a table.

    Attributes:
        drawing: an SVG element to show instead of the text.
        marks: of the row, for a verdict.
    """

    text: str
    drawing: str | None = None
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """Rows under columns; the numbers of a column have the same decimals."""

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[TableCell]]


@dataclass(frozen=True)
class Figure:
    """A drawing with its caption.

    Attributes:
        name: of its files, without suffix.
        caption: what was measured and how certain it is.
        inline: SVG element whose colours follow the page.
        svg: the same as a file of its own.
        png: the same as a bitmap.
        width_px: natural width.
    """

    name: str
    title: str
    caption: str
    inline: str
    svg: str
    png: bytes
    width_px: int


@dataclass(frozen=True)
class Tally:
    """Number of points of each verdict or status, best first."""

    counts: Sequence[tuple[str, int]]


Part: TypeAlias = Paragraph | Tally | Table | Figure


@dataclass(frozen=True)
class Section:
    """A part of a report with a title."""

    name: str
    title: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class Document:
    """A report.

    Attributes:
        subtitle: what was measured and when, in a line.
    """

    title: str
    subtitle: str
    sections: Sequence[Section]

    @property
    def figures(self) -> list[Figure]:
        """All figures, in order."""
        return [p for section in self.sections for p in section.parts if isinstance(p, Figure)]
