"""How many cores feed a device: from which number on it is the limit, and how many it needs."""

from __future__ import annotations

import pytest
from helpers.trial_tables import failed_trial, table, trials

from raybench.analysis.feeding import feeding

A_CORE = 250.0
"""Images per second of a core in these tables."""


def spread(rate):
    return [rate * (1 + 0.001 * k) for k in (-1, 0, 1)]


def fed(cores, rate, waits, repeats=3, workers=1):
    return trials(
        spread(rate)[:repeats], pipeline="jpeg", cores=cores, point_id=f"c{cores}",
        decoded_per_s_per_core=A_CORE, input_wait_frac=waits, engine_wait_frac=0.1,
        decoder="simplejpeg 1.9.0", workers=workers,
    )  # fmt: skip


def alone(rate=1000.0, workers=1):
    return trials(spread(rate), pipeline="none", point_id="alone", workers=workers)


def curve_of(*rows):
    (curve,) = feeding(table(*[row for each in rows for row in each])).curves
    return curve


def test_the_fewest_cores_with_which_the_device_is_the_limit_are_named():
    curve = curve_of(
        fed(1, 250.0, 0.75), fed(2, 500.0, 0.5), fed(4, 990.0, 0.01), fed(8, 995.0, 0.0), alone()
    )
    assert curve.enough == 4
    assert curve.needed.value == pytest.approx(3.98, abs=0.01)
    assert curve.needed.lo < 3.98 < curve.needed.hi
    assert [point.cores for point in curve.points] == [1, 2, 4, 8, None]
    assert "4 cores feed one device: with them the device is the limit, at 990 items/s" in (
        curve.finding
    )
    assert "99.0 % (98.8 to 99.2) of its rate without decoding" in curve.finding
    assert "with 2 it waits for input 50 % of the time" in curve.finding
    assert "by the rate of 2 cores it needs 4.0 (4.0 to 4.0), at 250 images/s a core" in (
        curve.finding
    )
    assert curve.missing == ()
    assert curve.points[1].share.value == pytest.approx(500 / 995, rel=1e-3)


def test_cores_that_just_suffice_are_not_said_to_be_too_few():
    curve = curve_of(fed(4, 485.0, 0.5), fed(8, 985.0, 0.04), alone())
    assert curve.enough == 8
    assert "by the rate of 4 cores it needs 8.1" in curve.finding
    assert "if more were" not in curve.finding


def test_too_few_cores_are_named_with_the_number_that_is_needed():
    curve = curve_of(fed(1, 250.0, 0.75), fed(2, 500.0, 0.5), alone())
    assert curve.enough is None
    assert curve.finding.startswith(
        "The device is fed by too few cores: with 2 cores it does 500 items/s, 50.0 % (49.9 to 50.1) "
        "of its rate without decoding, and waits for input 50 % of the time"
    )
    assert curve.needed.value == pytest.approx(4.0, abs=0.01)
    assert curve.finding.endswith(
        "; if more were as fast as these, 250 images/s a core, 4.0 (4.0 to 4.0) would feed it."
    )


def test_one_core_may_be_enough():
    curve = curve_of(fed(1, 1000.0, 0.0), fed(2, 1000.0, 0.0), alone())
    assert curve.enough == 1
    assert curve.finding.startswith("1 core feeds one device: with it the device is the limit")
    assert curve.needed.value is None


def test_rates_are_those_of_a_device():
    curve = curve_of(fed(2, 1000.0, 0.5, workers=2), alone(2000.0, workers=2))
    assert curve.points[0].items_per_s.value == pytest.approx(500.0)
    assert curve.unfed.value == pytest.approx(1000.0)
    assert curve.needed.value == pytest.approx(4.0, abs=0.01)


def test_without_the_rate_of_the_device_alone_the_limit_is_that_of_the_fed_device_or_unknown():
    curve = curve_of(fed(1, 250.0, 0.75), fed(8, 900.0, 0.0))
    assert curve.unfed.value is None
    assert curve.needed.value == pytest.approx(3.6, abs=0.01)
    curve = curve_of(fed(1, 250.0, 0.75), fed(2, 500.0, 0.5))
    assert curve.needed.value is None
    assert "measure pipeline=[none,jpeg]" in curve.missing[0]


def test_one_trial_has_no_interval_and_says_so():
    curve = curve_of(fed(1, 250.0, 0.75, repeats=1), alone()[:1])
    assert "4.0 (no interval with one trial) would feed it" in curve.finding


def test_cores_that_the_node_lacks_are_said_to_be_missing():
    rows = [failed_trial("infeasible", pipeline="jpeg", cores=8, point_id="c8")]
    curve = curve_of(fed(1, 250.0, 0.75), rows, alone())
    assert curve.missing == ("8 cores could not be measured: the node has fewer.",)
    assert curve.points[-2].status == "infeasible"
    nothing = curve_of(rows, alone())
    assert nothing.finding == "No number of cores has a number of items/s."


def test_rows_without_a_pipeline_and_a_single_point_make_no_curve():
    assert feeding(table(*alone())).curves == ()
    assert feeding(table(*fed(1, 250.0, 0.75))).curves == ()
    old = table(*alone()).drop_columns(["pipeline", "cores", "decoder", "input_wait_frac"])
    assert feeding(old).curves == ()


def test_the_table_has_a_row_for_each_number_of_cores():
    rows = [*fed(1, 250.0, 0.75), *fed(2, 500.0, 0.5), *alone()]
    made = feeding(table(*rows)).as_table()
    assert made["cores"].to_pylist() == [1, 2, None]
    assert made["share"].to_pylist() == pytest.approx([0.25, 0.5, 1.0], abs=1e-3)
    assert made["model"].to_pylist() == ["googlenet"] * 3
