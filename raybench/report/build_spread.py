"""The spread between builds of a point in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raybench.analysis.curves import ScalingEntry


def spread_sentence(entry: ScalingEntry) -> str:
    """Return the parts of the spread of a point of several builds; empty for one build."""
    if entry.builds_sd is None:
        return ""
    if entry.trials_sd is None:
        between = (
            f"{_percent(entry.builds_sd)} between {entry.builds} builds of one trial each, which says "
            "nothing of trials (trials=3 does)"
        )
    else:
        between = (
            f"{_percent(entry.builds_sd)} between {entry.builds} builds, "
            f"{_percent(entry.trials_sd)} between trials of a build"
        )
    within = "" if entry.within_sd is None else f", {_percent(entry.within_sd)} within a trial"
    return f"the rate varies by {between}{within} (standard deviations)"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"
