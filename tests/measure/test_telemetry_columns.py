"""Columns from telemetry: windows, sums over boards and nodes, and unknown values."""

from __future__ import annotations

import numpy as np
import pytest

from raybench.machine import gpm, gpu_health, gpu_telemetry, host
from raybench.machine.gpm import Activity
from raybench.machine.gpu_health import Health
from raybench.measure.stream import StreamTrace
from raybench.measure.summary import Summary, summarise
from raybench.measure.telemetry_columns import Readings, with_hardware
from raybench.results.store import build

S, MS = 10**9, 10**6


def trace(start_ns: int = 0, busy_ns: int | None = None) -> StreamTrace:
    """Ten batches of eight items per second for 24 s, on a clock of its own."""
    done = start_ns + np.arange(0, 24 * S + 1, 100 * MS, dtype=np.int64)
    spans = None if busy_ns is None else np.tile([0, busy_ns, 0], (len(done), 1))
    return StreamTrace(done - 50 * MS, done - 49 * MS, done, spans, start_ns, 0, 8)


def gpu(start_ns: int = 0, **changes: object) -> Readings:
    """A board at 500 W, sampled every half second from 1 s before the start."""
    defaults = {"power_w": 500.0, "sm_mhz": 1500.0, "temp_c": 60.0, "reasons": 0, "util": 1.0}
    samples = tuple(
        gpu_telemetry.GpuSample(
            start_ns + t * S // 2,
            **{**defaults, "energy_mj": 10**12 + (t + 2) * 250_000, **changes},  # type: ignore[arg-type]
        )
        for t in range(-2, 52)
    )
    return Readings("gpu", "a", 42, samples)


def summary(traces: list[StreamTrace], readings: list[Readings]) -> Summary:
    """Two seconds of warm-up and a window of twenty."""
    return with_hardware(summarise(traces, 2, 20, S, 4), traces, readings)


def test_the_window_is_placed_on_each_workers_own_clock() -> None:
    trial_summary = summary([trace(77 * S), trace(3 * S)], [gpu(77 * S), gpu(3 * S)])
    for worker in trial_summary.workers:
        assert worker["energy_source"] == "counter"
        assert worker["energy_j"] == pytest.approx(10_000)
        assert worker["items_per_j"] == pytest.approx(1600 / 10_000)
    trial = trial_summary.trial
    assert trial["energy_j"] == pytest.approx(20_000)
    assert trial["avg_power_w"] == pytest.approx(1000)
    assert trial["j_per_item"] == pytest.approx(20_000 / 3200)
    assert (trial["sm_clock_mhz_mean"], trial["temp_c_max"]) == (1500, 60)
    assert trial["telemetry_gap_s"] == pytest.approx(0.5)


def test_every_column_is_in_the_schema() -> None:
    trial_summary = summary([trace(busy_ns=90 * MS)], [gpu()])
    for table, rows in (
        ("trials", [trial_summary.trial]),
        ("workers", trial_summary.workers),
        ("blocks", trial_summary.blocks),
    ):
        assert build(table, list(rows), {}).num_rows == len(rows)


def test_the_worst_board_counts_for_the_trial() -> None:
    cool, hot = gpu(sm_max_mhz=2000.0), gpu(temp_c=90.0, reasons=0x20, sm_max_mhz=3000.0)
    trial = summary([trace(), trace()], [cool, hot]).trial
    assert trial["temp_c_max"] == 90
    assert trial["throttle_thermal_frac"] == 1
    assert trial["throttle_power_frac"] == 0
    assert trial["clock_frac"] == pytest.approx(0.5)


def test_energy_of_all_boards_is_unknown_as_soon_as_one_is() -> None:
    silent = gpu(energy_mj=None, power_w=None)
    trial = summary([trace(), trace()], [gpu(), silent]).trial
    assert (trial["energy_j"], trial["energy_source"]) == (None, "none")
    assert trial["sm_clock_mhz_mean"] == 1500


def test_two_boards_over_a_short_window_have_energy_with_the_sum_of_their_bounds() -> None:
    traces = [trace(77 * S), trace(3 * S)]
    short = summarise(traces, 2, 1, S, 4)
    trial = with_hardware(short, traces, [gpu(77 * S), gpu(3 * S)]).trial
    assert trial["energy_source"] == "counter"
    assert trial["energy_j"] == pytest.approx(1000)
    assert (trial["energy_j_lo"], trial["energy_j_hi"]) == (
        pytest.approx(880),
        pytest.approx(1120),
    )
    assert (trial["avg_power_w_lo"], trial["avg_power_w_hi"]) == (
        pytest.approx(880),
        pytest.approx(1120),
    )


def test_a_window_as_short_as_a_step_of_the_counter_has_bounds_and_no_value() -> None:
    traces = [trace(77 * S), trace(3 * S)]
    tiny = summarise(traces, 20, 1, S // 10, 1)
    trial = with_hardware(tiny, traces, [gpu(77 * S), gpu(3 * S)]).trial
    assert trial["window_s"] == pytest.approx(0.1)
    assert (trial["energy_j"], trial["items_per_j"], trial["j_per_item"]) == (None, None, None)
    assert (trial["energy_j_lo"], trial["energy_j_hi"]) == (
        pytest.approx(0),
        pytest.approx(220),
    )


def test_a_gpu_without_a_driver_has_no_readings() -> None:
    trial_summary = summary([trace()], [Readings("gpu", "a", 42)])
    hardware = {"energy_j", "sm_clock_mhz_mean", "temp_c_max", "telemetry_gap_s", "energy_source"}
    assert {trial_summary.trial[name] for name in hardware} == {None}
    assert {row["power_w"] for row in trial_summary.blocks} == {None}


def test_other_processes_and_memory_errors_are_counted_from_edge_to_edge() -> None:
    readings = gpu()
    first, *between, last = readings.gpu
    edges = (
        gpu_telemetry.GpuSample(first.t_ns, processes=(42,), health=Health(3, 70, 1, False, ())),
        *between,
        gpu_telemetry.GpuSample(
            last.t_ns, processes=(42, 77), health=Health(5, 70, 2, True, (94, 48, 94))
        ),
    )
    trial = summary([trace()], [Readings("gpu", "a", 42, edges)]).trial
    assert trial["foreign_processes"] == 1
    assert (trial["ecc_errors"], trial["ecc_corrected"]) == (2, 0)
    assert (trial["remapped_rows"], trial["remapped_rows_total"]) == (1, 2)
    assert trial["row_remap_pending"] is True
    assert (trial["xid_errors"], trial["xid_codes"]) == (3, [48, 94])


def test_health_that_the_driver_does_not_show_is_unknown_and_not_zero() -> None:
    trial = summary([trace()], [gpu()]).trial
    assert {trial[name] for name in gpu_health.COLUMNS} == {None}


def active(start_ns: int, end_ns: int, **shares: float) -> Activity:
    return Activity(start_ns, end_ns, tuple(shares.get(column) for column in gpm.COLUMNS))


def test_use_of_the_chip_is_the_mean_over_the_window_of_all_devices_and_over_each_block() -> None:
    """The window is from 2 to 22 s: one reading every 4 s, on each worker's own clock."""

    def board(start_ns: int, late: float) -> Readings:
        samples = gpu(start_ns).gpu
        readings = [
            active(
                start_ns + t * S,
                start_ns + (t + 4) * S,
                gpu_sm_frac=1.0 if t < 0 else late,
                pcie_rx_bytes_per_s=2e9,
            )
            for t in range(-4, 24, 4)
        ]
        extra = tuple(gpu_telemetry.GpuSample(a.end_ns, activity=a) for a in readings)
        merged = sorted((*samples, *extra), key=lambda sample: sample.t_ns)
        return Readings("gpu", "a", 42, tuple(merged))

    found = summary([trace(77 * S), trace(3 * S)], [board(77 * S, 0.5), board(3 * S, 0.7)])
    assert [worker["gpu_sm_frac"] for worker in found.workers] == pytest.approx([0.5, 0.7])
    assert found.trial["gpu_sm_frac"] == pytest.approx(0.6)
    assert found.trial["pcie_rx_bytes_per_s"] == pytest.approx(2e9)
    assert found.trial["gpu_dram_frac"] is None
    blocks = [row for row in found.blocks if row["worker"] == 0 and row["t_start_ns"] >= 0]
    assert {round(row["gpu_sm_frac"], 6) for row in blocks} == {0.5}


def test_readings_that_stop_leave_a_gap() -> None:
    readings = gpu()
    half = tuple(sample for sample in readings.gpu if sample.t_ns < 12 * S)
    trial = summary([trace()], [Readings("gpu", "a", 42, half)]).trial
    assert trial["telemetry_gap_s"] == pytest.approx(10.5)
    assert trial["energy_j"] is None


def test_a_block_has_the_readings_taken_during_it() -> None:
    samples = tuple(
        gpu_telemetry.GpuSample(
            t * S // 2 - 1, energy_mj=t * 100_000, temp_c=t / 2, reasons=4 if t == 11 else 1
        )
        for t in range(-2, 52)
    )
    trial_summary = summary([trace(busy_ns=90 * MS)], [Readings("gpu", "a", 42, samples)])
    row = next(row for row in trial_summary.blocks if row["t_start_ns"] == 5 * S)
    assert row["temp_c"] == pytest.approx((5.5 + 6) / 2)
    assert row["energy_mj"] == 200_000
    assert row["throttle_mask"] == 5
    assert row["gpu_busy_frac"] == pytest.approx(0.9)


def core(hostname: str, own: float, node: float, **more: object) -> Readings:
    """A core of a node with 4 CPUs; `own` and `node` are seconds of CPU time per second."""
    samples = tuple(
        host.HostSample(t * S, 1, 1.0 * t, 0.0, 4, node * t, own * t, **more)  # type: ignore[arg-type]
        for t in range(-1, 26)
    )
    return Readings("cpu", hostname, 1, (), samples)


def test_load_on_a_node_excludes_all_of_its_workers() -> None:
    three = [core("a", 1.0, 2.5), core("a", 0.9, 2.5), core("b", 1.0, 1.2)]
    trial = summary([trace()] * 3, three).trial
    assert trial["node_load_frac"] == pytest.approx((2.5 - 1.9) / 4)
    assert trial["foreign_load_frac"] == pytest.approx(0.1)
    assert trial["cpu_busy_frac"] == pytest.approx(2.9 / 3)


def test_energy_of_processors_counts_once_per_node() -> None:
    def packages(hostname: str, watts: float) -> Readings:
        samples = tuple(host.HostSample(t * S, 1, energy_j=watts * t) for t in range(-1, 26))
        return Readings("cpu", hostname, 1, (), samples)

    three = [packages("a", 100), packages("a", 100), packages("b", 50)]
    assert summary([trace()] * 3, three).trial["cpu_energy_j"] == pytest.approx(3000)


def test_energy_of_processors_is_unknown_as_soon_as_that_of_one_node_is() -> None:
    known = tuple(host.HostSample(t * S, 1, energy_j=50.0 * t) for t in range(-1, 26))
    pair = [Readings("cpu", "a", 1, (), known), core("b", 1.0, 1.0)]
    trial = summary([trace()] * 2, pair).trial
    assert (trial["cpu_energy_j"], trial["cpu_energy_j_lo"]) == (None, None)


def test_the_tightest_quota_and_the_worker_held_back_longest_count() -> None:
    def with_quota(hostname: str, quota: float, throttled: float) -> Readings:
        samples = tuple(
            host.HostSample(t * S, 1, throttled_s=throttled * t, quota_cores=quota)
            for t in range(-1, 26)
        )
        return Readings("cpu", hostname, 1, (), samples)

    two = [with_quota("a", 1.5, 0.1), with_quota("b", 4.0, 0.0)]
    trial = summary([trace()] * 2, two).trial
    assert trial["cpu_quota_cores"] == 1.5
    assert trial["cpu_throttled_frac"] == pytest.approx(0.1)


def test_a_core_is_a_device_with_clock_heat_and_throttling() -> None:
    samples = tuple(
        host.HostSample(
            t * S, 1, mhz=2000.0, max_mhz=4000.0, temp_c=50.0 + t, throttles=max(t - 11, 0)
        )
        for t in range(-1, 26)
    )
    trial_summary = summary([trace()], [Readings("cpu", "a", 1, (), samples)])
    trial = trial_summary.trial
    assert trial["clock_frac"] == 0.5
    assert (trial["temp_c_start"], trial["temp_c_end"], trial["temp_c_max"]) == (52, 72, 72)
    assert trial["throttle_thermal_frac"] == pytest.approx(11 / 20)
    assert trial["energy_source"] is None
    assert trial_summary.blocks[0]["temp_c"] == 51


def test_bounds_of_energy_are_summed_over_boards_and_nodes() -> None:
    trial = summary([trace(), trace()], [gpu(), gpu()]).trial
    assert trial["energy_j_lo"] == pytest.approx(20_000 - 2 * 60)  # 0.12 s at 500 W each
    assert trial["energy_j_hi"] == pytest.approx(20_000 + 2 * 60)
    assert trial["avg_power_w_lo"] == pytest.approx(1000 - 6)
    silent = gpu(energy_mj=None, power_w=None)
    unknown = summary([trace(), trace()], [gpu(), silent]).trial
    assert (unknown["energy_j_lo"], unknown["avg_power_w_hi"]) == (None, None)

    def core(hostname: str, watts: float) -> Readings:
        samples = tuple(host.HostSample(t * S, 1, energy_j=watts * t) for t in range(-1, 26))
        return Readings("cpu", hostname, 42, (), samples)

    trial = summary([trace()] * 3, [core("a", 50), core("a", 50), core("b", 100)]).trial
    assert trial["cpu_energy_j"] == pytest.approx(3000)
    assert trial["cpu_energy_j_hi"] == pytest.approx(3000 + 0.15)  # a millisecond at 150 W
