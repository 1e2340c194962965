"""Figure of throughput over the number of instances on each device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.report.captions import caption, subset_note
from raybench.report.figures import axes as scales
from raybench.report.figures import grammar, style
from raybench.report.figures.svg import finish
from raybench.report.labels import workers_label

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from raybench.analysis.packing import PackingCurve
    from raybench.report.document import Figure
    from raybench.report.labels import Naming

MOST_FIGURES = 4


def figures(curves: Sequence[PackingCurve], naming: Naming) -> Iterator[Figure]:
    """Yield a figure for each curve with a number."""
    drawn = [curve for curve in curves if any(p.items_per_s.value for p in curve.points)]
    subset = subset_note(MOST_FIGURES, len(drawn))
    for number, curve in enumerate(drawn[:MOST_FIGURES], 1):
        yield _figure(number, curve, title_of(curve, naming), subset)


def title_of(curve: PackingCurve, naming: Naming) -> str:
    """Return the name of a curve: its model, what else differs between curves, and its devices."""
    return naming.title(curve.series, workers_label(curve.workers))


@style.styled
def _figure(number: int, curve: PackingCurve, title: str, subset: str) -> Figure:
    figure, axes = style.canvas(1, 1, height_in=2.7)
    (axis,) = axes[0]
    tints = style.tints(["best setting of each"])
    good = [point for point in curve.points if point.items_per_s.value is not None]
    dots = [grammar.Dot(float(p.instances or 1), p.items_per_s, p.marks) for p in good]
    grammar.draw_points(axis, dots, tints["best setting of each"])
    for point in curve.points:
        if point.items_per_s.value is None:
            grammar.draw_missing(axis, float(point.instances or 1), point.status)
    counts = [point.instances for point in curve.points if point.instances]
    axis.set_xticks(counts, [str(count) for count in counts])
    axis.set_xlim(min(counts) - 0.4, max(counts) + 0.4)
    axis.set_xlabel("instances a device")
    axis.set_ylabel("throughput (items/s)")
    scales.rates(axis, [point.items_per_s.value for point in good], headroom=0.06)
    grammar.draw_legend(figure, tints, {mark for point in good for mark in point.marks})
    what = (
        "Items per second of all devices over the number of engines on each, every number with the "
        "best of its settings; a cross on the axis gave no number, and why."
    )
    name = f"Instances a device: {title}"
    return finish(figure, f"packing-{number}", name, caption(what, good, subset=subset))
