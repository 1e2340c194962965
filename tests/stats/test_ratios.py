"""Ratios and trial intervals by hand and against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from raybench.stats import ratios


def test_ratio_ci_is_welch_on_logarithms():
    a, b = np.array([210.0, 205.0, 207.0]), np.array([100.0, 101.0, 103.0, 99.5])
    test = scipy.stats.ttest_ind(np.log(a), np.log(b), equal_var=False)
    welch = test.confidence_interval(0.95)
    span = ratios.ratio_ci(a, b)
    assert span.value == pytest.approx(scipy.stats.gmean(a) / scipy.stats.gmean(b))
    assert (span.lo, span.hi) == pytest.approx((math.exp(welch.low), math.exp(welch.high)))


def test_ratio_ci_by_hand():
    # logs differ by exactly ln 2; each side has variance 2 d^2 with d = ln 1.01, so df = 2
    a, b = np.array([200 / 1.01, 200 * 1.01]), np.array([100 / 1.01, 100 * 1.01])
    h = 4.302652729911275 * math.sqrt(2) * math.log(1.01)
    span = ratios.ratio_ci(a, b)
    assert (span.value, span.lo, span.hi) == pytest.approx((2, 2 * math.exp(-h), 2 * math.exp(h)))


def test_many_ratios_at_once_are_each_alone():
    rng = np.random.default_rng(5)
    sides = [ratios.logs(np.exp(0.01 * rng.standard_normal(n))) for n in (2, 3, 5, 10)]
    sides.append(ratios.logs(np.array([7.0, 7.0])))
    pairs = [(a, b) for a in sides for b in sides]
    for span, (a, b) in zip(ratios.ratios_of(pairs), pairs, strict=True):
        alone = ratios.ratio_of(a, b)
        assert (span.value, span.lo, span.hi) == pytest.approx((alone.value, alone.lo, alone.hi))
    assert ratios.ratios_of([]) == []
    with pytest.raises(ValueError, match="2 trials"):
        ratios.ratios_of([(sides[0], ratios.logs(np.array([1.0])))])


def test_ratio_of_constant_sides_is_exact():
    span = ratios.ratio_ci(np.array([4.0, 4.0]), np.array([2.0, 2.0]))
    assert span.lo == span.value == span.hi == pytest.approx(2)


def test_ratio_needs_two_trials_a_side():
    with pytest.raises(ValueError, match="2 trials"):
        ratios.ratio_ci(np.array([1.0]), np.array([1.0, 2.0]))


def test_trial_interval_by_hand():
    interval = ratios.trial_interval(np.array([99.0, 100.0, 101.0]), np.array([0.6, 0.6, 0.6]))
    assert (interval.mean, interval.sd, interval.trials) == (100, 1, 3)
    assert interval.half_width == pytest.approx(4.302652729911275 / math.sqrt(3))
    assert interval.within_sd == pytest.approx(0.6)
    assert interval.between_sd == pytest.approx(0.8)
    assert interval.trials_needed == 18
    assert interval.lo == pytest.approx(100 * math.exp(-interval.half_width / 100))
    assert interval.hi == pytest.approx(100 * math.exp(interval.half_width / 100))


def test_between_component_is_never_negative():
    interval = ratios.trial_interval(np.array([100.0, 100.1]), np.array([2.0, 2.0]))
    assert interval.between_sd == 0


def test_a_single_trial_has_no_interval():
    interval = ratios.trial_interval(np.array([100.0]), np.array([0.5]))
    assert (interval.mean, interval.half_width, interval.lo, interval.hi) == (100, None, None, None)
    assert (interval.within_sd, interval.between_sd, interval.trials_needed) == (0.5, None, None)


@pytest.mark.parametrize(("sd", "trials"), [(0.0, 2), (0.0025, 4), (0.005, 7), (0.01, 18)])
def test_trials_needed(sd, trials):
    assert ratios.trials_needed(sd, 0.005) == trials
