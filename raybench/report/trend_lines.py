"""The words for steps over runs, the same in the terminal and in a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.text import counted

if TYPE_CHECKING:
    from raybench.analysis.trend_verdicts import Trend, TrendStep

BOUND = (
    "Without a change any step is found in about 1 % of trends of independent runs; intervals hold for all steps "
    "together at 99 %. Would be seen: the change for the worse that is called a regression in "
    "80 of 100 cases, half of the runs after it."
)
_DAY = len("2026-11-29")


def change(step: TrendStep) -> str:
    """Return the size of a step with its interval, in percent."""
    value, lo, hi = step.ratio
    shown = [f"{100 * (end - 1):+.1f}" for end in (value, lo, hi) if end is not None]
    return f"{shown[0]} % [{', '.join(shown[1:])}]"


def visible(share: float | None) -> str:
    """Return the step that would be seen, in percent."""
    return "-" if share is None else "nothing" if share > 0.9 else f"{100 * share:.1f} %"


def sentence(step: TrendStep) -> str:
    """Return what is known of a step: size, day, what changed, and the runs on either side."""
    return (
        f"step {change(step)} at {_when(step)}: {'; '.join(step.changed)}. "
        f"{counted(step.runs_before, 'run')} before, {step.runs_after} after; the first after is "
        f"{step.run_id}."
    )


def span(trend: Trend) -> str:
    """Return how many runs there are, and from when to when."""
    dates = f" from {trend.first_at[:_DAY]} to {trend.last_at[:_DAY]}" if trend.first_at else ""
    return f"{counted(trend.runs, 'run')}{dates}"


def _when(step: TrendStep) -> str:
    """Return the day of a step, with its time where the run before was on the same day."""
    if not step.started_at:
        return f"run {step.run_id}"
    day = step.started_at[:_DAY]
    same_day = step.previous_at[:_DAY] == day
    return f"{day} {step.started_at[_DAY + 1 : -4]} UTC" if same_day else day
