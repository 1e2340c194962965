"""Output of `raybench trend`: a table, Markdown, JSON or CSV."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.table import Table

from raybench.analysis.cells import METRICS
from raybench.analysis.tables import as_dict
from raybench.analysis.trend_verdicts import IMPROVED, OUTCOMES, REGRESSED, STEADY, UNDECIDED
from raybench.report.formatting import four_digits
from raybench.report.terminal.console import emit, words, write
from raybench.report.terminal.formats import markdown_text, to_csv, to_json, to_markdown
from raybench.report.terminal.point_names import PointNames
from raybench.report.trend_lines import BOUND, change, sentence, span, visible
from raybench.text import counted

if TYPE_CHECKING:
    from rich.console import RenderableType

    from raybench.analysis.trend_verdicts import PointTrend, Trend

FORMATS = ("table", "markdown", "json", "csv")
_GLYPHS = {REGRESSED: "▼", IMPROVED: "▲", STEADY: "=", UNDECIDED: "?"}
_COLOURS = {REGRESSED: "red", IMPROVED: "green", STEADY: "", UNDECIDED: "yellow"}
_TITLES = ("point", "runs", "newest", "last step", "between runs", "would be seen", "outcome")
_RIGHT = (False, True, True, True, True, True, False)


def print_trend(trend: Trend, form: str, file: IO[str], *, strict: bool = False) -> None:
    """Print a trend.

    Args:
        trend: from `analysis.trend`.
        form: one of `FORMATS`.
        file: the output.
        strict: undecided points count as failures in JSON's exit code.
    """
    if form == "table":
        emit(lambda width: _table(trend), file)
    elif form == "csv":
        write(to_csv(trend.as_table(), file.isatty()), file)
    elif form == "json":
        write(_json(trend, strict), file)
    else:
        write(_markdown(trend), file)


def counts(trend: Trend) -> str:
    """Return the number of points of each outcome, in words."""
    parts = [f"{trend.count(outcome)} {outcome}" for outcome in OUTCOMES if trend.count(outcome)]
    return f"{counted(len(trend.points), 'point')}: {', '.join(parts)}."


def _cells(point: PointTrend, names: PointNames) -> list[str]:
    step = point.steps[-1] if point.steps else None
    return [
        names.point(point.series, point.workers),
        f"{len(point.runs)}",
        four_digits(point.runs[-1].value),
        change(step) if step else "-",
        "-" if point.spread is None else f"{100 * point.spread:.2f} %",
        visible(point.smallest_visible),
        " ".join(
            [point.outcome, *(m.upper() for m in point.marks if m in ("simulated", "capped"))]
        ),
    ]


def _step_lines(trend: Trend, names: PointNames) -> list[str]:
    """Return a line for each step, newest first within a point."""
    return [
        f"{names.point(point.series, point.workers)}: {sentence(step)}"
        for point in trend.points
        for step in reversed(point.steps)
    ]


def _heading(trend: Trend, names: PointNames) -> list[str]:
    better = METRICS[trend.metric]
    return [
        line
        for line in (
            span(trend),
            names.same,
            f"{trend.metric}, {better} is better, one value a run; changes below "
            f"{100 * trend.tolerance:g} % are no regression",
        )
        if line
    ]


def _closing(trend: Trend, names: PointNames) -> list[str]:
    notes = [
        f"{names.point(point.series, point.workers)}: {point.note}"
        for point in trend.points
        if point.note
    ]
    return [
        *_step_lines(trend, names),
        *notes,
        BOUND,
        *trend.missing,
    ]


def _table(trend: Trend) -> RenderableType:
    names = PointNames(trend.points)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for title, right in zip(_TITLES, _RIGHT, strict=True):
        table.add_column(title, justify="right" if right else "left", no_wrap=title != "point")
    for point in trend.points:
        *cells, outcome = _cells(point, names)
        named = words(f"{_GLYPHS[point.outcome]} {outcome}", _COLOURS[point.outcome])
        table.add_row(*(words(cell) for cell in cells), named)
    above = [words(line) for line in (*_heading(trend, names), "")]
    below = [words(line) for line in ("", counts(trend), *_closing(trend, names))]
    return Group(*above, table, *below)


def _markdown(trend: Trend) -> str:
    names = PointNames(trend.points)
    rows = []
    for point in trend.points:
        *cells, outcome = _cells(point, names)
        rows.append([*cells, f"**{outcome}**" if point.outcome == REGRESSED else outcome])
    above, below = (
        "".join(f"- {markdown_text(line)}\n" for line in lines)
        for lines in (_heading(trend, names), _closing(trend, names))
    )
    table = to_markdown(_TITLES, _RIGHT, rows)
    return f"### raybench trend: {counts(trend)}\n\n{above}\n{table}\n{below}"


def _json(trend: Trend, strict: bool) -> str:
    facts = as_dict(trend)
    facts["counts"] = {outcome: trend.count(outcome) for outcome in OUTCOMES}
    facts["exit_code"] = trend.exit_code(strict)
    return to_json(facts)
