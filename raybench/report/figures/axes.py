"""Scales and ticks of axes."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    NullFormatter,
    NullLocator,
)

from raybench.report.captions import CUT
from raybench.report.figures.style import WIDTH_IN
from raybench.report.formatting import short

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from matplotlib.axes import Axes


MOST_TICKS = 64
"""Ticks of an axis; each is drawn by itself, which takes milliseconds."""


def measured_ticks(axes: Axes, values: Iterable[float], *, base: int | None = 2) -> None:
    """Put a tick at every measured value of the x axis and nowhere else.

    Labels that would touch are left out, but never that of the largest value; of very many values,
    ticks without a label are, too.

    Args:
        axes: of the panel.
        values: x of the points.
        base: of the logarithm; None for a linear axis.
    """
    ticks = sorted(set(values))
    if base is not None and len(ticks) > 1 and min(ticks) > 0:
        axes.set_xscale("log", base=base)
        axes.set_xlim(min(ticks) / 1.25, max(ticks) * 1.25)
    elif ticks:
        room = 0.06 * (max(ticks) - min(ticks)) or 0.5
        axes.set_xlim(min(ticks) - room, max(ticks) + room)
    axes.xaxis.set_minor_formatter(NullFormatter())
    kept = _spaced(axes, ticks)
    if len(ticks) > MOST_TICKS:
        ticks = [tick for tick in ticks if tick in kept]
    axes.set_xticks(ticks, [f"{tick:.0f}" if tick in kept else "" for tick in ticks])


def categories(axes: Axes, places: Sequence[float], names: Sequence[str]) -> None:
    """Label the x axis with names, broken into lines so that they do not touch."""
    room = max(6, 40 // max(1, len(names)))
    lines = ["\n".join(textwrap.wrap(name, room)) if "\n" not in name else name for name in names]
    axes.set_xticks(list(places), lines)
    axes.tick_params(axis="x", length=0)
    if len(places) > 0:
        axes.set_xlim(min(places) - 0.7, max(places) + 0.7)


def rates(axes: Axes, values: Iterable[float | None], headroom: float = 0.0) -> None:
    """Start the y axis at 0, with short numbers and room for text above.

    It holds all values, and their whiskers up to half a value above the highest.
    """
    highest = max((value for value in values if value is not None), default=0.0)
    top = axes.get_ylim()[1]
    if highest > 0:
        top = min(top, CUT * highest)
    axes.set_ylim(bottom=0, top=top * (1 + headroom))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


def decades(axes: Axes, values: Sequence[float]) -> None:
    """Make the y axis logarithmic, with plain numbers."""
    axes.set_yscale("log")
    axes.set_ylim(min(values) / 1.6, max(values) * 1.6)
    axes.yaxis.set_major_locator(LogLocator(subs=_steps(max(values) / min(values) * 1.6**2)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


def _steps(span: float) -> tuple[float, ...]:
    """Return where in a decade ticks stand, so that any range of this ratio has two or more."""
    if span < 4:
        return 1, 1.5, 2, 3, 5, 7
    if span < 12:
        return 1, 2, 3, 5, 7
    return (1, 2, 5) if span < 30 else (1, 3) if span < 100 else (1,)


def plain() -> FuncFormatter:
    """Return a formatter of plain numbers, thousands separated."""
    return FuncFormatter(lambda value, _: f"{value:,.6g}")


def percent() -> FuncFormatter:
    """Return a formatter of shares in percent, with the decimals that tell ticks apart."""
    return FuncFormatter(lambda value, _: f"{100 * value:.4g} %")


def _spaced(axes: Axes, ticks: Sequence[float]) -> set[float]:
    """Return the ticks whose labels do not touch, chosen from the largest down."""
    low, high = axes.get_xlim()
    place = axes.get_xaxis().get_transform().transform
    ends = place([low, high])
    grid = axes.get_gridspec()
    columns = 1 if grid is None else grid.ncols
    inches = 0.8 * WIDTH_IN / columns
    kept: set[float] = set()
    free = float("inf")
    for tick in sorted(ticks, reverse=True):
        middle = float((place([tick])[0] - ends[0]) / (ends[1] - ends[0])) * inches
        half = 0.036 * len(f"{tick:.0f}") + 0.03
        if middle + half <= free:
            kept.add(tick)
            free = middle - half
    return kept
