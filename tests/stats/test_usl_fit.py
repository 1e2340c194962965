"""The universal scalability law on exact, published and random data."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize

from raybench.stats import scaling_law
from raybench.stats.scaling_law import UslFit


@pytest.mark.parametrize(
    "law", [(5000.0, 0.0, 0.0), (100.0, 0.03, 0.0), (1.0, 0.02, 5e-4), (7.0, 0.0, 2e-4)]
)
def test_usl_is_recovered_from_noiseless_data(law):
    truth = UslFit(*law)
    n = np.array([1, 2, 4, 8, 16])
    fit = scaling_law.usl_fit(n, scaling_law.usl(n, truth))
    assert fit.gamma == pytest.approx(truth.gamma, rel=1e-9)
    assert fit.sigma == pytest.approx(truth.sigma, abs=1e-10)
    assert fit.kappa == pytest.approx(truth.kappa, abs=1e-11)


def test_usl_by_hand():
    assert scaling_law.usl([1, 3], UslFit(10, 0.1, 0.01)) == pytest.approx([10, 30 / 1.26])


@pytest.mark.parametrize(
    ("throughput", "sigma", "kappa"),
    [
        ([6406, 12808, 25592], 2e-4, 5e-5),  # GoogLeNet, INT8, batch 128 on 1, 2, 4 P40
        ([16270, 32386, 64691], 1.8e-3, 0),  # AlexNet
    ],
)
def test_the_2017_figures(throughput, sigma, kappa):
    fit = scaling_law.usl_fit([1, 2, 4], throughput)
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
        fit = scaling_law.usl_fit(n, n / y)
        expected = (1 / k[0], k[1] / k[0], k[2] / k[0])
        assert (fit.gamma, fit.sigma, fit.kappa) == pytest.approx(expected, abs=1e-9)


def test_usl_fit_of_a_single_size_is_a_line():
    assert scaling_law.usl_fit([4], [400.0]) == UslFit(pytest.approx(100), 0, 0)


def test_usl_ci_of_trials_without_spread_is_the_fit():
    n, truth = np.array([1, 2, 4, 8]), UslFit(100, 0.01, 1e-4)
    trials = np.repeat(scaling_law.usl(n, truth)[:, None], 3, axis=1)
    fitted = scaling_law.usl_ci(n, trials, [16], draws=20)
    assert fitted.sigma == pytest.approx((0.01, 0.01))
    assert fitted.kappa == pytest.approx((1e-4, 1e-4))
    assert fitted.lo == pytest.approx(scaling_law.usl([16], truth))
    assert fitted.hi == pytest.approx(scaling_law.usl([16], truth))


def test_usl_ci_covers_and_repeats():
    rng = np.random.default_rng(9)
    n, truth = np.array([1, 2, 4, 8]), UslFit(100, 0.005, 2e-4)
    hits = 0
    for _ in range(150):
        trials = scaling_law.usl(n, truth)[:, None] * (1 + 0.005 * rng.standard_normal((4, 3)))
        fitted = scaling_law.usl_ci(n, trials, [8, 16], draws=200)
        hits += fitted.lo[1] <= scaling_law.usl(16, truth) <= fitted.hi[1]
    assert hits / 150 > 0.9
    again = scaling_law.usl_ci(n, trials, [8, 16], draws=200)
    assert np.array_equal(again.lo, fitted.lo)


def test_usl_ci_needs_two_trials():
    with pytest.raises(ValueError, match="2 trials"):
        scaling_law.usl_ci([1, 2, 4, 8], np.ones((4, 1)), [16])
