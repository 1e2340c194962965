"""Steps between runs: closed forms, false alarms and steps that are found."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as closed_forms

from raybench.stats import steps
from raybench.stats.population import holm


def noise(runs, seed=0, sd=0.007):
    return sd * np.random.default_rng(seed).standard_normal(runs)


def with_steps(runs, *sizes_at, seed=0, sd=0.007):
    x = noise(runs, seed, sd)
    for size, at in sizes_at:
        x[at:] += math.log1p(size)
    return x


def test_a_clear_step_is_found_where_it_is_with_its_size():
    x = with_steps(20, (-0.04, 12))
    assert steps.find_steps(x, 0.01) == [12]
    (step,) = steps.measure_steps(x, [12], 0.01)
    assert (step.before, step.index, step.after) == (0, 12, 20)
    assert step.shift == pytest.approx(x[12:].mean() - x[:12].mean())
    assert step.lo < math.log(0.96) < step.hi < 0


def test_the_interval_is_that_of_students_t_with_bonferroni_over_every_window():
    x = np.array([1.0, -1, 1, -1, 1, -1, 9, 11, 9, 11, 9, 11])  # neighbours differ: no AR(1) factor
    (step,) = steps.measure_steps(x, [6], 0.01)
    windows = (12 - 5) + (12 - 9)  # all runs at 7 places, five a side at 3
    error = math.sqrt(12 / 10 * (1 / 6 + 1 / 6))
    reach = closed_forms.t.ppf(1 - 0.01 / (2 * windows), 10) * error
    assert step.shift == pytest.approx(10)
    assert step.hi - step.lo == pytest.approx(2 * reach)


def test_the_p_value_of_the_shortest_series_is_that_of_a_t_test():
    x = np.array([0.3, -0.1, -0.2, 2.2, 2.0, 1.8])
    candidate = steps.most_likely_step(x)
    assert candidate.index == 3
    residual = np.concatenate((x[:3] - x[:3].mean(), x[3:] - x[3:].mean()))
    assert steps.rho(residual) == pytest.approx(0, abs=0.3)
    factor = (1 + steps.rho(residual)) / (1 - steps.rho(residual))
    t = 2.0 / math.sqrt(residual @ residual / 4 * (2 / 3) * factor)
    assert candidate.p == pytest.approx(2 * closed_forms.t.sf(t, 4))


def test_two_steps_that_undo_each_other_are_both_found():
    x = with_steps(30, (-0.04, 10), (1 / 0.96 - 1, 20))
    assert steps.find_steps(x, 0.01) == [10, 20]


def test_a_step_stands_where_it_is_although_another_one_is_near():
    places = [
        steps.find_steps(with_steps(39, (-0.04, 22), (0.05, 31), seed=k), 0.01) for k in range(100)
    ]
    assert sum(found == [22, 31] for found in places) >= 95


def test_one_or_two_strange_runs_are_no_step():
    for strange in (1, 2):
        x = noise(20)
        x[-strange:] -= 0.2
        assert steps.find_steps(x, 0.01) == []
        few, shift = steps.newest_away(x, 0.01)
        assert few == strange or few == 1
        assert shift < -0.1
    assert steps.newest_away(noise(20), 0.01) is None


def test_a_series_without_noise_has_a_step_of_any_size_and_none_of_rounding():
    x = np.r_[np.full(5, 7.0), np.full(5, 7.001)]
    assert steps.find_steps(x, 0.01) == [5]
    assert steps.find_steps(np.full(10, math.log(1000.0)), 0.01) == []
    rounded = 7.0 + 1e-15 * np.arange(10)
    assert steps.find_steps(rounded, 0.01) == []


def test_too_few_runs_have_no_step():
    assert steps.most_likely_step(np.array([0.0, 0.0, 0.0, 9.0, 9.0])) is None
    assert steps.find_steps(np.zeros(0), 0.01) == []


@pytest.mark.parametrize("runs", [6, 20, 60])
def test_false_alarms_stay_below_one_percent(runs):
    rng = np.random.default_rng(runs)
    found = sum(bool(steps.find_steps(rng.standard_normal(runs), 0.01)) for _ in range(1000))
    assert found <= 20  # 1 % of 1,000, and what chance adds in 1 of 1,000 seeds


def test_a_step_of_four_percent_is_found_in_99_of_100_series():
    found = [
        steps.find_steps(with_steps(20, (-0.04, 10), seed=k), 0.01) == [10] for k in range(300)
    ]
    assert sum(found) >= 290  # where it is, to the run
    assert sum(
        bool(steps.find_steps(with_steps(20, (-0.04, 15), seed=k), 0.01)) for k in range(300)
    ) >= 297  # fmt: skip


def test_levels_reject_what_holm_rejects():
    rng = np.random.default_rng(3)
    for _ in range(50):
        p = rng.uniform(0, 0.01, 6) ** rng.uniform(0.5, 2)
        assert (p <= steps.levels(p)).tolist() == holm(p, steps.FALSE_ALARMS).tolist()


def test_the_smallest_visible_step_is_found_in_80_percent():
    size = steps.smallest_visible(0.007, 20, 0.01)
    found = sum(
        bool(steps.find_steps(with_steps(20, (math.expm1(-size), 10), seed=k), 0.01))
        for k in range(400)
    )
    assert 0.72 <= found / 400 <= 0.97  # Bonferroni and the AR(1) factor pull in two directions


def test_runs_to_see_is_the_fewest_that_do():
    runs = steps.runs_to_see(0.03, 0.007, 0.01)
    assert steps.smallest_visible(0.007, runs, 0.01) <= 0.03
    assert steps.smallest_visible(0.007, runs - 1, 0.01) > 0.03
    assert steps.runs_to_see(1e-9, 0.007, 0.01) is None
