"""Capacity under a latency bound from rows: answers, intervals, reasons, and how many devices."""

from __future__ import annotations

import pytest
from helpers.trial_tables import table

from raybench.analysis.bounded import bounded, fewest
from raybench.report.terminal.bounded import of_bounds

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


def with_shares(workers, *pairs):
    """Return a closed loop, and trials of the search: (rate, trial, share of late items)."""
    return [
        closed(workers, 1000.0 * workers),
        *(
            {**offered(workers, rate, None, first=trial)[0], "slo_violation_frac": share}
            for rate, trial, share in pairs
        ),
    ]


NEAR = [(600.0, 0, 0.005), (640.0, 0, 0.02), (620.0, 0, 0.0098), (620.0, 1, 0.0095),
        (620.0, 2, 0.0099), (620.0, 3, 0.0101)]  # fmt: skip


def test_the_interval_is_of_the_capacity_where_the_trials_determine_it():
    ((point,),) = (curve.points for curve in bounded(table(*with_shares(1, *NEAR))))
    value, lo, hi = point.items_per_s
    assert point.capacity_items_per_s == pytest.approx(620.3, abs=0.3)
    assert value == 620
    assert 615 < lo <= 620 < 620.5 < hi < 624
    (line,) = of_bounds(bounded(table(*with_shares(1, *NEAR))))[1:]
    assert (
        "620.0 items/s, 0.98 % of the items later (3 of its trials do not decide alone), capacity 620.3 (619.4 to 621.3), "
        in line
    )


def test_trials_that_scatter_give_the_rates_that_are_sure():
    scattered = [(rate, trial, 0.0001 if trial == 1 else share) for rate, trial, share in NEAR]
    ((point,),) = (curve.points for curve in bounded(table(*with_shares(1, *scattered))))
    assert (point.capacity_items_per_s, *point.items_per_s) == (None, 620, None, None)


def test_a_number_that_was_measured_without_an_answer_is_not_interpolated():
    assert fewest(150, {1: 100.0, 2: None, 4: 400.0}) == (3, False)
    assert fewest(150, {1: 100.0, 2: None, 3: 300.0}) == (3, True)
    rows = [closed(1, 1000.0), *offered(1, 700.0, True, True, True, first=1),
            closed(2, 2000.0), *offered(2, 1000.0, False, False, False, first=1),
            closed(3, 3000.0), *offered(3, 2100.0, True, True, True, first=1)]  # fmt: skip
    (curve,) = bounded(table(*rows))
    assert curve.workers_for(900) == (
        "for 900/s: 3 GPUs (1 holds in closed loop, not under the bound), within 15 ms at p99; no rate "
        "was found for 2."
    )


def test_a_demand_beyond_the_largest_number_with_an_answer_names_those_without():
    rows = [closed(1, 1000.0), *offered(1, 700.0, True, True, True, first=1),
            closed(2, 2000.0), *offered(2, 1000.0, False, False, False, first=1)]  # fmt: skip
    (curve,) = bounded(table(*rows))
    assert curve.workers_for(900) == (
        "for 900/s: more than 1 GPU, the most for which a rate was found (none for 2), which serves "
        "700/s within 15 ms at p99."
    )
    (curve,) = bounded(table(*rows[4:]))
    assert curve.workers_for(900) == (
        "for 900/s: no rate was found that keeps 15 ms at p99 on 2 GPUs."
    )


def test_what_is_not_certain_of_a_demand_is_said():
    rows = [closed(2, 2000.0), *offered(2, 1400.0, None, None, None, first=1),
            *offered(2, 1300.0, True)]  # fmt: skip
    (curve,) = bounded(table(*rows))
    assert curve.workers_for(1350) == (
        "for 1,350/s: 2 GPUs, within 15 ms at p99; fewer were not measured; not sure: the interval "
        "begins at 1,300/s."
    )
    assert curve.workers_for(1300).endswith("at p99; fewer were not measured.")


def test_a_search_that_could_not_confirm_any_rate_says_so():
    pairs = [pair for k in range(18)
             for pair in ((900.0 - k, 0, 0.009), (900.0 - k, 1, 0.04))]  # fmt: skip
    (curve,) = bounded(table(*with_shares(1, *pairs)))
    assert curve.points[0].reason.startswith("18 rates down to 883 items/s were not confirmed")
    (curve,) = bounded(table(*with_shares(1, *pairs[:6])))
    assert curve.points[0].reason.startswith("The search has not ended.")


def test_a_window_that_holds_too_few_items_is_said():
    rows = [closed(1, 50.0), {**offered(1, 39.0, None)[0], "slo_violation_frac": None}]
    (curve,) = bounded(table(*rows, *offered(1, 38.0, False, False)))
    assert curve.points[0].reason == (
        "Too few items arrived for the percentile: use a longer measure.max_s."
    )


def test_trials_that_were_disturbed_are_said_with_the_answer_and_with_the_demand():
    rows = one_worker()
    rows[1] = {**rows[1], "flags": ["foreign_load", "precision_only"]}
    rows[3] = {**rows[3], "flags": ["foreign_load", "steal"]}
    curves = bounded(table(*rows))
    assert (
        curves[0].points[0].items_per_s.hi is None
    )  # foreign load, not the rate, may have broken it
    said = "2 of 7 trials were disturbed (foreign_load, steal)"
    assert of_bounds(curves, 450)[1].endswith(said)
    assert curves[0].workers_for(450).endswith(f"; {said}.")
    assert "disturbed" not in of_bounds(bounded(table(*one_worker())))[1]


def test_a_search_without_an_answer_says_that_its_trials_were_disturbed():
    rows = [closed(1, 1000.0), *offered(1, 25.0, False, False, False, flags=["foreign_load"])]
    line = of_bounds(bounded(table(*rows)))[1]
    assert "look at the flags of that row. 3 of 3 trials were disturbed (foreign_load)." in line
