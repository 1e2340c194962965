"""Which part of the latencies is above a bound, and whether the bound was kept."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from raybench.stats.intervals import PERCENTILE_BATCHES, Span, hw_nbm, min_queries

if TYPE_CHECKING:
    from raybench.stats.intervals import Floats

ONE_SIDED = 0.90
"""Confidence of the two-sided interval whose upper end is exceeded in 5 % of samples."""


def least_items(percentile: float) -> int:
    """Return the fewest latencies that can keep a bound: 11, 64, 130 and 662 for p50, p90, p95, p99."""
    return min_queries(percentile / 100, 1)


def violation_span(latency_ms: Floats, bound_ms: float) -> Span:
    """Return the share of the latencies above a bound, with a one-sided 95 % bound on each side.

    The interval is that of the means of 20 stretches, since latencies that follow each other in a
    queue are alike; its upper end is never below Clopper and Pearson's of independent values.

    Args:
        latency_ms: in order of arrival, shape (n,), n >= 1.
        bound_ms: the bound.
    """
    from scipy.special import betaincinv

    over = (latency_ms > bound_ms).astype(np.float64)
    n, k = len(over), int(over.sum())
    share = k / n
    half = hw_nbm(over, PERCENTILE_BATCHES, ONE_SIDED)
    least_hi = float(betaincinv(k + 1, n - k, 0.95)) if k < n else 1.0
    hi = 1.0 if math.isinf(half) else min(max(share + half, least_hi), 1.0)
    lo = 0.0 if math.isinf(half) else max(share - half, 0.0)
    return Span(share, lo, hi)


def bound_met(latency_ms: Floats, bound_ms: float, percentile: float) -> bool | None:
    """Return whether a percentile of the latencies keeps a bound; None where the sample is too small to say.

    Args:
        latency_ms: in order of arrival, shape (n,).
        bound_ms: the bound.
        percentile: above 0 and below 100.
    """
    if len(latency_ms) < PERCENTILE_BATCHES:
        return None
    span, allowed = violation_span(latency_ms, bound_ms), 1 - percentile / 100
    enough = len(latency_ms) >= least_items(percentile)  # to keep it; to break it few do
    if enough and span.hi is not None and span.hi <= allowed:
        return True
    return False if span.lo is not None and span.lo > allowed else None
