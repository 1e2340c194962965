import pytest

from raybench.measure.clock import Clock, ClockDrift, best

MS, S = 10**6, 10**9


def test_the_shortest_round_trip_counts():
    clock = best([(0, 500 + 40, 100), (200, 500 + 215, 230), (300, 900, 600)])
    assert clock == Clock(offset_ns=500, round_trip_ns=30, at_ns=215)
    assert clock.bound_ns == 15


def between(before_ns, after_ns, round_trip_ns=MS, seconds=10):
    clocks = (Clock(before_ns, round_trip_ns, 0), Clock(after_ns, round_trip_ns, seconds * S))
    return ClockDrift(*clocks)


def test_a_move_within_the_bounds_of_the_pings_is_no_move():
    assert between(0, MS).moved_ns == 0
    assert between(0, -MS).skew == 0


def test_a_move_beyond_them_counts_against_the_time_between():
    drift = between(70 * S, 70 * S + 11 * MS)
    assert drift.moved_ns == 10 * MS
    assert drift.skew == pytest.approx(1e-3)


def test_the_bound_is_that_of_the_worse_ping():
    drift = ClockDrift(Clock(0, 4000, 0), Clock(0, 10_000, S))
    assert drift.bound_ns == 5000
