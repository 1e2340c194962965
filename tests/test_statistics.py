"""Closed forms, scipy as the judge of quantiles, and a few coverages with a fixed seed."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from raybench.stats import intervals as statistics
from raybench.stats.intervals import Scaling


def ar1(rng: np.random.Generator, runs: int, n: int, phi: float) -> np.ndarray:
    x = rng.standard_normal((runs, n))
    for k in range(1, n):
        x[:, k] = phi * x[:, k - 1] + math.sqrt(1 - phi * phi) * x[:, k]
    return x


# --- quantiles ------------------------------------------------------------------------------------


@pytest.mark.parametrize("df", [1, 2, 3.4, 9, 59, 10_000, math.inf])
@pytest.mark.parametrize("p", [0.9, 0.975, 0.995])
def test_t_quantile_is_scipys(p, df):
    assert statistics.t_quantile(p, df) == pytest.approx(scipy.stats.t.ppf(p, df), rel=1e-9)


def test_t_quantile_rounds_df_so_that_the_cache_hits():
    assert statistics.t_quantile(0.975, 12.34) == statistics.t_quantile(0.975, 12.3)


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
    assert tuple(statistics.min_queries(p, over) for over in (0, 1, 2)) == counts


def test_fewest_latencies_for_each_percentile():
    assert [statistics.percentile_least(p) for p in (0.5, 0.9, 0.99, 0.999)] == [20, 64, 662, 6636]


# --- the mean -------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.1, 1.0, 1234.567, 3e9])
def test_a_constant_series_has_no_noise_however_it_rounds(value):
    x = np.full(60, value)
    interval = statistics.mean_ci(x)
    assert interval.mean == pytest.approx(value)
    assert interval.relative < 1e-12
    assert interval.n_eff > 50
    assert statistics.step(x).z == 0
    assert statistics.drift(x).z == 0


def test_too_few_values_have_no_interval():
    assert statistics.mean_ci(np.array([5.0])).half_width == math.inf
    assert statistics.mean_ci(np.arange(1.0, 10.0)).half_width == math.inf
    assert math.isfinite(statistics.mean_ci(np.arange(1.0, 11.0)).half_width)


def test_relative_half_width_of_a_stalled_stream_is_infinite():
    assert statistics.mean_ci(np.zeros(20)).relative == math.inf


def test_rho_by_hand():
    # deviations -1.5 -0.5 0.5 1.5: r = (0.75 - 0.25 + 0.75) / 5 = 0.25, plus (1 + 4 * 0.25) / 4
    assert statistics.rho(np.array([1.0, 2.0, 3.0, 4.0])) == pytest.approx(0.75)


def test_rho_is_never_negative_and_below_one():
    assert statistics.rho(np.array([1.0, -1.0] * 20)) == 0
    assert statistics.rho(np.arange(500.0)) == 0.98


@pytest.mark.parametrize("phi", [0.0, 0.3, 0.6, 0.9])
def test_rho_finds_the_correlation_it_was_given(phi):
    (x,) = ar1(np.random.default_rng(1), 1, 100_000, phi)
    assert statistics.rho(x) == pytest.approx(phi, abs=0.01)


def test_se_ar1_of_an_alternating_series_is_that_of_independent_values():
    x = np.array([1.0, 3.0] * 10)
    se, n_eff = statistics.se_ar1(x)
    assert (se, n_eff) == (pytest.approx(x.std(ddof=1) / math.sqrt(20)), 20)


def test_se_nbm_by_hand():
    x = np.repeat(np.arange(10.0), 3)
    expected = np.arange(10.0).std(ddof=1) / math.sqrt(10)
    assert statistics.se_nbm(np.concatenate(([99.0, 99.0], x))) == pytest.approx(expected)
    assert statistics.hw_nbm(x) == pytest.approx(scipy.stats.t.ppf(0.975, 9) * expected)
    assert statistics.se_nbm(x[:9]) == math.inf


def test_mean_ci_of_ten_alternating_values_by_hand():
    x = np.array([1.0, 3.0] * 5)
    se = x.std(ddof=1) / math.sqrt(10)  # batches of one, no correlation: both errors agree
    interval = statistics.mean_ci(x)
    assert interval.half_width == pytest.approx(scipy.stats.t.ppf(0.975, 10) * se, rel=1e-3)
    assert (interval.lo + interval.hi) / 2 == pytest.approx(2.0)


@pytest.mark.parametrize("phi", [0.0, 0.3, 0.6])
def test_mean_ci_covers(phi):
    x = 100 + ar1(np.random.default_rng(7), 2000, 60, phi)
    intervals = [statistics.mean_ci(row) for row in x]
    covered = np.mean([i.lo <= 100 <= i.hi for i in intervals])
    assert 0.93 <= covered <= 0.975


# --- detectors ------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [5, 17, 30, 55])
@pytest.mark.parametrize("size", [-0.05, 0.02])
def test_step_finds_place_and_size(index, size):
    x = np.full(60, 1000.0)
    x[index:] *= 1 + size
    found = statistics.step(x)
    assert found.index == index
    assert found.relative == pytest.approx(size * 1000 / x.mean())
    assert found.z > 1e3


def test_step_is_not_forgotten_as_the_window_grows():
    rng = np.random.default_rng(3)
    x = 1 + 0.002 * rng.standard_normal(120)
    x[6:] -= 0.02
    for n in (30, 60, 120):
        assert statistics.step(x[:n]).index == 6


def test_step_needs_room_on_both_sides():
    assert statistics.step(np.arange(6.0)) == statistics.Step(0, 0.0, 0.0)
    assert statistics.step(np.r_[np.ones(4), np.full(4, 2.0)]).index == 4


def test_shift_at_by_hand():
    x = np.array([1.0, 3.0, 1.0, 3.0, 5.0, 7.0, 5.0, 7.0])
    found = statistics.shift_at(x, 4)
    # means 2 and 6, residuals all 1, spread sqrt(8 / 6), not correlated but for rounding of bias
    r = statistics.rho(np.array([-1.0, 1.0] * 4))
    se = math.sqrt(8 / 6) * math.sqrt((1 + r) / (1 - r) * 0.5)
    assert (found.relative, found.z) == (pytest.approx(1.0), pytest.approx(4 / se))


def test_halves_of_a_bend_without_noise_are_clearly_apart():
    x = 1 - 0.1 * np.exp(-np.arange(20) / 15)
    found = statistics.shift_of_halves(x)
    assert found.relative == pytest.approx((x[10:].mean() - x[:10].mean()) / x.mean())
    assert found.z > 20
    assert statistics.shift_at(x, 10).z < 5  # about two means the bend looks like noise


def test_halves_of_noise_are_rarely_apart():
    x = 1 + 0.01 * ar1(np.random.default_rng(6), 500, 20, 0.3)
    clear = statistics.t_quantile(0.975, 10)
    assert np.mean([statistics.shift_of_halves(row).z > clear for row in x]) < 0.1


def test_drift_is_the_change_from_end_to_end():
    x = 100 + 0.1 * np.arange(50)
    found = statistics.drift(x)
    assert found.relative == pytest.approx(5 / x.mean())
    assert found.z > 1e3


def test_drift_slope_is_least_squares():
    x = np.random.default_rng(2).normal(10, 1, 40)
    slope = scipy.stats.linregress(np.arange(40), x).slope
    assert statistics.drift(x).relative == pytest.approx(slope * 40 / x.mean())


def test_two_values_have_no_drift():
    assert statistics.drift(np.array([1.0, 2.0])) == statistics.Drift(0.0, 0.0)


def test_a_stalled_stream_breaks_no_detector():
    assert statistics.step(np.zeros(40)).relative == 0
    assert statistics.drift(np.zeros(40)).relative == 0


# --- latency --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("p", "least"), [(0.5, 20), (0.9, 64), (0.99, 662), (0.999, 6636)])
def test_percentiles_are_null_below_their_least_count(p, least):
    x = np.random.default_rng(1).lognormal(size=least)
    assert statistics.percentile_ci(x[:-1], p) is None
    span = statistics.percentile_ci(x, p)
    assert span is not None
    assert span.value == np.quantile(x, p)


def test_percentile_interval_of_evenly_spread_latencies_is_the_binomial_one():
    x = np.tile(np.arange(100.0), 20)  # every stretch has the same share above any value
    span = statistics.percentile_ci(x, 0.9)
    assert span is not None
    h = scipy.stats.norm.ppf(0.975) * math.sqrt(0.09 / 2000)
    assert (span.lo, span.hi) == (np.quantile(x, 0.9 - h), np.quantile(x, 0.9 + h))


def test_upper_end_beyond_the_data_is_none():
    span = statistics.percentile_ci(np.random.default_rng(1).lognormal(size=662), 0.99)
    assert span is not None
    assert span.hi is None or span.hi >= span.value
    late = np.r_[np.ones(655), np.full(7, 9.0)]
    span = statistics.percentile_ci(late, 0.99)
    assert span is not None
    assert span.hi is None


def test_percentile_ci_covers():
    x = np.exp(0.1 * ar1(np.random.default_rng(5), 600, 1000, 0.8))
    truth = math.exp(0.1 * scipy.stats.norm.ppf(0.9))
    spans = [statistics.percentile_ci(row, 0.9) for row in x]
    assert 0.92 <= np.mean([s.lo <= truth <= s.hi for s in spans]) <= 0.98


# --- trials and ratios ----------------------------------------------------------------------------


def test_ratio_ci_is_welch_on_logarithms():
    a, b = np.array([210.0, 205.0, 207.0]), np.array([100.0, 101.0, 103.0, 99.5])
    test = scipy.stats.ttest_ind(np.log(a), np.log(b), equal_var=False)
    welch = test.confidence_interval(0.95)
    span = statistics.ratio_ci(a, b)
    assert span.value == pytest.approx(scipy.stats.gmean(a) / scipy.stats.gmean(b))
    assert (span.lo, span.hi) == pytest.approx((math.exp(welch.low), math.exp(welch.high)))


def test_ratio_ci_by_hand():
    # logs differ by exactly ln 2; each side has variance 2 d^2 with d = ln 1.01, so df = 2
    a, b = np.array([200 / 1.01, 200 * 1.01]), np.array([100 / 1.01, 100 * 1.01])
    h = 4.302652729911275 * math.sqrt(2) * math.log(1.01)
    span = statistics.ratio_ci(a, b)
    assert (span.value, span.lo, span.hi) == pytest.approx((2, 2 * math.exp(-h), 2 * math.exp(h)))


def test_many_ratios_at_once_are_each_alone():
    rng = np.random.default_rng(5)
    sides = [statistics.logs(np.exp(0.01 * rng.standard_normal(n))) for n in (2, 3, 5, 10)]
    sides.append(statistics.logs(np.array([7.0, 7.0])))
    pairs = [(a, b) for a in sides for b in sides]
    for found, (a, b) in zip(statistics.ratios_of(pairs), pairs, strict=True):
        alone = statistics.ratio_of(a, b)
        assert (found.value, found.lo, found.hi) == pytest.approx((alone.value, alone.lo, alone.hi))
    assert statistics.ratios_of([]) == []
    with pytest.raises(ValueError, match="2 trials"):
        statistics.ratios_of([(sides[0], statistics.logs(np.array([1.0])))])


def test_ratio_of_constant_sides_is_exact():
    span = statistics.ratio_ci(np.array([4.0, 4.0]), np.array([2.0, 2.0]))
    assert span.lo == span.value == span.hi == pytest.approx(2)


def test_ratio_needs_two_trials_a_side():
    with pytest.raises(ValueError, match="2 trials"):
        statistics.ratio_ci(np.array([1.0]), np.array([1.0, 2.0]))


def test_trial_interval_by_hand():
    found = statistics.trial_interval(np.array([99.0, 100.0, 101.0]), np.array([0.6, 0.6, 0.6]))
    assert (found.mean, found.sd, found.trials) == (100, 1, 3)
    assert found.half_width == pytest.approx(4.302652729911275 / math.sqrt(3))
    assert found.within_sd == pytest.approx(0.6)
    assert found.between_sd == pytest.approx(0.8)
    assert found.trials_needed == 18
    assert found.lo == pytest.approx(100 - found.half_width)
    assert found.hi == pytest.approx(100 + found.half_width)


def test_between_component_is_never_negative():
    found = statistics.trial_interval(np.array([100.0, 100.1]), np.array([2.0, 2.0]))
    assert found.between_sd == 0


def test_a_single_trial_has_no_interval():
    found = statistics.trial_interval(np.array([100.0]), np.array([0.5]))
    assert (found.mean, found.half_width, found.lo, found.hi) == (100, None, None, None)
    assert (found.within_sd, found.between_sd, found.trials_needed) == (0.5, None, None)


@pytest.mark.parametrize(("sd", "trials"), [(0.0, 2), (0.0025, 4), (0.005, 7), (0.01, 18)])
def test_trials_needed(sd, trials):
    assert statistics.trials_needed(sd, 0.005) == trials


# --- outliers -------------------------------------------------------------------------------------


def test_outliers_are_counted_by_both_fences():
    x = np.r_[np.tile([9.0, 10.0, 11.0], 20), 13.5, 18.0, 40.0]
    # quartiles 9 and 11: fences 3 and 17; median 10, MAD 1: |x - 10| > 14.826
    assert statistics.outliers(x) == statistics.Outliers(tukey=2, mad=1, either=2)


def test_one_odd_value_in_a_constant_series_is_an_outlier_and_rounding_is_not():
    x = np.full(50, 0.1)
    x[7] = np.nextafter(0.1, 1)
    assert statistics.outliers(x).either == 0
    x[7] = 0.2
    assert statistics.outliers(x) == statistics.Outliers(1, 1, 1)


def test_three_values_have_no_outliers():
    assert statistics.outliers(np.array([1.0, 1.0, 99.0])).either == 0


# --- scaling --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "law", [(5000.0, 0.0, 0.0), (100.0, 0.03, 0.0), (1.0, 0.02, 5e-4), (7.0, 0.0, 2e-4)]
)
def test_usl_is_recovered_from_noiseless_data(law):
    truth = Scaling(*law)
    n = np.array([1, 2, 4, 8, 16])
    fit = statistics.usl_fit(n, statistics.usl(n, truth))
    assert fit.gamma == pytest.approx(truth.gamma, rel=1e-9)
    assert fit.sigma == pytest.approx(truth.sigma, abs=1e-10)
    assert fit.kappa == pytest.approx(truth.kappa, abs=1e-11)


def test_usl_by_hand():
    assert statistics.usl([1, 3], Scaling(10, 0.1, 0.01)) == pytest.approx([10, 30 / 1.26])


@pytest.mark.parametrize(
    ("throughput", "sigma", "kappa"),
    [
        ([6406, 12808, 25592], 2e-4, 5e-5),  # GoogLeNet, INT8, batch 128 on 1, 2, 4 P40
        ([16270, 32386, 64691], 1.8e-3, 0),  # AlexNet
    ],
)
def test_the_2017_figures(throughput, sigma, kappa):
    fit = statistics.usl_fit([1, 2, 4], throughput)
    assert fit.gamma == pytest.approx(throughput[0], rel=2e-3)
    assert fit.sigma == pytest.approx(sigma, rel=0.05)
    assert fit.kappa == pytest.approx(kappa, rel=0.05)


def test_usl_fit_is_scipys_non_negative_least_squares():
    rng = np.random.default_rng(4)
    n = np.array([1.0, 2, 4, 8])
    for _ in range(50):
        y = n / (n * rng.uniform(0.9, 1.1, 4))
        design = np.c_[np.ones(4), n - 1, n * (n - 1)] / y[:, None]
        k, _ = scipy.optimize.nnls(design, np.ones(4))
        fit = statistics.usl_fit(n, n / y)
        expected = (1 / k[0], k[1] / k[0], k[2] / k[0])
        assert (fit.gamma, fit.sigma, fit.kappa) == pytest.approx(expected, abs=1e-9)


def test_usl_fit_of_a_single_size_is_a_line():
    assert statistics.usl_fit([4], [400.0]) == Scaling(pytest.approx(100), 0, 0)


def test_usl_ci_of_trials_without_spread_is_the_fit():
    n, truth = np.array([1, 2, 4, 8]), Scaling(100, 0.01, 1e-4)
    trials = np.repeat(statistics.usl(n, truth)[:, None], 3, axis=1)
    found = statistics.usl_ci(n, trials, [16], draws=20)
    assert found.sigma == pytest.approx((0.01, 0.01))
    assert found.kappa == pytest.approx((1e-4, 1e-4))
    assert found.lo == pytest.approx(statistics.usl([16], truth))
    assert found.hi == pytest.approx(statistics.usl([16], truth))


def test_usl_ci_covers_and_repeats():
    rng = np.random.default_rng(9)
    n, truth = np.array([1, 2, 4, 8]), Scaling(100, 0.005, 2e-4)
    hits = 0
    for _ in range(150):
        trials = statistics.usl(n, truth)[:, None] * (1 + 0.005 * rng.standard_normal((4, 3)))
        found = statistics.usl_ci(n, trials, [8, 16], draws=200)
        hits += found.lo[1] <= statistics.usl(16, truth) <= found.hi[1]
    assert hits / 150 > 0.9
    again = statistics.usl_ci(n, trials, [8, 16], draws=200)
    assert np.array_equal(again.lo, found.lo)


def test_usl_ci_needs_two_trials():
    with pytest.raises(ValueError, match="2 trials"):
        statistics.usl_ci([1, 2, 4, 8], np.ones((4, 1)), [16])


# --- the house ------------------------------------------------------------------------------------


def test_importing_it_does_not_import_scipy():
    code = "import sys, raybench.stats.intervals; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
