"""Summaries of constructed traces against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from raybench.errors import EngineFailure
from raybench.measure.stream import StreamTrace
from raybench.measure.summary import Summary, summarise
from raybench.results.store import build
from raybench.stats.intervals import percentile_least

S, MS = 1_000_000_000, 1_000_000


def traced(
    done_ns, latency_ns=20 * MS, start_ns=0, late_ns=0, batch_size=8, spans=None
) -> StreamTrace:
    done = np.asarray(done_ns, np.int64) + start_ns
    submit = done - np.asarray(latency_ns, np.int64)
    return StreamTrace(submit, submit + MS, done, spans, start_ns, late_ns, batch_size)


def steady(period_ns: int, until_ns: int, first_ns: int = 0) -> np.ndarray:
    return np.arange(first_ns, until_ns + 1, period_ns, dtype=np.int64)


def summary(
    *traces: StreamTrace, warmup: int = 2, measured: int = 12, block_ns: int = S
) -> Summary:
    return summarise(traces, warmup, measured, block_ns, 4)


# --- one worker -----------------------------------------------------------------------------------


def test_a_constant_rate_is_measured_exactly():
    trial = summary(traced(steady(10 * MS, 14 * S))).trial
    assert trial["items_per_s"] == 800
    assert trial["items_per_s_per_worker"] == 800
    assert (trial["items"], trial["batches"], trial["window_s"]) == (9600, 1200, 12)
    assert (trial["warmup_s"], trial["warmup_batches"]) == (2, 200)
    assert (trial["n_blocks"], trial["block_s"]) == (12, 1)
    assert trial["rel_half_width"] == pytest.approx(0, abs=1e-9)
    assert trial["items_per_s_lo"] == pytest.approx(800)
    assert (trial["imbalance"], trial["start_skew_ms"], trial["end_skew_ms"]) == (0, 0, 0)


def test_a_period_that_divides_no_block_makes_no_error():
    trial = summary(traced(steady(130 * MS, 20 * S))).trial
    assert trial["items_per_s"] == pytest.approx(8 / 0.13, rel=1e-12)
    assert trial["block_cv"] == pytest.approx(0, abs=1e-9)


def test_batches_after_the_measured_blocks_are_not_counted():
    steps = np.concatenate([steady(10 * MS, 14 * S), 14 * S + steady(S, 20 * S, first_ns=S)])
    trial = summary(traced(steps)).trial
    assert (trial["items_per_s"], trial["window_s"], trial["n_blocks"]) == (800, 12, 12)


def test_the_warm_up_is_not_counted_but_kept():
    slow = steady(50 * MS, 2 * S)
    trial_summary = summary(
        traced(np.concatenate([slow, 2 * S + steady(10 * MS, 12 * S, 10 * MS)]))
    )
    assert trial_summary.trial["items_per_s"] == 800
    assert [row["phase"] for row in trial_summary.blocks] == ["warmup"] * 2 + ["measure"] * 12
    assert [row["items"] for row in trial_summary.blocks] == [160] * 2 + [800] * 12
    assert trial_summary.blocks[0]["t_start_ns"] == 0
    assert trial_summary.blocks[-1]["t_end_ns"] == 14 * S


def test_the_clock_of_the_worker_does_not_matter():
    here, there = (summary(traced(steady(10 * MS, 14 * S), start_ns=t)) for t in (0, 77 * S + 5))
    assert here.trial == there.trial
    assert here.blocks == there.blocks


def test_throughput_is_items_over_time_and_no_mean_of_rates():
    """A second without work is a second of the window."""
    done = np.concatenate([steady(10 * MS, 7 * S), steady(10 * MS, 14 * S, first_ns=8 * S)])
    trial = summary(traced(done), measured=20).trial
    assert trial["window_s"] == 12
    assert trial["items_per_s"] == pytest.approx((500 + 601) * 8 / 12)


def test_no_whole_block_is_a_failure_with_a_way_out():
    with pytest.raises(EngineFailure, match="Use a smaller batch_size"):
        summary(traced(steady(10 * MS, 2 * S)))
    with pytest.raises(EngineFailure, match="no whole block"):
        summary(traced(steady(10 * MS, 14 * S)), traced(steady(10 * MS, S)))


def test_too_few_blocks_have_no_interval():
    trial = summary(traced(steady(10 * MS, 4 * S))).trial
    assert trial["items_per_s"] == 800
    for name in ("rel_half_width", "items_per_s_lo", "items_per_s_hi"):
        assert trial[name] is None
    assert trial.get("step_z") is None


# --- several --------------------------------------------------------------------------------------


def test_two_workers_count_in_their_common_window():
    """A batch astride an edge of the window counts in proportion."""
    early = traced(steady(10 * MS, 14 * S))
    late = traced(steady(10 * MS, 14 * S + 4 * MS, first_ns=4 * MS))
    trial = summary(early, late).trial
    assert trial["window_s"] == pytest.approx(12 - 0.004)
    assert trial["items_per_s"] == pytest.approx(1600, rel=1e-12)
    assert trial["items"] == round(1600 * 11.996)
    assert trial["items_per_s_per_worker"] == pytest.approx(800)
    assert trial["warmup_s"] == pytest.approx(2.004)


def test_workers_of_different_speed_add_up():
    trial_summary = summary(traced(steady(10 * MS, 15 * S)), traced(steady(40 * MS, 15 * S)))
    assert trial_summary.trial["items_per_s"] == pytest.approx(1000)
    assert trial_summary.trial["imbalance"] == pytest.approx(3)
    assert [w["items_per_s"] for w in trial_summary.workers] == pytest.approx([800, 200])
    assert [w["batches"] for w in trial_summary.workers] == [1200, 300]


def test_a_worker_that_ends_early_ends_the_window():
    trial = summary(traced(steady(10 * MS, 14 * S)), traced(steady(10 * MS, 10 * S))).trial
    assert (trial["window_s"], trial["n_blocks"]) == (8, 8)
    assert trial["items_per_s"] == pytest.approx(1600)
    assert trial["end_skew_ms"] == 4000


def test_who_started_late_shows():
    traces = [traced(steady(10 * MS, 14 * S), late_ns=late) for late in (0, 3 * MS)]
    assert summary(*traces).trial["start_skew_ms"] == 3


# --- latency --------------------------------------------------------------------------------------


def test_percentiles_are_null_when_there_are_too_few_batches():
    least = [percentile_least(p) for p in (0.5, 0.9, 0.99, 0.999)]
    trial = summary(traced(steady(200 * MS, 14 * S + 200 * MS))).trial
    n = trial["latency_n"]
    assert least[0] <= n < least[1] or n < least[2]
    for name, fewest in zip(("p50", "p90", "p99", "p999"), least, strict=True):
        assert (trial.get(f"latency_{name}_ms") is None) == (n < fewest)
    assert trial["latency_max_ms"] == 20


def test_latencies_are_exact_and_of_the_window_alone():
    done = steady(10 * MS, 14 * S)
    latency = np.where(done <= 2 * S, 500 * MS, 20 * MS)
    latency[np.searchsorted(done, 5 * S)] = 90 * MS
    trial = summary(traced(done, latency)).trial
    assert trial["latency_n"] == 1200
    assert (trial["latency_p50_ms"], trial["latency_p99_ms"], trial["latency_max_ms"]) == (
        20,
        20,
        90,
    )
    assert trial["latency_mean_ms"] == pytest.approx(20 + 70 / 1200)
    assert trial["outlier_batches"] == 1
    assert trial["latency_basis"] == "batch"


def test_the_histogram_holds_every_latency():
    rng = np.random.default_rng(0)
    done = steady(10 * MS, 14 * S)
    latency = rng.integers(5 * MS, 50 * MS, len(done))
    worker = summary(traced(done, latency)).workers[0]
    edges, counts = worker["latency_hist_edges_ms"], worker["latency_hist_counts"]
    assert (len(edges), sum(counts)) == (len(counts) + 1, 1200)
    inside = latency[(done > 2 * S)] / MS
    assert edges[0] <= inside.min() <= inside.max() <= edges[-1]
    assert np.diff(np.log(edges)) == pytest.approx(np.log(1.01))


def test_device_times_are_those_of_the_window():
    done = steady(10 * MS, 14 * S)
    spans = np.tile(np.array([1, 8, 2]) * MS, (len(done), 1))
    trial = summary(traced(done, spans=spans)).trial
    assert (trial["h2d_ms_median"], trial["compute_ms_median"], trial["d2h_ms_median"]) == (1, 8, 2)
    assert trial["device_items_per_s"] == pytest.approx(1000)
    assert trial["host_idle_frac"] == pytest.approx(0.2)
    assert trial["enqueue_ms_mean"] == pytest.approx(1)
    assert "compute_ms_median" not in summary(traced(done)).trial


# --- as rows --------------------------------------------------------------------------------------


def test_every_number_has_its_column():
    done = steady(10 * MS, 14 * S)
    spans = np.full((len(done), 3), MS)
    trial_summary = summary(traced(done, spans=spans), traced(done, spans=spans))
    assert build("trials", [trial_summary.trial], {}).num_rows == 1
    assert build("workers", trial_summary.workers, {}).num_rows == 2
    assert build("blocks", trial_summary.blocks, {})["worker"].to_pylist() == [0] * 14 + [1] * 14
