"""style: how every figure looks, and its way from matplotlib to the page and to files.

What a reader must be told stands in the drawing itself. Shape and fill carry it, never colour
alone: squares and dotted bars are simulated, circles and plain bars measured; a full marker is
stable, a hollow one unverified, a crossed one unstable; a caret stands on what ran with less
memory than the device has. Colours are those of Okabe and Ito (2008), told apart by readers with
any of the usual deficiencies.

Inline drawings name their colours by CSS variables, so that they follow the theme of the page.
"""

from __future__ import annotations

import functools
import io
import re
import textwrap
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, NullFormatter
from typing_extensions import ParamSpec

from raybench.report.document import Figure
from raybench.report.numbers import short

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from matplotlib.axes import Axes

INK, MUTED, RULE, PAPER = "#1c1f24", "#616874", "#d6dae0", "#fefefe"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5c3e")
"""Of the lines and bars of a panel, in order. There are no more: what needs more is two panels."""
VARIABLES: dict[str, str] = {
    INK: "--ink",
    MUTED: "--muted",
    RULE: "--rule",
    PAPER: "--paper",
    **{colour: f"--s{k}" for k, colour in enumerate(SERIES, 1)},
}
"""Colour -> CSS variable of the page that stands for it."""
WIDTH_IN = 7.4
CARET = "\N{BLACK DOWN-POINTING SMALL TRIANGLE}"
_PX_PER_IN = 96
_PNG_DPI = 2 * _PX_PER_IN
_WORDS = {
    "simulated": "simulated, no hardware",
    "capped": "memory limited",
    "unstable": "unstable",
    "unverified": "unverified",
}

RC: Any = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "text.color": INK,
    "axes.titlesize": 9.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 9.0,
    "axes.labelsize": 8.5,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.facecolor": "none",
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "xtick.major.size": 3.0,
    "ytick.major.size": 0.0,
    "xtick.minor.size": 0.0,
    "ytick.minor.size": 0.0,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "legend.labelcolor": INK,
    "hatch.linewidth": 0.7,
    "lines.linewidth": 1.4,
    "lines.markersize": 5.2,
    "figure.facecolor": PAPER,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.w_pad": 0.06,
    "text.parse_math": False,
}


@dataclass(frozen=True)
class Dot:
    """A number with its interval and marks, ready to be drawn."""

    x: float
    y: float
    lo: float | None
    hi: float | None
    marks: tuple[str, ...] = ()


P = ParamSpec("P")
R = TypeVar("R")


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Everything that the function draws looks as `RC` says, and nothing else does."""

    @functools.wraps(draw)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        with mpl.rc_context(RC), warnings.catch_warnings():
            # a name in a script that the font lacks: browsers have it, images show boxes
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            return draw(*args, **kwargs)

    return inner


def canvas(rows: int = 1, columns: int = 1, height_in: float = 2.7, **options: Any) -> Any:
    """A figure and its axes, always as an array of rows and columns.

    Args:
        rows: of panels.
        columns: of panels.
        height_in: of one row, in inches.
        options: of matplotlib's `subplots`.
    """
    figure = Canvas(figsize=(WIDTH_IN, height_in * rows + 0.35))
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def blank(axes: Any, used: int) -> None:
    """Hide the columns of panels that hold nothing."""
    for row in axes:
        for axis in row[used:]:
            axis.set_visible(False)


def words(marks: Iterable[str]) -> str:
    """Marks in words, for figures whose lines cannot carry them."""
    return ", ".join(_WORDS[mark] for mark in _WORDS if mark in set(marks))


def colour(index: int) -> str:
    """Colour of the series of that number, from 0."""
    return SERIES[index % len(SERIES)]


def line(axes: Axes, dots: Sequence[Dot], tint: str, *, joined: bool = True) -> None:
    """Markers with their intervals; joined where what lies between means something."""
    if joined and len(dots) > 1:
        simulated = any("simulated" in dot.marks for dot in dots)
        axes.plot(
            [dot.x for dot in dots],
            [dot.y for dot in dots],
            color=tint,
            linewidth=1.2,
            linestyle=(0, (4, 1.6)) if simulated else "-",
            zorder=2,
        )
    whiskers(axes, dots, tint)
    for marks in dict.fromkeys(dot.marks for dot in dots):
        _markers(axes, [dot for dot in dots if dot.marks == marks], marks, tint)


def whiskers(axes: Axes, dots: Sequence[Dot], tint: str) -> None:
    """The intervals of those that have one."""
    known = [(d.x, d.lo, d.hi) for d in dots if d.lo is not None and d.hi is not None]
    if known:
        x, low, high = zip(*known, strict=True)
        axes.vlines(x, low, high, colors=tint, linewidth=1.1, zorder=3)


def _markers(axes: Axes, dots: Sequence[Dot], marks: Sequence[str], tint: str) -> None:
    """Points of the same marks, in the grammar of marks."""
    x, y = [dot.x for dot in dots], [dot.y for dot in dots]
    axes.plot(x, y, linestyle="none", zorder=4, **_shape(marks, tint))
    if "unstable" in marks:
        axes.plot(x, y, marker="x", color=INK, markersize=7.5, markeredgewidth=1.0,
                  linestyle="none", zorder=5)  # fmt: skip
    if "capped" in marks:
        for dot in dots:
            _caret(axes, dot.x, dot.y)


def bar(axes: Axes, dot: Dot, width: float, tint: str) -> None:
    """A bar in the grammar of marks; a whisker is its interval."""
    axes.bar([dot.x], [dot.y], width=width, zorder=2, **_fill(dot.marks, tint))
    whiskers(axes, [dot], INK)
    if "capped" in dot.marks:
        _caret(axes, dot.x, min(dot.hi or dot.y, 1.45 * dot.y))


def absent(axes: Axes, x: float, word: str) -> None:
    """A cross on the floor where there is no number, with the reason above it."""
    floor = axes.get_xaxis_transform()
    axes.plot([x], [0.03], marker="x", color=INK, markersize=6, markeredgewidth=1.4,
              linestyle="none", transform=floor, clip_on=False, zorder=6)  # fmt: skip
    axes.text(x, 0.085, word, transform=floor, rotation=90, ha="center", va="bottom",
              fontsize=7.0, color=MUTED, zorder=6)  # fmt: skip


def key(
    figure: Canvas,
    series: Mapping[str, str],
    marks: Iterable[str],
    extra: Sequence[tuple[Any, str]] = (),
    *,
    bars: bool = False,
) -> None:
    """The legend above all panels: colours first, then the marks that occur, then the rest."""
    handles: list[Any] = []
    for label, tint in series.items():
        if bars:
            handles.append(Patch(facecolor=tint, label=label))
        else:
            handles.append(Line2D([], [], color=tint, marker="o", markersize=4.5, label=label))
    present = set(marks)
    handles += [_sample(mark, bars) for mark in _WORDS if mark in present]
    for handle, label in extra:
        handle.set_label(label)
        handles.append(handle)
    if not handles:
        return
    columns = _fitting([str(handle.get_label()) for handle in handles])
    figure.legend(handles=handles, loc="outside upper left", ncols=columns, borderaxespad=0.3,
                  columnspacing=1.6, handletextpad=0.6, handlelength=1.7)  # fmt: skip


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
    shown = _spaced(axes, ticks)
    axes.set_xticks(ticks, [f"{tick:.0f}" if tick in shown else "" for tick in ticks])


def categories(axes: Axes, places: Sequence[float], names: Sequence[str]) -> None:
    """An x axis of names, broken into lines so that they do not run into each other."""
    room = max(6, 40 // max(1, len(names)))
    lines = ["\n".join(textwrap.wrap(name, room)) if "\n" not in name else name for name in names]
    axes.set_xticks(list(places), lines)
    axes.tick_params(axis="x", length=0)
    if len(places) > 0:
        axes.set_xlim(min(places) - 0.7, max(places) + 0.7)


def over(axes: Axes, dot: Dot, words: str) -> None:
    """Words above a bar, clear of its whisker and caret."""
    lift = 12 if "capped" in dot.marks else 3
    axes.annotate(words, (dot.x, min(max(dot.hi or 0, dot.y), 1.45 * dot.y)), xytext=(0, lift), ha="center",
                  textcoords="offset points", va="bottom", fontsize=7.5, color=INK,
                  linespacing=1.15, zorder=7,
                  bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.6})  # fmt: skip


def lying_bar(
    axes: Axes, place: float, length: float, height: float, tint: str, marks: Sequence[str]
) -> None:
    """A horizontal bar in the grammar of marks."""
    axes.barh([place], [length], height=height, zorder=2, **_fill(marks, tint))
    if "capped" in marks:
        axes.annotate(CARET, (length, place), xytext=(-7, 0), textcoords="offset points",
                      va="center", fontsize=8, color=INK, zorder=6)  # fmt: skip


def decades(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic y axis in plain numbers."""
    axes.set_yscale("log")
    axes.set_ylim(min(values) / 1.6, max(values) * 1.6)
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


def rates(axes: Axes, values: Iterable[float | None], headroom: float = 0.0) -> None:
    """A y axis from 0 in short numbers, with room above for words.

    It holds all values and their whiskers, but whiskers of more than half a value may leave it.
    """
    highest = max((value for value in values if value is not None), default=0.0)
    top = axes.get_ylim()[1]
    if highest > 0:
        top = min(top, 1.5 * highest)
    axes.set_ylim(bottom=0, top=top * (1 + headroom))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


def plain() -> FuncFormatter:
    """Ticks in plain numbers, thousands apart."""
    return FuncFormatter(lambda value, _: f"{value:,.6g}")


def finish(figure: Canvas, name: str, title: str, caption: str) -> Figure:
    """The drawing in its three forms."""
    text, image = io.StringIO(), io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        engine = figure.get_layout_engine()
        if engine is not None:
            engine.execute(figure)
        figure.set_layout_engine("none")  # what is laid out once need not be again, twice
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
        figure.savefig(image, format="png", dpi=_PNG_DPI, metadata={"Software": None})
    svg = _slim(text.getvalue())
    return Figure(
        name=name,
        title=title,
        caption=caption,
        inline=_inline(svg, name, title),
        svg=svg,
        png=image.getvalue(),
        width_px=round(WIDTH_IN * _PX_PER_IN),
    )


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


def _caret(axes: Axes, x: float, y: float) -> None:
    axes.annotate(CARET, (x, y), xytext=(0, 4), textcoords="offset points", ha="center",
                  va="bottom", fontsize=8, color=INK, zorder=6)  # fmt: skip


def _sample(mark: str, bars: bool) -> Any:
    """How a mark looks, for the legend."""
    label = _WORDS[mark]
    if mark == "capped":
        return Line2D([], [], linestyle="none", marker=11, color=INK, markersize=4, label=label)
    if bars:
        return Patch(**_fill((mark,), MUTED), label=label)
    if mark == "unstable":
        return Line2D([], [], linestyle="none", marker="x", color=INK, markersize=6, label=label)
    return Line2D([], [], linestyle="none", label=label, **_shape((mark,), MUTED))


def _fitting(labels: Sequence[str]) -> int:
    """As many columns as fit side by side."""
    widest = max(len(label) for label in labels) * 0.075 + 0.45
    return max(1, min(len(labels), int(WIDTH_IN / widest)))


def _spaced(axes: Axes, ticks: Sequence[float]) -> set[float]:
    """Ticks whose labels do not touch, from the largest down; the axis has its scale already."""
    low, high = axes.get_xlim()
    place = axes.get_xaxis().get_transform().transform
    ends = place([low, high])
    grid = axes.get_gridspec()
    columns = 1 if grid is None else grid.ncols
    inches = 0.8 * WIDTH_IN / columns
    shown: set[float] = set()
    free = float("inf")
    for tick in sorted(ticks, reverse=True):
        middle = float((place([tick])[0] - ends[0]) / (ends[1] - ends[0])) * inches
        half = 0.036 * len(f"{tick:.0f}") + 0.03
        if middle + half <= free:
            shown.add(tick)
            free = middle - half
    return shown


_TAG = re.compile(r"<[^>]*>")
_DECIMAL = re.compile(r"-?\d+\.\d+")
_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_ID = re.compile(r'(?<= id=")([^"]+)(?=")|(?<=href="#)([^"]+)(?=")|(?<=url\(#)([^)]+)(?=\))')
_FONT = re.compile(r"'DejaVu Sans'(?:, [^;\"]+)?")


def _slim(svg: str) -> str:
    """Without what nobody reads: metadata, names of groups and more than two decimals."""
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    used = set(re.findall(r'href="#([^"]+)"', svg)) | set(re.findall(r"url\(#([^)]+)\)", svg))
    svg = re.sub(r' id="([^"]*)"', lambda m: m[0] if m[1] in used else "", svg)
    svg = _TAG.sub(lambda tag: _NUMBER.sub(_rounded, tag[0]), svg)  # never in a label
    svg = re.sub(r'(?<= d=")[^"]+', _tight, svg)
    return re.sub(r"\n\s*", "\n", svg)


def _tight(path: re.Match[str]) -> str:
    """A path to a tenth of a point, which no eye and no printer tells from it."""
    whole = _DECIMAL.sub(lambda m: f"{float(m[0]):.1f}".removesuffix(".0"), path[0])
    return re.sub(r"\s*([A-Z])\s*", r"\1", whole).strip()


def _rounded(match: re.Match[str]) -> str:
    return f"{float(match[0]):.2f}".rstrip("0").rstrip(".")


def _inline(svg: str, name: str, title: str) -> str:
    """An element for a page: own ids, colours of the theme, the font of the page."""
    svg = svg[svg.index("<svg") :]
    svg = _ID.sub(lambda m: f"{name}-{m[0]}", svg)
    for value, variable in VARIABLES.items():
        svg = svg.replace(value, f"var({variable})")
    svg = _FONT.sub("var(--sans)", svg)
    box = re.search(r'viewBox="[^"]+"', svg)
    head = f'<svg {box[0] if box else ""} role="img" aria-labelledby="{name}-title">'
    return re.sub(r"^<svg[^>]*>", head, svg, count=1).replace("\n", " ").strip()
