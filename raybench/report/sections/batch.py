"""Section on throughput over the batch, its knee and where memory ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.analysis.batch import KNEE
from raybench.report import columns
from raybench.report.document import Section
from raybench.report.figures.batch import figures
from raybench.report.labels import Naming
from raybench.report.sections.sentences import gaps, marked, missing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.analysis.batch import BatchCurve
    from raybench.report.analyses import Answers
    from raybench.report.document import Part, Table


def batch(answers: Answers) -> Section:
    """Return figures, knees and what is missing."""
    answer = answers.batch
    parts: list[Part] = list(figures(answer))
    if answer.ladders:
        parts.append(_knees(answer.ladders))
    sentences = [*answer.missing, *gaps(answer.ladders, _naming(answer.ladders))]
    return Section("batch", "Batch", [*parts, *missing(sentences)])


def _naming(ladders: Sequence[BatchCurve]) -> Naming:
    return Naming([ladder.series for ladder in ladders], without=("batch_size",))


def _knees(ladders: Sequence[BatchCurve]) -> Table:
    naming = _naming(ladders)
    return columns.table(
        "ladders",
        f"The knee is the smallest batch within {100 - 100 * KNEE:.0f} % of the best throughput.",
        *columns.factors(naming, [x.series for x in ladders]),
        columns.counts("workers", [x.workers for x in ladders]),
        columns.fixed("knee", "", [x.knee_batch_size for x in ladders], 0),
        columns.fixed("best batch", "", [x.best_batch_size for x in ladders], 0),
        columns.numbers("best", "items/s", [x.best_items_per_s for x in ladders]),
        columns.fixed("largest that ran", "", [x.largest_batch_size for x in ladders], 0),
        columns.fixed("memory ends at", "", [x.memory_end_batch_size for x in ladders], 0),
        columns.texts("finding", [marked(x.finding, x.marks) for x in ladders]),
    )
