"""When an open loop is warm and when it has been measured for long enough."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from raybench.measure.limits import Limits
from raybench.measure.stopping import StopDecision, check_window
from raybench.measure.warmup import WarmUp
from raybench.stats.intervals import percentile_least
from raybench.stats.violations import least_items

if TYPE_CHECKING:
    from raybench.experiment import MeasureSettings
    from raybench.measure.arrivals import Arrivals
    from raybench.measure.stopping import WindowCheck
    from raybench.stats.intervals import Floats

SPARE = 10
"""A window ends early with so many times the items that its 99th percentile needs at least."""
SPARE_OF_BOUND = 150
"""The same for the items that can keep a latency bound: the share above it is known to a tenth of it."""
GAP_BATCHES = 2.0
"""A block of random arrivals is so many times longer than that of even ones would have to be."""


def open_limits(settings: MeasureSettings, batch_s: float, arrivals: Arrivals) -> Limits:
    """Return the limits of a point in open loop, whose batches may come more slowly than they could.

    Args:
        settings: as configured.
        batch_s: median batch time of the slowest worker.
        arrivals: at all workers.
    """
    return Limits.of(settings, max(batch_s, gap_s(arrivals)))


def gap_s(arrivals: Arrivals) -> float:
    """Return a time in which a batch can be expected at every worker, in s."""
    return GAP_BATCHES * arrivals.workers / arrivals.items_per_s


def open_stop_rule(stop: StopDecision, rates: Floats, limits: Limits) -> StopDecision:
    """Run every check that is due and decide whether to continue.

    Throughput follows the arrivals, which are random, so that nothing is asked of its interval. The
    window ends at the first check with enough items for a 99th percentile with an interval, and at
    the latest at `measure_max`.

    Args:
        stop: the previous decision; `StopDecision()` at first.
        rates: items/s of all workers in each block of the window, shape (n,).
        limits: of the point.
    """
    while stop.state == "measuring":
        due = limits.next_check(stop.last.blocks if stop.last else 0)
        if due is None or due > len(rates):
            break
        items = float(rates[:due].sum()) * limits.span_s
        enough = items >= _enough(limits.settings)
        last = window_of(rates[:due], limits)
        if enough:
            stop = StopDecision("target_met", stop.checks + 1, 1, last)
        else:
            state = "time_up" if due >= limits.measure_max else "measuring"
            stop = StopDecision(state, stop.checks + 1, 0, last)  # type: ignore[arg-type]
    return stop


def _enough(settings: MeasureSettings) -> int:
    """Return the items after which a window may end."""
    if settings.slo_ms:
        return SPARE_OF_BOUND * least_items(settings.slo_percentile)
    return SPARE * percentile_least(0.99)


def window_of(rates: Floats, limits: Limits) -> WindowCheck:
    """Return the check of a window without the flags that an even rate is measured by."""
    return replace(check_window(rates, limits.settings), flags=())


def cut_short(rates: Floats, limits: Limits) -> tuple[WarmUp, StopDecision] | None:
    """Return the window of a stream that is ended for its overload: the second half of its blocks.

    Args:
        rates: items/s of all workers in each block so far, shape (n,).
        limits: of the point.

    Returns:
        None for fewer than four blocks, which have no window yet.
    """
    first = len(rates) // 2
    if first < 2:
        return None
    last = window_of(np.asarray(rates[first:]), limits)
    return WarmUp("agreed", first), StopDecision("time_up", 1, 0, last)
