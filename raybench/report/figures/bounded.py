"""Figure of the highest rate under a latency bound against the number of workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.lines import Line2D

from raybench.analysis.estimate import Estimate
from raybench.report.captions import subset_note
from raybench.report.figures import axes as scales
from raybench.report.figures import grammar, style
from raybench.report.figures.svg import finish

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from raybench.analysis.bounded import BoundedCurve
    from raybench.report.document import Figure
    from raybench.report.labels import Naming

MOST_FIGURES = 4


def figures(curves: Sequence[BoundedCurve], naming: Naming) -> Iterator[Figure]:
    """Yield a figure for each curve that has a rate."""
    drawn = [curve for curve in curves if any(p.items_per_s.value for p in curve.points)]
    subset = subset_note(MOST_FIGURES, len(drawn))
    for number, curve in enumerate(drawn[:MOST_FIGURES], 1):
        yield _figure(number, curve, title_of(curve, naming), subset)


def title_of(curve: BoundedCurve, naming: Naming) -> str:
    """Return the name of a curve: its model, what else differs between curves, and the bound."""
    return naming.title(curve.series, f"within {curve.bound}")


@style.styled
def _figure(number: int, curve: BoundedCurve, title: str, subset: str) -> Figure:
    figure, axes = style.canvas(1, 1, height_in=2.7)
    (axis,) = axes[0]
    tints = style.tints(["closed loop", f"within {curve.bound}"])
    marks = ("simulated",) if curve.series.simulated else ()
    closed, within = _dots(curve, closed=True, marks=marks), _dots(curve, closed=False, marks=marks)
    for dots, tint in zip((closed, within), tints.values(), strict=True):
        grammar.draw_points(axis, dots, tint)
    for point in curve.points:
        if point.items_per_s.value is None:
            grammar.draw_missing(axis, point.workers, "no rate")
    first = next((dot for dot in within), None)
    ideal = Line2D([], [], color=style.MUTED, linestyle="--", linewidth=0.9)
    if first is not None:
        most = max(point.workers for point in curve.points)
        axis.plot([first.x, most], [first.height, first.height * most / first.x],
                  color=style.MUTED, linestyle="--", linewidth=0.9, zorder=1)  # fmt: skip
    scales.measured_ticks(axis, [point.workers for point in curve.points])
    axis.set_xlabel(f"{curve.device}s" if curve.device != "device" else "workers")
    axis.set_ylabel("items/s")
    scales.rates(axis, [dot.height for dot in (*closed, *within)], 0.06)
    grammar.draw_legend(figure, tints, marks, [(ideal, "in proportion")])
    text = (
        f"Items per second against the number of workers: as fast as it goes in closed loop, and the "
        f"highest rate of random arrivals that keeps {curve.bound} from arrival to result. Whiskers: "
        "the interval of the capacity under the bound."
    )
    return finish(figure, f"bounded-{number}", f"Capacity {title}", f"{text} {subset}".strip())


def _dots(curve: BoundedCurve, *, closed: bool, marks: tuple[str, ...]) -> list[Any]:
    pairs = [
        (p.workers, Estimate(p.closed_items_per_s) if closed else p.items_per_s)
        for p in curve.points
    ]
    return [grammar.Dot(x, estimate, marks) for x, estimate in pairs if estimate.value is not None]
