"""Figures of the blocks of a point over time, with clocks, temperature and power below."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.report.figures import grammar, style
from raybench.report.figures.axes import plain
from raybench.report.figures.svg import finish
from raybench.report.symbols import marks_in_words
from raybench.text import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.analysis.timeline import Floats, TrialTimeline
    from raybench.report.document import Figure

_GAUGES = {
    "sm_clock_mhz": "SM clock (MHz)",
    "temp_c": "hottest device (°C)",
    "power_w": "power (W)",
}
_MOST_TRIALS = 5
_MOST_DOTS = 80
_MOST_STALLS = 3


@style.styled
def figure(
    number: int, name: str, timelines: Sequence[TrialTimeline], marks: Sequence[str], summary: str
) -> Figure:
    """Draw one point: its trials in one panel, and the gauges that were read below.

    Args:
        number: of the figure.
        name: of the point.
        timelines: of its trials.
        marks: of the point.
        summary: sentences on the result and how certain it is.
    """
    shown = timelines[:_MOST_TRIALS]
    gauges = [g for g in _GAUGES if any(getattr(t, g) is not None for t in shown)]
    ratios = (2.2, *(1.0 for _ in gauges))
    canvas, axes = style.canvas(
        len(ratios), 1, height_in=1.0 if gauges else 2.0, height_ratios=ratios, sharex=True
    )
    tints = style.tints(f"trial {timeline.trial + 1}" for timeline in shown)
    dotted = sum(len(timeline.t_s) for timeline in shown) <= _MOST_DOTS
    pattern = grammar.DASHES if "simulated" in marks else "-"
    for row, field in enumerate(("items_per_s", *gauges)):
        for timeline, tint in zip(shown, tints.values(), strict=True):
            _line(axes[row][0], timeline.t_s, getattr(timeline, field), tint, pattern, dotted)
    _dress([row[0] for row in axes], shown, gauges)
    for timeline, tint in zip(shown, tints.values(), strict=True):
        _hatch_stalls(axes[0][0], timeline, tint)
    grammar.draw_legend(canvas, tints if len(tints) > 1 else {}, ())
    axes[0][0].set_title(
        marks_in_words(marks), loc="right", fontsize=8, fontweight="normal", color=style.INK, pad=3
    )
    caption = [
        summary,
        "Each value is a block; the grey ground is warm-up, which does not count.",
        "On hatched ground a worker stalled: it completed no batch for far longer than one takes."
        if any(timeline.stalled.any() for timeline in shown)
        else "",
        _stalls_in_words(shown),
        "" if gauges else "Clocks, temperature and power were not read on this device.",
        f"{len(shown)} of {counted(len(timelines), 'trial')} shown."
        if len(shown) < len(timelines)
        else "",
    ]
    text = " ".join(part for part in caption if part)
    return finish(canvas, f"evidence-{number}", f"Evidence: {name}", text)


def _line(
    axis: Any, seconds: Floats, values: Floats | None, tint: str, pattern: Any, dotted: bool
) -> None:
    if values is None:
        return
    axis.plot(seconds, values, color=tint, linewidth=1.1, linestyle=pattern, zorder=3)
    if dotted:
        axis.plot(seconds, values, color=tint, linestyle="none", marker=".", markersize=3,
                  zorder=3)  # fmt: skip


def _stalls_in_words(timelines: Sequence[TrialTimeline]) -> str:
    """Return which workers stalled, when and for how long; empty without a stall in the window."""
    stalls = [(stall, timeline.trial) for timeline in timelines for stall in timeline.stalls]
    if not stalls:
        return ""
    stalls.sort(key=lambda each: -each[0].stalled_s)
    words = [
        f"worker {stall.worker} for {stall.stalled_s:.2g} s in the block at {stall.at_s:.0f} s"
        + (f" of trial {trial + 1}" if len(timelines) > 1 else "")
        for stall, trial in stalls[:_MOST_STALLS]
    ]
    more = len(stalls) - len(words)
    return f"No batch of {'; '.join(words)}{f'; and {more} more' if more else ''}."


def _hatch_stalls(axis: Any, timeline: TrialTimeline, tint: str) -> None:
    """Hatch the ground of the blocks in which a worker stalled."""
    half = float(np.median(np.diff(timeline.t_s))) / 2 if len(timeline.t_s) > 1 else 0.5
    for seconds in timeline.t_s[timeline.stalled].tolist():
        axis.axvspan(
            seconds - half, seconds + half, facecolor="none", edgecolor=tint, hatch="////",
            alpha=0.4, linewidth=0, zorder=1,
        )  # fmt: skip


def _dress(axes: Sequence[Any], timelines: Sequence[TrialTimeline], gauges: Sequence[str]) -> None:
    start = min(float(timeline.t_s[0]) for timeline in timelines)
    end = max(float(timeline.t_s[-1]) for timeline in timelines)
    for axis, label in zip(axes, ("items/s", *(_GAUGES[g] for g in gauges)), strict=True):
        # above the panel, since a low panel has no room at its side
        axis.set_title(label, loc="left", fontsize=8, fontweight="normal", color=style.MUTED, pad=3)
        axis.set_xlim(start, end)
        axis.margins(y=0.15)
        axis.yaxis.set_major_formatter(plain())
        axis.locator_params(axis="y", nbins=5 if label == "items/s" else 3)
        if start < 0:
            axis.axvspan(start, 0, color=style.RULE, alpha=0.5, linewidth=0, zorder=0)
    _widened(axes[0])
    axes[-1].set_xlabel("time in the measured window (s)")


def _widened(axis: Any) -> None:
    """Make the axis at least 2 % of the value high, so that noise stays small."""
    low, high = axis.get_ylim()
    missing = 0.02 * abs(high) - (high - low)
    if missing > 0:
        axis.set_ylim(low - missing / 2, high + missing / 2)
