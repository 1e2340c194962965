"""Batch figures: throughput over the batch with its knee and its memory end, latency below."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.lines import Line2D

from raybench.analysis.batch import KNEE
from raybench.analysis.estimate import Estimate
from raybench.report.captions import caption, shown
from raybench.report.figures import axes as scales
from raybench.report.figures import grammar, style
from raybench.report.figures.svg import finish
from raybench.report.labels import ABREAST, abreast, counted, joined, panels

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from raybench.analysis.batch import Batch, BatchCurve
    from raybench.report.document import Figure

Page = tuple[str, dict[str, "BatchCurve"]]
MOST_FIGURES = 2


def figures(batch: Batch) -> Iterator[Figure]:
    """Two panels a figure; throughput above, latency below."""
    by_workers: dict[int | None, list[BatchCurve]] = {}
    for ladder in batch.ladders:
        by_workers.setdefault(ladder.workers, []).append(ladder)
    every = [
        (joined(panel.title, counted(workers) if len(by_workers) > 1 else ""), panel.members)
        for workers, ladders in by_workers.items()
        for panel in panels(ladders, lambda ladder: ladder.series, without=("batch_size",))
    ]
    subset = shown(MOST_FIGURES * ABREAST, len(every))
    for number, page in enumerate(abreast(every, MOST_FIGURES), 1):
        yield _figure(number, page, subset)


@style.styled
def _figure(number: int, page: Sequence[Page], subset: str) -> Figure:
    rungs = [rung for _, members in page for ladder in members.values() for rung in ladder.points]
    drawn = [rung for rung in rungs if rung.items_per_s.value is not None]
    timed = any(rung.latency_p50_ms for rung in drawn)
    ratios = (1.8, 1) if timed else (1,)
    figure, axes = style.canvas(len(ratios), ABREAST, height_in=2.0 if timed else 2.6,
                                height_ratios=ratios, sharex="col")  # fmt: skip
    tints = style.tints(label for _, members in page for label in members)
    for column, (title, members) in enumerate(page):
        style.title(axes[0][column], title, ABREAST)
        for label, ladder in members.items():
            _rates(axes[0][column], ladder, tints[label])
            if timed:
                grammar.line(axes[1][column], _latencies(ladder), tints[label])
        _dress([row[column] for row in axes], list(members.values()))
    for row, label in zip(axes, ("throughput (items/s)", "latency p50 (ms)"), strict=False):
        row[0].set_ylabel(label)
    style.blank(axes, len(page))
    knee = Line2D([], [], color=style.MUTED, linestyle="--", linewidth=0.9)
    grammar.key(figure, tints, {m for r in drawn for m in r.marks}, [(knee, "knee")])
    what = (
        "Items per second over the batch of one worker"
        + (", and below it the median latency of a batch. " if timed else ". ")
        + f"The knee is the smallest batch within {100 - 100 * KNEE:.0f} % of the best; a cross on "
        "the axis is a batch that gave no number, and why."
    )
    title = "Throughput over the batch: " + "; ".join(title for title, _ in page)
    return finish(figure, f"batch-{number}", title, caption(what, drawn, subset=subset))


def _rates(axes: Any, ladder: BatchCurve, tint: str) -> None:
    dots = []
    for rung in ladder.points:
        x = float(rung.batch_size or 0)
        if rung.items_per_s.value is None:
            grammar.absent(axes, x, rung.status)
        else:
            dots.append(grammar.Dot(x, rung.items_per_s, rung.marks))
    grammar.line(axes, dots, tint)
    if ladder.knee_batch_size is not None:
        axes.axvline(ladder.knee_batch_size, color=tint, linestyle="--", linewidth=0.9, zorder=1)


def _latencies(ladder: BatchCurve) -> list[grammar.Dot]:
    return [
        grammar.Dot(float(rung.batch_size or 0), Estimate(rung.latency_p50_ms), rung.marks)
        for rung in ladder.points
        if rung.latency_p50_ms is not None
    ]


def _dress(panels: Sequence[Any], ladders: Sequence[BatchCurve]) -> None:
    """Panels of a column, throughput first."""
    rungs = [rung for ladder in ladders for rung in ladder.points]
    known = [rung.latency_p50_ms for rung in rungs if rung.latency_p50_ms]
    scales.rates(panels[0], [rung.items_per_s.value for rung in rungs])
    scales.ladder(panels[-1], [rung.batch_size for rung in rungs if rung.batch_size])
    panels[-1].set_xlabel("batch size (items)")
    for panel in panels[:-1]:
        panel.tick_params(labelbottom=False)
    if known:
        scales.decades(panels[-1], known)
