"""Section on what to choose: the best under constraints, and throughput against latency."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.analysis.series import Series, without
from raybench.report import columns
from raybench.report.document import Paragraph, Section
from raybench.report.figures.pareto import figures, title_of
from raybench.report.labels import Naming
from raybench.report.sections.sentences import missing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.analysis.best import Best
    from raybench.analysis.pareto import Choice, Front
    from raybench.report.analyses import Answers
    from raybench.report.document import Part, Table


def choices(answers: Answers) -> Section | None:
    """Return the table of the best, figures and tables of the fronts; None without either."""
    parts: list[Part] = [] if answers.best is None else _best(answers.best)
    if answers.fronts:
        naming = Naming([front.series for front in answers.fronts])
        parts += figures(answers.fronts, naming)
        parts += [_front(k, front, naming) for k, front in enumerate(answers.fronts, 1)]
    return Section("choices", "What to choose", parts) if parts else None


def _best(answer: Best) -> list[Part]:
    parts: list[Part] = []
    if answer.points:
        parts.append(_ranked(answer))
    winners = [point for point in answer.points if point.rank == 1]
    naming = Naming([point.series for point in answer.points])
    parts += [
        Paragraph(
            f"{answer.question}: {point.series.model} at {naming.label(point.series, ('model',)) or 'its only point'}.",
            "good",
            "Best.",
        )
        for point in winners
    ]
    return [*parts[1:], *parts[:1], *missing(answer.missing)]


def _ranked(answer: Best) -> Table:
    points = answer.points
    series = [point.series for point in points]
    bounds = " and ".join(map(str, answer.where))
    return columns.table(
        "best",
        f"The points with the best {answer.column}"
        + (
            f" of those that meet {bounds} in every trial, with the worst trial's value"
            if bounds
            else ""
        )
        + ". Even: their interval and that of the best have values in common.",
        columns.counts("rank", [point.rank for point in points]),
        *columns.factors(Naming(series), series),
        columns.counts("workers", [point.workers for point in points]),
        columns.numbers(answer.column, "", [point.value.value for point in points]),
        columns.half_widths([point.value for point in points]),
        *(
            columns.numbers(condition.column, "", [point.conditions[k] for point in points])
            for k, condition in enumerate(answer.where)
        ),
        columns.texts("", ["even" if p.even and p.rank > 1 else "" for p in points]),
        columns.repeats(points),
        columns.verdicts(points),
    )


def _front(number: int, front: Front, naming: Naming) -> Table:
    best: Sequence[Choice] = front.best
    series: list[Series] = [without(choice.series, "model") for choice in best]
    percentile = front.percentile.split("_")[1]
    return columns.table(
        f"pareto-{number}",
        f"{title_of(front, naming)}: the {len(best)} of {len(front.choices)} points that no other "
        "beats in both throughput and latency.",
        *columns.factors(Naming(series), [choice.series for choice in best]),
        columns.numbers("throughput", "items/s", [choice.items_per_s.value for choice in best]),
        columns.half_widths([choice.items_per_s for choice in best]),
        columns.numbers(f"latency {percentile}", "ms", [choice.latency_ms for choice in best]),
        columns.repeats(best),
        columns.verdicts(best),
    )
