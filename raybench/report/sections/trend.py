"""Section on how points went on over many runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.analysis.trend_verdicts import IMPROVED, REGRESSED
from raybench.report import columns
from raybench.report.document import Paragraph, Section
from raybench.report.figures.trend import figures, title_of
from raybench.report.labels import Naming
from raybench.report.sections.sentences import marked, missing
from raybench.report.trend_lines import BOUND, change, sentence, span, visible

if TYPE_CHECKING:
    from raybench.analysis.trend_verdicts import Trend
    from raybench.report.analyses import Answers
    from raybench.report.document import Part, Table, Tone

MOST_SAID = 20
"""Steps and doubts in words; a page of thousands of points is to stay small."""
_TONES: dict[str, Tone] = {REGRESSED: "bad", IMPROVED: "good"}


def trend(answers: Answers) -> Section | None:
    """Return findings, a table and figures; None unless a point has runs enough for a step."""
    found = answers.trend
    if found is None:
        return None
    naming = Naming([point.series for point in found.points])
    said: list[Paragraph] = []
    for point in found.points:
        title = f"{title_of(point, naming)}."
        for step in reversed(point.steps):
            words = marked(f"A {sentence(step)}", point.marks)
            said.append(Paragraph(words, _TONES.get(step.outcome, "open"), title))
        if point.note:
            said.append(Paragraph(marked(point.note, point.marks), "open", title))
    parts: list[Part] = [Paragraph(f"{span(found)}. {BOUND}"), *said[:MOST_SAID]]
    if len(said) > MOST_SAID:
        parts.append(Paragraph(f"And {len(said) - MOST_SAID} more, in the table.", "note"))
    parts += [_table(found, naming), *figures(found, naming)]
    return Section("trend", "Trend over runs", [*parts, *missing(found.missing)])


def _table(found: Trend, naming: Naming) -> Table:
    points = found.points
    return columns.table(
        "trend",
        f"Each point over its runs: {found.metric} of the newest run, the newest step with its interval, "
        "the standard deviation between the runs of one level, and the change that would be seen.",
        columns.texts("point", [title_of(point, naming) for point in points]),
        columns.counts("runs", [len(point.runs) for point in points]),
        columns.numbers("newest", "", [point.runs[-1].value for point in points]),
        columns.texts("newest step", [change(p.steps[-1]) if p.steps else "" for p in points]),
        columns.fixed("between runs", "%", [point.spread for point in points], 2, 100),
        columns.texts("would be seen", [visible(point.smallest_visible) for point in points]),
        columns.texts("outcome", [point.outcome for point in points]),
    )
