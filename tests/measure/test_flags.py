"""What raises each flag, and what verdict follows."""

from __future__ import annotations

import pytest
from helpers.windows import evidence

from raybench.measure import flags
from raybench.measure.evidence import OutputFindings
from raybench.measure.warmup import WarmUp


def test_the_list_of_flags_is_closed():
    groups = {}
    for name, flag in flags.FLAGS.items():
        groups.setdefault(flag.group, []).append(name)
        assert flag.meaning.endswith(".")
        assert "\n" not in flag.meaning
    assert groups == {
        "blocking": [
            *("overloaded", "cpu_throttled", "stalled", "warmup_not_converged", "step", "drift"),
            *("throttled_thermal", "throttled_hw"),
            *("foreign_process", "foreign_load", "xid_error", "rows_remapped"),
            *("outputs_changed", "clock_skew", "wrong_outputs"),
            "reference_not_finite",
        ],
        "target_missed": ["wide_ci", "few_neff"],
        "information": [
            *(
                "late_arrivals",
                "offered_off",
                "few_batches",
                "throttled_power",
                "clock_low",
                "clock_varied",
                "node_load",
                "steal",
            ),
            *("uneven", "outputs_differ", "nondeterministic"),
            *("lowered_priority", "temp_rising", "imbalance"),
            *("instances_uneven", "time_sliced", "host_bound", "underfed", "enqueue_bound"),
            *("copy_bound", "compute_varied", "ecc_error", "ecc_corrected", "row_remap_pending"),
            *(
                "telemetry_gap",
                "energy_mismatch",
                "harness_cost",
                "partly_quantised",
                "outliers",
                "long_batches",
                "precision_only",
            ),
        ],
    }
    with pytest.raises(TypeError):
        flags.FLAGS["new"] = flags.FLAGS["step"]
    with pytest.raises(KeyError):
        flags.verdict(["stepp"])


@pytest.mark.parametrize("name", flags.FLAGS)
def test_verdict_of_each_flag(name):
    unstable = flags.FLAGS[name].group in ("blocking", "target_missed")
    assert flags.verdict([name]) == ("unstable" if unstable else "stable")
    assert flags.verdict([name], "unverified") == ("unstable" if unstable else "unverified")


def test_no_flags_is_the_best_verdict():
    assert flags.verdict([]) == "stable"
    assert flags.verdict([], "unverified") == "unverified"


def test_a_quiet_trial_raises_nothing():
    assert flags.raised_flags(evidence()) == ()


@pytest.mark.parametrize(
    ("columns", "flag"),
    [
        ({"cpu_throttled_frac": 0.02}, "cpu_throttled"),
        ({"throttle_thermal_frac": 0.02}, "throttled_thermal"),
        ({"throttle_hw_frac": 0.02}, "throttled_hw"),
        ({"throttle_power_frac": 0.9}, "throttled_power"),
        ({"clock_frac": 0.7}, "clock_low"),
        ({"clock_cv": 0.03}, "clock_varied"),
        ({"foreign_processes": 1}, "foreign_process"),
        ({"foreign_load_frac": 0.06}, "foreign_load"),
        ({"steal_frac": 0.02}, "steal"),
        ({"nice": 15}, "lowered_priority"),
        ({"ecc_errors": 1}, "ecc_error"),
        ({"ecc_corrected": 1}, "ecc_corrected"),
        ({"remapped_rows": 1}, "rows_remapped"),
        ({"row_remap_pending": True}, "row_remap_pending"),
        ({"xid_errors": 1}, "xid_error"),
        ({"telemetry_gap_s": 3.5}, "telemetry_gap"),
        ({"energy_check_rel": -0.06}, "energy_mismatch"),
        ({"latency_n": 661}, "few_batches"),
        ({"imbalance": 0.06}, "imbalance"),
        ({"host_idle_frac": 0.06}, "host_bound"),
        ({"input_wait_frac": 0.06}, "underfed"),
        ({"enqueue_ms_median": 0.81, "compute_ms_median": 1.0}, "enqueue_bound"),
        ({"h2d_ms_median": 1.0, "compute_ms_median": 1.0}, "copy_bound"),
        ({"host_idle_frac": 0.24, "h2d_ms_median": 1.7, "compute_ms_median": 1.1}, "copy_bound"),
        ({"compute_cov": 0.026}, "compute_varied"),
        ({"outlier_blocks": 1}, "outliers"),
        ({"clock_skew": 6e-4}, "clock_skew"),
        ({"fidelity_sqnr_db": -11.0}, "wrong_outputs"),
        ({"node_load_frac": 0.11}, "node_load"),
        ({"latency_p50_ms": 10, "latency_mean_ms": 10.2, "latency_max_ms": 50}, "long_batches"),
    ],
)
def test_each_column_raises_its_flag(columns, flag):
    assert flags.raised_flags(evidence(columns)) == (flag,)


@pytest.mark.parametrize(
    ("facts", "flag"),
    [
        ({"warm_up": WarmUp("given_up", 60)}, "warmup_not_converged"),
        ({"warm_up": WarmUp("agreed", 60, False)}, "temp_rising"),
        ({"uneven": True}, "uneven"),
        ({"trials": 1}, "precision_only"),
        ({"outputs": OutputFindings(changed=(0,))}, "outputs_changed"),
        ({"outputs": OutputFindings(differing=(1,))}, "outputs_differ"),
        ({"outputs": OutputFindings(nondeterministic=(0,))}, "nondeterministic"),
    ],
)
def test_each_fact_about_the_trial_raises_its_flag(facts, flag):
    assert flags.raised_flags(evidence(**facts)) == (flag,)


def test_columns_at_their_thresholds_raise_nothing():
    columns = {
        "cpu_throttled_frac": 0.01,
        "throttle_thermal_frac": 0.01,
        "throttle_hw_frac": 0.0,
        "throttle_power_frac": 0.01,
        "clock_frac": 0.75,
        "clock_cv": 0.02,
        "foreign_processes": 0,
        "foreign_load_frac": 0.05,
        "node_load_frac": 0.1,
        "steal_frac": 0.01,
        "clock_skew": 5e-4,
        "fidelity_sqnr_db": 10.0,
        "nice": 0,
        "ecc_errors": 0,
        "ecc_corrected": 0,
        "remapped_rows": 0,
        "remapped_rows_total": 5,
        "row_remap_pending": False,
        "xid_errors": 0,
        "telemetry_gap_s": 3.0,
        "energy_check_rel": -0.05,
        "latency_n": 662,
        "imbalance": 0.05,
        "host_idle_frac": 0.05,
        "enqueue_ms_median": 0.8,
        "h2d_ms_median": 0.99,
        "compute_ms_median": 1.0,
        "compute_cov": 0.025,
        "outlier_blocks": 0,
        "quantised_macs_frac": 0.5,
        "reduced_ops": ["Conv:int8"],
    }
    assert flags.raised_flags(evidence(columns, trials=3)) == ()


@pytest.mark.parametrize("columns", [{"imbalance": 0.6}, {"instance_min_max_ratio": 0.5}])
def test_workers_that_wait_for_arrivals_are_not_slow(columns):
    offered = {**columns, "offered_items_per_s": 100.0, "arrived_items_per_s": 100.0}
    assert flags.raised_flags(evidence(columns)) != ()
    assert flags.raised_flags(evidence(offered)) == ()
    assert len(flags.raised_flags(evidence(offered, overloaded=True))) == 2


@pytest.mark.parametrize(
    ("median", "mean", "longest", "stalls"),
    [
        (10, 10.1, 500, 0),  # costs 1 %
        (10, 12, 49, 0),  # less than 5 batches
        (2, 4, 21, 0),  # less than 20 ms
        (10, 12, 500, 1),  # `stalled` says so
    ],
)
def test_what_is_short_or_rare_or_a_stall_is_no_long_batch(median, mean, longest, stalls):
    columns = {"latency_p50_ms": median, "latency_mean_ms": mean, "latency_max_ms": longest}
    raised = flags.raised_flags(evidence({**columns, "stalls": stalls}))
    assert raised == (("stalled",) if stalls else ())


def test_unknown_columns_raise_nothing():
    assert flags.raised_flags(evidence(dict.fromkeys(["clock_frac", "nice", "latency_n"]))) == ()


def test_an_int8_graph_of_little_int8_is_flagged_and_no_other_precision():
    for ops, share, raised in (
        (["Add:int8", "Conv:int8"], 0.49, ("partly_quantised",)),
        (["Conv:float16"], 0.0, ()),
        ([], 0.0, ()),
        (["Conv:int8"], None, ()),
        (None, None, ()),
    ):
        columns = {"quantised_macs_frac": share, "reduced_ops": ops}
        assert flags.raised_flags(evidence(columns)) == raised


def test_flags_come_gravest_first():
    columns = {"outlier_blocks": 2, "throttle_hw_frac": 0.5, "clock_skew": 1.0}
    raised = flags.raised_flags(evidence(columns))
    assert raised == ("throttled_hw", "clock_skew", "outliers")


def test_load_on_the_cores_is_no_flag_of_a_gpu():
    columns = {
        "throttle_thermal_frac": 0.5,
        "clock_frac": 0.5,
        "foreign_load_frac": 0.3,
        "node_load_frac": 0.3,
        "steal_frac": 0.3,
        "nice": 5,
    }
    of_gpu = {"throttled_thermal", "clock_low", "lowered_priority"}
    assert set(flags.raised_flags(evidence(columns, device_kind="gpu"))) == of_gpu
    of_core = of_gpu | {"foreign_load", "node_load", "steal"}
    assert set(flags.raised_flags(evidence(columns, device_kind="cpu"))) == of_core


@pytest.mark.parametrize(
    ("precision", "sqnr_db", "raised"),
    [
        ("int8", -11.0, ("wrong_outputs",)),
        ("int8", 22.4, ()),
        ("int8", None, ()),
        ("fp32", 22.4, ("wrong_outputs",)),
        ("fp32", 47.7, ()),
    ],
)
def test_wrong_outputs_follow_from_the_fidelity_of_the_row(precision, sqnr_db, raised):
    columns = {"precision": precision, "fidelity_sqnr_db": sqnr_db}
    assert flags.raised_flags(evidence(columns)) == raised


def test_a_reference_that_is_not_finite_is_blamed_and_not_the_engine():
    assert flags.raised_flags(evidence(reference_finite=False)) == ("reference_not_finite",)


def test_the_cost_of_the_loop_is_compared_with_the_time_of_a_batch():
    trial = evidence(
        {
            "harness_us_per_batch": 2.0,
            "items_per_s_per_worker": 8 * 6000.0,
            "items": 800,
            "batches": 100,
        }
    )
    assert trial.harness_frac == pytest.approx(0.012)  # 2 us of 167 us
    assert flags.raised_flags(trial) == ("harness_cost",)


def test_the_slower_copy_and_the_submission_are_compared_with_the_time_to_compute():
    times = {"enqueue_ms_median": 0.9, "h2d_ms_median": 1.2, "d2h_ms_median": 0.1}
    trial = evidence({**times, "compute_ms_median": 1.0}, device_kind="gpu")
    assert trial.of_compute("enqueue_ms_median") == 0.9
    assert trial.of_compute("h2d_ms_median", "d2h_ms_median") == 1.2
    assert set(flags.raised_flags(trial)) == {"enqueue_bound", "copy_bound"}
    assert evidence(times).of_compute("enqueue_ms_median") is None
