"""Closed forms, scipy as the judge of quantiles, and coverage with a fixed seed."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats
from helpers.ar1 import ar1

from raybench.stats import intervals, trends

# --- quantiles -------------------------------------------------------------------------------------


@pytest.mark.parametrize("df", [1, 2, 3.4, 9, 59, 10_000, math.inf])
@pytest.mark.parametrize("p", [0.9, 0.975, 0.995])
def test_t_quantile_is_scipys(p, df):
    assert intervals.t_quantile(p, df) == pytest.approx(scipy.stats.t.ppf(p, df), rel=1e-9)


def test_t_quantile_rounds_df_so_that_the_cache_hits():
    assert intervals.t_quantile(0.975, 12.34) == intervals.t_quantile(0.975, 12.3)


@pytest.mark.parametrize(
    ("p", "counts"),
    [
        (0.90, (44, 64, 81)),
        (0.95, (90, 130, 165)),
        (0.99, (459, 662, 838)),
        (0.999, (4603, 6636, 8403)),
    ],
)
def test_min_queries_are_loadgens_early_stopping_counts(p, counts):
    assert tuple(intervals.min_queries(p, over) for over in (0, 1, 2)) == counts


def test_fewest_latencies_for_each_percentile():
    assert [intervals.percentile_least(p) for p in (0.5, 0.9, 0.99, 0.999)] == [20, 64, 662, 6636]


# --- the mean --------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.1, 1.0, 1234.567, 3e9])
def test_a_constant_series_has_no_noise_however_it_rounds(value):
    x = np.full(60, value)
    interval = intervals.mean_ci(x)
    assert interval.mean == pytest.approx(value)
    assert interval.relative < 1e-12
    assert interval.n_eff > 50
    assert trends.largest_shift(x).z == 0
    assert trends.drift(x).z == 0


def test_too_few_values_have_no_interval():
    assert intervals.mean_ci(np.array([5.0])).half_width == math.inf
    assert intervals.mean_ci(np.arange(1.0, 10.0)).half_width == math.inf
    assert math.isfinite(intervals.mean_ci(np.arange(1.0, 11.0)).half_width)


def test_relative_half_width_of_a_stalled_stream_is_infinite():
    assert intervals.mean_ci(np.zeros(20)).relative == math.inf


def test_rho_by_hand():
    # deviations -1.5 -0.5 0.5 1.5: r = (0.75 - 0.25 + 0.75) / 5 = 0.25, plus (1 + 4 * 0.25) / 4
    assert intervals.rho(np.array([1.0, 2.0, 3.0, 4.0])) == pytest.approx(0.75)


def test_rho_is_never_negative_and_below_one():
    assert intervals.rho(np.array([1.0, -1.0] * 20)) == 0
    assert intervals.rho(np.arange(500.0)) == 0.98


@pytest.mark.parametrize("phi", [0.0, 0.3, 0.6, 0.9])
def test_rho_finds_the_correlation_it_was_given(phi):
    (x,) = ar1(np.random.default_rng(1), 1, 100_000, phi)
    assert intervals.rho(x) == pytest.approx(phi, abs=0.01)


def test_se_ar1_of_an_alternating_series_is_that_of_independent_values():
    x = np.array([1.0, 3.0] * 10)
    se, n_eff = intervals.se_ar1(x)
    assert (se, n_eff) == (pytest.approx(x.std(ddof=1) / math.sqrt(20)), 20)


def test_se_nbm_by_hand():
    x = np.repeat(np.arange(10.0), 3)
    expected = np.arange(10.0).std(ddof=1) / math.sqrt(10)
    assert intervals.se_nbm(np.concatenate(([99.0, 99.0], x))) == pytest.approx(expected)
    assert intervals.hw_nbm(x) == pytest.approx(scipy.stats.t.ppf(0.975, 9) * expected)
    assert intervals.se_nbm(x[:9]) == math.inf


def test_mean_ci_of_ten_alternating_values_by_hand():
    x = np.array([1.0, 3.0] * 5)
    se = x.std(ddof=1) / math.sqrt(10)  # batches of one, no correlation: both errors agree
    interval = intervals.mean_ci(x)
    assert interval.half_width == pytest.approx(scipy.stats.t.ppf(0.975, 10) * se, rel=1e-3)
    assert math.sqrt(interval.lo * interval.hi) == pytest.approx(2.0)
    assert math.log(interval.hi / 2.0) == pytest.approx(interval.relative)


@pytest.mark.parametrize("phi", [0.0, 0.3, 0.6])
def test_mean_ci_covers(phi):
    x = 100 + ar1(np.random.default_rng(7), 2000, 60, phi)
    spans = [intervals.mean_ci(row) for row in x]
    covered = np.mean([i.lo <= 100 <= i.hi for i in spans])
    assert 0.93 <= covered <= 0.975


# --- latency ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("p", "least"), [(0.5, 20), (0.9, 64), (0.99, 662), (0.999, 6636)])
def test_percentiles_are_null_below_their_least_count(p, least):
    x = np.random.default_rng(1).lognormal(size=least)
    assert intervals.percentile_ci(x[:-1], p) is None
    span = intervals.percentile_ci(x, p)
    assert span is not None
    assert span.value == np.quantile(x, p)


def test_percentile_interval_of_evenly_spread_latencies_is_the_binomial_one():
    x = np.tile(np.arange(100.0), 20)  # every stretch has the same share above any value
    span = intervals.percentile_ci(x, 0.9)
    assert span is not None
    h = scipy.stats.norm.ppf(0.975) * math.sqrt(0.09 / 2000)
    assert (span.lo, span.hi) == (np.quantile(x, 0.9 - h), np.quantile(x, 0.9 + h))


def test_upper_end_beyond_the_data_is_none():
    span = intervals.percentile_ci(np.random.default_rng(1).lognormal(size=662), 0.99)
    assert span is not None
    assert span.hi is None or span.hi >= span.value
    late = np.r_[np.ones(655), np.full(7, 9.0)]
    span = intervals.percentile_ci(late, 0.99)
    assert span is not None
    assert span.hi is None


def test_percentile_ci_covers():
    x = np.exp(0.1 * ar1(np.random.default_rng(5), 600, 1000, 0.8))
    truth = math.exp(0.1 * scipy.stats.norm.ppf(0.9))
    spans = [intervals.percentile_ci(row, 0.9) for row in x]
    assert 0.92 <= np.mean([s.lo <= truth <= s.hi for s in spans]) <= 0.98


# --- outliers --------------------------------------------------------------------------------------


def test_outliers_are_counted_by_both_fences():
    x = np.r_[np.tile([9.0, 10.0, 11.0], 20), 13.5, 18.0, 40.0]
    # quartiles 9 and 11: fences 3 and 17; median 10, MAD 1: |x - 10| > 14.826
    assert intervals.outliers(x) == intervals.Outliers(tukey=2, mad=1, either=2)


def test_one_odd_value_in_a_constant_series_is_an_outlier_and_rounding_is_not():
    x = np.full(50, 0.1)
    x[7] = np.nextafter(0.1, 1)
    assert intervals.outliers(x).either == 0
    x[7] = 0.2
    assert intervals.outliers(x) == intervals.Outliers(1, 1, 1)


def test_bounds_multiply_and_divide_by_a_factor_where_the_mean_is_positive():
    lo, hi = intervals.bounds([100.0, 100.0, 0.0, -1.0], [10.0, 300.0, 2.0, 0.5])
    np.testing.assert_allclose(lo, [100 * math.exp(-0.1), 100 * math.exp(-3), -2, -1.5])
    np.testing.assert_allclose(hi, [100 * math.exp(0.1), 100 * math.exp(3), 2, -0.5])
    assert intervals.bounds(1.0, math.inf) == (0, math.inf)


def test_three_values_have_no_outliers():
    assert intervals.outliers(np.array([1.0, 1.0, 99.0])).either == 0


@pytest.mark.parametrize("module", ["intervals", "trends", "ratios", "scaling_law"])
def test_importing_it_does_not_import_scipy(module):
    code = f"import sys, raybench.stats.{module}; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_percentile_of_few_excursions_has_no_upper_end():
    random = np.random.default_rng(0)
    independent = random.exponential(1.0, 5000)
    assert intervals.queue_percentile_ci(independent, 0.99) == intervals.percentile_ci(
        independent, 0.99
    )
    one = np.concatenate([random.exponential(1.0, 4900), 50 + random.exponential(1.0, 100)])
    span = intervals.queue_percentile_ci(one, 0.99)
    assert span.hi is None
    assert span.lo is not None
    assert intervals.excursions(np.array([1, 9, 8, 9, 1, 1, 9, 1.0]), 5.0) == 2
