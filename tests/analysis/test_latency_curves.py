"""Latency over the rate of arrivals: the knee, overload, and what makes no curve."""

from __future__ import annotations

from helpers.trial_tables import table

from raybench.analysis.latency_curves import latency_curves


def at(rate, p99, **more):
    return {"load": f"poisson({rate})", "offered_items_per_s": rate, "items_per_s": rate,
            "latency_p50_ms": p99 / 3, "latency_p99_ms": p99, "point_id": str(rate), **more}  # fmt: skip


def test_the_knee_is_where_a_millisecond_buys_the_most():
    rows = [at(100.0, 3.0), at(500.0, 4.0), at(800.0, 8.0), at(900.0, 40.0),
            {"items_per_s": 1000.0}]  # fmt: skip
    (curve,) = latency_curves(table(*rows))
    assert [point.offered_items_per_s for point in curve.points] == [100, 500, 800, 900]
    assert curve.knee_items_per_s == 500
    assert curve.closed_items_per_s == 1000


def test_overload_has_no_latency_and_is_no_knee():
    lost = {"flags": ["overloaded"], "latency_p99_ms": None, "latency_p50_ms": None}
    (curve,) = latency_curves(
        table(at(100.0, 3.0), at(500.0, 4.0), at(700.0, 5.0), at(990.0, 3, **lost))
    )
    assert [point.overloaded for point in curve.points] == [False, False, False, True]
    assert curve.points[-1].latency_p50_ms is None
    assert curve.knee_items_per_s == 700


def test_two_rates_are_no_curve():
    assert latency_curves(table(at(100.0, 3.0), at(500.0, 4.0), {"items_per_s": 9.0})) == ()


def test_a_knee_at_the_end_of_the_rates_may_lie_beyond_them_and_is_none():
    (curve,) = latency_curves(table(at(100.0, 3.0), at(500.0, 4.0), at(700.0, 5.0)))
    assert curve.knee_items_per_s is None
    (curve,) = latency_curves(table(at(100.0, 1.0), at(110.0, 40.0), at(120.0, 50.0)))
    assert curve.knee_items_per_s is None


def test_the_bounds_that_rates_were_measured_under_are_known():
    slo = {"slo_ms": 15.0, "slo_percentile": 99.0}
    (curve,) = latency_curves(table(*(at(rate, 3.0, **slo) for rate in (100.0, 500.0, 700.0))))
    assert curve.bounds == ((99.0, 15.0),)
