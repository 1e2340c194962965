"""Figures of each precision at the same point, with its ratio to fp32 and its fidelity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.lines import Line2D

from raybench.report.captions import CUT, caption, subset_note
from raybench.report.figures import grammar, style
from raybench.report.figures.svg import finish
from raybench.report.formatting import times
from raybench.report.labels import (
    ABREAST,
    Naming,
    abreast,
    bundles,
    joined,
    part_in_int8,
    workers_label,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from raybench.analysis.precision import Gain, Precision
    from raybench.report.document import Figure

Panel = tuple[str, dict[str, list["Gain"]]]
MOST_FIGURES = 2
_BARS = 20
"""Largest number of bars in a panel."""


def figures(precision: Precision) -> Iterator[Figure]:
    """Yield figures of two panels each, a model in each panel."""
    gains = precision.gains
    naming = Naming([gain.series for gain in gains], without=("precision",))
    several = len({gain.workers for gain in gains}) > 1

    def name(gain: Gain) -> str:
        own = naming.label(gain.series, without=("model",))
        return joined(own, workers_label(gain.workers) if several else "")

    beside = len({gain.series.precision for gain in gains})
    every = bundles(gains, lambda gain: gain.series, name, max(1, _BARS // max(1, beside)))
    subset = subset_note(MOST_FIGURES * ABREAST, len(every))
    for number, page in enumerate(abreast(every, MOST_FIGURES), 1):
        yield _figure(number, page, subset)


@style.styled
def _figure(number: int, page: Sequence[Panel], subset: str) -> Figure:
    figure, axes = style.canvas(1, len(page), height_in=2.9)
    gains = [g for _, groups in page for group in groups.values() for g in group]
    tints = style.tints(str(gain.series.precision) for gain in gains)
    every = []
    for axis, (title, groups) in zip(axes[0], page, strict=False):
        style.title(axis, title, len(page))
        highest = max(
            (g.items_per_s.value or 0.0 for members in groups.values() for g in members),
            default=0.0,
        )
        every.append({name: _bars(members, tints, highest) for name, members in groups.items()})
        grammar.draw_bar_groups(axis, every[-1], 0.16)
    axes[0][0].set_ylabel("throughput (items/s)")
    drawn = [gain for gain in gains if gain.items_per_s.value is not None]
    extra: list[tuple[Any, str]] = []
    if any(bar.limit for panel in every for bars in panel.values() for bar in bars):
        line = Line2D([], [], color=style.INK, linestyle="--", linewidth=1.0)
        extra.append((line, "ratio of the chip's peaks"))
    grammar.draw_legend(figure, tints, {m for g in drawn for m in g.marks}, extra, bars=True)
    what = (
        "Items per second of the same points in each precision. Above a bar its ratio to fp32 "
        "with all else equal, and below it the fidelity of its outputs to fp32 (signal to "
        "quantisation noise), and the share of the MACs that an int8 graph computes in 8 bits where "
        "that is under 90 %. A dashed line, where the panel reaches so far, is fp32 times the "
        "ratio of the chip's printed peaks."
    )
    title = "Throughput by precision: " + "; ".join(title for title, _ in page)
    return finish(figure, f"precision-{number}", title, caption(what, drawn, subset=subset))


def _bars(group: Sequence[Gain], tints: dict[str, str], highest: float) -> list[grammar.Bar]:
    base = next((g.items_per_s.value for g in group if g.series.precision == "fp32"), None)

    def limit(gain: Gain) -> float | None:
        """Return the rate that the chip's peaks suggest; None beyond what the panel shows."""
        if base is None or gain.peak_ratio in (None, 1):
            return None
        height = base * (gain.peak_ratio or 1.0)
        return height if height <= CUT * highest else None

    return [
        grammar.Bar(
            tint=tints[str(gain.series.precision)],
            value=gain.items_per_s,
            marks=gain.marks,
            absent=gain.status,
            above="" if gain.series.precision == "fp32" else _above(gain),
            limit=limit(gain),
        )
        for gain in group
    ]


def _above(gain: Gain) -> str:
    lines = [] if gain.ratio.value is None else [times(gain.ratio.value)]
    share = part_in_int8(gain.series.precision, gain.quantised_macs_frac)
    if share:
        lines.append(f"{share} int8")
    if gain.fidelity_sqnr_db is not None:
        lines.append(f"{gain.fidelity_sqnr_db:.0f} dB")
    return "\n".join(lines)
