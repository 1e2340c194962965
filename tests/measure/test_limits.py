"""Limits of quick and slow points, in blocks."""

from __future__ import annotations

from dataclasses import replace

import pytest
from helpers.windows import LIMITS, STANDARD

from raybench.measure.limits import Limits


def test_limits_of_the_standard_preset():
    assert (LIMITS.scale, LIMITS.span_s) == (1, 1)
    assert (LIMITS.warmup_min, LIMITS.warmup_max) == (5, 60)
    assert (LIMITS.measure_min, LIMITS.check_every, LIMITS.measure_max) == (30, 10, 120)


def test_short_blocks_have_more_of_them():
    quick = replace(STANDARD, block_s=0.25, block_min_batches=1, min_s=5, max_s=15, look_s=2.5)
    limits = Limits.of(quick)
    assert (limits.measure_min, limits.check_every, limits.measure_max) == (20, 10, 60)


def test_a_quick_batch_changes_nothing():
    assert Limits.of(STANDARD, 0.25) == LIMITS


def test_slow_batches_stretch_blocks_and_limits_together():
    limits = Limits.of(STANDARD, 0.5)
    assert (limits.scale, limits.span_s) == (2, 2)
    assert (limits.measure_min, limits.check_every, limits.measure_max) == (30, 10, 120)
    assert limits.warmup_min == 5  # 20 batches are 10 s, no more than twice 5 s
    assert limits.warmup_max == 60


def test_stretching_ends_at_four():
    limits = Limits.of(STANDARD, 10.0)
    assert (limits.scale, limits.span_s) == (4, 40)
    assert (limits.measure_min, limits.check_every, limits.measure_max) == (3, 1, 12)
    assert limits.warmup_max == 6


def test_the_warm_up_holds_its_batches():
    limits = Limits.of(replace(STANDARD, warmup_min_batches=100), 0.2)
    assert limits.warmup_min == 20


def test_looks_are_due_at_fixed_blocks_and_at_the_end():
    limits = Limits.of(replace(STANDARD, max_s=55))
    due, blocks = [], 0
    while (step := limits.next_check(blocks)) is not None:
        due.append(step)
        blocks = step
    assert due == [30, 40, 50, 55]
    assert limits.next_check(34) == 40


def test_target_is_narrower_early_and_as_configured_at_the_end():
    assert LIMITS.target(30) == pytest.approx(0.0025)
    assert LIMITS.target(120) == 0.005
    fixed = Limits.of(replace(STANDARD, min_s=600, max_s=600))
    assert fixed.target(600) == 0.005
