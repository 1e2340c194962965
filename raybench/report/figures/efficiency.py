"""Figures of the share of the chip's peak, and of items per joule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raybench.report.captions import caveats
from raybench.report.figures import grammar, style
from raybench.report.figures.axes import percent
from raybench.report.figures.svg import finish
from raybench.report.formatting import TIMES, number
from raybench.report.labels import Naming
from raybench.text import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from raybench.analysis.efficiency import Efficiency, Utilization
    from raybench.report.document import Figure

_MOST = 24
_LONGEST_NAME = 44
_LETTER_IN = 0.064
"""Width of a letter in a row, in inches."""
_UNNAMED = ("engine_version", "environment_id", "engine_options", "method_version")
"""Factors that the table names and a row has no room for."""


def figures(efficiency: Efficiency) -> Iterator[Figure]:
    """Yield a figure for the peak and one for energy, where they are known."""
    known = [use for use in efficiency.uses if use.mfu is not None]
    peaks = [use for use in known if not use.waits_for_arrivals]
    if peaks:
        what = (
            "Achieved arithmetic (2 operations a multiply-accumulate) over the dense peak of the "
            "devices in this precision; the ring is the same at the measured clock. The figure in "
            "each row is what was achieved."
        )
        if len(peaks) < len(known):
            what += " Points that waited for arrivals do what is offered: the table has them."
        yield _figure("peak", "Share of the chip's peak", peaks, "mfu", what)
    energy = [use for use in efficiency.uses if use.items_per_j is not None]
    if energy:
        what = "Items per joule of the boards over the window, hosts not included."
        yield _figure("energy", "Items per joule", energy, "items_per_j", what)


@style.styled
def _figure(name: str, title: str, uses: Sequence[Utilization], field: str, what: str) -> Figure:
    shown = sorted(uses, key=lambda use: -(getattr(use, field) or 0.0))[:_MOST]
    figure, axes = style.canvas(1, 1, height_in=0.5 + 0.21 * len(shown))
    (axis,) = axes[0]
    ends = [_row(axis, place, use, field) for place, use in enumerate(shown)]
    _dress(axis, shown, Naming([use.series for use in uses], _UNNAMED), field, ends)
    grammar.draw_legend(figure, {}, {m for u in shown for m in u.marks}, bars=True)
    subset = (
        "" if len(shown) == len(uses) else f"The {_MOST} highest of {counted(len(uses), 'point')}."
    )
    note = _precision_note(shown) if field == "mfu" else _energy_note(shown)
    text = " ".join(part for part in (what, note, caveats(shown), subset) if part)
    return finish(figure, name, title, text)


def _precision_note(uses: Sequence[Utilization]) -> str:
    """Return how precise the throughput is, which limits the share."""
    widths = (use.items_per_s.relative_width for use in uses)
    spreads = [50 * width for width in widths if width is not None]
    if not spreads:
        return "No point has an interval."
    low, high = f"{min(spreads):.1f}", f"{max(spreads):.1f}"
    reach = low if low == high else f"{low} to {high}"
    return f"The throughput behind each bar is known to ± {reach} % (95 %)."


def _energy_note(uses: Sequence[Utilization]) -> str:
    errors = [100 * u.energy_error_rel for u in uses if u.energy_error_rel is not None]
    if not errors:
        return "These rows do not say how precise their energy is."
    return (
        f"Steps of the counter, or the sampling of power, may hide up to ± {max(errors):.1f} %; "
        "the whisker is that of each row."
    )


def _row(axis: Any, place: int, use: Utilization, field: str) -> tuple[float, int]:
    """Draw a row; return where its number begins, and how many letters that has."""
    reach = value = getattr(use, field)
    grammar.draw_horizontal_bar(axis, place, value, 0.62, style.SERIES[0], use.marks)
    text = number(use.items_per_j, 3)
    if field == "items_per_j" and use.energy_error_rel is not None:
        text += f" ± {100 * use.energy_error_rel:.1f} %"
        reach = value / (1 - use.energy_error_rel)  # less energy is more items a joule
        axis.hlines(place, value / (1 + use.energy_error_rel), reach, colors=style.INK,
                    linewidth=1.1, zorder=5)  # fmt: skip
    if field == "mfu":
        unit = use.unit
        text = f"{number(use.achieved_tflops, 3)} of {number(use.peak_tflops, 3)} {unit}"
        if use.mfu_clock is not None:
            reach = max(value, use.mfu_clock)
            axis.plot([use.mfu_clock], [place], marker="o", markerfacecolor="none", markersize=6,
                      markeredgecolor=style.INK, linestyle="none", zorder=5)  # fmt: skip
    axis.annotate(text, (reach, place), xytext=(6, 0), textcoords="offset points", va="center",
                  fontsize=7.5, color=style.MUTED).set_in_layout(False)  # fmt: skip
    return reach, len(text)


def _dress(
    axis: Any,
    shown: Sequence[Utilization],
    naming: Naming,
    field: str,
    ends: Sequence[tuple[float, int]],
) -> None:
    names = [f"{naming.label(u.series) or u.series.model}, {u.workers}{TIMES}" for u in shown]
    short = [style.shortened(name, _LONGEST_NAME) for name in names]
    axis.grid(axis="x")
    axis.grid(visible=False, axis="y")
    axis.set_yticks(range(len(shown)), short, fontsize=7.5)
    axis.set_ylim(len(shown) - 0.4, -0.6)  # the first on top
    width_in = style.WIDTH_IN - 0.4 - _LETTER_IN * max(map(len, short))
    axis.set_xlim(
        0, max(reach / (1 - (0.15 + _LETTER_IN * letters) / width_in) for reach, letters in ends)
    )
    if field == "mfu":
        axis.xaxis.set_major_formatter(percent())
    axis.set_xlabel("achieved / peak" if field == "mfu" else "items/J")
