"""axes: scales and ticks that say what was measured, and no more."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from matplotlib.ticker import FuncFormatter, NullFormatter, PercentFormatter

from raybench.report.captions import CUT
from raybench.report.figures.style import WIDTH_IN
from raybench.report.formatting import short

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from matplotlib.axes import Axes


def ladder(axes: Axes, values: Iterable[float], *, base: int | None = 2) -> None:
    """An x axis with a tick at every value that was measured, and only there.

    Labels that would touch are left out, the largest value's never.

    Args:
        axes: of the panel.
        values: where there are points.
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
    axes.set_xticks(ticks, [f"{tick:.0f}" if tick in kept else "" for tick in ticks])


def categories(axes: Axes, places: Sequence[float], names: Sequence[str]) -> None:
    """An x axis of names, broken into lines so that they do not run into each other."""
    room = max(6, 40 // max(1, len(names)))
    lines = ["\n".join(textwrap.wrap(name, room)) if "\n" not in name else name for name in names]
    axes.set_xticks(list(places), lines)
    axes.tick_params(axis="x", length=0)
    if len(places) > 0:
        axes.set_xlim(min(places) - 0.7, max(places) + 0.7)


def rates(axes: Axes, values: Iterable[float | None], headroom: float = 0.0) -> None:
    """A y axis from 0 in short numbers, with room above for words.

    It holds all values and their whiskers, but whiskers of more than half a value may leave it.
    """
    highest = max((value for value in values if value is not None), default=0.0)
    top = axes.get_ylim()[1]
    if highest > 0:
        top = min(top, CUT * highest)
    axes.set_ylim(bottom=0, top=top * (1 + headroom))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


def decades(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic y axis in plain numbers."""
    axes.set_yscale("log")
    axes.set_ylim(min(values) / 1.6, max(values) * 1.6)
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


def plain() -> FuncFormatter:
    """Ticks in plain numbers, thousands apart."""
    return FuncFormatter(lambda value, _: f"{value:,.6g}")


def percent() -> PercentFormatter:
    """Ticks of shares."""
    return PercentFormatter(1.0, decimals=0, symbol=" %")


def _spaced(axes: Axes, ticks: Sequence[float]) -> set[float]:
    """Ticks whose labels do not touch, from the largest down; the axis has its scale already."""
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
