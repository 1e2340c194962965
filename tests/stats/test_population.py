"""Each device against the population: closed forms of the noise, the centre, Holm and the trials."""

import math

import numpy as np
import pytest
from scipy import stats

from raybench.stats import population
from raybench.stats.population import Moments


def moments_of(*devices):
    return population.moments([np.log(np.array(device, dtype=np.float64)) for device in devices])


def even_fleet(n, trials=3, sd=0.003):
    """n devices of one mean, each with the same spread between trials."""
    return Moments(np.zeros(n), np.full(n, sd**2), np.full(n, float(trials)))


def test_the_noise_is_pooled_by_degrees_of_freedom():
    noise = population.pooled_noise(np.array([1.0, 2.0, 4.0]), np.array([2.0, 2.0, 4.0]))
    assert noise.variance == pytest.approx([22 / 8] * 3)
    assert noise.df.tolist() == [8, 8, 8]


def test_a_noisy_device_keeps_its_own_noise_and_does_not_widen_the_others():
    variance = np.array([1.0] * 19 + [100.0])
    noise = population.pooled_noise(variance, np.full(20, 2.0))
    assert noise.variance[:19] == pytest.approx([1.0] * 19)
    assert (noise.variance[19], noise.df[19]) == (100.0, 2.0)


def test_several_noisy_devices_do_not_hide_each_other():
    variance = np.array([1.0] * 60 + [50.0, 60.0, 70.0, 80.0])
    noise = population.pooled_noise(variance, np.full(64, 2.0))
    assert noise.variance[:60] == pytest.approx([1.0] * 60)
    assert noise.variance[60:].tolist() == [50.0, 60.0, 70.0, 80.0]


def test_of_two_devices_each_is_judged_by_the_other():
    contrasts = population.to_population(moments_of([90, 91, 92], [100, 101, 102]))
    assert contrasts.log_ratio[0] == -contrasts.log_ratio[1] == pytest.approx(-0.104, abs=0.001)
    assert contrasts.error == pytest.approx(
        [math.sqrt((contrasts.per_trial[0]) / 3)] * 2
    )  # both means vary


def test_slow_devices_do_not_move_the_centre():
    fleet = even_fleet(9)
    fleet.mean[:3] = math.log(0.5)
    contrasts = population.to_population(fleet)
    assert np.exp(contrasts.log_ratio) == pytest.approx([0.5] * 3 + [1.0] * 6)


def test_the_error_is_that_of_a_mean_and_of_the_median():
    contrasts = population.to_population(even_fleet(100, trials=4, sd=0.01))
    assert contrasts.error == pytest.approx([0.005 * math.sqrt(1 + math.pi / 200)] * 100)


def test_devices_far_from_the_middle_do_not_steady_it():
    assert population.steadiness(np.array([-1.0, 0.0, 1.0]), 0.01) == 1.0
    assert population.steadiness(np.zeros(100), 0.01) == pytest.approx(math.pi / 200)


def test_the_p_value_is_that_of_a_one_sided_t():
    fleet = even_fleet(8)
    fleet.mean[0] = math.log(0.95)
    contrasts = population.to_population(fleet)
    t = (math.log(0.95) - math.log(0.97)) / contrasts.error[0]
    assert population.p_values(contrasts, 0.03)[0] == pytest.approx(stats.t.cdf(t, 16))


def test_holm_stops_at_the_first_hypothesis_that_stands():
    p = np.array([0.004, 0.0001, 0.0034, 0.5])
    # steps: 0.0025, 0.00333, 0.005, 0.01 in the order 0.0001, 0.0034, 0.004, 0.5
    assert population.holm(p, 0.01).tolist() == [False, True, False, False]
    assert population.holm(np.array([0.004, 0.0001, 0.003, 0.5]), 0.01).tolist() == [
        True, True, True, False,
    ]  # fmt: skip


def test_one_trial_decides_nothing():
    contrasts = population.to_population(moments_of([100.0], [50.0], [101.0]))
    assert population.p_values(contrasts, 0.03).tolist() == [1.0, 1.0, 1.0]
    assert not population.accepted(contrasts, 0.03).any()
    assert population.trials_to_decide(contrasts, 0.03, 3) == [3, 3, 3]


@pytest.mark.parametrize("ratio", [0.95, 0.96, 0.985])
def test_the_number_of_trials_is_the_first_that_decides(ratio):
    fleet = even_fleet(64, trials=2, sd=0.01)
    fleet.mean[0] = math.log(ratio)
    (needed, *_) = population.trials_to_decide(population.to_population(fleet), 0.03, 64)

    def margin(trials):
        error = 0.01 * math.sqrt((1 + math.pi / (2 * 63)) / trials)
        share = 1 - 0.01 / 64 if ratio < 0.97 else 0.95
        df = 64 * (trials - 1)
        gap = abs(math.log(ratio) - math.log(0.97))
        return gap - (stats.t.ppf(share, df) + stats.t.ppf(0.8, df)) * error

    assert needed is not None
    assert margin(needed) >= 0
    assert needed == 3 or margin(needed - 1) < 0


def test_a_device_at_the_tolerance_itself_is_never_decided():
    fleet = even_fleet(8)
    fleet.mean[0] = math.log(0.97)
    assert population.trials_to_decide(population.to_population(fleet), 0.03, 8)[0] is None


def test_the_smallest_visible_shortfall_is_found_in_80_percent():
    contrasts = population.to_population(even_fleet(64, sd=0.005))
    visible = population.smallest_visible(contrasts, 0.03, 64)[0]
    df, critical = 128, stats.t.ppf(1 - 0.01 / 64, 128)
    away = (math.log(0.97) - math.log(1 - visible)) / contrasts.error[0]
    assert 1 - stats.nct.cdf(critical, df, away) == pytest.approx(0.8, abs=0.01)


def test_a_slow_rack_is_rejected_and_one_slow_card_does_not_condemn_its_host():
    fleet, group = even_fleet(64), np.arange(64) // 8
    fleet.mean[:] = np.tile([-0.004, -0.002, -0.001, 0.0, 0.0, 0.001, 0.002, 0.004], 8)
    fleet.mean[8:16] += math.log(0.94)
    fleet.mean[16] += math.log(0.5)
    contrasts = population.groups_to_population(fleet, group)
    assert population.holm(population.p_values(contrasts, 0.03)).tolist() == [
        False, True, False, False, False, False, False, False,
    ]  # fmt: skip


def test_an_imprecise_baseline_widens_the_interval():
    fleet = even_fleet(4)
    sharp = population.to_baseline(fleet, 0.0, 0.0, 0.0)
    rough = population.to_baseline(fleet, 0.0, 0.01**2, 5.0)
    assert sharp.error == pytest.approx([0.003 / math.sqrt(3)] * 4)
    assert rough.error == pytest.approx([math.hypot(0.003 / math.sqrt(3), 0.01)] * 4)
    assert population.accepted(sharp, 0.01).all()
    assert not population.accepted(rough, 0.01).any()


def test_without_any_noise_the_ratio_itself_decides():
    fleet = Moments(np.log([1.0, 1.0, 0.9]), np.zeros(3), np.full(3, 3.0))
    contrasts = population.to_population(fleet)
    assert population.holm(population.p_values(contrasts, 0.03)).tolist() == [False, False, True]
    assert population.accepted(contrasts, 0.03).tolist() == [True, True, False]
