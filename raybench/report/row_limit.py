"""Fewer rows in the tables of a report of thousands of points, so that a browser can still show it."""

from __future__ import annotations

from dataclasses import replace

from raybench.analysis.device_verdicts import ACCEPT
from raybench.report.document import Document, Section, Table
from raybench.results.schema import VERDICTS
from raybench.text import counted

MOST_ROWS = 3000
"""Rows of all tables of a report that are shown; beyond that each table has `MOST_OF_TABLE` at most."""
MOST_OF_TABLE = 500
_SOUND = (VERDICTS[0], ACCEPT, "ok")


def limit_rows(document: Document) -> Document:
    """Return the document with the rows that matter most of each table, when there are very many.

    Rows with a verdict other than stable or accept come before others; the order stays.
    """
    tables = [part for one in document.sections for part in one.parts if isinstance(part, Table)]
    if sum(len(table.rows) for table in tables) <= MOST_ROWS:
        return document
    return replace(document, sections=[_limited_section(one) for one in document.sections])


def _limited_section(section: Section) -> Section:
    parts = [_limited(part) if isinstance(part, Table) else part for part in section.parts]
    return replace(section, parts=parts)


def _limited(table: Table) -> Table:
    if len(table.rows) <= MOST_OF_TABLE:
        return table
    at = [k for k, column in enumerate(table.columns) if column.kind == "verdict"]
    places = sorted(
        range(len(table.rows)),
        key=lambda place: all(table.rows[place][k].text in _SOUND for k in at),
    )[:MOST_OF_TABLE]
    doubtful = ", those with a verdict to look at first" if at else ""
    note = (
        f"{MOST_OF_TABLE} of {counted(len(table.rows), 'row')} are shown{doubtful}; raybench show and "
        "raybench accept write all with format=csv."
    )
    rows = [table.rows[place] for place in sorted(places)]
    return replace(table, caption=f"{table.caption} {note}".strip(), rows=rows)
