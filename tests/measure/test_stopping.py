"""When constructed series have been measured for long enough."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from helpers.windows import LIMITS, STANDARD, noise

from raybench.measure import flags
from raybench.measure.limits import Limits
from raybench.measure.stopping import StopDecision, check_window, due_s, stop_rule
from raybench.measure.warmup import WarmUp


def ended(aggregate: np.ndarray, limits: Limits = LIMITS) -> StopDecision:
    return stop_rule(StopDecision(), aggregate, limits)


def test_a_quiet_point_stops_at_the_second_check():
    quiet = noise(0.001)[0]
    assert ended(quiet[:29]) == StopDecision()
    first = ended(quiet[:30])
    assert (first.state, first.checks, first.passed) == ("measuring", 1, 1)
    stop = ended(quiet)
    assert (stop.state, stop.checks, stop.passed) == ("target_met", 2, 2)
    assert stop.last is not None
    assert (stop.last.blocks, stop.last.flags) == (40, ())


def test_the_answer_does_not_depend_on_when_the_driver_asks():
    x = noise(0.012, seed=5)[0]
    stop = StopDecision()
    for k in range(0, 201, 7):
        stop = stop_rule(stop, x[:k], LIMITS)
    assert stop == ended(x)
    assert stop.checks > 2


def test_one_failed_check_starts_the_count_again():
    x = noise(0.001)[0]
    x[35:41] = np.where(np.arange(6) % 2, 0.9, 1.1)  # a disturbance between the first two checks
    states = [ended(x[:n]) for n in (30, 40, 200)]
    assert [s.passed for s in states[:2]] == [1, 0]
    assert states[2].checks > 3


def test_a_noisy_point_ends_at_the_limit():
    stop = ended(noise(0.1)[0])
    assert (stop.state, stop.checks) == ("time_up", 10)
    assert stop.last is not None
    assert stop.last.blocks == 120
    assert stop.last.flags == ("wide_ci",)


def test_a_step_inside_the_window_is_never_forgotten():
    x = noise(0.003)[0]
    x[20:] *= 0.98
    stop = ended(x)
    assert stop.state == "time_up"
    assert stop.last is not None
    assert "step" in stop.last.flags
    assert stop.last.step.index == pytest.approx(20, abs=1)


def test_a_step_below_one_percent_is_no_step():
    x = noise(0.0001)[0]
    x[20:] *= 0.991
    assert "step" not in ended(x).last.flags


def test_a_drift_is_flagged():
    x = noise(0.002)[0] * (1 + 0.008 * np.arange(200) / 120)
    limits = Limits.of(replace(STANDARD, min_s=110))
    assert ended(x, limits).last.flags == ("drift",)


def test_too_few_blocks_have_no_interval_and_no_detectors():
    stop = check_window(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]), STANDARD)
    assert stop.flags == ("few_neff",)
    assert (stop.step.z, stop.drift.z) == (0, 0)
    assert ended(np.ones(200), Limits.of(STANDARD, 15.0)).last.flags == ("few_neff",)


def test_correlated_blocks_are_worth_too_little():
    x = 1 + 1e-4 * np.sin(np.arange(40) / 4)
    assert check_window(x, STANDARD).flags == ("few_neff",)


def test_a_fixed_length_ends_on_time_and_may_be_stable():
    limits = Limits.of(replace(STANDARD, min_s=100, max_s=100))
    stop = ended(noise(0.001)[0], limits)
    assert (stop.state, stop.checks, stop.passed) == ("time_up", 1, 1)
    assert flags.verdict(stop.last.flags) == "stable"


def test_the_next_check_is_due_when_its_last_block_ends():
    warm, limits = WarmUp("agreed", 15), Limits.of(STANDARD)
    first = stop_rule(StopDecision(), np.ones(30), limits)
    assert due_s(WarmUp("not_yet"), StopDecision(), limits) == math.inf
    assert due_s(warm, StopDecision(), limits) == 15 + 30
    assert due_s(warm, first, limits) == 15 + 40
    slow = Limits.of(STANDARD, 15.0)  # blocks of 60 s
    assert due_s(WarmUp("agreed", 2), StopDecision(), slow) == (2 + slow.measure_min) * 60
