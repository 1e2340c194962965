"""Variance in parts, and ratios over plans, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from raybench.stats.builds import differences, over_builds, variance_parts
from raybench.stats.ratios import logs


def test_two_builds_of_two_trials_by_hand():
    # means 1 and 5, MSA = 2 * (4 + 4) / 1 = 16, MSE = (2 + 2) / 2 = 2, n_0 = 2
    parts = variance_parts([np.array([0.0, 2.0]), np.array([4.0, 6.0])], 0.5)
    assert (parts.builds, parts.trials, parts.within) == (7.0, 1.5, 0.5)


def test_unequal_numbers_of_trials_by_hand():
    # means 1 and 4, centre 2; MSA = 2 * 1 + 1 * 4 = 6, MSE = 2, n_0 = 3 - 5 / 3 = 4 / 3
    parts = variance_parts([np.array([0.0, 2.0]), np.array([4.0])])
    assert parts.builds == pytest.approx(3.0)
    assert (parts.trials, parts.within) == (2.0, None)


def test_with_one_trial_a_build_the_trials_are_in_the_builds():
    parts = variance_parts([np.array([1.0]), np.array([3.0])], 0.5)
    assert (parts.builds, parts.trials, parts.within) == (1.5, None, 0.5)


def test_a_part_is_never_negative():
    parts = variance_parts([np.array([0.0, 2.0]), np.array([0.0, 2.0])], 9.0)
    assert (parts.builds, parts.trials, parts.within) == (0.0, 0.0, 9.0)
    with pytest.raises(ValueError, match="2 of them"):
        variance_parts([np.array([1.0, 2.0])])


def test_the_parts_of_a_simulated_model_are_found():
    rng = np.random.default_rng(7)
    found = []
    for _ in range(400):
        build = 0.02 * rng.standard_normal((4, 1))
        values = build + 0.005 * rng.standard_normal((4, 3))
        parts = variance_parts(list(values), 0.003**2)
        found.append((parts.builds, parts.trials))
    builds, trials = np.sqrt(np.mean(found, axis=0))
    assert builds == pytest.approx(0.02, rel=0.1)
    assert trials == pytest.approx(0.004, rel=0.1)  # 0.005 less the noise of 0.003


def test_each_build_counts_once():
    moments = over_builds([logs(np.array([1.0, 1.0, 1.0])), logs(np.array([math.e**2]))])
    assert (moments.mean, moments.count) == (pytest.approx(1.0), 2)
    assert moments.variance == pytest.approx(2.0)


def test_what_a_plan_adds_to_both_sides_cancels():
    one = [logs(np.array([100.0])), logs(np.array([300.0]))]
    two = [logs(np.array([200.0])), logs(np.array([600.0]))]
    same = differences(two, one)
    assert (same.mean, same.count) == (pytest.approx(math.log(2)), 2)
    assert same.variance == pytest.approx(0, abs=1e-30)
    other = [logs(np.array([200.0 * math.exp(0.01)])), logs(np.array([600.0 * math.exp(-0.01)]))]
    assert differences(other, one).variance == pytest.approx(2 * 0.01**2)
