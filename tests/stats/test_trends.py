"""Level shifts and drift in constructed and random series."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from helpers.ar1 import ar1

from raybench.stats import intervals, trends


@pytest.mark.parametrize("index", [5, 17, 30, 55])
@pytest.mark.parametrize("size", [-0.05, 0.02])
def test_step_finds_place_and_size(index, size):
    x = np.full(60, 1000.0)
    x[index:] *= 1 + size
    shift = trends.largest_shift(x)
    assert shift.index == index
    assert shift.relative == pytest.approx(size * 1000 / x.mean())
    assert shift.z > 1e3


def test_step_is_not_forgotten_as_the_window_grows():
    rng = np.random.default_rng(3)
    x = 1 + 0.002 * rng.standard_normal(120)
    x[6:] -= 0.02
    for n in (30, 60, 120):
        assert trends.largest_shift(x[:n]).index == 6


def test_step_needs_room_on_both_sides():
    assert trends.largest_shift(np.arange(6.0)) == trends.LevelShift(0, 0.0, 0.0)
    assert trends.largest_shift(np.r_[np.ones(4), np.full(4, 2.0)]).index == 4


def test_shift_at_by_hand():
    x = np.array([1.0, 3.0, 1.0, 3.0, 5.0, 7.0, 5.0, 7.0])
    shift = trends.shift_at(x, 4)
    # means 2 and 6, residuals all 1, spread sqrt(8 / 6), not correlated but for rounding of bias
    r = intervals.rho(np.array([-1.0, 1.0] * 4))
    se = math.sqrt(8 / 6) * math.sqrt((1 + r) / (1 - r) * 0.5)
    assert (shift.relative, shift.z) == (pytest.approx(1.0), pytest.approx(4 / se))


def test_halves_of_a_bend_without_noise_are_clearly_apart():
    x = 1 - 0.1 * np.exp(-np.arange(20) / 15)
    shift = trends.shift_of_halves(x)
    assert shift.relative == pytest.approx((x[10:].mean() - x[:10].mean()) / x.mean())
    assert shift.z > 20
    assert trends.shift_at(x, 10).z < 5  # about two means the bend looks like noise


def test_halves_of_noise_are_rarely_apart():
    x = 1 + 0.01 * ar1(np.random.default_rng(6), 500, 20, 0.3)
    clear = intervals.t_quantile(0.975, 10)
    assert np.mean([trends.shift_of_halves(row).z > clear for row in x]) < 0.1


def test_drift_is_the_change_from_end_to_end():
    x = 100 + 0.1 * np.arange(50)
    trend = trends.drift(x)
    assert trend.relative == pytest.approx(5 / x.mean())
    assert trend.z > 1e3


def test_drift_slope_is_least_squares():
    x = np.random.default_rng(2).normal(10, 1, 40)
    slope = scipy.stats.linregress(np.arange(40), x).slope
    assert trends.drift(x).relative == pytest.approx(slope * 40 / x.mean())


def test_two_values_have_no_drift():
    assert trends.drift(np.array([1.0, 2.0])) == trends.Drift(0.0, 0.0)


def test_a_stalled_stream_breaks_no_detector():
    assert trends.largest_shift(np.zeros(40)).relative == 0
    assert trends.drift(np.zeros(40)).relative == 0
