"""Capacity under a latency bound from rows: answers, intervals, reasons, and how many devices."""

from __future__ import annotations

import pytest
from helpers.trial_tables import table

from raybench.analysis.bounded import bounded, fewest

BOUND = {"slo_ms": 15.0, "slo_percentile": 99.0, "device_kind": "gpu"}


def closed(workers, rate):
    return {
        "workers": workers,
        "items_per_s": rate,
        "point_id": f"c{workers}",
        "device_kind": "gpu",
    }


def offered(workers, rate, *mets, first=0, **more):
    """Return a trial at a rate for each verdict, with numbers from `first` on."""
    return [
        {"workers": workers, "items_per_s": rate, "offered_items_per_s": rate, "trial": first + k,
         "load": f"poisson({rate})", "slo_met": met, "point_id": f"{workers}/{rate}",
         "slo_violation_frac": {True: 0.0, None: 0.01, False: 0.5}[met], **BOUND, **more}
        for k, met in enumerate(mets)
    ]  # fmt: skip


def one_worker():
    return [
        closed(1, 1000.0),
        *offered(1, 775.0, False),
        *offered(1, 500.0, True),
        *offered(1, 620.0, True, True, None, True),
        *offered(1, 626.0, None),
    ]


def test_the_answer_is_what_was_confirmed_and_its_interval_what_is_sure():
    (curve,) = bounded(table(*one_worker()))
    (point,) = curve.points
    assert tuple(point.items_per_s) == (620.0, 500.0, 775.0)
    assert point.share == pytest.approx(0.62)
    assert (point.rates, point.trials) == (4, 7)
    assert curve.bound == "15 ms at p99"


def test_a_rate_whose_confirmation_failed_is_no_answer():
    rows = [closed(1, 1000.0), *offered(1, 620.0, True, True, False, True)]
    (curve,) = bounded(table(*rows))
    assert curve.points[0].items_per_s.value is None


def test_trials_that_exceed_the_share_together_are_no_answer():
    shares = [{"slo_violation_frac": share} for share in (0.0159, 0.0589, 0.0108)]
    trials = zip(offered(1, 620.0, None, None, None, first=1), shares, strict=True)
    rows = [closed(1, 1000.0), *(row | share for row, share in trials)]
    (curve,) = bounded(table(*rows))
    assert curve.points[0].items_per_s.value is None
    assert curve.points[0].reason.startswith("Even at 620 items/s 1.59 % of the items")


def test_the_share_of_an_answer_is_that_of_its_trials_together():
    (curve,) = bounded(table(*one_worker()))
    assert curve.points[0].over == pytest.approx(0.01 / 3)


def test_efficiency_stands_beside_that_of_the_closed_loop():
    rows = [*one_worker(), closed(2, 1900.0), *offered(2, 1100.0, True, True, True, first=1)]
    (curve,) = bounded(table(*rows))
    assert curve.points[1].efficiency == pytest.approx(1100 / 2 / 620)
    assert curve.points[1].closed_efficiency == pytest.approx(0.95)


def test_a_bound_below_the_service_time_is_said():
    rows = [closed(1, 1000.0), *offered(1, 775.0, False), *offered(1, 500.0, False),
            *offered(1, 25.0, False, latency_p50_ms=20.0)]  # fmt: skip
    (curve,) = bounded(table(*rows))
    assert "Even at 25 items/s 50 % of the items take longer than 15 ms" in curve.points[0].reason
    assert curve.points[0].reason.endswith("the bound is below the service time.")


def test_rows_without_a_bound_make_no_curve():
    assert bounded(table(closed(1, 1000.0))) == ()


def test_the_demand_is_answered_in_a_sentence():
    rows = [
        row
        for workers in (1, 4, 5, 6)
        for row in (
            closed(workers, 31_000.0 * workers),
            *offered(workers, 26_000.0 * workers, True, True, True, first=1),
        )
    ]
    (curve,) = bounded(table(*rows))
    assert curve.workers_for(150_000) == (
        "for 150,000/s: 6 GPUs (5 hold in closed loop, not under the bound), within 15 ms at p99."
    )
    assert "2 GPUs" in curve.workers_for(50_000)
    assert "interpolated" in curve.workers_for(50_000)
    assert "more than 6 GPUs" in curve.workers_for(1e6)


def test_the_fewest_devices_are_found_between_measured_ones():
    rates = {1: 100.0, 4: 400.0, 8: 700.0}
    assert fewest(100, rates) == (1, True)
    assert fewest(101, rates) == (2, False)
    assert fewest(400, rates) == (4, True)
    assert fewest(550, rates) == (6, False)
    assert fewest(701, rates) is None
    assert fewest(10, {4: 400.0}) == (4, True)


def test_a_disturbed_trial_is_replaced_by_the_one_that_was_asked_again():
    def rows(again):
        trials = offered(1, 620.0, None, first=1) + offered(1, 620.0, True, True, first=2)
        disturbed = {**trials[0], "slo_met": False, "slo_violation_frac": 0.5, "flags": ["stalled"]}
        replacement = [{**trials[0], "trial": 5}] if again else []
        return [closed(1, 1000.0), disturbed, *trials[1:], *replacement]

    assert bounded(table(*rows(again=True)))[0].points[0].items_per_s.value == 620.0
    assert bounded(table(*rows(again=False)))[0].points[0].items_per_s.value is None
