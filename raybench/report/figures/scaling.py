"""Scaling figures: throughput over workers beside the ideal line and the law, efficiency below."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from raybench.report import style
from raybench.report.captions import caption, shown
from raybench.report.labels import panels

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from raybench.analysis.points import Series
    from raybench.analysis.scaling import Curve, Entry, Scaling
    from raybench.report.document import Figure
    from raybench.report.labels import Panel

_ABREAST = 2
MOST_FIGURES = 3
_LINEAR = 16
"""Numbers of workers up to which a linear axis, on which the ideal is a line, has room."""


def figures(scaling: Scaling) -> Iterator[Figure]:
    """Two panels a figure, in the order of the curves."""
    points: dict[Series, list[Entry]] = {}
    for entry in scaling.entries:
        points.setdefault(entry.series, []).append(entry)
    every = panels(scaling.curves, lambda curve: curve.series)
    pages = [every[k : k + _ABREAST] for k in range(0, len(every), _ABREAST)]
    for number, page in enumerate(pages[:MOST_FIGURES], 1):
        yield _figure(number, page, points, shown(min(len(pages), MOST_FIGURES) * _ABREAST, every))


@style.styled
def _figure(
    number: int, page: Sequence[Panel[Curve]], points: dict[Series, list[Entry]], subset: str
) -> Figure:
    figure, axes = style.canvas(2, _ABREAST, height_in=2.0, height_ratios=(1.8, 1), sharex="col")
    labels = dict.fromkeys(label for panel in page for label in panel.members)
    tints = {label: style.colour(k) for k, label in enumerate(labels)}
    drawn: list[Entry] = []
    fitted = False
    for column, panel in enumerate(page):
        rates, shares = axes[0][column], axes[1][column]
        rates.set_title(panel.title)
        for label, curve in panel.members.items():
            entries = points[curve.series]
            drawn += [entry for entry in entries if entry.items_per_s is not None]
            fitted |= curve.law is not None
            _curve(rates, shares, entries, curve, tints[label])
        _dress(rates, shares, page, panel, points)
    axes[0][0].set_ylabel("throughput (items/s)")
    axes[1][0].set_ylabel("efficiency")
    style.blank(axes, len(page))
    extra: list[tuple[Any, str]] = [
        (Line2D([], [], color=style.MUTED, linestyle=":", linewidth=1.2), "ideal")
    ]
    if fitted:
        extra.append((Line2D([], [], color=style.MUTED, linewidth=1.0), "law, dashed beyond data"))
    marks = {mark for entry in drawn for mark in entry.marks}
    style.key(figure, {k: v for k, v in tints.items() if k}, marks, extra)
    what = (
        "Items per second of all workers together, over one window common to them, and speedup "
        "over its ideal."
    )
    law = (
        " Lines: the universal scalability law fitted to the trials with its 95 % band, dashed "
        "beyond what was measured."
        if fitted
        else ""
    )
    title = "Throughput and efficiency over workers: " + "; ".join(p.title for p in page)
    return style.finish(
        figure, f"scaling-{number}", title, caption(what + law, drawn, subset=subset)
    )


def _curve(rates: Any, shares: Any, entries: Sequence[Entry], curve: Curve, tint: str) -> None:
    good = [entry for entry in entries if entry.items_per_s is not None and entry.workers]
    base = min(good, key=lambda entry: entry.workers or 0)
    first, last = curve.workers[0], curve.workers[-1]
    scale = (base.items_per_s or 0) / first
    ideal = np.geomspace(first, last, 24 if last > _LINEAR else 2)
    rates.plot(ideal, scale * ideal, color=tint, linestyle=":", linewidth=1.1, zorder=1)
    if curve.law is not None:
        _law(rates, curve, last, tint)
    dots = [_dot(entry, "items_per_s") for entry in good]
    style.line(rates, dots, tint, joined=False)
    style.line(shares, [_dot(entry, "efficiency") for entry in good], tint)
    for entry in entries:
        if entry.items_per_s is None and entry.workers is not None:
            style.absent(rates, entry.workers, entry.status.replace("_", " "))


def _law(rates: Any, curve: Curve, last: int, tint: str) -> None:
    law = curve.law
    assert law is not None
    for some, pattern in (
        ([p for p in law.predictions if p.workers <= last], "-"),
        ([p for p in law.predictions if p.workers >= last], (0, (4, 2))),
    ):
        x = [p.workers for p in some]
        rates.plot(x, [p.items_per_s for p in some], color=tint, linewidth=1.0, linestyle=pattern,
                   zorder=2)  # fmt: skip
        band = [p for p in some if p.items_per_s_lo is not None and p.items_per_s_hi is not None]
        rates.fill_between([p.workers for p in band], [p.items_per_s_lo for p in band],
                           [p.items_per_s_hi for p in band], color=tint, alpha=0.14, linewidth=0,
                           zorder=1)  # fmt: skip


def _dress(
    rates: Any,
    shares: Any,
    page: Sequence[Panel[Curve]],
    panel: Panel[Curve],
    points: dict[Series, list[Entry]],
) -> None:
    counts = {
        entry.workers for curve in panel.members.values() for entry in points[curve.series]
        if entry.workers
    }  # fmt: skip
    beyond = [
        p.workers
        for curve in panel.members.values()
        if curve.law is not None
        for p in curve.law.predictions[-1:]
    ]
    entries = [e for c in panel.members.values() for e in points[c.series]]
    ideal = [(b.items_per_s or 0) / (b.workers or 1) * max(counts) for b in entries
             if b.workers == b.base_workers]  # fmt: skip
    style.rates(rates, [*ideal, *(e.items_per_s for e in entries)])
    reach = max([*counts, *beyond])
    style.ladder(shares, [*counts, *beyond], base=2 if reach > _LINEAR else None)
    rates.tick_params(labelbottom=False)
    shares.set_xlabel("workers, one device each")
    shares.axhline(1.0, color=style.MUTED, linestyle=":", linewidth=1.1, zorder=1)
    known = [e.efficiency for e in entries if e.efficiency is not None]
    low, high = min(known, default=1.0), max(known, default=1.0)
    # steps of 10 %, room for whiskers of some percent; wider ones leave the panel
    shares.set_ylim(min(0.9, 0.1 * math.floor(10 * low - 0.5)), max(1.05, high + 0.05))
    shares.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))


def _dot(entry: Entry, name: str) -> style.Dot:
    return style.Dot(
        float(entry.workers or 0),
        getattr(entry, name),
        getattr(entry, f"{name}_lo"),
        getattr(entry, f"{name}_hi"),
        entry.marks,
    )
