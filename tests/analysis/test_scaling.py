"""Scaling of hand-made trials: the study of 2017, intervals, and rows without a number."""

from __future__ import annotations

import csv
import math
from importlib.resources import files
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from helpers.trial_tables import failed_trial, table, trials

from raybench.analysis.grouping import BETWEEN, WITHIN
from raybench.analysis.scaling import scaling
from raybench.stats.ratios import ratio_ci

if TYPE_CHECKING:
    from raybench.analysis.curves import ScalingEntry


def entries(*rows) -> list[ScalingEntry]:
    whole = [{"point_id": f"w{row.get('workers', 1)}", **row} for row in rows]
    return list(scaling(table(*whole)).entries)


# --- the study of 2017 ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study() -> list[dict[str, str]]:
    text = (files("raybench.analysis") / "data" / "p40_2017.csv").read_text()
    return list(csv.DictReader(text.splitlines()))


def test_the_study_of_2017_gives_its_own_speedups(study):
    rows = [
        {
            "point_id": f"{row['model']}{row['workers']}",
            "model": row["model"],
            "workers": int(row["workers"]),
            "items_per_s": float(row["images_per_s"]),
        }
        for row in study
        if row["figure"] in ("2", "3")
    ]
    found = scaling(table(*rows)).entries
    assert [(e.series.model, e.workers) for e in found] == [
        (model, n) for model in ("alexnet", "googlenet") for n in (1, 2, 4)
    ]
    alexnet, googlenet = found[:3], found[3:]
    assert [round(e.speedup.value, 2) for e in alexnet] == [1, 1.99, 3.98]
    assert [round(e.speedup.value, 3) for e in googlenet] == [1, 1.999, 3.995]
    assert googlenet[2].efficiency.value == pytest.approx(25592 / 6406 / 4)
    assert {(e.speedup.lo, e.interval, e.base_workers) for e in found} == {(None, None, 1)}
    printed = [row["speedup"] for row in study if row["figure"] in ("2", "3")]
    assert printed == ["1", "1.999", "3.995", "1", "1.99", "3.98"]


def test_the_gain_of_int8_in_2017(study):
    rows = [
        {"point_id": row["precision"], "precision": row["precision"],
         "items_per_s": float(row["images_per_s"])}
        for row in study
        if row["figure"] == "1" and row["model"] == "googlenet"
    ]  # fmt: skip
    fp32, int8 = scaling(table(*rows)).entries
    assert (fp32.series.precision, fp32.over_fp32.value) == ("fp32", None)
    assert int8.over_fp32.value == pytest.approx(6410 / 2215)


# --- intervals ------------------------------------------------------------------------------------


def test_three_trials_give_intervals_between_trials():
    base, twice = [100.0, 101.0, 99.0], [199.0, 200.0, 201.0]
    one, two = entries(*trials(base), *trials(twice, workers=2))
    assert (one.trials, one.interval, one.items_per_s.value) == (3, BETWEEN, 100)
    factor = math.exp(4.302652729911275 / 3**0.5 / 100)  # t of 2 degrees of freedom, s = 1
    assert (one.items_per_s.lo, one.items_per_s.hi) == pytest.approx((100 / factor, 100 * factor))
    assert (one.speedup.value, one.speedup.lo, one.speedup.hi) == (1, None, None)
    span = ratio_ci(pa.array(twice).to_numpy(), pa.array(base).to_numpy())
    assert two.speedup.value == 2
    assert (two.speedup.lo, two.speedup.hi) == pytest.approx((span.lo, span.hi))
    assert two.speedup.lo < 2 < two.speedup.hi
    assert (two.efficiency.value, two.efficiency.lo) == (1, pytest.approx(span.lo / 2))


def test_one_trial_keeps_its_own_interval_and_tells_nothing_of_ratios():
    within = {"items_per_s_lo": 98.0, "items_per_s_hi": 102.0}
    one, two = entries(*trials([100.0], **within), *trials([190.0, 192.0], workers=2))
    assert (one.interval, one.items_per_s.lo, one.items_per_s.hi) == (WITHIN, 98, 102)
    assert two.interval == BETWEEN
    assert (two.speedup.value, two.speedup.lo, two.speedup.hi) == (1.91, None, None)
    assert (two.efficiency.lo, two.efficiency.hi) == (None, None)


@pytest.mark.parametrize(
    ("spread", "says"),
    [(0.3, "an interval too wide to say whether anything is lost"), (0.001, "no contention")],
)
def test_a_wide_interval_is_no_evidence_that_nothing_is_lost(spread, says):
    rates = [100.0, 100 * (1 + spread), 100 * (1 - spread)]
    rows = [
        {"point_id": f"w{workers}", **row}
        for workers in (1, 2)
        for row in trials([workers * rate for rate in rates], workers=workers)
    ]
    (curve,) = scaling(table(*rows)).curves
    assert says in curve.finding


def test_the_interval_of_an_older_row_does_not_reach_below_zero():
    (only,) = entries(*trials([100.0], items_per_s_lo=-50.0, items_per_s_hi=250.0))
    assert only.items_per_s.lo == pytest.approx(100 * math.exp(-1.5))
    assert only.items_per_s.hi == pytest.approx(100 * math.exp(1.5))


def test_one_quick_trial_has_no_interval_at_all():
    (only,) = entries(*trials([100.0]))
    assert (only.interval, only.items_per_s.lo, only.items_per_s.hi) == (None, None, None)


def test_the_smallest_number_of_workers_is_the_base():
    two, eight = entries(*trials([200.0], workers=2), *trials([600.0], workers=8))
    assert (two.base_workers, eight.base_workers) == (2, 2)
    assert (eight.speedup.value, eight.efficiency.value) == (3, 0.75)


def test_latency_is_the_median_and_the_verdict_the_worst():
    (only,) = entries(
        {"trial": 0, "items_per_s": 1.0, "latency_p99_ms": 3.0, "flags": ["drift"]},
        {"trial": 1, "items_per_s": 1.0, "latency_p99_ms": 1.0, "verdict": "unstable"},
        {"trial": 2, "items_per_s": 1.0, "latency_p99_ms": None, "flags": ["drift", "wide_ci"]},
    )
    assert (only.latency_p99_ms, only.latency_p50_ms) == (2, None)
    assert (only.verdict, only.flags) == ("unstable", ("drift", "wide_ci"))


# --- series ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("environment_id", "e2"), ("engine_version", "10.1"), ("device", "M40"), ("batch_size", 1),
        ("inflight", 1), ("transfers", False), ("memory_limit_bytes", 1 << 30), ("simulated", True),
        ("preset", "quick"), ("engine_options", '{"graph":true}'),
    ],
)  # fmt: skip
def test_only_like_is_held_against_like(column, value):
    found = entries(*trials([100.0]), *trials([150.0], workers=2, **{column: value}))
    assert [e.speedup.value for e in found] == [1, 1]
    assert {e.base_workers for e in found} == {1, 2}


def test_precisions_stand_from_the_widest_on_and_workers_as_numbers():
    rows = [
        {"point_id": f"{p}{n}", "precision": p, "workers": n, "items_per_s": 1.0 * n}
        for p in ("int8", "fp16", "fp32")
        for n in (10, 2, 1)
    ]
    assert [(e.series.precision, e.workers) for e in entries(*rows)] == [
        (p, n) for p in ("fp32", "fp16", "int8") for n in (1, 2, 10)
    ]


def test_of_a_trial_measured_again_the_newest_final_row_counts():
    again = {"run_id": "01B", "items_per_s": 50.0}
    failed = {"run_id": "01C", "status": "interrupted", "verdict": None}
    (only,) = entries(again, *trials([100.0]), failed)
    assert (only.items_per_s.value, only.trials, only.status) == (50, 1, "ok")


def test_of_two_points_in_one_place_the_newer_stands():
    (only,) = entries(
        *trials([1.0, 1.0], point_id="old"), *trials([2.0], point_id="new", run_id="01B")
    )
    assert (only.point_id, only.items_per_s.value, only.trials) == ("new", 2, 1)


# --- rows without a number ------------------------------------------------------------------------


def test_rows_that_are_not_ok_are_carried_along_in_their_series():
    one, two, four = entries(
        *trials([100.0]),
        failed_trial("worker_died", workers=2),
        failed_trial("infeasible", "4 workers need 4 GPUs.", workers=4),
    )
    assert one.status == "ok"
    assert (two.status, two.reason, two.items_per_s.value, two.speedup.value) == (
        "worker_died",
        "Why.",
        None,
        None,
    )
    assert (four.status, four.reason) == ("infeasible", "4 workers need 4 GPUs.")
    assert one.series == two.series == four.series  # although these never learnt their device


def test_a_failed_trial_stands_beside_the_good_ones():
    good, bad = entries(
        *trials([100.0, 102.0]),
        failed_trial("timeout", "First.", trial=2),
        failed_trial("timeout", "Last.", trial=3),
    )
    assert (good.status, good.trials, good.items_per_s.value) == ("ok", 2, 101)
    assert (bad.status, bad.trials, bad.reason) == ("timeout", 2, "Last.")


def test_a_lost_row_that_could_be_of_two_series_stands_alone():
    rows = [
        *trials([1.0], point_id="a", device="P40"),
        *trials([1.0], point_id="b", device="M40"),
        failed_trial("failed", workers=2),
    ]
    assert [e.series.device for e in entries(*rows)] == ["M40", "P40", None]


def test_without_a_base_there_is_no_speedup_and_nothing_at_all_is_no_error():
    assert [
        e.base_workers for e in entries(failed_trial("failed"), failed_trial("failed", workers=2))
    ] == [
        None,
        None,
    ]
    assert scaling(table()).entries == ()
    assert scaling(table()).as_table().num_rows == 0


# --- as a table -----------------------------------------------------------------------------------


def test_as_a_table_an_entry_is_a_row_with_its_factors_first():
    made = scaling(
        table(*trials([100.0], point_id="a"), failed_trial("failed", point_id="b", workers=2))
    )
    rows = made.as_table()
    assert rows.column_names[:3] == ["model", "precision", "batch_size"]
    assert rows["speedup"].to_pylist() == [1, None]
    assert rows["status"].to_pylist() == ["ok", "failed"]
    assert rows["flags"].to_pylist() == [[], []]
    assert rows.field("items_per_s").metadata[b"unit"] == b"items/s"


def test_in_open_loop_there_is_no_speedup_since_the_rate_was_offered():
    offered = [{**row, "load": "0.5"} for row in (*trials([500.0]), *trials([1000.0], workers=2))]
    for entry in entries(*offered):
        assert entry.items_per_s.value is not None
        assert entry.speedup.value is None
        assert entry.efficiency.value is None


def test_a_queue_for_each_worker_is_the_usual_and_a_shared_one_a_factor():
    rows = [{**trials([500.0])[0], "load": "0.5", "balancer": name, "point_id": str(name)}
            for name in ("split", None, "shared")]  # fmt: skip
    assert {entry.series.balancer for entry in scaling(table(*rows)).entries} == {None, "shared"}
