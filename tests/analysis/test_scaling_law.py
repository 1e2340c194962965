"""The scalability law of a curve: what it recovers, how far it reaches, when there is none."""

from __future__ import annotations

import numpy as np
import pytest

from raybench.analysis.scaling_law import REACH, law
from raybench.stats.scaling_law import UslFit, usl

SIZES = (1, 2, 4, 8)
TRUTH = UslFit(100.0, 0.05, 0.002)


def rates(noise=0.0, trials=3, truth=TRUTH, sizes=SIZES, seed=0):
    rng = np.random.default_rng(seed)
    exact = usl(sizes, truth)
    return [(x * np.exp(noise * rng.standard_normal(trials))).tolist() for x in exact]


def test_exact_rates_give_the_coefficients_back():
    fit = law(SIZES, rates())
    assert (fit.gamma, fit.sigma.value, fit.kappa.value) == pytest.approx((100, 0.05, 0.002))
    assert fit.peak_workers == pytest.approx((0.95 / 0.002) ** 0.5)
    assert (fit.sigma.lo, fit.sigma.hi) == pytest.approx((0.05, 0.05))


def test_intervals_cover_the_truth_at_about_the_nominal_rate():
    """The short form; benchmarks/inference.py counts 2,000 laws a cell."""
    runs = 60
    hits = np.zeros(2)
    for seed in range(runs):
        fit = law(SIZES, rates(0.005, seed=seed))
        hits += (
            fit.sigma.lo <= TRUTH.sigma <= fit.sigma.hi,
            fit.kappa.lo <= TRUTH.kappa <= fit.kappa.hi,
        )
    assert (hits >= 0.85 * runs).all()  # 95 % less 3.5 standard errors


def test_predictions_reach_to_twice_the_largest_size_and_no_further():
    fit = law(SIZES, rates(0.005))
    assert [p.workers for p in fit.predictions] == list(range(1, REACH * 8 + 1))
    widths = [(p.items_per_s.hi - p.items_per_s.lo) / p.items_per_s.value for p in fit.predictions]
    assert widths[-1] > 2 * widths[3]
    far = law((1, 8, 64, 512), rates(sizes=(1, 8, 64, 512)))
    assert far.predictions[-1].workers == 1024
    assert {1, 512, 1024} <= {p.workers for p in far.predictions}
    assert len(far.predictions) <= 66


def test_no_peak_where_coherency_may_be_nothing():
    fit = law(SIZES, rates(0.005, truth=UslFit(100.0, 0.01, 0.0)))
    assert fit.kappa.lo == 0
    assert fit.peak_workers is None


def test_single_trials_give_a_law_without_intervals():
    fit = law(SIZES, rates(trials=1))
    assert (fit.sigma.value, fit.sigma.lo, fit.peak_workers) == (pytest.approx(0.05), None, None)
    assert {p.items_per_s.lo for p in fit.predictions} == {None}


@pytest.mark.parametrize(
    "some", [((1, 2, 4), [[1.0], [2.0], [4.0]]), (SIZES, [[1.0], [2.0], [0.0], [8.0]])]
)
def test_too_few_sizes_or_a_rate_of_nothing_give_none(some):
    assert law(*some) is None
