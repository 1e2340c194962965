"""Efficiency figures: the share of the chip's peak, and items per joule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.ticker import PercentFormatter

from raybench.report import style
from raybench.report.captions import shown, told
from raybench.report.labels import Naming
from raybench.report.numbers import TIMES, number

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from raybench.analysis.efficiency import Efficiency, Use
    from raybench.report.document import Figure

_MOST = 24


def figures(efficiency: Efficiency) -> Iterator[Figure]:
    """A figure for the peak and one for energy, where they are known."""
    peaks = sorted((u for u in efficiency.uses if u.mfu is not None), key=lambda u: -(u.mfu or 0))
    if peaks:
        what = (
            "Achieved arithmetic (2 operations a multiply-accumulate) over the dense peak of the "
            "devices in this precision; the ring is the same at the measured clock. The figure in "
            "each row is what was achieved."
        )
        yield _figure("peak", "Share of the chip's peak", peaks, "mfu", what)
    energy = sorted(
        (u for u in efficiency.uses if u.items_per_j is not None),
        key=lambda u: -(u.items_per_j or 0),
    )
    if energy:
        what = "Items per joule of the boards over the window, hosts not included."
        yield _figure("energy", "Items per joule", energy, "items_per_j", what)


@style.styled
def _figure(name: str, title: str, uses: Sequence[Use], field: str, what: str) -> Figure:
    some = uses[:_MOST]
    figure, axes = style.canvas(1, 1, height_in=0.5 + 0.21 * len(some))
    (axis,) = axes[0]
    naming = Naming([use.series for use in uses])
    axis.grid(axis="x")
    axis.grid(visible=False, axis="y")
    for place, use in enumerate(some):
        value = getattr(use, field)
        style.lying_bar(axis, place, value, 0.62, style.colour(0), use.marks)
        if field == "mfu" and use.mfu_clock is not None:
            axis.plot([use.mfu_clock], [place], marker="o", markerfacecolor="none", markersize=6,
                      markeredgecolor=style.INK, linestyle="none", zorder=5)  # fmt: skip
        words = _words(use, field)
        reach = max(value, use.mfu_clock or 0) if field == "mfu" else value
        axis.annotate(words, (reach, place), xytext=(6, 0), textcoords="offset points",
                      va="center", fontsize=7.5, color=style.MUTED)  # fmt: skip
    _dress(axis, some, naming, field)
    style.key(figure, {}, {m for u in some for m in u.marks}, bars=True)
    caption = " ".join(part for part in (what, told(some), shown(len(some), uses)) if part)
    return style.finish(figure, name, title, caption)


def _dress(axis: Any, some: Sequence[Use], naming: Naming, field: str) -> None:
    names = [f"{naming.label(u.series) or u.series.model}, {u.workers}{TIMES}" for u in some]
    axis.set_yticks(range(len(some)), names, fontsize=7.5)
    axis.invert_yaxis()
    axis.set_xlim(0, axis.get_xlim()[1] * 1.12)
    if field == "mfu":
        axis.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
        axis.set_xlabel("achieved / peak")
    else:
        axis.set_xlabel("items/J")


def _words(use: Use, field: str) -> str:
    if field != "mfu":
        return number(use.items_per_j, 3)
    unit = "TOP/s" if use.series.precision == "int8" else "TFLOP/s"
    return f"{number(use.achieved_tflops, 3)} of {number(use.peak_tflops, 3)} {unit}"
