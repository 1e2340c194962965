"""A backlog that grows, and one that only looks like it."""

from __future__ import annotations

import numpy as np
import pytest

from raybench.experiment import MeasureSettings
from raybench.measure.arrivals import Arrivals
from raybench.measure.open_rules import cut_short, open_limits, open_stop_rule
from raybench.measure.open_stream import OpenTrace
from raybench.measure.open_summary import any_grew, with_arrivals
from raybench.measure.overload import BacklogWatch
from raybench.measure.running_stream import StreamSnapshot
from raybench.measure.stopping import StopDecision
from raybench.measure.summary import summarise_cut
from raybench.measure.worker_blocks import cut_traces

S = 1_000_000_000
NONE = np.empty(0, np.int64)


def seen(done, wait, waited_at=0):
    return StreamSnapshot(done, NONE, NONE, np.empty(0), wait_batches=wait, waited_at=waited_at)


def watch(snapshots):
    backlog = BacklogWatch(1)
    return [backlog.overloaded([each]) for each in snapshots]


def test_a_wait_that_rises_with_every_snapshot_is_overload():
    assert watch(seen(1000 * k, 500.0 * k) for k in range(1, 9)) == [False] * 5 + [True] * 3


def test_the_backlog_of_a_stall_is_not_overload():
    waits = [0, 900, 800, 700, 600, 500, 400]
    assert not any(watch(seen(1000 * k, float(wait)) for k, wait in enumerate(waits, 1)))
    waits = [0, 1, 2, 3, 900, 901, 902]
    assert not any(watch(seen(1000 * k, float(wait)) for k, wait in enumerate(waits, 1)))


def test_a_walk_of_the_size_that_chance_has_is_not_overload():
    waits = np.cumsum(np.full(10, 40.0))  # 5 rises of 40 in 5,000 batches; chance has 100
    assert not any(watch(seen(1000 * k, float(wait)) for k, wait in enumerate(waits, 1)))


def test_a_worker_that_was_idle_meanwhile_is_not_overloaded():
    assert not any(watch(seen(1000 * k, 500.0 * k, waited_at=1000 * k - 1) for k in range(1, 12)))


def test_only_one_worker_needs_to_be_overloaded():
    backlog = BacklogWatch(2)
    found = [backlog.overloaded([seen(900 * k, 0.0, 900 * k), seen(900 * k, 500.0 * k)])
             for k in range(1, 8)]  # fmt: skip
    assert found[-1]


# --- what is stored -------------------------------------------------------------------------------


def trace(rate, service_s, seconds=20, rng=0, stall=None):
    """One worker that serves Poisson arrivals one by one, each in `service_s`."""
    arrived = np.cumsum(np.random.default_rng(rng).exponential(1 / rate, int(rate * seconds * 2)))
    arrived = arrived[arrived <= seconds]
    took = np.full(len(arrived), service_s)
    if stall is not None:
        took[int(np.searchsorted(arrived, stall[0]))] += stall[1]
    total = np.cumsum(took)
    begun = np.maximum.accumulate(arrived - (total - took))
    done = begun + total
    kept = done <= seconds
    begun = np.rint((done - took) * S).astype(np.int64)
    done_ns, arrived_ns = np.rint(done * S).astype(np.int64), np.rint(arrived * S).astype(np.int64)
    served = int(kept.sum())
    return OpenTrace(
        submit_ns=begun[:served], enqueued_ns=begun[:served], done_ns=done_ns[:served],
        spans_ns=None, start_ns=0, late_ns=0, batch_size=1, items=np.ones(served, np.int64),
        arrival_ns=arrived_ns[:served], due_ns=begun[:served],
        waited=begun[:served] <= arrived_ns[:served], unserved_ns=arrived_ns[served:],
        end_ns=seconds * S,
    )  # fmt: skip


def summarised(*traces, rate):
    workers = cut_traces(traces, 2, 16, S, 4)
    grew = any_grew(workers)
    return with_arrivals(
        summarise_cut(workers, S), workers, Arrivals("poisson", rate, len(traces)), grew
    ), grew


def test_a_load_that_is_borne_has_latencies_from_the_arrival():
    summary, grew = summarised(trace(500, 0.001), rate=500)
    row = summary.trial
    assert not grew
    assert row["latency_basis"] == "request"
    assert row["latency_mean_ms"] == pytest.approx(1.5, rel=0.1)  # M/D/1 at half load
    assert row["queue_ms_p50"] + 1 == pytest.approx(row["latency_p50_ms"], abs=0.01)
    assert row["items_per_s"] == pytest.approx(row["arrived_items_per_s"], rel=0.01)
    assert (row["offered_items_per_s"], row["batch_items_mean"], row["late_arrivals_frac"]) == (
        500,
        1,
        0,
    )
    assert row["latency_n"] == pytest.approx(row["arrived_items_per_s"] * row["window_s"], abs=1)
    assert row["latency_p50_ms"] <= row["latency_p95_ms"] <= row["latency_p99_ms"]
    assert "items_per_s_without_stalls" not in row


def test_a_load_above_capacity_has_a_rate_and_no_latency():
    summary, grew = summarised(trace(1030, 0.001), rate=1030)
    assert grew
    assert summary.trial["items_per_s"] == pytest.approx(1000, rel=0.005)
    named = {name for name in summary.trial if name.startswith(("latency_", "queue_"))}
    assert named == {"latency_basis"}
    assert not any(name.startswith("latency_p") for name in summary.workers[0])


def test_near_capacity_chance_alone_is_rarely_overload():
    grew = [summarised(trace(900, 0.001, rng=k), rate=900)[1] for k in range(100)]
    assert sum(grew) <= 3


def test_a_stall_is_found_and_its_whole_backlog_is_in_the_percentiles():
    summary, grew = summarised(trace(500, 0.0005, stall=(8, 1.0)), rate=500)
    row = summary.trial
    assert not grew
    assert row["stalls"] == 1
    assert row["latency_max_ms"] == pytest.approx(1000, abs=20)
    assert row["latency_p99_ms"] > 800  # one of 16 s of arrivals waited for it
    quiet, _ = summarised(trace(500, 0.0005), rate=500)
    assert quiet.trial["stalls"] == 0


def mixed(sizes, stall_at=None):
    """One worker whose batches have these sizes in turn, 25 ms for each item, one every 0.25 s."""
    computed = np.resize(sizes, 80)
    took = computed * S // 40
    if stall_at is not None:
        took[stall_at] += S // 5
    submit = np.arange(1, 81) * S // 4
    arrival = np.repeat(submit, computed)
    return OpenTrace(
        submit_ns=submit, enqueued_ns=submit, done_ns=submit + took,
        spans_ns=np.stack([0 * took, took, 0 * took], axis=1), start_ns=0, late_ns=0, batch_size=8,
        items=computed, arrival_ns=arrival, due_ns=submit, waited=np.full(80, True),
        unserved_ns=arrival[:0], end_ns=21 * S, sizes=(1, 2, 4, 8),
    )  # fmt: skip


def test_a_full_batch_among_parts_is_no_stall_and_a_stalled_part_is_one():
    sizes = [1] * 9 + [8]
    quiet, _ = summarised(mixed(sizes), rate=7)
    assert quiet.trial["stalls"] == 0
    stalled, _ = summarised(mixed(sizes, stall_at=45), rate=7)
    assert stalled.trial["stalls"] == 1
    assert stalled.trial["longest_stall_s"] == pytest.approx(0.225)


def test_parts_are_counted_as_computed_and_their_times_are_not_uneven():
    summary, _ = summarised(mixed([1, 1, 4]), rate=8)
    row = summary.trial
    assert row["batch_computed_mean"] == pytest.approx(2, abs=0.1)
    assert row["batch_items_mean"] == pytest.approx(2, abs=0.1)
    assert row["compute_cov"] == summary.workers[0]["compute_cov"] == 0
    assert "device_items_per_s" not in row


def test_workers_are_summarised_together_and_each():
    traces = [trace(500, 0.001, rng=k) for k in range(3)]
    summary, _ = summarised(*traces, rate=1500)
    assert len(summary.workers) == 3
    assert summary.trial["latency_n"] == sum(row["latency_n"] for row in summary.workers)
    assert summary.trial["items_per_s"] == pytest.approx(1500, rel=0.03)


def test_the_blocks_of_an_open_loop_hold_what_was_done():
    summary, _ = summarised(trace(500, 0.001), rate=500)
    measured = [row for row in summary.blocks if row["phase"] == "measure"]
    assert sum(row["items"] for row in measured) == summary.trial["items"]


# --- rules ----------------------------------------------------------------------------------------


def test_a_window_ends_early_only_with_many_items():
    settings = MeasureSettings(min_s=10, max_s=40, look_s=10, block_s=1)
    limits = open_limits(settings, 0.001, Arrivals("poisson", 1000.0))
    busy, quiet = (np.full(40, rate) for rate in (1000.0, 100.0))
    assert open_stop_rule(StopDecision(), busy[:10], limits).state == "target_met"
    assert open_stop_rule(StopDecision(), quiet[:39], limits).state == "measuring"
    end = open_stop_rule(StopDecision(), quiet, limits)
    assert (end.state, end.last.blocks, end.last.flags) == ("time_up", 40, ())


def test_rare_arrivals_have_longer_blocks():
    settings = MeasureSettings(block_s=1, block_min_batches=4)
    assert open_limits(settings, 0.001, Arrivals("poisson", 1.0)).span_s >= 8
    assert open_limits(settings, 0.001, Arrivals("poisson", 1000.0)).span_s == 1


def test_what_is_cut_short_keeps_the_second_half():
    limits = open_limits(MeasureSettings(), 0.001, Arrivals("poisson", 1000.0))
    assert cut_short(np.ones(3), limits) is None
    warm_up, stop = cut_short(np.ones(9), limits)
    assert (warm_up.window_start, stop.last.blocks) == (4, 5)
