"""The ladders of warm-up and stop on series made by hand, and every flag's way to a verdict."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from raybench.experiment import MeasureSettings
from raybench.measure import stopping
from raybench.measure.stopping import Evidence, Stop, WarmUp

STANDARD = MeasureSettings()
LIMITS = stopping.limits(STANDARD)


def noise(sd: float, n: int = 200, workers: int = 1, seed: int = 0) -> np.ndarray:
    return 1 + sd * np.random.default_rng(seed).standard_normal((workers, n))


def ended(aggregate: np.ndarray, limits: stopping.Limits = LIMITS) -> Stop:
    return stopping.stop_rule(Stop(), aggregate, limits)


def evidence(**known) -> Evidence:
    last = stopping.look(noise(0.001, 40)[0], STANDARD)
    return Evidence(**{"warm": WarmUp("agreed", 15), "last": last, **known})


# --- limits ---------------------------------------------------------------------------------------


def test_limits_of_the_standard_preset():
    assert (LIMITS.scale, LIMITS.block_s, LIMITS.span_s) == (1, 1, 1)
    assert (LIMITS.warmup_min, LIMITS.warmup_max) == (5, 60)
    assert (LIMITS.measure_min, LIMITS.look, LIMITS.measure_max) == (30, 10, 120)


def test_short_blocks_have_more_of_them():
    quick = replace(STANDARD, block_s=0.25, block_min_batches=1, min_s=5, max_s=15, look_s=2.5)
    limits = stopping.limits(quick)
    assert (limits.measure_min, limits.look, limits.measure_max) == (20, 10, 60)


def test_a_quick_batch_changes_nothing():
    assert stopping.limits(STANDARD, 0.25) == LIMITS


def test_slow_batches_stretch_blocks_and_limits_together():
    limits = stopping.limits(STANDARD, 0.5)
    assert (limits.scale, limits.block_s, limits.span_s) == (2, 2, 2)
    assert (limits.measure_min, limits.look, limits.measure_max) == (30, 10, 120)
    assert limits.warmup_min == 5  # 20 batches are 10 s, no more than twice 5 s
    assert limits.warmup_max == 60


def test_stretching_ends_at_four():
    limits = stopping.limits(STANDARD, 10.0)
    assert (limits.scale, limits.block_s, limits.span_s) == (4, 4, 40)
    assert (limits.measure_min, limits.look, limits.measure_max) == (3, 1, 12)
    assert limits.warmup_max == 6


def test_the_warm_up_holds_its_batches():
    limits = stopping.limits(replace(STANDARD, warmup_min_batches=100), 0.2)
    assert limits.warmup_min == 20


def test_looks_are_due_at_fixed_blocks_and_at_the_end():
    limits = stopping.limits(replace(STANDARD, max_s=55))
    due, blocks = [], 0
    while (step := limits.next_look(blocks)) is not None:
        due.append(step)
        blocks = step
    assert due == [30, 40, 50, 55]
    assert limits.next_look(34) == 40


def test_target_is_narrower_early_and_as_configured_at_the_end():
    assert LIMITS.target(30) == pytest.approx(0.0025)
    assert LIMITS.target(120) == 0.005
    fixed = stopping.limits(replace(STANDARD, min_s=600, max_s=600))
    assert fixed.target(600) == 0.005


# --- warm-up --------------------------------------------------------------------------------------


def test_warm_at_the_first_try():
    rates = np.ones((1, 25))
    assert stopping.warm_up(rates[:, :24], LIMITS) == WarmUp("not_yet")
    assert stopping.warm_up(rates, LIMITS) == WarmUp("agreed", 15)


def test_nothing_measured_yet():
    assert stopping.warm_up(np.empty((2, 0)), LIMITS).state == "not_yet"


@pytest.mark.parametrize(("step_at", "w0"), [(5, 15), (6, 20), (10, 20), (12, 25), (31, 45)])
def test_the_window_begins_after_a_change(step_at, w0):
    # A is allowed none of the old rate once it makes more than 0.5 % of the mean
    rates = np.where(np.arange(200) < step_at, 0.5, 1.0)[None]
    if step_at > 25:  # seen from the start, the old rate is steady as well
        rates = rates * np.where(np.arange(200) < step_at, 1 - 0.02 * np.arange(200), 1.0)
    assert stopping.warm_up(rates, LIMITS) == WarmUp("agreed", w0)


def test_gives_up_at_the_longest_warm_up():
    rates = np.exp(0.01 * np.arange(200))[None]
    assert stopping.warm_up(rates[:, :69], LIMITS).state == "not_yet"
    assert stopping.warm_up(rates[:, :70], LIMITS) == WarmUp("given_up", 60)


def test_gives_up_at_once_where_the_windows_do_not_fit():
    limits = stopping.limits(STANDARD, 10.0)
    assert stopping.warm_up(np.empty((1, 0)), limits) == WarmUp("given_up", limits.warmup_max)


def test_later_blocks_change_no_earlier_answer():
    rates = noise(0.004, workers=4, seed=3) * (1 - 0.1 * np.exp(-np.arange(200) / 8))
    answers = [stopping.warm_up(rates[:, :k], LIMITS) for k in range(201)]
    first = next(a for a in answers if a.state != "not_yet")
    since = answers.index(first)
    assert all(a.state == "not_yet" for a in answers[:since])
    assert all(a == first for a in answers[since:])


def test_one_worker_still_warming_keeps_all_waiting():
    rates = noise(0.001, workers=16)
    rates[3] *= 1 - 0.15 * np.exp(-np.arange(200) / 15)
    alone = stopping.warm_up(rates.sum(axis=0)[None], LIMITS)
    found = stopping.warm_up(rates, LIMITS)
    assert (alone.state, found.state) == ("agreed", "agreed")
    assert found.w0 >= alone.w0 + 20


@pytest.mark.parametrize("workers", [8, 64])
def test_noise_of_single_workers_does_not_hold_up_the_start(workers):
    found = stopping.warm_up(noise(0.01, workers=workers), LIMITS)
    assert found.state == "agreed"
    assert found.w0 <= 25


def test_a_dead_stream_never_warms():
    assert stopping.warm_up(np.zeros((1, 200)), LIMITS).state == "given_up"


def test_waits_for_the_temperature():
    rates, t = np.ones((2, 200)), np.arange(200.0)
    heat = np.stack((np.full(200, 60.0), 80 - 20 * np.exp(-t / 10)))
    found = stopping.warm_up(rates, LIMITS, heat)
    assert (found.state, found.settled) == ("agreed", True)
    assert found.w0 > 15


def test_temperature_gives_up_softly():
    rates, t = np.ones((1, 200)), np.arange(200.0)
    assert stopping.warm_up(rates, LIMITS, 40 + 0.2 * t[None]) == WarmUp("agreed", 60, False)


def test_a_step_of_the_sensor_between_two_short_windows_is_no_warming():
    quick = stopping.limits(replace(STANDARD, block_s=0.1, look_s=1.0))
    heat = np.repeat([[60.0, 61.0]], 40, axis=1)
    assert stopping.warm_up(np.ones((1, 80)), quick, heat).settled is True


def test_unknown_temperatures_count_for_nothing():
    rates = np.ones((1, 30))
    assert stopping.warm_up(rates, LIMITS, np.full((1, 30), np.nan)) == WarmUp("agreed", 15, None)


# --- looks and stop -------------------------------------------------------------------------------


def test_a_quiet_point_stops_at_the_second_look():
    quiet = noise(0.001)[0]
    assert ended(quiet[:29]) == Stop()
    first = ended(quiet[:30])
    assert (first.state, first.looks, first.good) == ("measuring", 1, 1)
    found = ended(quiet)
    assert (found.state, found.looks, found.good) == ("target_met", 2, 2)
    assert found.last is not None
    assert (found.last.blocks, found.last.flags) == (40, ())


def test_the_answer_does_not_depend_on_when_the_driver_asks():
    x = noise(0.012, seed=5)[0]
    stop = Stop()
    for k in range(0, 201, 7):
        stop = stopping.stop_rule(stop, x[:k], LIMITS)
    assert stop == ended(x)
    assert stop.looks > 2


def test_one_bad_look_starts_the_count_again():
    x = noise(0.001)[0]
    x[35:41] = np.where(np.arange(6) % 2, 0.9, 1.1)  # a disturbance between the first two looks
    states = [ended(x[:n]) for n in (30, 40, 200)]
    assert [s.good for s in states[:2]] == [1, 0]
    assert states[2].looks > 3


def test_a_noisy_point_ends_at_the_limit():
    found = ended(noise(0.1)[0])
    assert (found.state, found.looks) == ("time_up", 10)
    assert found.last is not None
    assert found.last.blocks == 120
    assert found.last.flags == ("wide_ci",)


def test_a_step_inside_the_window_is_never_forgotten():
    x = noise(0.003)[0]
    x[20:] *= 0.98
    found = ended(x)
    assert found.state == "time_up"
    assert found.last is not None
    assert "step" in found.last.flags
    assert found.last.step.index == pytest.approx(20, abs=1)


def test_a_step_below_one_percent_is_no_step():
    x = noise(0.0001)[0]
    x[20:] *= 0.991
    assert "step" not in ended(x).last.flags


def test_a_drift_is_flagged():
    x = noise(0.002)[0] * (1 + 0.008 * np.arange(200) / 120)
    limits = stopping.limits(replace(STANDARD, min_s=110))
    assert ended(x, limits).last.flags == ("drift",)


def test_too_few_blocks_have_no_interval_and_no_detectors():
    found = stopping.look(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]), STANDARD)
    assert found.flags == ("few_neff",)
    assert (found.step.z, found.drift.z) == (0, 0)
    assert ended(np.ones(200), stopping.limits(STANDARD, 15.0)).last.flags == ("few_neff",)


def test_correlated_blocks_are_worth_too_little():
    x = 1 + 1e-4 * np.sin(np.arange(40) / 4)
    assert stopping.look(x, STANDARD).flags == ("few_neff",)


def test_a_fixed_length_ends_on_time_and_may_be_stable():
    limits = stopping.limits(replace(STANDARD, min_s=100, max_s=100))
    found = ended(noise(0.001)[0], limits)
    assert (found.state, found.looks, found.good) == ("time_up", 1, 1)
    assert stopping.verdict(found.last.flags) == "stable"


def test_the_next_look_is_due_when_its_last_block_ends():
    warm, limits = WarmUp("agreed", 15), stopping.limits(STANDARD)
    first = stopping.stop_rule(stopping.Stop(), np.ones(30), limits)
    assert stopping.due_s(WarmUp("not_yet"), stopping.Stop(), limits) == math.inf
    assert stopping.due_s(warm, stopping.Stop(), limits) == 15 + 30
    assert stopping.due_s(warm, first, limits) == 15 + 40
    slow = stopping.limits(STANDARD, 15.0)  # blocks of 60 s
    assert stopping.due_s(WarmUp("agreed", 2), stopping.Stop(), slow) == (2 + slow.measure_min) * 60


# --- flags and verdict ----------------------------------------------------------------------------


def test_the_list_of_flags_is_closed():
    groups = {}
    for name, flag in stopping.FLAGS.items():
        groups.setdefault(flag.group, []).append(name)
        assert flag.meaning.endswith(".")
        assert "\n" not in flag.meaning
    assert groups == {
        "blocking": [
            *("warmup_not_converged", "step", "drift", "throttled_thermal", "throttled_hw"),
            *("foreign_process", "foreign_load", "clock_skew", "wrong_outputs"),
        ],
        "target_missed": ["wide_ci", "few_neff"],
        "information": [
            *("few_batches", "throttled_power", "clock_low", "clock_varied", "node_load", "steal"),
            "uneven",
            *("lowered_priority", "temp_rising", "imbalance", "host_bound", "enqueue_bound"),
            *("copy_bound", "compute_varied", "ecc_error"),
            *("telemetry_gap", "energy_mismatch", "harness_cost", "outliers", "precision_only"),
        ],
    }
    with pytest.raises(TypeError):
        stopping.FLAGS["new"] = stopping.FLAGS["step"]
    with pytest.raises(KeyError):
        stopping.verdict(["stepp"])


@pytest.mark.parametrize("name", stopping.FLAGS)
def test_verdict_of_each_flag(name):
    unstable = stopping.FLAGS[name].group in ("blocking", "target_missed")
    assert stopping.verdict([name]) == ("unstable" if unstable else "stable")
    assert stopping.verdict([name], "unverified") == ("unstable" if unstable else "unverified")


def test_no_flags_is_the_best_verdict():
    assert stopping.verdict([]) == "stable"
    assert stopping.verdict([], "unverified") == "unverified"


def test_nothing_known_raises_nothing():
    assert stopping.flags(evidence()) == ()


@pytest.mark.parametrize(
    ("known", "flag"),
    [
        ({"warm": WarmUp("given_up", 60)}, "warmup_not_converged"),
        ({"warm": WarmUp("agreed", 60, False)}, "temp_rising"),
        ({"throttled_thermal_frac": 0.02}, "throttled_thermal"),
        ({"throttled_hw_frac": 0.02}, "throttled_hw"),
        ({"throttled_power_frac": 0.9}, "throttled_power"),
        ({"clock_frac": 0.7}, "clock_low"),
        ({"clock_cv": 0.03}, "clock_varied"),
        ({"foreign_processes": 1}, "foreign_process"),
        ({"foreign_load_frac": 0.06}, "foreign_load"),
        ({"steal_frac": 0.02}, "steal"),
        ({"nice": 15}, "lowered_priority"),
        ({"ecc_errors": 1}, "ecc_error"),
        ({"telemetry_gap_s": 3.5}, "telemetry_gap"),
        ({"energy_check_rel": -0.06}, "energy_mismatch"),
        ({"latencies": 661}, "few_batches"),
        ({"imbalance": 0.06}, "imbalance"),
        ({"host_idle_frac": 0.06}, "host_bound"),
        ({"uneven": True}, "uneven"),
        ({"enqueue_frac": 0.81}, "enqueue_bound"),
        ({"copy_frac": 1.0}, "copy_bound"),
        ({"compute_cov": 0.026}, "compute_varied"),
        ({"outlier_blocks": 1}, "outliers"),
        ({"harness_frac": 0.02}, "harness_cost"),
        ({"trials": 1}, "precision_only"),
        ({"clock_skew": 6e-4}, "clock_skew"),
        ({"fidelity_db": -11.0}, "wrong_outputs"),
        ({"node_load_frac": 0.11}, "node_load"),
    ],
)
def test_each_piece_of_evidence_raises_its_flag(known, flag):
    assert stopping.flags(evidence(**known)) == (flag,)


def test_evidence_at_its_threshold_raises_nothing():
    at = evidence(
        throttled_thermal_frac=0.01,
        throttled_hw_frac=0.0,
        throttled_power_frac=0.01,
        clock_frac=0.75,
        clock_cv=0.02,
        foreign_processes=0,
        foreign_load_frac=0.05,
        node_load_frac=0.1,
        steal_frac=0.01,
        clock_skew=5e-4,
        fidelity_db=10.0,
        nice=0,
        ecc_errors=0,
        telemetry_gap_s=3.0,
        energy_check_rel=-0.05,
        latencies=662,
        imbalance=0.05,
        host_idle_frac=0.05,
        enqueue_frac=0.8,
        copy_frac=0.99,
        compute_cov=0.025,
        outlier_blocks=0,
        trials=3,
    )
    assert stopping.flags(at) == ()


def test_flags_come_gravest_first():
    found = stopping.flags(evidence(outlier_blocks=2, throttled_hw_frac=0.5, clock_skew=1.0))
    assert found == ("throttled_hw", "clock_skew", "outliers")


def test_evidence_is_read_from_the_columns_of_the_row():
    known = evidence()
    columns = {
        "throttle_thermal_frac": 0.5,
        "clock_frac": 0.5,
        "foreign_load_frac": 0.3,
        "node_load_frac": 0.3,
        "steal_frac": 0.3,
        "nice": 5,
    }
    of_core = stopping.evidence(known.warm, known.last, 3, columns, "cpu")
    assert set(stopping.flags(of_core)) == {
        *("throttled_thermal", "clock_low", "foreign_load", "node_load", "steal"),
        "lowered_priority",
    }
    of_gpu = stopping.flags(stopping.evidence(known.warm, known.last, 3, columns, "gpu"))
    assert set(of_gpu) == {"throttled_thermal", "clock_low", "lowered_priority"}
    assert stopping.flags(stopping.evidence(known.warm, known.last, 3, {}, "cpu")) == ()


def test_wrong_outputs_are_told_by_the_rows_own_fidelity():
    known = evidence()
    for sqnr_db, raised in ((-11.0, ("wrong_outputs",)), (22.4, ()), (None, ())):
        columns = {"fidelity_sqnr_db": sqnr_db}
        assert (
            stopping.flags(stopping.evidence(known.warm, known.last, 3, columns, "gpu")) == raised
        )


def test_the_loops_own_cost_counts_against_the_time_of_a_batch():
    known = evidence()
    columns = {
        "harness_us_per_batch": 2.0,
        "items_per_s_per_worker": 8 * 6000.0,
        "items": 800,
        "batches": 100,
    }
    found = stopping.evidence(known.warm, known.last, 3, columns, "cpu")
    assert found.harness_frac == pytest.approx(0.012)  # 2 us of 167 us
    assert stopping.flags(found) == ("harness_cost",)


def test_the_slower_copy_and_the_submission_count_against_the_time_to_compute():
    known = evidence()
    columns = {
        "enqueue_ms_median": 0.9,
        "h2d_ms_median": 1.2,
        "compute_ms_median": 1.0,
        "d2h_ms_median": 0.1,
    }
    found = stopping.evidence(known.warm, known.last, 3, columns, "gpu")
    assert (found.enqueue_frac, found.copy_frac) == (0.9, 1.2)
    assert set(stopping.flags(found)) == {"enqueue_bound", "copy_bound"}
    without_clock = {"enqueue_ms_median": 0.9}
    assert stopping.evidence(known.warm, known.last, 3, without_clock, "cpu").enqueue_frac is None


# --- advice ---------------------------------------------------------------------------------------


def test_a_stable_row_needs_no_advice():
    assert stopping.advice(["outliers"], evidence(), LIMITS) is None


def test_a_demo_row_is_sent_to_the_standard_preset():
    demo = stopping.limits(replace(STANDARD, verdict_best="unverified"))
    assert "preset=standard" in stopping.advice([], evidence(), demo)


def test_a_wide_interval_is_told_how_much_longer():
    last = stopping.look(noise(0.04, 120)[0], STANDARD)
    times = (last.interval.relative / 0.005) ** 2
    assert 1.5 < times < 4
    words = stopping.advice(last.flags, evidence(last=last), LIMITS)
    assert f"measure {times:.1f} times longer" in words
    seconds = int(words.split("measure.max_s=")[1].rstrip(")."))
    assert seconds == math.ceil(times * 120 / 10) * 10


def test_advice_for_a_slow_point_is_in_configured_seconds():
    last = stopping.look(noise(0.04, 120)[0], STANDARD)
    words = [
        stopping.advice(last.flags, evidence(last=last), stopping.limits(STANDARD, batch_s))
        for batch_s in (0.01, 0.5)
    ]
    assert words[0] == words[1]


def test_hopeless_noise_is_not_told_to_wait():
    last = stopping.look(noise(0.5, 120)[0], STANDARD)
    assert "other load" in stopping.advice(last.flags, evidence(last=last), LIMITS)


def test_too_few_blocks_are_told_so():
    last = stopping.look(np.ones(9), STANDARD)
    words = stopping.advice(last.flags, evidence(last=last), LIMITS)
    assert "The window has 9 blocks and an interval needs 10" in words


def test_a_step_is_placed_in_time():
    x = noise(0.001, 120)[0]
    x[31:] *= 0.98
    last = stopping.look(x, STANDARD)
    words = stopping.advice(last.flags, evidence(last=last), LIMITS)
    assert "-2.0%" in words
    assert "31 s" in words


def test_throttling_tells_its_share():
    known = evidence(throttled_thermal_frac=0.41)
    assert "41%" in stopping.advice(stopping.flags(known), known, LIMITS)


@pytest.mark.parametrize(
    "name", [n for n, f in stopping.FLAGS.items() if f.group in ("blocking", "target_missed")]
)
def test_every_grave_flag_has_one_sentence_of_advice(name):
    words = stopping.advice([name], evidence(), LIMITS)
    assert words.endswith(".")
    assert "\n" not in words
