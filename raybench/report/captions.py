"""Captions: what a figure shows and how certain it is, derived from the points it shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raybench.analysis.grouping import BETWEEN, BUILDS, WITHIN
from raybench.report.symbols import WORDS, count_marks
from raybench.text import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

CUT = 1.5
"""Whiskers beyond this many times the highest value are cut off by the panel."""


def caption(what: str, points: Sequence[Any], *, subset: str = "") -> str:
    """Return a caption: what was measured, how certain it is, and its caveats.

    Args:
        what: sentences on what the figure shows.
        points: everything drawn that has `interval`, `trials`, `items_per_s` and `marks`.
        subset: a sentence if not everything is shown.
    """
    return " ".join(part for part in (what, interval_note(points), caveats(points), subset) if part)


def interval_note(points: Sequence[Any]) -> str:
    """Return what the whiskers are, and how many points have none."""
    trials = sorted({p.trials for p in points if p.interval == BETWEEN})
    within = any(p.interval == WITHIN for p in points)
    sentences = []
    if trials:
        counts = " or ".join(map(str, trials))
        sentences.append(f"Whiskers: 95 % intervals between {counts} trials in fresh processes.")
    if any(p.interval == BUILDS for p in points):
        which = "Other whiskers" if trials else "Whiskers"
        sentences.append(f"{which}: 95 % intervals between separately built plans.")
    if within:
        which = "Other whiskers" if sentences else "Whiskers"
        sentences.append(
            f"{which}: 95 % intervals within a single trial, which say nothing of the next one."
        )
    if any(_cut(point) for point in points):
        sentences.append("Whiskers that leave a panel are wider than it.")
    bare = sum(p.interval is None for p in points)
    if bare == len(points):
        sentences.append("No point has an interval.")
    elif bare:
        sentences.append(f"{bare} of {counted(len(points), 'point')} without an interval.")
    return " ".join(sentences)


def _cut(point: Any) -> bool:
    high, value = point.items_per_s.hi, point.items_per_s.value
    return high is not None and value is not None and high > CUT * value


def caveats(points: Sequence[Any]) -> str:
    """Return how many of the points are to be taken with care, and why."""
    return " ".join(
        f"{WORDS[mark].capitalize()}: {text}." for mark, text in count_marks(points).items()
    )


def subset_note(drawn: int, every: int) -> str:
    """Return a sentence if only some of the panels are drawn."""
    if drawn >= every:
        return ""
    return f"The figures show {drawn} of {every} panels; the table has all points."
