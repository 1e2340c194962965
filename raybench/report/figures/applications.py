"""Figure of how near applications came to the ceilings of arithmetic and memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.lines import Line2D

from raybench.analysis.bound_by import NEAR
from raybench.report.captions import caveats, subset_note
from raybench.report.figures import axes as scales
from raybench.report.figures import style
from raybench.report.figures.svg import finish

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes

    from raybench.analysis.applications import Application
    from raybench.report.document import Figure
    from raybench.report.labels import Naming

MOST_POINTS = 24
"""Lines of a figure; the table has all points."""
_LONGEST = 46
_PARTS = {"arithmetic": "o", "memory": "s", "link": "D"}
"""A marker for each part of the machine, so that colour is not needed to tell them apart."""


def figures(points: Sequence[Application], naming: Naming) -> Iterator[Figure]:
    """Yield a figure with a line for each application of which a share is known."""
    known = [
        point for point in points if any(value is not None for value in _shares(point).values())
    ]
    if known:
        yield _figure(known[:MOST_POINTS], naming, subset_note(MOST_POINTS, len(known)))


def _shares(point: Application) -> dict[str, float | None]:
    return {
        "arithmetic": point.arithmetic_share.value,
        "memory": point.memory_share.value,
        "link": point.link_share.value,
    }


@style.styled
def _figure(points: Sequence[Application], naming: Naming, subset: str) -> Figure:
    figure, axes = style.canvas(1, 1, height_in=0.9 + 0.26 * len(points))
    (axis,) = axes[0]
    tints = style.tints(_PARTS)
    for place, point in enumerate(points):
        _line(axis, place, point, tints)
    axis.axvline(NEAR, color=style.MUTED, linestyle=":", linewidth=1.0, zorder=1)
    names = [style.shortened(naming.title(point.series), _LONGEST) for point in points]
    axis.set_yticks(range(len(points)), names)
    axis.set_ylim(len(points) - 0.4, -0.6)
    axis.set_xlim(0, max(1.0, 1.05 * max(map(_reach, points))))
    axis.xaxis.set_major_formatter(scales.percent())
    axis.set_xlabel("share of what gemm and copy reached")
    axis.grid(visible=True, axis="x")
    drawn = [part for part in _PARTS if any(_shares(point)[part] is not None for point in points)]
    handles = [
        Line2D(
            [],
            [],
            color=tints[part],
            marker=_PARTS[part],
            linestyle="none",
            markersize=5.5,
            label=part,
        )
        for part in drawn
    ]
    figure.legend(handles=handles, loc="outside upper left", borderaxespad=0.3, ncols=len(handles))
    what = (
        "How near each application came to what gemm (arithmetic, in its precision) and copy (memory, link) "
        "reached on the same device. The bar of memory reaches from the least traffic that a batch needs to "
        "that with all that operators hand on. Right of the dotted line, "
        f"{100 * NEAR:.0f} %, a part counts as full."
    )
    text = " ".join(part for part in (what, caveats(points), subset) if part)
    return finish(figure, "applications-1", "Applications below the machine's ceilings", text)


def _reach(point: Application) -> float:
    """Return the share that the panel must hold; the bar of memory may leave it from 200 % on."""
    shares = [share for share in _shares(point).values() if share is not None]
    return max(*shares, min(2.0, point.memory_share_most or 0.0))


def _line(axis: Axes, place: int, point: Application, tints: dict[str, str]) -> None:
    least, most = point.memory_share.value, point.memory_share_most
    if least is not None and most is not None and most > least:
        axis.hlines(place, least, most, color=tints["memory"], linewidth=1.4, zorder=2)
    for part, share in _shares(point).items():
        if share is not None:
            hollow = "unverified" in point.marks or "unstable" in point.marks
            axis.plot([share], [place], marker=_PARTS[part], markersize=5.5, linestyle="none",
                      markerfacecolor=style.PAPER if hollow else tints[part],
                      markeredgecolor=tints[part], markeredgewidth=1.3, zorder=4)  # fmt: skip
