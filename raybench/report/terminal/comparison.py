"""Output of `raybench compare`: a table, Markdown, JSON, CSV or JUnit."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING
from xml.etree import ElementTree

from rich import box
from rich.console import Group
from rich.table import Table

from raybench.analysis.comparability import FACTORS
from raybench.analysis.compare import (
    IMPROVED,
    INCONCLUSIVE,
    MISSING,
    REGRESSED,
    SAME,
)
from raybench.analysis.tables import as_dict
from raybench.report.formatting import with_half_width
from raybench.report.labels import factor_value
from raybench.report.terminal.console import emit, words, write
from raybench.report.terminal.formats import markdown_text, to_csv, to_json, to_markdown
from raybench.text import counted, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import RenderableType

    from raybench.analysis.compare import Change, Comparison

OUTCOMES = (REGRESSED, IMPROVED, SAME, INCONCLUSIVE, MISSING)
_GLYPHS = {REGRESSED: "▼", IMPROVED: "▲", SAME: "=", INCONCLUSIVE: "?", MISSING: "∅"}
_COLOURS = {REGRESSED: "red", IMPROVED: "green", SAME: "", INCONCLUSIVE: "yellow", MISSING: "cyan"}
_ALWAYS = ("model", "precision", "batch_size", "workers")
"""Factors that always name a point, where they have a value."""
_PREFIXES = {"batch_size": "batch ", "workers": "x"}
_SILENT = ("environment_id", "method_version", "simulated", "engine_options")


def print_comparison(
    comparison: Comparison, form: str, file: IO[str], *, strict: bool = False
) -> None:
    """Print a comparison.

    Args:
        comparison: from `analysis.compare`.
        form: one of `FORMATS`.
        file: the output.
        strict: undecided points count as failures in JUnit and in JSON's exit code.
    """
    if form == "table":
        emit(lambda width: _table(comparison), file)
    else:
        write(_written(comparison, form, strict, file.isatty()), file)


def _written(comparison: Comparison, form: str, strict: bool, terminal: bool) -> str:
    if form == "csv":
        return to_csv(comparison.as_table(), terminal)
    return _WRITERS[form](comparison, strict)


def counts(comparison: Comparison) -> str:
    """Return the number of points of each outcome, in words."""
    parts = [
        f"{comparison.count(outcome)} {outcome}"
        for outcome in OUTCOMES
        if comparison.count(outcome)
    ]
    return f"{counted(len(comparison.changes), 'point')}: {', '.join(parts)}."


def name_of(change: Change, names: Sequence[str]) -> str:
    """Return the name of a point: those of the given factors that have a value."""
    values = [(name, _value(change, name)) for name in names]
    return " ".join(_named(name, value) for name, value in values if value is not None)


def _named(name: str, value: object) -> str:
    plain = name in ("model", "precision", "device", "engine")
    prefix = "" if plain else _PREFIXES.get(name, f"{name} ")
    return f"{prefix}{factor_value(name, value)}"


def _value(change: Change, name: str) -> object:
    return change.workers if name == "workers" else getattr(change.series, name)


def _factors(comparison: Comparison) -> list[str]:
    """Return the factors that name a point: the usual ones and whatever else varies."""
    varying = [
        name
        for name in FACTORS
        if name not in (*_ALWAYS, *_SILENT)
        and len({_value(change, name) for change in comparison.changes}) > 1
    ]
    return [*_ALWAYS, *varying]


def _ratio(change: Change) -> str:
    value, lo, hi = change.ratio
    if value is None:
        return "-"
    return f"{value:.3f}" if lo is None else f"{value:.3f} [{lo:.3f}, {hi:.3f}]"


def _marked(change: Change) -> str:
    """Return the outcome with the marks that a reader must know."""
    marks = [mark for mark in change.marks if mark in ("simulated", "capped")]
    return " ".join([change.outcome, *(mark.upper() for mark in marks)])


def _cells(change: Change, names: Sequence[str]) -> list[str]:
    return [
        name_of(change, names),
        with_half_width(change.a),
        with_half_width(change.b),
        _ratio(change),
    ]


def _notes(comparison: Comparison) -> list[str]:
    """Return the notes below the table."""
    names = _factors(comparison)
    notes = [f"{name_of(c, names)}: {c.note}" for c in comparison.changes if c.note]
    detectable = [c.detectable for c in comparison.changes if c.detectable is not None]
    if detectable:
        least, most = 100 * min(detectable), 100 * max(detectable)
        reach = f"{least:.1f} %" if most - least < 0.05 else f"{least:.1f} to {most:.1f} %"
        notes.append(f"These trials find a change of {reach} in about 80 of 100 cases.")
    return [*notes, *comparison.missing]


def _heading(comparison: Comparison) -> list[str]:
    """Return what is compared and what differs."""
    lines = [
        f"A {comparison.a_name}",
        f"B {comparison.b_name}",
        f"{comparison.metric}, B / A with its 95 % interval; changes "
        f"below {100 * comparison.threshold:g} % are ignored",
    ]
    lines += [f"{name}: {a} against {b}" for name, a, b in comparison.differs]
    return lines


def _table(comparison: Comparison) -> RenderableType:
    names = _factors(comparison)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("point")
    for title in ("A", "B", "B / A"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("outcome", no_wrap=True)
    for change in comparison.changes:
        outcome = words(f"{_GLYPHS[change.outcome]} {_marked(change)}", _COLOURS[change.outcome])
        table.add_row(*(words(cell) for cell in _cells(change, names)), outcome)
    heading = [words(line) for line in (*_heading(comparison), "")]
    return Group(
        *heading, table, *(words(line) for line in ("", counts(comparison), *_closing(comparison)))
    )


def _closing(comparison: Comparison) -> list[str]:
    lines = _notes(comparison)
    if comparison.geometric_mean is not None and len(comparison.changes) > 1:
        lines.append(
            f"Geometric mean of the ratios, descriptive only: {comparison.geometric_mean:.3f}."
        )
    return lines


def _markdown(comparison: Comparison, strict: bool) -> str:
    names = _factors(comparison)
    rows = []
    for change in comparison.changes:
        bold = "**" if change.outcome == REGRESSED else ""
        rows.append([*_cells(change, names), f"{bold}{_marked(change)}{bold}"])
    heading, closing = (
        "".join(f"- {markdown_text(line)}\n" for line in lines)
        for lines in (_heading(comparison), _closing(comparison))
    )
    titles = ("point", "A", "B", "B / A", "outcome")
    table = to_markdown(titles, (False, True, True, True, False), rows)
    return f"### raybench compare: {counts(comparison)}\n\n{heading}\n{table}\n{closing}"


def _json(comparison: Comparison, strict: bool) -> str:
    facts = as_dict(comparison)
    facts["counts"] = {outcome: comparison.count(outcome) for outcome in OUTCOMES}
    facts["exit_code"] = comparison.exit_code(strict)
    return to_json(facts)


def _junit(comparison: Comparison, strict: bool) -> str:
    """Return a test for each point: regressed fails, undecided is skipped or, if strict, fails."""
    undecided = comparison.count(INCONCLUSIVE) + comparison.count(MISSING)
    failures = comparison.count(REGRESSED) + (undecided if strict else 0)
    facts = {
        "name": printable(f"raybench compare {comparison.a_name} {comparison.b_name}"),
        "tests": str(len(comparison.changes)),
        "failures": str(failures),
        "skipped": str(0 if strict else undecided),
    }
    suite = ElementTree.Element("testsuite", facts)
    names = _factors(comparison)
    for change in comparison.changes:
        name = printable(name_of(change, names))
        title = {"classname": f"raybench.{comparison.metric}", "name": name}
        case = ElementTree.SubElement(suite, "testcase", title)
        summary = f"{_marked(change)}: {' -> '.join(_cells(change, names)[1:3])}, {_ratio(change)}"
        message = printable(f"{summary}. {change.note or ''}".rstrip())
        if change.outcome == REGRESSED or (strict and change.outcome in (INCONCLUSIVE, MISSING)):
            ElementTree.SubElement(case, "failure", {"message": message})
        elif change.outcome in (INCONCLUSIVE, MISSING):
            ElementTree.SubElement(case, "skipped", {"message": message})
        else:
            ElementTree.SubElement(case, "system-out").text = message
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    text: str = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


_WRITERS: dict[str, Callable[[Comparison, bool], str]] = {
    "markdown": _markdown,
    "json": _json,
    "junit": _junit,
}
FORMATS = ("table", *_WRITERS, "csv")
