"""Blocks of all workers as one line over time."""

from __future__ import annotations

import numpy as np
import pytest

from raybench.analysis.timeline import timelines
from raybench.results.store import build


def blocks(rate, workers=1, count=8, **gauges):
    """One trial: the first quarter is warm-up; workers share the rate."""
    return [
        {"worker": worker, "block": k, "phase": "warmup" if k < count // 4 else "measure",
         "t_start_ns": k * 10**9, "t_end_ns": (k + 1) * 10**9, "items": rate // workers,
         "point_id": "p", "trial": 0, **{name: value + worker for name, value in gauges.items()}}
        for worker in range(workers)
        for k in range(count)
    ]  # fmt: skip


def test_blocks_of_all_workers_become_one_trace():
    rows = [*blocks(1000, 2, sm_clock_mhz=1980.0, temp_c=50.0, power_w=400.0, gpu_sm_frac=-0.5)]
    (trace,) = timelines(build("blocks", rows[::-1], {"environment_id": "e"}))["p", "e"]
    assert trace.measured.tolist() == [False] * 2 + [True] * 6
    assert trace.t_s.tolist() == [-1.5, -0.5, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5]
    assert trace.items_per_s.tolist() == [1000.0] * 8
    assert trace.sm_clock_mhz[0] == 1980.5  # mean
    assert trace.temp_c[0] == 51.0  # the hottest
    assert trace.power_w[0] == 801.0  # sum
    assert trace.gpu_sm_frac[0] == 0.0  # mean
    assert trace.gpu_dram_frac is None


def test_the_power_of_a_device_counts_once_however_many_engines_share_it():
    rows = blocks(1000, 2, power_w=400.0)
    (trace,) = timelines(build("blocks", rows, {}), {"p": 2})["p", None]
    assert trace.power_w[0] == 400.5  # both read the board, one of them 1 W more


def test_of_a_trial_that_was_measured_again_the_newer_blocks_stand():
    rows = [{**row, "run_id": run, "trial": trial}
            for run, trial, rate in (("a", 0, 500), ("b", 0, 900), ("b", 1, 700))
            for row in blocks(rate)]  # fmt: skip
    found = timelines(build("blocks", rows, {}))["p", None]
    assert [(trace.trial, trace.items_per_s[0]) for trace in found] == [(0, 900.0), (1, 700.0)]


def test_a_worker_that_ended_early_takes_no_block_of_the_sum():
    rows = blocks(1000, 2)
    (trace,) = timelines(build("blocks", rows[:-1], {}))["p", None]
    assert trace.items_per_s.tolist() == pytest.approx([1000.0] * 7)


def test_blocks_without_a_time_or_a_gauge_are_no_trouble():
    rows = [{"point_id": "p", "worker": 0, "block": 0, "items": 1}]
    assert timelines(build("blocks", rows, {})) == {}
    (trace,) = timelines(build("blocks", blocks(10), {}))["p", None]
    assert trace.temp_c is None
    assert np.isfinite(trace.items_per_s).all()


def test_a_stretched_block_is_drawn_where_it_was_and_marked():
    """Worker 1 stalls through blocks 4 and 5: block 6 of both is the same second."""
    rows = blocks(1000, 2)
    first, second, third = (row for row in rows if row["worker"] == 1 and row["block"] in (4, 5, 6))
    rows = [row for row in rows if row not in (second, third)]
    first |= {"t_end_ns": 7 * 10**9, "items": 300, "stalled_s": 2.0}
    (trace,) = timelines(build("blocks", rows, {}))["p", None]
    assert trace.items_per_s.tolist() == pytest.approx([1000] * 4 + [600] * 3 + [1000])
    assert trace.t_s.tolist() == pytest.approx([-1.5, -0.5, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5])
    assert trace.stalled.tolist() == [False] * 4 + [True] * 3 + [False]
    assert trace.stalls == ((1, 2.0, 2.0),)


def test_a_number_out_of_all_bounds_does_no_harm():
    rows = blocks(10)
    rows[5]["block"] = 2**31 - 1
    (trace,) = timelines(build("blocks", rows, {}))["p", None]
    assert len(trace.t_s) <= 2 * len(rows)
