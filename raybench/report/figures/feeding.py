"""Figure of the throughput of a device over the cores that feed it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.report.captions import caption, subset_note
from raybench.report.figures import axes as scales
from raybench.report.figures import grammar, style
from raybench.report.figures.svg import finish
from raybench.report.labels import workers_label

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from raybench.analysis.feeding import FeedingCurve
    from raybench.report.document import Figure
    from raybench.report.labels import Naming

MOST_FIGURES = 4
FED, ALONE = "fed by so many cores", "without decoding"


def figures(curves: Sequence[FeedingCurve], naming: Naming) -> Iterator[Figure]:
    """Yield a figure for each curve with a number."""
    drawn = [
        curve for curve in curves if any(p.cores and p.items_per_s.value for p in curve.points)
    ]
    subset = subset_note(MOST_FIGURES, len(drawn))
    for number, curve in enumerate(drawn[:MOST_FIGURES], 1):
        yield _figure(number, curve, title_of(curve, naming), subset)


def title_of(curve: FeedingCurve, naming: Naming) -> str:
    """Return the name of a curve: its model, what else differs between curves, and its devices."""
    return naming.title(curve.series, workers_label(curve.workers))


@style.styled
def _figure(number: int, curve: FeedingCurve, title: str, subset: str) -> Figure:
    figure, axes = style.canvas(1, 1, height_in=2.7)
    (axis,) = axes[0]
    tints = style.tints([FED, ALONE] if curve.unfed.value else [FED])
    fed = [point for point in curve.points if point.cores]
    good = [point for point in fed if point.items_per_s.value is not None]
    dots = [grammar.Dot(float(p.cores or 1), p.items_per_s, p.marks) for p in good]
    grammar.draw_points(axis, dots, tints[FED])
    for point in fed:
        if point.items_per_s.value is None:
            grammar.draw_missing(axis, float(point.cores or 1), point.status)
    counts = [point.cores for point in fed if point.cores]
    if curve.unfed.value:
        axis.axhline(curve.unfed.value, color=tints[ALONE], linewidth=1.0, linestyle="--")
    axis.set_xticks(counts, [str(count) for count in counts])
    axis.set_xlim(min(counts) - 0.4, max(counts) + 0.4)
    axis.set_xlabel("cores that feed each device")
    axis.set_ylabel("throughput a device (items/s)")
    rates = [point.items_per_s.value for point in good]
    scales.rates(axis, [*rates, curve.unfed.value] if curve.unfed.value else rates, headroom=0.06)
    grammar.draw_legend(figure, tints, {mark for point in good for mark in point.marks})
    what = (
        "Items per second of a device over the number of cores that decode its images; where the "
        "curve bends the device becomes the limit. A cross on the axis gave no number, and why."
    )
    name = f"Cores that feed a device: {title}"
    return finish(figure, f"feeding-{number}", name, caption(what, good, subset=subset))
