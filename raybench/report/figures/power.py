"""Figure of throughput and of items a joule over the power limit of the devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.report.captions import caption, subset_note
from raybench.report.figures import axes as scales
from raybench.report.figures import grammar, style
from raybench.report.figures.svg import finish
from raybench.report.labels import workers_label

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes

    from raybench.analysis.estimate import Estimate
    from raybench.analysis.power import PowerCurve, PoweredPoint
    from raybench.report.document import Figure
    from raybench.report.labels import Naming

MOST_FIGURES = 4
_TINT = "each power limit"


def figures(curves: Sequence[PowerCurve], naming: Naming) -> Iterator[Figure]:
    """Yield a figure for each curve with a number."""
    drawn = [curve for curve in curves if any(p.items_per_s.value for p in curve.points)]
    subset = subset_note(MOST_FIGURES, len(drawn))
    for number, curve in enumerate(drawn[:MOST_FIGURES], 1):
        yield _figure(number, curve, title_of(curve, naming), subset)


def title_of(curve: PowerCurve, naming: Naming) -> str:
    """Return the name of a curve: its model, what else differs between curves, and its devices."""
    return naming.title(curve.series, workers_label(curve.workers))


@style.styled
def _figure(number: int, curve: PowerCurve, title: str, subset: str) -> Figure:
    good = [point for point in curve.points if point.items_per_s.value is not None]
    with_energy = any(point.items_per_j.value for point in good)
    figure, axes = style.canvas(1, 1 + with_energy, height_in=2.7)
    tints = style.tints([_TINT])
    _panel(
        axes[0][0], curve, [(p, p.items_per_s) for p in good], curve.knee_w, "throughput (items/s)"
    )
    if with_energy:
        energy = [(p, p.items_per_j) for p in good if p.items_per_j.value is not None]
        _panel(axes[0][1], curve, energy, curve.best_w, "items/J")
    grammar.draw_legend(figure, tints, {mark for point in good for mark in point.marks})
    what = (
        "Items per second of all devices"
        + (" (left) and items per joule (right)" if with_energy else "")
        + " over the power limit of each; a dotted line stands at the knee"
        + (" and at the most items per joule" if with_energy else "")
        + ". A cross on the axis gave no number, and why."
    )
    return finish(
        figure, f"power-{number}", f"Power limits: {title}", caption(what, good, subset=subset)
    )


def _panel(
    axis: Axes,
    curve: PowerCurve,
    values: Sequence[tuple[PoweredPoint, Estimate]],
    line_w: float | None,
    label: str,
) -> None:
    dots = [grammar.Dot(point.power_limit_w, value, point.marks) for point, value in values]
    grammar.draw_points(axis, dots, style.tints([_TINT])[_TINT])
    for point in curve.points:
        if point.items_per_s.value is None:
            grammar.draw_missing(axis, point.power_limit_w, point.status)
    if line_w is not None:
        axis.axvline(line_w, color=style.MUTED, linestyle=":", linewidth=1.0, zorder=1)
    scales.measured_ticks(axis, [point.power_limit_w for point in curve.points], base=None)
    axis.set_xlabel("power limit (W)")
    axis.set_ylabel(label)
    scales.rates(axis, [value.value for _, value in values], headroom=0.06)
