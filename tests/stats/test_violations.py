"""Whether a latency bound was kept: by an interval, and never by too few values."""

from __future__ import annotations

import numpy as np
import pytest

from raybench.stats.violations import bound_met, least_items, violation_span


@pytest.mark.parametrize(("percentile", "least"), [(50, 11), (90, 64), (95, 130), (99, 662)])
def test_a_percentile_needs_so_many_latencies(percentile, least):
    assert least_items(percentile) == least
    assert bound_met(np.ones(least - 1), 2.0, percentile) is None
    assert bound_met(np.ones(20 * least), 2.0, percentile) is True
    assert bound_met(np.full(20 * least, 3.0), 2.0, percentile) is False
    assert bound_met(np.full(30, 3.0), 2.0, percentile) is False  # few are enough to break it


def test_the_interval_holds_the_share_of_a_queue():
    inside = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        steps = rng.exponential(1.0, 40_000)[:-1] - rng.exponential(2.0, 39_999)
        walk = np.concatenate([[0.0], np.cumsum(steps)])
        waits = walk - np.minimum.accumulate(walk)
        span = violation_span(waits, 6.0)
        inside.append(span.lo <= 0.5 * np.exp(-6 / 2) <= span.hi)
    assert np.mean(inside) > 0.8  # both ends at 95 %: 90 % nominal


def test_a_share_near_what_is_allowed_is_undecided():
    latencies = np.where(np.arange(10_000) % 100 == 0, 9.0, 1.0)
    assert bound_met(latencies, 2.0, 99) is None
