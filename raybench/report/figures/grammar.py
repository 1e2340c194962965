"""Points and bars whose shape shows the marks of what they stand for.

Shape and fill carry the meaning, never colour alone: squares and dotted bars are simulated, circles
and plain bars measured; a full marker is stable, a hollow one unverified, a crossed one unstable; a
caret marks what ran with less memory than the device has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from matplotlib.lines import Line2D
from matplotlib.markers import CARETDOWNBASE
from matplotlib.patches import Patch

from raybench.report.captions import CUT
from raybench.report.figures.axes import categories, rates
from raybench.report.figures.style import INK, MUTED, PAPER, WIDTH_IN, shortened
from raybench.report.symbols import CARET, WORDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

    from raybench.analysis.estimate import Estimate

_LONGEST = 56
"""Longest name in a legend, in letters."""
_ROOM = 6
"""Bars of a panel above which the text over them is turned."""
DASHES = (0, (4, 1.6))
"""Dashes of lines between simulated points."""


@dataclass(frozen=True)
class Dot:
    """A number with its interval and marks, to draw as a marker."""

    x: float
    y: Estimate
    marks: tuple[str, ...] = ()

    @property
    def height(self) -> float:
        """Where the marker is on the y axis."""
        return math.nan if self.y.value is None else self.y.value


@dataclass(frozen=True)
class Bar:
    """One bar of a group.

    Attributes:
        value: unknown for a point without a number, which gets a cross in its place.
        absent: status that explains why there is none.
        above: text above the bar.
        limit: height of a dashed line over the bar.
    """

    tint: str
    value: Estimate
    marks: tuple[str, ...]
    absent: str
    above: str = ""
    limit: float | None = None


def draw_points(axes: Axes, dots: Sequence[Dot], tint: str, *, joined: bool = True) -> None:
    """Draw markers with their intervals, joined by a line if values in between make sense."""
    if joined and len(dots) > 1:
        simulated = any("simulated" in dot.marks for dot in dots)
        axes.plot(
            [dot.x for dot in dots],
            [dot.height for dot in dots],
            color=tint,
            linewidth=1.2,
            linestyle=DASHES if simulated else "-",
            zorder=2,
        )
    _whiskers(axes, dots, tint)
    for marks in dict.fromkeys(dot.marks for dot in dots):
        _markers(axes, [dot for dot in dots if dot.marks == marks], marks, tint)


def draw_bar_groups(axes: Axes, named: Mapping[str, Sequence[Bar]], headroom: float) -> None:
    """Draw bars side by side over the name of their group; a single group needs no name.

    Args:
        axes: of the panel.
        named: bars by the name of their group.
        headroom: share of the height that text above the bars needs unless it is turned.
    """
    crowded = sum(map(len, named.values())) > _ROOM
    headroom *= 4 if crowded else 1
    highest = max((bar.value.value or 0.0 for bars in named.values() for bar in bars), default=0.0)
    for place, bars in enumerate(named.values()):
        width = 0.8 / len(bars)
        for k, bar in enumerate(bars):
            x = place + (k - (len(bars) - 1) / 2) * width
            draw_bar(axes, bar, x, 0.86 * width, headroom * highest, crowded=crowded)
    categories(axes, range(len(named)), list(named) if len(named) > 1 else [""])
    rates(axes, [bar.value.value for bars in named.values() for bar in bars], headroom)


def draw_bar(
    axes: Axes, bar: Bar, x: float, width: float, room: float = 0.0, *, crowded: bool = False
) -> None:
    """Draw a bar with its whisker and the text above it, turned where bars are narrow.

    Args:
        axes: of the panel.
        bar: to draw.
        x: middle of the bar.
        width: of the bar.
        room: estimated height of the text, which moves above a limit within reach.
        crowded: turn the text.
    """
    value, _, hi = bar.value
    if value is None:
        draw_missing(axes, x, bar.absent)
        return
    dot = Dot(x, bar.value, bar.marks)
    axes.bar([x], [value], width=width, zorder=2, **_fill(bar.marks, bar.tint))
    _whiskers(axes, [dot], INK)
    top = min(max(hi or 0.0, value), 0.97 * CUT * value)
    capped = "capped" in bar.marks
    if capped:
        _caret(axes, x, top)
    if bar.limit is not None:
        axes.plot([x - width / 2, x + width / 2], [bar.limit, bar.limit], color=INK,
                  linestyle="--", linewidth=1.0, zorder=5)  # fmt: skip
        top = bar.limit if top < bar.limit < top + room else top
    if bar.above:
        text, turn = (bar.above.replace("\n", "  "), 90) if crowded else (bar.above, 0)
        axes.annotate(text, (x, top), rotation=turn, xytext=(0, 12 if capped else 3), ha="center",
                      textcoords="offset points", va="bottom", fontsize=7.5, color=INK,
                      linespacing=1.15, zorder=7,
                      bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.6})  # fmt: skip


def draw_horizontal_bar(
    axes: Axes, place: float, length: float, height: float, tint: str, marks: Sequence[str]
) -> None:
    """Draw a horizontal bar."""
    axes.barh([place], [length], height=height, zorder=2, **_fill(marks, tint))
    if "capped" in marks:
        axes.annotate(CARET, (length, place), xytext=(-7, 0), textcoords="offset points",
                      va="center", fontsize=8, color=INK, zorder=6)  # fmt: skip


def draw_missing(axes: Axes, x: float, status: str) -> None:
    """Draw a cross on the x axis where there is no number, with the status above it."""
    floor = axes.get_xaxis_transform()
    axes.plot([x], [0.03], marker="x", color=INK, markersize=6, markeredgewidth=1.4,
              linestyle="none", transform=floor, clip_on=False, zorder=6)  # fmt: skip
    axes.text(x, 0.085, status.replace("_", " "), transform=floor, rotation=90, ha="center",
              va="bottom", fontsize=7.0, color=MUTED, zorder=6)  # fmt: skip


def draw_legend(
    figure: Canvas,
    series: Mapping[str, str],
    marks: Iterable[str],
    extra: Sequence[tuple[Any, str]] = (),
    *,
    bars: bool = False,
) -> None:
    """Draw the legend above all panels: colours, then the marks that occur, then the rest.

    Args:
        figure: the canvas.
        series: colour by name; an empty name has no entry.
        marks: that occur in the figure.
        extra: other lines with their names.
        bars: whether the figure shows bars.
    """
    handles: list[Any] = []
    for name, tint in series.items():
        label = shortened(name, _LONGEST)
        if bars and name:
            handles.append(Patch(facecolor=tint, label=label))
        elif name:
            handles.append(Line2D([], [], color=tint, marker="o", markersize=4.5, label=label))
    present = set(marks)
    handles += [_sample(mark, bars) for mark in WORDS if mark in present]
    for handle, label in extra:
        handle.set_label(label)
        handles.append(handle)
    if handles:
        columns = _fitting([str(handle.get_label()) for handle in handles])
        # Matplotlib fills column by column, but a reader goes line by line
        by_line = [handle for k in range(columns) for handle in handles[k::columns]]
        figure.legend(handles=by_line, loc="outside upper left", ncols=columns, borderaxespad=0.3,
                      columnspacing=1.6, handletextpad=0.6, handlelength=1.7)  # fmt: skip


def _whiskers(axes: Axes, dots: Sequence[Dot], tint: str) -> None:
    """Draw the intervals of the dots that have one."""
    intervals = [(dot.x, dot.y.lo, dot.y.hi) for dot in dots if dot.y.has_interval]
    if intervals:
        x, low, high = zip(*intervals, strict=True)
        axes.vlines(x, low, high, colors=tint, linewidth=1.1, zorder=3)


def _markers(axes: Axes, dots: Sequence[Dot], marks: Sequence[str], tint: str) -> None:
    """Draw dots that have the same marks."""
    x, y = [dot.x for dot in dots], [dot.height for dot in dots]
    axes.plot(x, y, linestyle="none", zorder=4, **_shape(marks, tint))
    if "unstable" in marks:
        axes.plot(x, y, marker="x", color=INK, markersize=7.5, markeredgewidth=1.0,
                  linestyle="none", zorder=5)  # fmt: skip
    if "capped" in marks:
        for dot in dots:
            _caret(axes, dot.x, dot.height)


def _caret(axes: Axes, x: float, y: float) -> None:
    axes.annotate(CARET, (x, y), xytext=(0, 4), textcoords="offset points", ha="center",
                  va="bottom", fontsize=8, color=INK, zorder=6)  # fmt: skip


def _shape(marks: Sequence[str], tint: str) -> dict[str, Any]:
    hollow = "unverified" in marks or "unstable" in marks
    return {
        "marker": "s" if "simulated" in marks else "o",
        "markersize": 4.8 if "simulated" in marks else 5.2,
        "markerfacecolor": PAPER if hollow else tint,
        "markeredgecolor": tint,
        "markeredgewidth": 1.3,
    }


def _fill(marks: Sequence[str], tint: str) -> dict[str, Any]:
    hatch = ("...." if "simulated" in marks else "") + ("xxx" if "unstable" in marks else "")
    if "unverified" in marks or hatch:
        return {"facecolor": PAPER, "edgecolor": tint, "linewidth": 1.2, "hatch": hatch or None}
    return {"facecolor": tint, "edgecolor": tint, "linewidth": 1.2}


_CARET: Any = CARETDOWNBASE
"""Matplotlib's own types knew no marker by number before 3.11."""


def _sample(mark: str, bars: bool) -> Any:
    """Return an example of a mark for the legend."""
    label = WORDS[mark]
    if mark == "capped":
        return Line2D([], [], linestyle="none", marker=_CARET, color=INK, markersize=4, label=label)
    if bars:
        return Patch(**_fill((mark,), MUTED), label=label)
    if mark == "unstable":
        return Line2D([], [], linestyle="none", marker="x", color=INK, markersize=6, label=label)
    return Line2D([], [], linestyle="none", label=label, **_shape((mark,), MUTED))


def _fitting(labels: Sequence[str]) -> int:
    """Return the most legend columns that fit side by side, filled line by line."""
    widths = [0.075 * len(label) + 0.45 for label in labels]
    for columns in range(len(widths), 1, -1):
        if sum(max(widths[k::columns]) for k in range(columns)) <= WIDTH_IN:
            return columns
    return 1
