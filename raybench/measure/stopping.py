"""Stopping rule: decides when a point has been measured for long enough.

The rule is a function of block rates and settings, and is called again whenever new blocks have
arrived. Each check reads a fixed number of blocks, so a decision can be repeated from stored rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from raybench.stats.intervals import mean_ci
from raybench.stats.trends import Drift, LevelShift, drift, largest_shift

if TYPE_CHECKING:
    from raybench.experiment import MeasureSettings
    from raybench.measure.limits import Limits
    from raybench.measure.warmup import WarmUp
    from raybench.stats.intervals import Floats, Interval

STEP_LEAST = 0.01
STEP_Z = 3.5
DRIFT_LEAST = 0.005
DRIFT_Z = 3.0
"""A shift or trend is flagged when it is both large (share of the mean) and significant (z)."""


@dataclass(frozen=True)
class WindowCheck:
    """Result of one check of the window.

    Attributes:
        blocks: in the window.
        interval: of the mean aggregate rate.
        step: best single shift; zero when there is no interval.
        drift: linear trend; zero when there is no interval.
        flags: raised by these numbers against the full target, in the order of `flags.FLAGS`.
    """

    blocks: int
    interval: Interval
    step: LevelShift
    drift: Drift
    flags: tuple[str, ...]


@dataclass(frozen=True)
class StopDecision:
    """Decision of the stopping rule after the checks so far.

    Attributes:
        state: "measuring" continues; the other two end the window after `last.blocks`.
        checks: number of checks.
        passed: consecutive checks, up to the last, that met the target.
        last: the last check; None before the first.
    """

    state: Literal["measuring", "target_met", "time_up"] = "measuring"
    checks: int = 0
    passed: int = 0
    last: WindowCheck | None = None


def check_window(aggregate: Floats, settings: MeasureSettings) -> WindowCheck:
    """Check a window for precision, level shifts and drift.

    Args:
        aggregate: items/s of all workers in each block, shape (n,), n >= 1, in time order.
        settings: of the point.
    """
    interval = mean_ci(aggregate)
    if not math.isfinite(interval.half_width):
        none = LevelShift(0, 0.0, 0.0), Drift(0.0, 0.0)
        return WindowCheck(len(aggregate), interval, *none, ("few_neff",))
    shift, trend = largest_shift(aggregate), drift(aggregate)
    raised = {
        "step": abs(shift.relative) >= STEP_LEAST and shift.z > STEP_Z,
        "drift": abs(trend.relative) >= DRIFT_LEAST and trend.z > DRIFT_Z,
        "wide_ci": interval.relative > settings.target,
        "few_neff": interval.n_eff < settings.n_eff_min,
    }
    flags = tuple(flag for flag, is_raised in raised.items() if is_raised)
    return WindowCheck(len(aggregate), interval, shift, trend, flags)


def stop_rule(stop: StopDecision, aggregate: Floats, limits: Limits) -> StopDecision:
    """Run every check that is due and decide whether to continue.

    Checks happen at fixed numbers of blocks, and each reads exactly that many, even when more have
    arrived: at `measure_min`, then every `check_every` blocks, and at `measure_max`. A check passes
    when it raises no flag and is within `Limits.target`; `looks_in_a_row` of them end the window.

    Args:
        stop: the previous decision; `StopDecision()` at first.
        aggregate: items/s of all workers in each block of the window, shape (n,), never re-cut.
        limits: of the point.
    """
    while stop.state == "measuring":
        due = limits.next_check(stop.last.blocks if stop.last else 0)
        if due is None or due > len(aggregate):
            break
        check = check_window(aggregate[:due], limits.settings)
        met = not check.flags and check.interval.relative <= limits.target(due)
        passed = stop.passed + 1 if met else 0
        state: Literal["measuring", "target_met", "time_up"] = "measuring"
        if passed >= limits.settings.looks_in_a_row:
            state = "target_met"
        elif due >= limits.measure_max:
            state = "time_up"
        stop = StopDecision(state, stop.checks + 1, passed, check)
    return stop


def due_s(warm: WarmUp, stop: StopDecision, limits: Limits) -> float:
    """Return when the last block that the next check needs will end, in s from the common start.

    It is infinite while warming up: windows are placed by block, so deciding late loses nothing.
    """
    blocks = limits.next_check(stop.last.blocks if stop.last else 0)
    if warm.window_start is None or blocks is None:
        return math.inf
    return (warm.window_start + blocks) * limits.span_s
