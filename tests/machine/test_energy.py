"""Energy over short windows: whatever the phase of a counter, the truth is within the bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raybench.machine import energy, gpu_telemetry

MS = 10**6
PERIOD_MS = 200


def counted(true_j, step_ms: int, phase_ms: int) -> list[tuple[int, float]]:
    """Readings of a counter that shows the energy as of its last movement."""
    return [(t * MS, true_j(t - (t - phase_ms) % step_ms)) for t in range(0, 60_000, PERIOD_MS)]


@given(st.integers(0, 99), st.integers(300, 30_000), st.integers(1_000, 20_000), st.floats(50, 700))
def test_the_truth_is_within_the_bounds_at_steady_power(phase_ms, length_ms, start_ms, watts):
    def true_j(t_ms):
        return watts * t_ms / 1e3

    readings = counted(true_j, 100, phase_ms)
    start, end = start_ms * MS, (start_ms + length_ms) * MS
    found = energy.from_counter(readings, start, end, energy.GPU_STEP_S, [watts])
    truth = true_j(start_ms + length_ms) - true_j(start_ms)
    assert abs(found.joules - truth) <= found.error_j * 1.0001
    assert found.error_j >= 0.12 * watts * 0.999  # never better than a step of the counter


@given(st.integers(0, 99), st.integers(500, 9_000), st.integers(1_000, 9_000), st.integers(50, 900))
def test_the_truth_is_within_the_bounds_where_power_switches(phase_ms, length_ms, start_ms, on_ms):
    """A board that is at 100 W and at 500 W in turns, of which only these two levels are read."""

    def true_j(t_ms):
        whole, rest = divmod(t_ms, 2 * on_ms)
        high = whole * on_ms + min(rest, on_ms)
        return (100 * t_ms + 400 * high) / 1e3

    readings = counted(true_j, 100, phase_ms)
    found = energy.from_counter(
        readings, start_ms * MS, (start_ms + length_ms) * MS, energy.GPU_STEP_S, [100.0, 500.0]
    )
    truth = true_j(start_ms + length_ms) - true_j(start_ms)
    assert abs(found.joules - truth) <= found.error_j * 1.0001


def test_the_share_that_is_uncertain_falls_with_the_length_of_the_window():
    def share(seconds):
        readings = [(t * PERIOD_MS * MS, 500.0 * t * PERIOD_MS / 1e3) for t in range(300)]
        found = energy.from_counter(readings, 0, seconds * 10**9, energy.GPU_STEP_S, [500.0])
        return found.error_j / found.joules

    assert share(1) == pytest.approx(0.12)
    assert share(30) == pytest.approx(0.12 / 30)


def test_a_counter_without_power_readings_is_trusted_less_not_more():
    readings = counted(lambda t: 0.5 * t, 100, 30)
    given_power = energy.from_counter(readings, 2_050 * MS, 5_050 * MS, energy.GPU_STEP_S, [500.0])
    alone = energy.from_counter(readings, 2_050 * MS, 5_050 * MS, energy.GPU_STEP_S)
    assert alone.error_j >= given_power.error_j


def test_a_window_without_room_for_a_value_has_bounds_alone():
    readings = [(t * PERIOD_MS * MS, 100.0 * t) for t in range(20)]
    tiny = energy.from_counter(readings, 10**9, 10**9 + 150 * MS, energy.GPU_STEP_S, [500.0])
    assert not tiny.known
    row = tiny.columns("energy_j")
    assert row["energy_j"] is None
    assert 0 <= row["energy_j_lo"] < 75 < row["energy_j_hi"]
    assert energy.from_counter(readings, 10**9, 10**9, energy.GPU_STEP_S) is None
    assert energy.from_counter(readings, 10**9, 10**10, energy.GPU_STEP_S) is None
    assert energy.from_counter([], 0, 10**9, energy.GPU_STEP_S) is None
    idle = [(t * PERIOD_MS * MS, 7.0) for t in range(20)]
    stuck = energy.from_counter(idle, 0, 10**9, energy.GPU_STEP_S, [500.0])
    assert set(stuck.columns("energy_j").values()) == {None}  # it never moved


def test_sampled_power_is_trusted_less_than_a_counter():
    steady = [(t * PERIOD_MS * MS, 500.0) for t in range(40)]
    sampled = energy.from_power(steady, 0, 5 * 10**9)
    assert sampled.joules == pytest.approx(2500)
    assert sampled.error_j == pytest.approx(125)
    rising = [(t * PERIOD_MS * MS, 400.0 + 10 * t) for t in range(40)]
    assert energy.from_power(rising, 0, 5 * 10**9).error_j > sampled.error_j + 200


def test_a_short_window_of_a_gpu_has_a_value_with_bounds():
    samples = [
        gpu_telemetry.GpuSample(t * PERIOD_MS * MS, power_w=500.0, energy_mj=10**13 + t * 100_000)
        for t in range(40)
    ]
    row = gpu_telemetry.columns(samples, 10**9, 6 * 10**9, items=5000)
    assert (row["energy_j"], row["energy_source"]) == (pytest.approx(2500), "counter")
    assert (row["energy_j_lo"], row["energy_j_hi"]) == (pytest.approx(2440), pytest.approx(2560))
    assert (row["avg_power_w_lo"], row["avg_power_w_hi"]) == (
        pytest.approx(488),
        pytest.approx(512),
    )
    assert row["j_per_item"] == pytest.approx(0.5)
    assert row["energy_check_rel"] is None  # two uncertain values are not held against each other


def test_power_that_switches_between_two_readings_is_off_by_a_quarter_of_their_distance():
    """At 100 W until half a second, then at 300 W: the line through the readings says 200 W."""
    readings = [(0, 0.0), *((t * 1000 * MS, 200.0 + 300 * (t - 1)) for t in range(1, 12))]
    found = energy.from_counter(readings, 500 * MS, 10_000 * MS, 0.0, [100.0, 300.0])
    truth = 9.5 * 300
    assert truth - found.joules == found.error_j == pytest.approx(50)
