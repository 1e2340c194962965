"""Section on load: capacity under a latency bound against workers, and latency over the rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.report import columns
from raybench.report.document import Paragraph, Section
from raybench.report.figures.bounded import figures, title_of
from raybench.report.figures.latency import figures as latency_figures
from raybench.report.figures.latency import name_of
from raybench.report.labels import Naming

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.analysis.bounded import BoundedCurve
    from raybench.analysis.latency_curves import LatencyCurve, LatencyPoint
    from raybench.report.analyses import Answers
    from raybench.report.document import Part, Table


def bounded(answers: Answers) -> Section | None:
    """Return figures, tables and the answer to a demand; None without rows in open loop."""
    curves = answers.bounded
    naming = Naming([curve.series for curve in curves])
    parts: list[Part] = []
    if answers.demand is not None:
        parts += [
            Paragraph(curve.workers_for(answers.demand), "good", title_of(curve, naming) + ".")
            for curve in curves
        ]
    parts += figures(curves, naming)
    parts += [_table(number, curve, naming) for number, curve in enumerate(curves, 1)]
    parts += _over_rate(answers.latency_curves)
    return Section("load", "Under load", parts) if parts else None


def _over_rate(curves: Sequence[LatencyCurve]) -> list[Part]:
    """Return a figure and a table for each curve of latency over the rate."""
    naming = Naming([curve.series for curve in curves])
    tables = [
        columns.table(
            f"latency-{number}",
            f"{name_of(curve, naming)}: latency from the arrival of an item to its result.",
            columns.numbers("offered", "items/s", [p.offered_items_per_s for p in curve.points]),
            columns.numbers("served", "items/s", [p.items_per_s.value for p in curve.points]),
            columns.numbers("p50", "ms", [p.latency_p50_ms for p in curve.points]),
            columns.numbers("p90", "ms", [p.latency_p90_ms for p in curve.points]),
            columns.numbers("p99", "ms", [p.latency_p99_ms for p in curve.points]),
            columns.texts("remark", [_remark(curve, point) for point in curve.points]),
            columns.repeats(curve.points),
            columns.verdicts(curve.points),
        )
        for number, curve in enumerate(curves, 1)
    ]
    return [*latency_figures(curves, naming), *tables]


def _remark(curve: LatencyCurve, point: LatencyPoint) -> str:
    if point.overloaded:
        return "overloaded"
    return "knee" if point.offered_items_per_s == curve.knee_items_per_s else ""


def _table(number: int, curve: BoundedCurve, naming: Naming) -> Table:
    points = curve.points
    return columns.table(
        f"bounded-{number}",
        f"{title_of(curve, naming)}: highest rate of random arrivals within {curve.bound}, confirmed in "
        "three trials in fresh workers, each with its own arrivals. The interval is of the "
        "capacity under the bound: where a line through the logarithms of the shares of late items over the "
        "rate crosses what the percentile allows, or, where the trials do not determine it, from the highest "
        "rate at which the bound was surely kept to the lowest at which it surely was not. "
        "Efficiency is the rate of a worker over that with the fewest workers. Undecided are confirming "
        "trials whose own sample does not decide; rates are those that were tried.",
        columns.counts("workers", [point.workers for point in points]),
        columns.numbers("within the bound", "items/s", [p.items_per_s.value for p in points]),
        columns.numbers("capacity", "items/s", [p.capacity_items_per_s for p in points]),
        columns.bounds("interval", [point.items_per_s for point in points], 0),
        columns.numbers("closed loop", "items/s", [p.closed_items_per_s for p in points]),
        columns.fixed("share of it", "%", [point.share for point in points], 1, 100),
        columns.fixed("efficiency", "%", [point.efficiency for point in points], 1, 100),
        columns.fixed("in closed loop", "%", [p.closed_efficiency for p in points], 1, 100),
        columns.fixed("rates", "", [point.rates for point in points], 0),
        columns.fixed("trials", "", [point.trials for point in points], 0),
        columns.fixed("late", "%", [point.over for point in points], 2, 100),
        columns.fixed("undecided", "", [p.undecided for p in points], 0),
        columns.texts("disturbed", [point.disturbance for point in points]),
        columns.texts("why there is none", [point.reason for point in points]),
    )
