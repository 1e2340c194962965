"""Figures of throughput over workers with ideal line and law, and efficiency below."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D

from raybench.report.captions import caption, subset_note
from raybench.report.figures import axes as scales
from raybench.report.figures import grammar, style
from raybench.report.figures.svg import finish
from raybench.report.labels import ABREAST, abreast, panels

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from raybench.analysis.curves import Curve, ScalingEntry
    from raybench.analysis.estimate import Estimate
    from raybench.analysis.scaling import Scaling
    from raybench.analysis.scaling_law import ScalingLaw
    from raybench.analysis.series import Series
    from raybench.report.document import Figure
    from raybench.report.labels import Panel

    Points = Mapping[Series, Sequence[ScalingEntry]]

MOST_FIGURES = 3
_LINEAR = 16
"""Largest number of workers on a linear axis, where the ideal is a straight line."""
_WHAT = (
    "Items per second of all workers together, over one window common to them, and speedup over "
    "its ideal."
)
_STRONG = " The batch of all workers together stays the same (strong scaling)."
_LAW = (
    " Lines: the universal scalability law fitted to the trials with its 95 % band, dashed beyond "
    "what was measured."
)


def figures(scaling: Scaling) -> Iterator[Figure]:
    """Yield figures of two panels each, in the order of the curves."""
    points: dict[Series, list[ScalingEntry]] = {}
    for entry in scaling.entries:
        points.setdefault(entry.series, []).append(entry)
    every = panels(scaling.curves, lambda curve: curve.series)
    subset = subset_note(MOST_FIGURES * ABREAST, len(every))
    for number, page in enumerate(abreast(every, MOST_FIGURES), 1):
        yield _figure(number, page, points, subset)


@style.styled
def _figure(number: int, page: Sequence[Panel[Curve]], points: Points, subset: str) -> Figure:
    figure, axes = style.canvas(2, len(page), height_in=2.0, height_ratios=(1.8, 1), sharex="col")
    tints = style.tints(label for panel in page for label in panel.members)
    for column, panel in enumerate(page):
        style.title(axes[0][column], panel.title, len(page))
        _panel(axes[0][column], axes[1][column], panel.members, tints, points)
    axes[0][0].set_ylabel("throughput (items/s)")
    axes[1][0].set_ylabel("efficiency")
    curves = [curve for panel in page for curve in panel.members.values()]
    drawn = [e for curve in curves for e in points[curve.series] if e.items_per_s.value is not None]
    fitted = any(curve.law is not None for curve in curves)
    ideal = Line2D([], [], color=style.MUTED, linestyle=":", linewidth=1.2)
    extra: list[tuple[Any, str]] = [(ideal, "ideal")]
    if fitted:
        extra.append((Line2D([], [], color=style.MUTED, linewidth=1.0), "law, dashed beyond data"))
    grammar.draw_legend(figure, tints, {mark for entry in drawn for mark in entry.marks}, extra)
    strong = any(curve.mode == "strong" for curve in curves)
    what = _WHAT + (_STRONG if strong else "") + (_LAW if fitted else "")
    title = "Throughput and efficiency over workers: " + "; ".join(p.title for p in page)
    return finish(figure, f"scaling-{number}", title, caption(what, drawn, subset=subset))


def _panel(
    rates: Any, shares: Any, members: Mapping[str, Curve], tints: dict[str, str], points: Points
) -> None:
    for label, curve in members.items():
        _curve(rates, shares, points[curve.series], curve, tints[label])
    entries = [entry for curve in members.values() for entry in points[curve.series]]
    _dress(rates, shares, entries, [c.law for c in members.values() if c.law is not None])


def _curve(
    rates: Any, shares: Any, entries: Sequence[ScalingEntry], curve: Curve, tint: str
) -> None:
    good = [entry for entry in entries if entry.items_per_s.value is not None and entry.workers]
    first, last = curve.workers[0], curve.workers[-1]
    base = next(entry for entry in good if entry.workers == first)
    ideal = np.geomspace(first, last, 24 if last > _LINEAR else 2)
    each = (base.items_per_s.value or 0.0) / first
    rates.plot(ideal, each * ideal, color=tint, linestyle=":", linewidth=1.1, zorder=1)
    if curve.law is not None:
        _law(rates, curve.law, last, tint)
    grammar.draw_points(
        rates, [_dot(entry, entry.items_per_s) for entry in good], tint, joined=False
    )
    grammar.draw_points(shares, [_dot(entry, entry.efficiency) for entry in good], tint)
    for entry in entries:
        if entry.items_per_s.value is None and entry.workers is not None:
            grammar.draw_missing(rates, entry.workers, entry.status)


def _law(rates: Any, law: ScalingLaw, last: int, tint: str) -> None:
    inside = [p for p in law.predictions if p.workers <= last]
    beyond = [p for p in law.predictions if p.workers >= last]
    for predictions, pattern in ((inside, "-"), (beyond, (0, (4, 2)))):
        workers = [p.workers for p in predictions]
        rates.plot(workers, [p.items_per_s.value for p in predictions], color=tint, linewidth=1.0,
                   linestyle=pattern, zorder=2)  # fmt: skip
        band = [
            p for p in predictions if p.items_per_s.lo is not None and p.items_per_s.hi is not None
        ]
        rates.fill_between([p.workers for p in band], [p.items_per_s.lo for p in band],
                           [p.items_per_s.hi for p in band], color=tint, alpha=0.14, linewidth=0,
                           zorder=1)  # fmt: skip


def _dress(
    rates: Any, shares: Any, entries: Sequence[ScalingEntry], laws: Sequence[ScalingLaw]
) -> None:
    counts = [entry.workers for entry in entries if entry.workers]
    beyond = [law.predictions[-1].workers for law in laws]
    ideal = [(b.items_per_s.value or 0) / (b.workers or 1) * max(counts) for b in entries
             if b.workers == b.base_workers]  # fmt: skip
    scales.rates(rates, [*ideal, *(e.items_per_s.value for e in entries)])
    reach = max([*counts, *beyond])
    scales.measured_ticks(shares, [*counts, *beyond], base=2 if reach > _LINEAR else None)
    rates.tick_params(labelbottom=False)
    shares.set_xlabel("workers, one device each")
    shares.axhline(1.0, color=style.MUTED, linestyle=":", linewidth=1.1, zorder=1)
    shown = [e.efficiency.value for e in entries if e.efficiency.value is not None]
    low, high = min(shown, default=1.0), max(shown, default=1.0)
    # steps of 10 % with room for whiskers of a few percent; wider ones leave the panel
    shares.set_ylim(min(0.9, 0.1 * math.floor(10 * low - 0.5)), max(1.05, high + 0.05))
    shares.yaxis.set_major_formatter(scales.percent())


def _dot(entry: ScalingEntry, estimate: Estimate) -> grammar.Dot:
    return grammar.Dot(float(entry.workers or 0), estimate, entry.marks)
