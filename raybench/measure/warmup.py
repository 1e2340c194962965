"""Warm-up rule: decides when a point is warm and where its measurement window begins."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from raybench.stats.intervals import t_quantile
from raybench.stats.trends import shift_of_halves

if TYPE_CHECKING:
    from raybench.measure.limits import Limits
    from raybench.stats.intervals import Floats

MAX_C_PER_10_S = 1.0
"""A device that warms faster than this is not warm yet."""
SENSOR_C = 1.0
"""Resolution of a GPU's sensor: a smaller difference between two windows is no sign of warming."""

STRETCHED = 2.5
"""A block of more cells holds a stall. One that misses an edge because its batches are slow has two."""


@dataclass(frozen=True)
class WarmUp:
    """Decision of the warm-up rule.

    Attributes:
        state: "given_up" when the longest warm-up passed without agreement.
        window_start: first block of the measurement window; None while warming up.
        settled: whether temperatures were steady as well; None without temperatures.
    """

    state: Literal["not_yet", "agreed", "given_up"]
    window_start: int | None = None
    settled: bool | None = None


def warm_up(
    rates: Floats,
    limits: Limits,
    temperatures_c: Floats | None = None,
    lengths: Floats | None = None,
    random: bool = False,
) -> WarmUp:
    """Decide whether a point is warm, and where its measurement window begins.

    Two neighbouring windows A and B must have the same mean within `warmup_agree`, in the
    aggregate and for each worker; B then opens the measurement. Windows are tried from
    `warmup_min` on in steps of `warmup_advance_blocks`; past `warmup_max` the window begins there
    regardless. Later blocks never change an earlier decision.

    One worker among several is noisier than their sum, and one of many differs by chance alone:
    with 8 workers at a block sd of 1 % and phi 0.3 a plain 0.5 % is met in 21 % of runs, with 64
    never (simulated). A worker beyond `warmup_agree` therefore counts as warming up only when its
    change from A to B is significant at 5 % over all workers (Bonferroni). All of the simulated
    runs then converge, and a ramp in one worker still delays the window while it exceeds that
    worker's noise.

    Temperatures may rise by at most 1 degree C in 10 s. This condition is soft: when it alone is
    not met by the end, the point is "agreed" at `warmup_max` with `settled` False.

    A and B do not agree while a block that a stall has stretched lies in them: two windows inside the
    same stall have the same rate, and one that a stall has lowered may meet another that is cold.

    Args:
        rates: items/s of each block since the common start, shape (workers, k).
        limits: of the point.
        temperatures_c: of each worker's device in each block, same shape, NaN where unknown.
        lengths: of each block in cells of the grid, same shape; None when none is stretched.
        random: whether the aggregate, too, may differ by what is not significant, as where arrivals
            decide how many batches there are.
    """
    window, advance = limits.settings.warmup_window_blocks, limits.settings.warmup_advance_blocks
    agree = False
    for start in range(limits.warmup_min, limits.warmup_max - window + 1, advance):
        if rates.shape[1] < start + 2 * window:
            return WarmUp("not_yet")
        both = slice(start, start + 2 * window)
        stretched = lengths is not None and bool((lengths[:, both] > STRETCHED).any())
        agree = not stretched and _halves_agree(rates[:, both], limits, random)
        if not agree:
            continue
        settled = _temperatures_settled(temperatures_c, start, limits)
        if settled is not False:
            return WarmUp("agreed", start + window, settled)
    if agree:
        return WarmUp("agreed", limits.warmup_max, False)
    return WarmUp("given_up", limits.warmup_max)


def _halves_agree(rates: Floats, limits: Limits, random: bool) -> bool:
    """Return whether both halves of `rates`, shape (workers, 2 * window), have the same mean."""
    allowed, window = limits.settings.warmup_agree, limits.settings.warmup_window_blocks
    total = rates.sum(axis=0)
    is_noise = random and shift_of_halves(total).z <= t_quantile(0.975, window)
    if _change(total, window) > allowed and not is_noise:
        return False
    workers = len(rates)
    if workers == 1:
        return True
    significant = t_quantile(1 - 0.025 / workers, window)
    return not any(
        _change(worker, window) > allowed and shift_of_halves(worker).z > significant
        for worker in rates
    )


def _change(x: Floats, window: int) -> float:
    a, b = float(x[:window].mean()), float(x[window:].mean())
    return abs(a / b - 1) if b > 0 else math.inf


def _temperatures_settled(temperatures_c: Floats | None, start: int, limits: Limits) -> bool | None:
    if temperatures_c is None:
        return None
    window = limits.settings.warmup_window_blocks
    a = temperatures_c[:, start : start + window]
    b = temperatures_c[:, start + window : start + 2 * window]
    complete = np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1)
    if not complete.any():
        return None
    allowed = max(MAX_C_PER_10_S * window * limits.span_s / 10, SENSOR_C)
    changes = np.abs(b[complete].mean(axis=1) - a[complete].mean(axis=1))
    return bool((changes <= allowed).all())
