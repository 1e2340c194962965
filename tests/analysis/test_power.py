"""The knee of a power ladder, the most items a joule, and what a rack of a given power serves."""

from __future__ import annotations

import pytest
from helpers.trial_tables import failed_trial, table, trials

from raybench.analysis.power import power

LADDER = {300.0: 600.0, 400.0: 800.0, 500.0: 990.0, 600.0: 1000.0, 700.0: 1001.0}
WATTS = {300.0: 300.0, 400.0: 390.0, 500.0: 495.0, 600.0: 550.0, 700.0: 555.0}


def point(watts, rates, drawn=None, **row):
    made = trials(rates, power_limit_w=watts, point_id=f"p{watts:g}", **row)
    if drawn is None:
        return made
    return [{**one, "j_per_item": drawn / one["items_per_s"], "avg_power_w": drawn} for one in made]


def ladder(spread=0.0005, rates=LADDER, workers=1, drawn=WATTS):
    rows = [
        one
        for watts, rate in rates.items()
        for one in point(
            watts,
            [rate * (1 + spread * k) for k in (-1, 0, 1)],
            drawn and drawn[watts],
            workers=workers,
        )
    ]
    (curve,) = power(table(*rows)).curves
    return curve


def test_the_knee_is_the_lowest_limit_surely_within_2_percent_of_the_highest():
    curve = ladder()
    assert curve.knee_w == 500
    share = curve.points[2].share
    assert 0.98 < share.lo < share.value < share.hi < 1
    assert (
        "Knee at 500 W: the lowest limit whose rate is within 2 % of the highest, 0.989 ["
        in curve.finding
    )


def test_a_limit_that_may_be_within_2_percent_is_not_the_knee_and_is_named():
    curve = ladder(spread=0.0045)
    assert curve.points[2].share.lo < 0.98 < curve.points[2].share.hi
    assert curve.knee_w == 600
    assert "The knee may lie lower: 500 W may be within 2 % of the highest, too" in curve.missing[0]


def test_a_rate_that_grows_up_to_the_highest_limit_has_no_knee():
    curve = ladder(rates={300.0: 600.0, 500.0: 800.0, 700.0: 1000.0})
    assert curve.knee_w is None
    assert "No knee: the rate grows up to the highest limit, 700 W." in curve.finding


def test_a_knee_at_the_lowest_limit_may_lie_lower():
    curve = ladder(rates={500.0: 1000.0, 700.0: 1001.0})
    assert curve.knee_w == 500
    assert "the lowest that was measured" in curve.finding
    assert "The knee may lie lower: measure lower limits." in curve.missing


def test_the_most_items_a_joule_are_those_measured_and_not_those_of_the_limit():
    curve = ladder()
    assert curve.best_w == 400  # 800 / 390 = 2.051
    best = curve.points[1].items_per_j
    assert best.value == pytest.approx(800 / 390, rel=1e-3)
    assert best.lo < best.value < best.hi
    assert "Most items a joule at 400 W: 2.051 items/J, 1.137 [" in curve.finding
    assert curve.missing == ()


def test_without_readings_of_energy_there_are_no_items_a_joule():
    curve = ladder(drawn=None)
    assert curve.best_w is None
    assert "joule" not in curve.finding
    assert curve.missing == ("No items a joule: no energy was read.",)


def test_a_single_trial_gives_a_knee_without_an_interval_and_says_so():
    rows = [one for watts, rate in LADDER.items() for one in point(watts, [rate])]
    (curve,) = power(table(*rows)).curves
    assert curve.knee_w == 500
    assert "0.989 (no interval with one trial)" in curve.finding


def test_a_rack_has_as_many_devices_as_their_limits_allow():
    shares = {share.power_limit_w: share for share in ladder().racks(10_000)}
    assert [shares[w].devices for w in LADDER] == [33, 25, 20, 16, 14]
    assert shares[400.0].items_per_s.value == pytest.approx(25 * 800)
    assert shares[400.0].items_per_s.lo < 25 * 800 < shares[400.0].items_per_s.hi
    said = ladder().in_rack(10_000)
    assert said.startswith("At 10,000 W: 14 devices at 700 W give 14,014 items/s [")
    assert "25 devices at 400 W give 20,000 items/s [" in said
    assert "], the most. Hosts, switches and cooling are not included." in said


def test_the_rates_of_a_rack_are_those_of_one_device_of_several():
    assert ladder(workers=2).racks(10_000)[1].items_per_s.value == pytest.approx(25 * 400)


def test_a_rack_that_gains_nothing_surely_says_so_and_one_too_small_has_no_device():
    level = ladder(rates={500.0: 720.0, 700.0: 1000.0}, spread=0.02)
    assert "; which may be no gain." in level.in_rack(3_500)
    assert ladder().in_rack(250) == "At 250 W: not one device: the lowest limit is 300 W."
    assert "1 device at 300 W gives 600 items/s" in ladder().in_rack(300)


def test_a_limit_that_failed_keeps_its_place_and_its_reason():
    rows = [
        *point(300.0, [600.0, 601.0]),
        failed_trial("failed", "It was set to 500 W and 400 W is read back.", power_limit_w=500.0, point_id="p500"),
        *point(700.0, [1000.0, 1001.0]),
    ]  # fmt: skip
    (curve,) = power(table(*rows)).curves
    assert [p.status for p in curve.points] == ["ok", "failed", "ok"]
    assert "400 W is read back" in curve.points[1].reason
    assert len(curve.racks(10_000)) == 2


def test_one_limit_and_open_loops_are_no_ladder():
    unlimited = trials([1000.0, 1001.0], point_id="p")
    assert power(table(*unlimited, *point(400.0, [800.0, 801.0]))).curves == ()
    opened = [row for w in (400.0, 500.0) for row in point(w, [500.0, 501.0], load="poisson(500)")]
    assert power(table(*opened)).curves == ()


def test_the_table_has_a_row_for_each_limit():
    rows = power(table(*point(300.0, [600.0, 601.0]), *point(700.0, [1000.0, 1001.0]))).as_table()
    assert rows["power_limit_w"].to_pylist() == [300.0, 700.0]
