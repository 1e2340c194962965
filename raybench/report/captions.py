"""captions: what a figure shows and how sure it is, from the very points that it shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raybench.analysis.scaling import BETWEEN, WITHIN

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def caption(what: str, points: Sequence[Any], *, subset: str = "") -> str:
    """What was measured, then how sure it is, then what must be told of it.

    Args:
        what: sentences of the figure's own.
        points: whatever is drawn and has `interval`, `trials`, `verdict` and `marks`.
        subset: a sentence when not all is shown.
    """
    return " ".join(part for part in (what, sureness(points), told(points), subset) if part)


def sureness(points: Sequence[Any]) -> str:
    """What the whiskers are."""
    kinds = {getattr(point, "interval", None) for point in points}
    sentences = []
    if BETWEEN in kinds:
        counts = sorted({p.trials for p in points if getattr(p, "interval", None) == BETWEEN})
        sentences.append(
            f"Whiskers: 95 % intervals between {_either(counts)} trials in fresh processes."
        )
    if WITHIN in kinds:
        which = "Other whiskers" if sentences else "Whiskers"
        sentences.append(
            f"{which}: 95 % intervals within a single trial, which say nothing of the next one."
        )
    if kinds & {BETWEEN, WITHIN} and any(_wide(point) for point in points):
        sentences.append("Whiskers that leave a panel are wider than it.")
    if None in kinds and any(getattr(point, "interval", None) is None for point in points):
        count = sum(getattr(point, "interval", None) is None for point in points)
        where = "No point" if count == len(points) else f"{count} of {len(points)} points"
        verb = "has" if count == len(points) else "have"
        no = "an" if count == len(points) else "no"
        sentences.append(f"{where} {verb} {no} interval.")
    return " ".join(sentences)


def _wide(point: Any) -> bool:
    """Whether the figure may cut the interval off."""
    high, value = getattr(point, "items_per_s_hi", None), point.items_per_s
    return high is not None and value is not None and high > 1.5 * value


def told(points: Sequence[Any]) -> str:
    """How many of the points are to be taken with care, and why."""
    total = len(points)
    words = {
        "simulated": "simulated: their timings come from a formula, not from hardware",
        "unstable": "unstable: their own evidence speaks against them",
        "unverified": "unverified: measured too briefly to claim more",
        "capped": "run with less memory than the device has",
    }
    parts = []
    for mark, meaning in words.items():
        count = sum(mark in point.marks for point in points)
        if count:
            verb = "is" if count == 1 and mark != "capped" else ("" if mark == "capped" else "are")
            who = "All points" if count == total and total > 1 else f"{count} of {total}"
            parts.append(f"{who} {verb} {meaning}.".replace("  ", " "))
    return " ".join(parts)


def shown(count: int, every: Sequence[Any]) -> str:
    """A sentence when only some panels are drawn."""
    if count >= len(every):
        return ""
    return f"The figures show {count} of {len(every)} panels; the table has all points."


def _either(counts: Iterable[int]) -> str:
    words = [str(count) for count in counts]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
