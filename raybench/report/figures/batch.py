"""Figures of throughput over the batch, with knee and memory end, and latency below."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.lines import Line2D

from raybench.analysis.batch import KNEE
from raybench.analysis.estimate import Estimate
from raybench.report.captions import caption, subset_note
from raybench.report.figures import axes as scales
from raybench.report.figures import grammar, style
from raybench.report.figures.svg import finish
from raybench.report.labels import ABREAST, abreast, joined, panels, workers_label

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from raybench.analysis.batch import Batch, BatchCurve
    from raybench.report.document import Figure

Page = tuple[str, dict[str, "BatchCurve"]]
MOST_FIGURES = 2


def figures(batch: Batch) -> Iterator[Figure]:
    """Yield figures of two panels each, throughput above and latency below."""
    by_workers: dict[int | None, list[BatchCurve]] = {}
    for curve in batch.ladders:
        by_workers.setdefault(curve.workers, []).append(curve)
    every = [
        (joined(panel.title, workers_label(workers) if len(by_workers) > 1 else ""), panel.members)
        for workers, curves in by_workers.items()
        for panel in panels(curves, lambda curve: curve.series, without=("batch_size",))
    ]
    subset = subset_note(MOST_FIGURES * ABREAST, len(every))
    for number, page in enumerate(abreast(every, MOST_FIGURES), 1):
        yield _figure(number, page, subset)


@style.styled
def _figure(number: int, page: Sequence[Page], subset: str) -> Figure:
    points = [p for _, members in page for curve in members.values() for p in curve.points]
    drawn = [point for point in points if point.items_per_s.value is not None]
    timed = any(point.latency_p50_ms for point in drawn)
    ratios = (1.8, 1) if timed else (1,)
    figure, axes = style.canvas(len(ratios), len(page), height_in=2.0 if timed else 2.6,
                                height_ratios=ratios, sharex="col")  # fmt: skip
    tints = style.tints(label for _, members in page for label in members)
    for column, (title, members) in enumerate(page):
        style.title(axes[0][column], title, len(page))
        for label, curve in members.items():
            _rates(axes[0][column], curve, tints[label])
            if timed:
                grammar.draw_points(axes[1][column], _latencies(curve), tints[label])
        _dress([row[column] for row in axes], list(members.values()))
    for row, label in zip(axes, ("throughput (items/s)", "latency p50 (ms)"), strict=False):
        row[0].set_ylabel(label)
    knee = Line2D([], [], color=style.MUTED, linestyle="--", linewidth=0.9)
    grammar.draw_legend(figure, tints, {m for r in drawn for m in r.marks}, [(knee, "knee")])
    what = (
        "Items per second over the batch of one worker"
        + (", and below it the median latency of a batch. " if timed else ". ")
        + f"The knee is the smallest batch within {100 - 100 * KNEE:.0f} % of the best; a cross on "
        "the axis is a batch that gave no number, and why."
    )
    title = "Throughput over the batch: " + "; ".join(title for title, _ in page)
    return finish(figure, f"batch-{number}", title, caption(what, drawn, subset=subset))


def _rates(axes: Any, curve: BatchCurve, tint: str) -> None:
    dots = []
    for point in curve.points:
        x = float(point.batch_size or 0)
        if point.items_per_s.value is None:
            grammar.draw_missing(axes, x, point.status)
        else:
            dots.append(grammar.Dot(x, point.items_per_s, point.marks))
    grammar.draw_points(axes, dots, tint)
    if curve.knee_batch_size is not None:
        axes.axvline(curve.knee_batch_size, color=tint, linestyle="--", linewidth=0.9, zorder=1)


def _latencies(curve: BatchCurve) -> list[grammar.Dot]:
    return [
        grammar.Dot(float(point.batch_size or 0), Estimate(point.latency_p50_ms), point.marks)
        for point in curve.points
        if point.latency_p50_ms is not None
    ]


def _dress(panels: Sequence[Any], curves: Sequence[BatchCurve]) -> None:
    """Scale the panels of a column, throughput first."""
    points = [point for curve in curves for point in curve.points]
    latencies = [point.latency_p50_ms for point in points if point.latency_p50_ms]
    scales.rates(panels[0], [point.items_per_s.value for point in points])
    scales.measured_ticks(panels[-1], [point.batch_size for point in points if point.batch_size])
    panels[-1].set_xlabel("batch size (items)")
    for panel in panels[:-1]:
        panel.tick_params(labelbottom=False)
    if latencies:
        scales.decades(panels[-1], latencies)
