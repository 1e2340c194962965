"""The gain of several instances a device, with what it is over and where it ends."""

from __future__ import annotations

import pytest
from helpers.trial_tables import failed_trial, table, trials

from raybench.analysis.packing import packing


def point(rates, instances, inflight=1, **row):
    name = f"{instances}-{inflight}"
    return trials(rates, instances=instances, inflight=inflight, point_id=name, **row)


def test_the_gain_is_over_the_best_single_instance_and_has_an_interval():
    (curve,) = packing(
        table(
            *point([1000.0, 1001.0, 999.0], 1, inflight=1),
            *point([1500.0, 1501.0, 1499.0], 1, inflight=2),
            *point([1650.0, 1651.0, 1649.0], 2, inflight=1, instance_min_max_ratio=0.9),
            *point([1600.0, 1601.0, 1599.0], 2, inflight=2),
        )
    ).curves
    one, two = curve.points
    assert (one.inflight, one.settings, one.gain.value) == (2, 2, 1)
    assert (two.inflight, two.gain.value) == (1, pytest.approx(1.1, abs=1e-3))
    assert two.gain.lo is not None
    assert two.gain.lo < 1.1 < two.gain.hi
    assert (
        "2 instances a device give the most, 1.100 times the best single instance" in curve.finding
    )
    assert "the slowest of a device's instances runs at 90 % of the fastest" in curve.finding
    assert curve.missing == ()


def test_the_best_single_instance_may_have_run_without_mps():
    (off, on) = packing(
        table(
            *[{**row, "mps": False, "point_id": "off1"} for row in point([1746.0], 1)],
            *[{**row, "mps": False, "point_id": "off3"} for row in point([1578.0], 3)],
            *[
                {**row, "mps": True, "point_id": "on1", "environment_id": "e2"}
                for row in point([1539.0], 1)
            ],
            *[
                {**row, "mps": True, "point_id": "on3", "environment_id": "e2"}
                for row in point([3498.0], 3)
            ],
        )
    ).curves
    assert "One instance a device gives the most" in off.finding
    assert "3 instances a device give the most, 2.003 times the best single instance" in on.finding
    assert "which ran without MPS" in on.finding
    assert on.points[0].gain.value == pytest.approx(1539 / 1746)


def test_a_single_instance_that_was_not_tuned_is_named_as_the_baseline_that_was_given():
    (curve,) = packing(table(*point([1000.0], 1), *point([1600.0], 2))).curves
    assert "no interval with one trial" in curve.finding
    assert "not at its best" in curve.missing[0]
    assert "with 1 in flight" in curve.missing[0]


def test_the_end_of_memory_and_of_what_pays_are_named():
    rows = table(
        *point([1000.0, 1001.0], 1),
        *point([1500.0, 1501.0], 2),
        *point([1520.0, 1521.0], 3),
        *[{**failed_trial("out_of_memory"), "instances": 4, "inflight": 1, "point_id": "4"}],
    )
    (curve,) = packing(rows).curves
    assert "3 instances a device give the most" in curve.finding
    assert "2 are the fewest within 5 % of it: more gain little" in curve.finding
    assert curve.finding.endswith("memory ends at 4.")
    assert curve.points[-1].status == "out_of_memory"


def test_a_gain_that_may_be_none_is_said_to_be():
    (curve,) = packing(table(*point([1000.0, 1100.0], 1), *point([1010.0, 1110.0], 2))).curves
    assert "which may be no gain" in curve.finding
    (alone,) = packing(table(*point([1000.0, 1001.0], 1), *point([900.0, 901.0], 2))).curves
    assert "One instance a device gives the most" in alone.finding


def test_devices_and_services_are_not_mixed_and_one_instance_alone_is_no_curve():
    rows = [
        *point([1000.0, 1001.0], 1),
        *point([1500.0, 1501.0], 2, workers=2),
        *point([1400.0, 1401.0], 2, inflight=2, load="poisson(100)"),
    ]
    assert packing(table(*rows)).curves == ()
    assert "gain" in packing(table(*point([1.0], 1), *point([2.0], 2))).as_table().column_names


def test_the_table_has_each_factor_once_with_the_value_of_the_point():
    rows = packing(table(*point([1000.0], 1), *point([1600.0], 2, inflight=4))).as_table()
    assert rows["instances"].to_pylist() == [1, 2]
    assert rows["inflight"].to_pylist() == [1, 4]
