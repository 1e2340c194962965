"""Trends over runs: verdicts, what changed at a step, and which runs belong together."""

from __future__ import annotations

from datetime import date

import pytest
from helpers.many_runs import ManyRuns

import raybench
from raybench.analysis.trend import trend
from raybench.analysis.trend_verdicts import IMPROVED, REGRESSED, STEADY, UNDECIDED
from raybench.errors import ComparisonRefused, ConfigError

SLOWER = [1.0] * 12 + [0.96] * 8


def driver(at, old="580.82", new="580.95"):
    return lambda run: {"driver_version": old if run < at else new}


def of(rows, **options):
    return trend(rows.trials, rows.environment, **options)


def test_a_step_down_is_a_regression_with_its_day_and_what_changed():
    rows = ManyRuns(SLOWER, machine=driver(12))
    found = of(rows)
    (point,) = found.points
    (step,) = point.steps
    assert (point.outcome, found.exit_code()) == (REGRESSED, 1)
    assert step.started_at.startswith(ManyRuns.day(12))
    assert step.run_id == ManyRuns.run_id(12)
    assert (step.runs_before, step.runs_after) == (12, 8)
    assert step.changed == ("driver 580.82 -> 580.95",)
    assert step.ratio.lo < 0.96 < step.ratio.hi < 0.99
    assert found.runs == 20


def test_a_level_without_a_step_is_steady_and_says_what_would_be_seen():
    (point,) = of(ManyRuns([1.0] * 20)).points
    assert (point.outcome, point.steps) == (STEADY, ())
    assert 0.01 < point.smallest_visible < 0.03
    assert point.spread == pytest.approx(0.005, rel=0.5)


def test_the_newest_step_beyond_the_tolerance_decides():
    repaired = ManyRuns([1.0] * 10 + [0.95] * 10 + [1.0] * 10)
    (point,) = of(repaired).points
    assert [step.outcome for step in point.steps] == [REGRESSED, IMPROVED]
    assert point.outcome == IMPROVED
    (point,) = of(ManyRuns([1.0] * 12 + [1.05] * 8)).points
    assert point.outcome == IMPROVED


def test_a_step_within_the_tolerance_is_no_regression_and_a_doubtful_one_is_undecided():
    small = ManyRuns([1.0] * 20 + [0.99] * 20, spread=0.001)
    assert of(small, tolerance=0.03).points[0].outcome == STEADY
    assert of(small, tolerance=0.01).points[0].outcome == UNDECIDED
    assert of(small, tolerance=0.01).exit_code() == 0
    assert of(small, tolerance=0.01).exit_code(strict=True) == 3


def test_of_a_metric_that_is_better_lower_a_step_up_is_the_regression():
    rows = ManyRuns(
        [1.0] * 20,
        columns=lambda run: {"latency_p99_ms": (10.0 if run < 12 else 11) + run % 3 / 50},
    )
    (point,) = of(rows, metric="latency_p99_ms").points
    assert point.outcome == REGRESSED
    assert point.steps[0].ratio.value == pytest.approx(1.1, rel=0.01)


def test_too_few_runs_are_undecided_and_the_fewest_are_named():
    (point,) = of(ManyRuns([1.0, 1.0, 1.0, 0.5, 0.5])).points
    assert point.outcome == UNDECIDED
    assert point.note == "5 runs; a step takes 6 or more, 3 on either side of it."
    assert point.runs_needed == 6


def test_runs_that_could_not_show_a_step_are_undecided_with_the_number_that_could():
    (point,) = of(ManyRuns([1.0] * 8, spread=0.03)).points
    assert point.outcome == UNDECIDED
    assert point.smallest_visible > 0.05
    assert point.runs_needed > 8
    assert f"it takes {point.runs_needed} runs to see one of 5 %" in point.note


def test_a_newest_run_that_is_slow_or_failed_is_undecided():
    (point,) = of(ManyRuns([1.0] * 20 + [0.9])).points
    assert (point.outcome, point.steps) == (UNDECIDED, ())
    assert "2 more runs tell whether it is a step" in point.note
    failed = of(ManyRuns([1.0] * 20 + [None]))
    assert failed.points[0].outcome == UNDECIDED
    assert "The newest run has no number: worker_died" in failed.points[0].note
    assert failed.exit_code(strict=True) == 3
    earlier = of(ManyRuns([1.0] * 10 + [None] + [1.0] * 10))
    assert earlier.points[0].outcome == STEADY
    assert "1 point of a run without a number" in earlier.missing[0]


def test_a_fact_that_comes_and_goes_explains_nothing():
    rows = ManyRuns(
        SLOWER,
        machine=lambda run: {"hostname": f"n{run % 2}", "kernel": "6.1" if run < 12 else "6.8"},
    )
    assert of(rows).points[0].steps[0].changed == ("kernel 6.1 -> 6.8",)
    nothing = of(ManyRuns(SLOWER)).points[0].steps[0]
    assert nothing.changed == ("cause not seen",)


def test_tags_and_clocks_are_named_as_well():
    rows = ManyRuns(
        SLOWER,
        columns=lambda run: {
            "tags": {"commit": f"c{run}"}, "sm_clock_mhz_mean": 1980.0 if run < 12 else 1900.0,
        },
    )  # fmt: skip
    changed = of(rows).points[0].steps[0].changed
    assert changed == ("tag commit c11 -> c12", "SM clock 1980 -> 1900 MHz")


def test_a_plan_that_was_built_again_at_the_step_is_named():
    rows = ManyRuns(
        SLOWER, columns=lambda run: {"engine_sha256": ("ab" if run < 12 else "cd") * 32}
    )
    assert of(rows).points[0].steps[0].changed == ("plan abababab -> cdcdcdcd",)


def test_points_are_series_of_their_own_and_share_the_bound_on_false_alarms():
    points = {"a": {}, "b": {"batch_size": 8}, "c": {"device": "Tesla T4"}}
    found = of(ManyRuns([1.0] * 20, points=points))
    assert len(found.points) == 3
    alone = of(ManyRuns([1.0] * 20))
    assert found.points[0].smallest_visible > alone.points[0].smallest_visible * 0.9


def test_other_hardware_and_other_networks_are_not_joined():
    rows = ManyRuns(SLOWER, columns=lambda run: {"device": "Tesla P40" if run < 12 else "Tesla P4"})
    assert [point.steps for point in of(rows).points] == [(), ()]
    (joined,) = of(rows, by=["environment", "device"]).points
    assert joined.outcome == REGRESSED
    other = ManyRuns(SLOWER, columns=lambda run: {"model_identity": "v1" if run < 12 else "v2"})
    assert len(of(other).points) == 2


def test_environments_are_kept_apart_when_nothing_may_differ():
    rows = ManyRuns(SLOWER, machine=driver(12))
    assert [len(point.runs) for point in of(rows, by=["none"]).points] == [12, 8]


def test_an_accepted_step_is_left_behind():
    rows = ManyRuns(SLOWER)
    (point,) = of(rows, since=date.fromisoformat(ManyRuns.day(12))).points
    assert (point.outcome, len(point.runs)) == (STEADY, 8)


def test_runs_are_ordered_by_their_start_whatever_their_ids():
    rows = ManyRuns(SLOWER)
    shuffled = rows.trials.take([39 - k for k in range(40)])
    assert trend(shuffled, rows.environment).points[0].outcome == REGRESSED


def test_a_row_for_every_run_marks_the_step():
    table = of(ManyRuns(SLOWER, machine=driver(12))).as_table()
    assert table.num_rows == 20
    assert table["step_outcome"].to_pylist()[12] == REGRESSED
    assert sum(step is not None for step in table["step"].to_pylist()) == 1
    assert table.column_names.count("environment_id") == 1


def test_a_value_that_is_no_positive_number_is_none():
    rows = ManyRuns([1.0] * 9 + [0.0])
    assert "is not a positive number" in of(rows).points[0].note


def test_a_wide_tolerance_is_allowed_up_to_40_percent():
    assert of(ManyRuns([1.0] * 9), tolerance=0.4).points[0].outcome == STEADY


def test_what_cannot_be_followed_is_refused():
    rows = ManyRuns([1.0] * 3)
    for options, said in (
        ({"by": ["colour"]}, "Unknown factor 'colour'"),
        ({"metric": "colour"}, "Unknown metric 'colour'"),
        ({"tolerance": 2.0}, "tolerance takes a share"),
        ({"metric": "j_per_item"}, "No run has a number of j_per_item"),
        ({"since": date(2030, 1, 1)}, "an earlier day in since="),
    ):
        with pytest.raises(ConfigError, match=said):
            of(rows, **options)
    two = ManyRuns([1.0] * 3, points={"a": {}, "b": {"batch_size": 8}})
    with pytest.raises(ComparisonRefused, match="two values of batch_size"):
        of(two, by=["batch_size"])


def test_trend_stands_beside_accept_in_python():
    rows = ManyRuns(SLOWER)
    assert raybench.trend(rows.trials, rows.environment).count(REGRESSED) == 1
