"""Figure of latency over the rate of arrivals, with its knee."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from matplotlib.lines import Line2D

from raybench.analysis.estimate import Estimate
from raybench.report.captions import caveats, subset_note
from raybench.report.figures import axes as scales
from raybench.report.figures import grammar, style
from raybench.report.figures.svg import finish
from raybench.report.formatting import number
from raybench.report.labels import workers_label

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes

    from raybench.analysis.latency_curves import LatencyCurve
    from raybench.report.document import Figure
    from raybench.report.labels import Naming

MOST_FIGURES = 4
_PERCENTILES = ("p50", "p90", "p99")


def figures(curves: Sequence[LatencyCurve], naming: Naming) -> Iterator[Figure]:
    """Yield a figure for each curve that has latencies."""
    drawn = [c for c in curves if any(p.latency_p50_ms is not None for p in c.points)]
    subset = subset_note(MOST_FIGURES, len(drawn))
    for place, curve in enumerate(drawn[:MOST_FIGURES], 1):
        yield _figure(place, curve, name_of(curve, naming), subset)


def name_of(curve: LatencyCurve, naming: Naming) -> str:
    """Return the name of a curve: its model, what else differs between curves, and its workers."""
    return naming.title(curve.series, workers_label(curve.workers))


@style.styled
def _figure(place: int, curve: LatencyCurve, name: str, subset: str) -> Figure:
    figure, axes = style.canvas(1, 1, height_in=3.0)
    (axis,) = axes[0]
    tints = style.tints(_PERCENTILES)
    heights: list[float] = []
    for percentile, tint in tints.items():
        dots = [
            grammar.Dot(p.offered_items_per_s, Estimate(value), p.marks)
            for p in curve.points
            if (value := getattr(p, f"latency_{percentile}_ms")) is not None
        ]
        heights += [dot.height for dot in dots]
        grammar.draw_points(axis, dots, tint)
    for point in curve.points:
        if point.overloaded:
            grammar.draw_missing(axis, point.offered_items_per_s, "overloaded")
    extra = _draw_bounds(axis, curve)
    lines: tuple[tuple[float | None, str, Literal["--", ":"]], ...] = (
        (curve.knee_items_per_s, "knee", "--"),
        (curve.closed_items_per_s, "closed loop", ":"),
    )
    for rate, label, line in lines:
        if rate is not None:
            axis.axvline(rate, color=style.MUTED, linestyle=line, linewidth=0.9, zorder=1)
            extra.append((Line2D([], [], color=style.MUTED, linestyle=line, linewidth=0.9), label))
    scales.decades(axis, [*heights, *(ms for _, ms in curve.bounds)])
    axis.set_xlim(left=_left(curve))
    axis.xaxis.set_major_formatter(scales.plain())
    axis.set_xlabel("offered (items/s)")
    axis.set_ylabel("latency (ms)")
    grammar.draw_legend(figure, tints, {m for p in curve.points for m in p.marks}, extra)
    return finish(figure, f"latency-{place}", f"Latency over the rate: {name}",
                  f"{_caption(curve)} {caveats(curve.points)} {subset}".strip())  # fmt: skip


def _left(curve: LatencyCurve) -> float:
    """Return where the x axis begins: at 0, or near the lowest rate where all are high."""
    rates = [point.offered_items_per_s for point in curve.points]
    low, high = min(rates), max(rates)
    return 0.0 if low < high / 2 else low - 0.1 * (high - low)


def _draw_bounds(axis: Axes, curve: LatencyCurve) -> list[tuple[Line2D, str]]:
    """Draw a line at each latency bound; return the entries of the legend."""
    entries = []
    for percentile, ms in curve.bounds:
        axis.axhline(ms, color=style.INK, linestyle="-.", linewidth=0.9, zorder=1)
        line = Line2D([], [], color=style.INK, linestyle="-.", linewidth=0.9)
        entries.append((line, f"{ms:g} ms at p{percentile:g}"))
    return entries


def _caption(curve: LatencyCurve) -> str:
    text = (
        "Latency of an item from its arrival to its result, over the rate at which items arrive, whatever "
        "becomes of those before. A cross on the axis is a rate that the workers cannot bear."
    )
    knee = curve.knee
    if knee is None or knee.latency_p99_ms is None:
        return text
    return (
        f"{text} The knee is the rate with the most items/s for a millisecond of p99: "
        f"{number(knee.offered_items_per_s)} items/s at {number(knee.latency_p99_ms)} ms."
    )
