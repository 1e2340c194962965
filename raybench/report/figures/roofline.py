"""Figure of a roofline: performance over arithmetic intensity, both logarithmic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from raybench.analysis.roofline import ceiling_label
from raybench.report.captions import caveats, subset_note
from raybench.report.figures import style
from raybench.report.figures.svg import finish
from raybench.report.formatting import number, short
from raybench.text import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from raybench.analysis.roofline import Roofline, RooflinePoint, Rooflines
    from raybench.report.document import Figure

MOST_FIGURES = 4
_ROOM = 2.5
"""Factor between the outermost value and the edge of the panel."""
_SHAPES = "osD^vP*Xph"
"""A marker for each network: its shape, so that colour is left to the precision."""


def figures(answer: Rooflines) -> Iterator[Figure]:
    """Yield a figure for each kind of device."""
    subset = subset_note(MOST_FIGURES, len(answer.rooflines))
    for place, roofline in enumerate(answer.rooflines[:MOST_FIGURES], 1):
        yield _figure(place, roofline, subset)


@style.styled
def _figure(place: int, roofline: Roofline, subset: str) -> Figure:
    figure, axes = style.canvas(1, 1, height_in=3.4)
    (axis,) = axes[0]
    low, high = _span(roofline)
    names = [str(point.use.series.precision) for point in roofline.points]
    tints = style.tints([*roofline.ceilings, *names])
    shapes = _shapes(roofline.points)
    for precision, ceiling in roofline.ceilings.items():
        ridge = roofline.ridge(precision)
        axis.plot([low, ridge, high], [low * ceiling / ridge, ceiling, ceiling],
                  color=tints[precision], linewidth=1.3, zorder=2)  # fmt: skip
    for ceiling in dict.fromkeys(roofline.ceilings.values()):
        names_of = [name for name, value in roofline.ceilings.items() if value == ceiling]
        axis.annotate(", ".join(names_of), (high, ceiling), xytext=(-3, 2), ha="right",
                      textcoords="offset points", va="bottom", fontsize=7.5, color=style.INK,
                      zorder=3)  # fmt: skip
    for point in roofline.points:
        _draw(axis, point, tints[str(point.use.series.precision)], shapes)
    _dress(axis, roofline, (low, high))
    _legend(figure, roofline, tints, shapes)
    title = f"Roofline of {roofline.chip}"
    return finish(figure, f"roofline-{place}", title, _caption(roofline, subset))


def _span(roofline: Roofline) -> tuple[float, float]:
    """Return the intensities that the panel reaches to; every ridge is within."""
    values = [point.use.ops_per_byte or 1.0 for point in roofline.points]
    values += [roofline.ridge(precision) for precision in roofline.ceilings]
    return min(values) / _ROOM, max(values) * _ROOM


def _shapes(points: Sequence[RooflinePoint]) -> dict[str, str]:
    models = dict.fromkeys(str(point.use.series.model) for point in points)
    return {model: _SHAPES[k % len(_SHAPES)] for k, model in enumerate(models)}


def _draw(axis: Any, point: RooflinePoint, tint: str, shapes: dict[str, str]) -> None:
    """Draw a point, hollow where its traffic is computed, with a cross where it is unstable."""
    fill = tint if point.use.ops_per_byte_measured else style.PAPER
    place = [point.use.ops_per_byte], [point.performance]
    axis.plot(*place, marker=shapes[str(point.use.series.model)], markersize=6, linestyle="none",
              markerfacecolor=fill, markeredgecolor=tint, markeredgewidth=1.3, zorder=4)  # fmt: skip
    if "unstable" in point.use.marks:
        axis.plot(*place, marker="x", color=style.INK, markersize=8, markeredgewidth=1.0,
                  linestyle="none", zorder=5)  # fmt: skip


def _dress(axis: Any, roofline: Roofline, span: tuple[float, float]) -> None:
    heights = [point.performance for point in roofline.points]
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlim(*span)
    axis.set_ylim(min(heights) / _ROOM, max(roofline.ceilings.values()) * _ROOM)
    for one in (axis.xaxis, axis.yaxis):
        one.set_major_locator(LogLocator(numticks=9))
        one.set_minor_locator(NullLocator())
        one.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axis.grid(visible=True, axis="both")
    axis.set_xlabel("operations for each byte of device memory's traffic")
    axis.set_ylabel("TFLOP/s (int8: TOP/s) of a device")


def _legend(figure: Any, roofline: Roofline, tints: dict[str, str], shapes: dict[str, str]) -> None:
    """Name ceilings by colour, networks by shape, and how their traffic is known by filling."""
    handles = [
        Line2D([], [], color=tints[name], linewidth=1.3, label=ceiling_label(name, value))
        for name, value in roofline.ceilings.items()
    ]
    bare = [name for name in tints if name not in roofline.ceilings]
    handles += [
        Line2D([], [], color=tints[name], marker="s", linestyle="none", label=f"{name}: no peak")
        for name in bare
    ]
    handles += [
        Line2D([], [], color=style.MUTED, marker=shape, linestyle="none", markersize=5.5,
               label=style.shortened(model, 40))
        for model, shape in shapes.items()
    ]  # fmt: skip
    known = dict.fromkeys(bool(p.use.ops_per_byte_measured) for p in roofline.points)
    for measured in known:
        label = "traffic measured" if measured else "traffic computed: true point is to the left"
        fill = style.MUTED if measured else style.PAPER
        handles.append(
            Line2D([], [], marker="o", linestyle="none", markersize=5.5, markerfacecolor=fill,
                   markeredgecolor=style.MUTED, label=label)
        )  # fmt: skip
    widest = max(len(str(handle.get_label())) for handle in handles) * 0.075 + 0.45
    figure.legend(handles=handles, loc="outside upper left", borderaxespad=0.3, handlelength=1.7,
                  ncols=max(1, min(len(handles), int(style.WIDTH_IN / widest))))  # fmt: skip


def _caption(roofline: Roofline, subset: str) -> str:
    """Return what the lines and points are, and the point closest to its roof."""
    memory = f"{number(roofline.memory_gb_per_s, 3)} GB/s"
    ceilings = (
        f"what copy reached, {memory}; the flat lines are what gemm did in each precision"
        if roofline.measured
        else f"what the memory can by clock and width, {memory}; the flat lines are the printed dense peaks"
    )
    what = (
        f"Performance of one {roofline.chip} over its operations for each byte of device memory's "
        f"traffic. The slope is {ceilings}. A point below both is held back by something else, such as "
        "launches, copies or the host."
    )
    shares = [(p.performance / p.roof, p) for p in roofline.points if p.roof]
    closest = ""
    if shares:
        share, best = max(shares, key=lambda pair: pair[0])
        series = best.use.series
        closest = (
            f"Closest to its roof: {series.model} {series.precision} at batch {series.batch_size}, "
            f"{number(100 * share, 2)} % of it."
        )
    computed = sum(not p.use.ops_per_byte_measured for p in roofline.points)
    basis = "The traffic of every point was measured (GPM)."
    if computed:
        which = "every point" if computed == len(roofline.points) else counted(computed, "point")
        basis = (
            f"The traffic of {which} is computed: weights once a batch, and inputs. What layers hand "
            "on is left out, so the true intensity is lower, at the same height."
        )
    uses = [point.use for point in roofline.points]
    return " ".join(part for part in (what, closest, basis, caveats(uses), subset) if part)
