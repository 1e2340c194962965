"""Batch figures: throughput over the batch with its knee and its memory end, latency below."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.lines import Line2D

from raybench.analysis.batch import KNEE
from raybench.report import style
from raybench.report.captions import caption, shown
from raybench.report.labels import panels

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from raybench.analysis.batch import Batch, Ladder, Rung
    from raybench.report.document import Figure
    from raybench.report.labels import Panel

_ABREAST, MOST_FIGURES = 2, 2


def figures(batch: Batch) -> Iterator[Figure]:
    """Two panels a figure; throughput above, latency below."""
    by_workers: dict[int | None, list[Ladder]] = {}
    for ladder in batch.ladders:
        by_workers.setdefault(ladder.workers, []).append(ladder)
    every = []
    for workers, ladders in by_workers.items():
        for panel in panels(ladders, lambda ladder: ladder.series, without=("batch_size",)):
            several = f", {workers} workers" if len(by_workers) > 1 and workers != 1 else ""
            every.append((f"{panel.title}{several}", panel))
    pages = [every[k : k + _ABREAST] for k in range(0, len(every), _ABREAST)]
    for number, page in enumerate(pages[:MOST_FIGURES], 1):
        yield _figure(number, page, shown(MOST_FIGURES * _ABREAST, every))


@style.styled
def _figure(number: int, page: Sequence[tuple[str, Panel[Ladder]]], subset: str) -> Figure:
    figure, axes = style.canvas(2, _ABREAST, height_in=2.0, height_ratios=(1.8, 1), sharex="col")
    labels = dict.fromkeys(label for _, panel in page for label in panel.members)
    tints = {label: style.colour(k) for k, label in enumerate(labels)}
    drawn: list[Rung] = []
    for column, (title, panel) in enumerate(page):
        rates, latencies = axes[0][column], axes[1][column]
        rates.set_title(title)
        for label, ladder in panel.members.items():
            drawn += [rung for rung in ladder.rungs if rung.items_per_s is not None]
            _curve(rates, latencies, ladder, tints[label])
        _dress(rates, latencies, [r for ladder in panel.members.values() for r in ladder.rungs])
    axes[0][0].set_ylabel("throughput (items/s)")
    axes[1][0].set_ylabel("latency p50 (ms)")
    style.blank(axes, len(page))
    knee = Line2D([], [], color=style.MUTED, linestyle="--", linewidth=0.9)
    extra: list[tuple[Any, str]] = [(knee, "knee")]
    style.key(figure, {k: v for k, v in tints.items() if k}, {m for r in drawn for m in r.marks},
              extra)  # fmt: skip
    what = (
        "Items per second over the batch of one worker, and below it the median latency of a "
        f"batch. The knee is the smallest batch within {100 - 100 * KNEE:.0f} % of the best; a "
        "cross on the axis is a batch that gave no number, and why."
    )
    title = "Throughput over the batch: " + "; ".join(title for title, _ in page)
    return style.finish(figure, f"batch-{number}", title, caption(what, drawn, subset=subset))


def _curve(rates: Any, latencies: Any, ladder: Ladder, tint: str) -> None:
    good = [r for r in ladder.rungs if r.items_per_s is not None and r.batch_size]
    dots = [
        style.Dot(float(r.batch_size or 0), r.items_per_s or 0.0, r.items_per_s_lo,
                  r.items_per_s_hi, r.marks)
        for r in good
    ]  # fmt: skip
    style.line(rates, dots, tint)
    style.line(
        latencies,
        [
            style.Dot(float(r.batch_size or 0), r.latency_p50_ms, None, None, r.marks)
            for r in good
            if r.latency_p50_ms is not None
        ],
        tint,
    )
    for rung in ladder.rungs:
        if rung.items_per_s is None and rung.batch_size:
            style.absent(rates, rung.batch_size, rung.status.replace("_", " "))
    if ladder.knee_batch_size is not None:
        rates.axvline(ladder.knee_batch_size, color=tint, linestyle="--", linewidth=0.9, zorder=1)


def _dress(rates: Any, latencies: Any, rungs: Sequence[Rung]) -> None:
    style.rates(rates, [r.items_per_s for r in rungs])
    style.ladder(latencies, [r.batch_size for r in rungs if r.batch_size])
    rates.tick_params(labelbottom=False)
    latencies.set_xlabel("batch size (items)")
    known = [r.latency_p50_ms for r in rungs if r.latency_p50_ms]
    if known:
        style.decades(latencies, known)
