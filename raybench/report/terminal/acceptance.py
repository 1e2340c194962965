"""Output of `raybench accept`: a table, Markdown, JSON, CSV or JUnit."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

from rich import box
from rich.console import Group
from rich.table import Table

from raybench.analysis.device_verdicts import ACCEPT, OUTCOMES, REJECT, UNDECIDED
from raybench.analysis.tables import as_dict
from raybench.report.fleet_lines import (
    RIGHT,
    TITLES,
    cause,
    closing,
    fleet_lines,
    heading,
    interval,
    titles,
)
from raybench.report.terminal.console import emit, words, write
from raybench.report.terminal.formats import markdown_text, to_csv, to_json, to_markdown
from raybench.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO

    from rich.console import RenderableType

    from raybench.analysis.device_verdicts import Acceptance

_GLYPHS = {REJECT: "✗", UNDECIDED: "?", ACCEPT: "✓"}
_COLOURS = {REJECT: "red", UNDECIDED: "yellow", ACCEPT: "green"}
_OPTIONAL = ("to the others", "to the baseline", "at")
"""Columns that are left out where they say nothing, or the same of every device."""


def print_acceptance(acceptance: Acceptance, form: str, file: IO[str]) -> None:
    """Print the verdicts.

    Args:
        acceptance: from `analysis.acceptance`.
        form: one of `FORMATS`.
        file: the output.
    """
    if form == "table":
        emit(lambda width: _table(acceptance), file)
    elif form == "csv":
        write(to_csv(acceptance.as_table(), file.isatty()), file)
    else:
        write(_WRITERS[form](acceptance), file)


def _columns(acceptance: Acceptance) -> tuple[list[int], list[tuple[tuple[str, ...], str]]]:
    """Return the places of the columns that are shown, and the lines."""
    lines = [(line.cells, line.verdict) for line in fleet_lines(acceptance)]
    shown = []
    for place, title in enumerate(TITLES):
        values = {cells[place] for cells, _ in lines} - {""}
        alike = title == "at" and len({v.series.model for v in acceptance.verdicts}) == 1
        one_situation = len({v.situation for v in acceptance.verdicts}) == 1
        if not values or (title in _OPTIONAL and alike and one_situation):
            continue
        shown.append(place)
    return shown, lines


def _table(acceptance: Acceptance) -> RenderableType:
    shown, lines = _columns(acceptance)
    named = titles(acceptance)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for place in shown:
        title = named[place]
        right = "right" if RIGHT[place] else "left"
        table.add_column(words(title), justify=right, no_wrap=title not in ("at", "cause"))  # type: ignore[arg-type]
    for cells, verdict in lines:
        row = [
            words(f"{_GLYPHS[verdict]} {cell}", _COLOURS[verdict])
            if TITLES[place] == "verdict"
            else words(cell)
            for place, cell in enumerate(cells)
            if place in shown
        ]
        table.add_row(*row)
    above = [words(line) for line in (*heading(acceptance), "")]
    return Group(*above, table, *(words(line) for line in ("", *closing(acceptance))))


def _markdown(acceptance: Acceptance) -> str:
    shown, lines = _columns(acceptance)
    rows = [
        [
            f"**{cells[k]}**" if TITLES[k] == "verdict" and verdict == REJECT else cells[k]
            for k in shown
        ]
        for cells, verdict in lines
    ]
    table = to_markdown([titles(acceptance)[k] for k in shown], [RIGHT[k] for k in shown], rows)
    first, *rest = closing(acceptance)
    above, below = (
        "".join(f"- {markdown_text(line)}\n" for line in part)
        for part in (heading(acceptance), rest)
    )
    return f"### raybench accept: {markdown_text(first)}\n\n{above}\n{table}\n{below}"


def _json(acceptance: Acceptance) -> str:
    facts = as_dict(acceptance)
    facts["counts"] = {verdict: acceptance.count(verdict) for verdict in OUTCOMES}
    facts["exit_code"] = acceptance.exit_code
    return to_json(facts)


def _junit(acceptance: Acceptance) -> str:
    """Return a test for each device: rejected fails, undecided is skipped."""
    suite = ElementTree.Element(
        "testsuite",
        {
            "name": "raybench accept",
            "tests": str(len(acceptance.devices)),
            "failures": str(acceptance.count(REJECT)),
            "skipped": str(acceptance.count(UNDECIDED)),
        },
    )
    for one in acceptance.devices:
        name = {"classname": "raybench.accept", "name": printable(one.name)}
        case = ElementTree.SubElement(suite, "testcase", name)
        group = f"{one.worst.slow_group} is slow; " if one.worst.slow_group else ""
        ratio = interval(one.worst.ratio)
        message = printable(": ".join(filter(None, (ratio, group + cause(one)))))
        if one.verdict == REJECT:
            ElementTree.SubElement(case, "failure", {"message": message})
        elif one.verdict == UNDECIDED:
            ElementTree.SubElement(case, "skipped", {"message": message})
        else:
            ElementTree.SubElement(case, "system-out").text = message
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    text: str = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


_WRITERS: dict[str, Callable[[Acceptance], str]] = {
    "markdown": _markdown,
    "json": _json,
    "junit": _junit,
}
FORMATS = ("table", *_WRITERS, "csv")
