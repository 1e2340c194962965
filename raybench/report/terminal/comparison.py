"""comparison: what `raybench compare` prints: a table, Markdown, JSON, CSV or JUnit."""

from __future__ import annotations

import csv
import io
import json
from typing import IO, TYPE_CHECKING
from xml.etree import ElementTree

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from raybench.analysis.comparability import FACTORS
from raybench.analysis.compare import (
    IMPROVED,
    INCONCLUSIVE,
    MISSING,
    REGRESSED,
    SAME,
)
from raybench.analysis.tables import as_dict
from raybench.report.terminal.table import emit, factor, number

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import RenderableType

    from raybench.analysis.compare import Change, Comparison
    from raybench.analysis.estimate import Estimate

OUTCOMES = (REGRESSED, IMPROVED, SAME, INCONCLUSIVE, MISSING)
_GLYPHS = {REGRESSED: "▼", IMPROVED: "▲", SAME: "=", INCONCLUSIVE: "?", MISSING: "∅"}
_COLOURS = {REGRESSED: "red", IMPROVED: "green", SAME: "", INCONCLUSIVE: "yellow", MISSING: "cyan"}
_ALWAYS = ("model", "precision", "batch_size", "workers")
"""Factors by which a point is named where they have a value."""
_SILENT = ("environment_id", "method_version", "simulated", "engine_options")


def print_comparison(made: Comparison, form: str, file: IO[str], *, strict: bool = False) -> None:
    """Print a comparison.

    Args:
        made: from `analysis.compare`.
        form: one of `FORMATS`.
        file: where to.
        strict: points that are undecided count as failures in JUnit and in JSON's exit code.
    """
    if form == "table":
        emit(lambda width: _table(made), file)
    else:
        file.write(_WRITTEN[form](made, strict))


def counts(made: Comparison) -> str:
    """How many points have which outcome, in words."""
    told = [f"{made.count(outcome)} {outcome}" for outcome in OUTCOMES if made.count(outcome)]
    return f"{len(made.changes)} points: {', '.join(told)}."


def name_of(change: Change, names: Sequence[str]) -> str:
    """A point in words: the factors that are named, where they have a value."""
    words = [(name, _value(change, name)) for name in names]
    return " ".join(_word(name, value) for name, value in words if value is not None)


def _word(name: str, value: object) -> str:
    short = {"batch_size": "batch ", "workers": "x"}
    plain = name in ("model", "precision", "device", "engine")
    return f"{'' if plain else short.get(name, name + ' ')}{factor(name, value)}"


def _value(change: Change, name: str) -> object:
    return change.workers if name == "workers" else getattr(change.series, name)


def _factors(made: Comparison) -> list[str]:
    """The factors that name a point here: the usual ones, and what else varies."""
    varying = [
        name
        for name in FACTORS
        if name not in (*_ALWAYS, *_SILENT)
        and len({_value(change, name) for change in made.changes}) > 1
    ]
    return [*_ALWAYS, *varying]


def _rate(rate: Estimate) -> str:
    if rate.relative_width is None:
        return number(rate.value)
    return f"{number(rate.value)} ± {50 * rate.relative_width:.1f} %"


def _ratio(change: Change) -> str:
    if change.ratio.value is None:
        return "-"
    if change.ratio.lo is None:
        return f"{change.ratio.value:.3f}"
    return f"{change.ratio.value:.3f} [{change.ratio.lo:.3f}, {change.ratio.hi:.3f}]"


def _marked(change: Change) -> str:
    """The outcome, and what a reader must know of the rows behind it."""
    marks = [mark for mark in change.marks if mark in ("simulated", "capped")]
    return " ".join([change.outcome, *(mark.upper() for mark in marks)])


def _cells(change: Change, names: Sequence[str]) -> list[str]:
    return [
        name_of(change, names),
        _rate(change.a),
        _rate(change.b),
        _ratio(change),
    ]


def _notes(made: Comparison) -> list[str]:
    """Everything that stands below the table."""
    names = _factors(made)
    told = [f"{name_of(c, names)}: {c.note}" for c in made.changes if c.note]
    found = [c.detectable for c in made.changes if c.detectable is not None]
    if found:
        least, most = 100 * min(found), 100 * max(found)
        reach = f"{least:.1f} %" if most - least < 0.05 else f"{least:.1f} to {most:.1f} %"
        told.append(f"These trials find a change of {reach} in about 80 of 100 cases.")
    return [*told, *made.missing]


def _heading(made: Comparison) -> list[str]:
    """What is compared, what differs, and how it came out."""
    told = [
        f"A {made.a_name}",
        f"B {made.b_name}",
        f"{made.metric}, B / A with its 95 % interval; changes within "
        f"{100 * made.threshold:g} % do not matter",
    ]
    told += [f"{name}: {a} against {b}" for name, a, b in made.differs]
    return told


def _table(made: Comparison) -> RenderableType:
    names = _factors(made)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("point")
    for title in ("A", "B", "B / A"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("outcome", no_wrap=True)
    for change in made.changes:
        outcome = Text(f"{_GLYPHS[change.outcome]} {_marked(change)}", _COLOURS[change.outcome])
        table.add_row(*(Text(cell) for cell in _cells(change, names)), outcome)
    heading = [Text(line) for line in (*_heading(made), "")]
    return Group(*heading, table, *(Text(line) for line in ("", counts(made), *_closing(made))))


def _closing(made: Comparison) -> list[str]:
    told = list(_notes(made))
    if made.geometric_mean is not None and len(made.changes) > 1:
        told.append(f"Geometric mean of the ratios, descriptive only: {made.geometric_mean:.3f}.")
    return told


def _markdown(made: Comparison, strict: bool) -> str:
    names = _factors(made)
    lines = [f"### raybench compare: {counts(made)}", ""]
    lines += [f"- {line}" for line in _heading(made)]
    lines += ["", "| point | A | B | B / A | outcome |", "|---|---:|---:|---:|---|"]
    for change in made.changes:
        bold = "**" if change.outcome == REGRESSED else ""
        cells = [*_cells(change, names), f"{bold}{_marked(change)}{bold}"]
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join([*lines, "", *(f"- {line}" for line in _closing(made)), ""])


def _json(made: Comparison, strict: bool) -> str:
    facts = as_dict(made)
    facts["counts"] = {outcome: made.count(outcome) for outcome in OUTCOMES}
    facts["exit_code"] = made.exit_code(strict)
    return json.dumps(facts, indent=2, default=str) + "\n"


def _csv(made: Comparison, strict: bool) -> str:
    """A row a point; null is empty, lists are words apart by spaces."""
    rows = made.as_table()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows.column_names)
    for row in rows.to_pylist():
        writer.writerow([" ".join(v) if isinstance(v, list) else v for v in row.values()])
    return text.getvalue()


def _junit(made: Comparison, strict: bool) -> str:
    """A test a point: regressed fails, what is undecided is skipped or, if strict, fails too."""
    undecided = made.count(INCONCLUSIVE) + made.count(MISSING)
    failures = made.count(REGRESSED) + (undecided if strict else 0)
    facts = {
        "name": f"raybench compare {made.a_name} {made.b_name}",
        "tests": str(len(made.changes)),
        "failures": str(failures),
        "skipped": str(0 if strict else undecided),
    }
    suite = ElementTree.Element("testsuite", facts)
    names = _factors(made)
    for change in made.changes:
        title = {"classname": f"raybench.{made.metric}", "name": name_of(change, names)}
        case = ElementTree.SubElement(suite, "testcase", title)
        words = f"{_marked(change)}: {' -> '.join(_cells(change, names)[1:3])}, {_ratio(change)}"
        told = f"{words}. {change.note or ''}".rstrip()
        if change.outcome == REGRESSED or (strict and change.outcome in (INCONCLUSIVE, MISSING)):
            ElementTree.SubElement(case, "failure", {"message": told})
        elif change.outcome in (INCONCLUSIVE, MISSING):
            ElementTree.SubElement(case, "skipped", {"message": told})
        else:
            ElementTree.SubElement(case, "system-out").text = told
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    text: str = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


_WRITTEN: dict[str, Callable[[Comparison, bool], str]] = {
    "markdown": _markdown,
    "json": _json,
    "csv": _csv,
    "junit": _junit,
}
FORMATS = ("table", *_WRITTEN)
