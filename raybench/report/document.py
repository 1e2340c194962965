"""Document: what a report says, before it is a page or Markdown.

Sections hold paragraphs, tables and figures in the order in which they are read. Text is plain
text: whoever writes it out escapes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

Tone: TypeAlias = Literal["plain", "good", "bad", "open", "missing", "note"]
"""How a sentence is meant: a finding (good, bad or open), something that is missing, a remark."""


@dataclass(frozen=True)
class Paragraph:
    """Some sentences.

    Attributes:
        lead: words in front of the text that say what it is about, e.g. `Reproduced`.
    """

    text: str
    tone: Tone = "plain"
    lead: str = ""


@dataclass(frozen=True)
class Column:
    """Head of a column.

    Attributes:
        unit: shown beside the title, e.g. `ms`.
        kind: `factor` and `count` can be filtered by value; `count` and `number` are set right and
            sorted as numbers; `interval` belongs to the number before it; `verdict` is a word with its mark.
    """

    title: str
    unit: str = ""
    kind: Literal["factor", "count", "number", "interval", "verdict", "text", "drawing"] = "text"


@dataclass(frozen=True)
class Cell:
    """One entry of a table.

    Attributes:
        drawing: an SVG element of ours that is shown in place of the text.
        marks: of the row, for a verdict.
    """

    text: str
    drawing: str | None = None
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """Rows under columns; cells of numbers are written with the same decimals in a column."""

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Figure:
    """A drawing with what it says.

    Attributes:
        name: of its files, without suffix.
        caption: what was measured and how sure it is.
        inline: SVG element whose colours follow the page.
        svg: the same as a file of its own.
        png: the same as an image.
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
    """How many points there are of each verdict or status, best first."""

    counts: Sequence[tuple[str, int]]


Part: TypeAlias = Paragraph | Tally | Table | Figure


@dataclass(frozen=True)
class Section:
    """Part of a report under a title."""

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
