"""Stalls of a stream: found whatever the batches are, and never hidden in a rate."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.windows import LIMITS, STANDARD, evidence

from raybench.measure import flags
from raybench.measure.blocks import cut
from raybench.measure.progress import BlockRates, Completions
from raybench.measure.stalls import STALL_BATCHES, find, threshold_ns
from raybench.measure.stopping import check_window
from raybench.measure.stream import StreamTrace
from raybench.measure.summary import summarise

S, MS = 1_000_000_000, 1_000_000


def stream(batch_ns: int, until_ns: int, stops=(), inflight: int = 1) -> np.ndarray:
    """Completions every `batch_ns`, none during the stops (start, length); after one it goes on."""
    done = np.arange(batch_ns, until_ns + 1, batch_ns, dtype=np.int64)
    for start, length in stops:
        done[done > start] += length
    return done[done <= until_ns]


def trace(done: np.ndarray, inflight: int = 1) -> StreamTrace:
    submit = np.concatenate([np.arange(inflight, dtype=np.int64) - inflight, done[:-inflight]])
    return StreamTrace(submit, submit + 1, done, None, 0, 0, 1)


# --- finding --------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_ms", [0.05, 1, 3, 4, 5, 50, 300])
def test_a_stop_of_5_batches_and_20_ms_is_found_and_a_shorter_gap_is_not(batch_ms):
    batch_ns = int(batch_ms * MS)
    least = max(STALL_BATCHES * batch_ns, 20 * MS)
    until = 200 * batch_ns
    assert not find(stream(batch_ns, until), 1)
    assert not find(stream(batch_ns, until, [(100 * batch_ns, least - 2 * batch_ns)]), 1)
    (stall,) = find(stream(batch_ns, until + 2 * least, [(100 * batch_ns, least)]), 1)
    assert stall.start_ns == 100 * batch_ns
    assert stall.length_ns == least + batch_ns
    assert stall.lost(0, until + 2 * least) == least


@pytest.mark.parametrize("inflight", [2, 4, 8])
def test_batches_that_complete_together_are_no_stall(inflight):
    """Eight batches in flight may complete all at once, every 80 ms for 10 ms each."""
    together = np.repeat(np.arange(1, 100), inflight) * inflight * 10 * MS
    done = together + np.tile(np.arange(inflight), 99)
    assert not find(done, inflight)
    done[50 * inflight :] += 1000 * MS
    assert len(find(done, inflight)) == 1


def test_three_short_gaps_and_one_long_are_batches_that_complete_together():
    gaps = np.tile([10, 10, 10, 50], 100) * MS
    assert not find(np.cumsum(gaps), 4)
    assert threshold_ns(gaps, 4) == 5 * 50 * MS


def test_a_tail_of_longer_batches_raises_the_threshold_by_the_third_power_of_its_growth():
    gaps = np.where(np.arange(2000) % 16 == 3, 150, 100) * MS
    assert threshold_ns(gaps, 1) == pytest.approx(150 * MS * 1.5**3)


def test_batches_that_vary_are_no_stall():
    """Lognormal times of which one in a thousand takes more than twice the median."""
    times = 10 * MS * np.exp(0.25 * np.random.default_rng(1).standard_normal(20_000))
    assert not find(np.cumsum(times).astype(np.int64), 1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "lengths",
    [
        lambda rng, n: rng.lognormal(0, 0.5, n),
        lambda rng, n: rng.exponential(1, n),
        lambda rng, n: np.where(np.arange(n) % 10 == 3, 8.0, 1.0),
        lambda rng, n: np.where(rng.random(n) < 0.1, 8.0, 1.0),
    ],
    ids=["lognormal", "exponential", "every tenth", "a tenth"],
)
def test_batches_of_different_length_are_no_stalls_but_a_stop_is(lengths, seed):
    times = 50 * MS * lengths(np.random.default_rng(seed), 2000)
    done = np.cumsum(times).astype(np.int64)
    assert not find(done, 1)
    done[1000:] += 30 * S
    assert len(find(done, 1)) == 1


def test_a_few_long_stalls_do_not_hide_themselves():
    stops = [(10 * S, 2 * S), (15 * S, 2 * S), (20 * S, 2 * S)]
    assert len(find(stream(300 * MS, 40 * S, stops), 1)) == 3


def test_batches_that_a_device_finished_meanwhile_are_not_lost():
    """The host was stopped for 1 s; the four batches in flight were done when it went on."""
    done = stream(50 * MS, 40 * S)
    at = int(np.searchsorted(done, 20 * S))
    late = np.concatenate(
        [done[: at + 1], done[at] + S + np.arange(4), done[at + 5 :] + S - 200 * MS]
    )
    (stall,) = find(late, 4)
    assert stall.length_ns == S
    assert stall.lost_ns == pytest.approx(800 * MS, abs=1000)


@pytest.mark.parametrize(("batches", "inflight"), [(60, 64), (100, 64), (16, 16)])
def test_a_stop_is_found_among_few_batches_with_many_in_flight(batches, inflight):
    done = stream(10 * MS, 10 * S, [(batches * 5 * MS, 5 * S)])[:batches]
    assert len(find(done, inflight)) == 1


def test_waits_that_recur_are_named_where_they_are_no_stall():
    """Every thirtieth batch waits a second, from a neighbour or by itself: a third of the rate is lost."""
    times = np.where(np.arange(1200) % 30 == 7, 1100, 100) * MS
    row = summarise([trace(np.cumsum(times))], 2, 100, S, 4).trial
    raised = flags.raised_flags(evidence(columns=row))
    assert "stalled" not in raised
    assert "long_batches" in raised


@pytest.mark.parametrize("n", [0, 1, 2])
def test_too_few_batches_have_no_stall(n):
    assert find(np.arange(n, dtype=np.int64) * S, 1) == ()


def test_the_batches_in_flight_are_seen_in_the_stamps():
    done = stream(10 * MS, S)
    assert [trace(done, k).inflight for k in (1, 2, 4)] == [1, 2, 4]


# --- the row --------------------------------------------------------------------------------------


def test_a_stall_of_5_s_in_50_is_flagged_placed_and_inside_the_interval():
    """Case F: 909 items/s, stopped for 5 s; 808.8 +- 1.2 % said neither."""
    rng = np.random.default_rng(0)
    times = 1.1 * MS * (1 + 0.02 * rng.standard_normal(60_000))
    done = np.cumsum(times).astype(np.int64)
    done[done > 23.5 * S] += 5 * S
    summary = summarise([trace(done)], 2, 50, S, 4)
    row = summary.trial
    assert row["items_per_s"] == pytest.approx(45 / 50 / 1.1e-3, rel=0.005)
    assert row["items_per_s_lo"] < 1 / 1.1e-3 < row["items_per_s_hi"]
    assert (row["stalls"], row["stalled_workers"], row["longest_stall_worker"]) == (1, 1, 0)
    assert row["longest_stall_s"] == pytest.approx(5, rel=0.01)
    assert row["longest_stall_at_s"] == pytest.approx(21.5, abs=0.01)
    assert row["stalled_s"] == pytest.approx(5, rel=0.01)
    assert row["items_per_s_without_stalls"] == pytest.approx(1 / 1.1e-3, rel=0.001)
    assert row["rel_half_width_without_stalls"] < 0.01 < row["rel_half_width"]
    stretched = [block["stalled_s"] for block in summary.blocks if block["stalled_s"]]
    assert stretched == [pytest.approx(5, rel=0.01)]
    proof = evidence(columns=row)
    assert "stalled" in flags.raised_flags(proof)
    advice = flags.advice(flags.raised_flags(proof), proof, LIMITS)
    assert advice.startswith("No batch for 5.0 s at 2")
    assert "(worker 0): 8" in advice
    assert "909." in advice


def test_a_stream_without_a_stop_says_so():
    row = summarise([trace(stream(10 * MS, 20 * S))], 2, 15, S, 4).trial
    assert (row["stalls"], row["stalled_workers"], row["stalled_s"]) == (0, 0, 0)
    assert "longest_stall_s" not in row
    assert row["items_per_s_without_stalls"] == row["items_per_s"]
    assert row["rel_half_width_without_stalls"] == row["rel_half_width"]
    assert "stalled" not in flags.raised_flags(evidence(columns=row))


@pytest.mark.parametrize("at_s", [1.5, 16.5])
def test_a_stall_astride_an_edge_of_the_window_is_part_of_it(at_s):
    done = stream(10 * MS, 30 * S, [(int(at_s * S), 3 * S)])
    row = summarise([trace(done)], 2, 15, S, 4).trial
    assert row["stalls"] == 1
    assert row["items_per_s"] < 90
    assert row["items_per_s_without_stalls"] == pytest.approx(100, rel=0.01)


@pytest.mark.parametrize(("at_s", "inside_s"), [(1.5, 2.51), (16.5, 0.5)])
def test_the_time_of_a_stall_outside_of_the_common_window_does_not_count(at_s, inside_s):
    quiet = stream(10 * MS, 30 * S)
    stopped = stream(10 * MS, 30 * S, [(int(at_s * S), 3 * S)])
    row = summarise([trace(quiet), trace(stopped)], 2, 15, S, 4).trial
    assert row["stalled_s"] == pytest.approx(inside_s, abs=0.02)
    assert row["longest_stall_s"] == pytest.approx(3.01)
    assert row["longest_stall_at_s"] == pytest.approx(at_s - 2, abs=0.02)


def test_a_worker_whose_first_batch_is_late_moves_the_window_of_all():
    prompt, late = stream(10 * MS, 30 * S), stream(10 * MS, 30 * S)
    late = late[late > 3.2 * S]
    row = summarise([trace(prompt), trace(late)], 2, 15, S, 4).trial
    assert (row["n_blocks"], row["items_per_s"]) == (15, pytest.approx(200, rel=0.001))
    assert row["warmup_s"] == pytest.approx(5, abs=0.02)
    assert row["window_s"] == pytest.approx(15, abs=0.02)


def test_a_stall_before_the_window_is_no_fault_of_it():
    row = summarise([trace(stream(10 * MS, 30 * S, [(2 * S, 3 * S)]))], 8, 15, S, 4).trial
    assert (row["stalls"], row["items_per_s"]) == (0, 100)


def test_one_worker_of_two_stalls_and_the_other_goes_on():
    """The same second of both is added up, before the stop, during and after it."""
    quiet = stream(10 * MS, 40 * S)
    stopped = stream(10 * MS, 40 * S, [(15 * S, 4 * S)])
    summary = summarise([trace(quiet), trace(stopped)], 2, 30, S, 4)
    row = summary.trial
    assert (row["longest_stall_worker"], row["stalled_workers"], row["n_blocks"]) == (1, 1, 30)
    assert row["items_per_s"] == pytest.approx(200 - 100 * 4 / 30, rel=0.001)
    assert row["items_per_s_without_stalls"] == pytest.approx(200, rel=0.001)
    assert [worker["stalls"] for worker in summary.workers] == [0, 1]
    numbers = [block["block"] for block in summary.blocks if block["worker"] == 1]
    assert numbers == [*range(16), *range(19, 32)]  # the stalled one stands for four
    assert all(block["block"] == block["t_start_ns"] // S for block in summary.blocks)


# --- the watch ------------------------------------------------------------------------------------


def test_the_watch_adds_the_same_second_of_every_worker():
    """Before, block k of a worker that had stalled was added to an earlier block k of the others."""
    quiet, watch = stream(10 * MS, 20 * S), BlockRates(2, 1, S)
    stopped = stream(10 * MS, 20 * S, [(int(7.5 * S), 4 * S)])
    for worker, done in enumerate((quiet, stopped)):
        blocks = cut(done, 0, S, 4, 1)
        watch.add(worker, blocks.edges.tolist(), blocks.edge_ns.tolist())
    total = watch.rates.sum(axis=0)
    assert len(total) == 20
    np.testing.assert_allclose(total[:7], 200)
    np.testing.assert_allclose(total[7:12].mean(), 120, rtol=0.01)
    np.testing.assert_allclose(total[12:], 200)


def test_a_worker_that_stalls_through_the_whole_window_has_a_rate_without():
    """Of what it lost the batch that ended the stall took its own time; the rest is no time at all."""
    quiet = stream(10 * MS, 40 * S)
    late = stream(10 * MS, 40 * S, [(5 * S, 20 * S), (int(25.01 * S), 200 * MS)])
    row = summarise([trace(quiet, 4), trace(late, 4)], 6, 14, S, 4).trial
    assert row["stalls"] == 1
    assert row["items_per_s"] == pytest.approx(100, rel=0.01)
    assert row["items_per_s_without_stalls"] == pytest.approx(200, rel=0.01)
    assert row["rel_half_width_without_stalls"] is None


def test_the_watch_begins_with_the_second_that_all_workers_have():
    prompt, watch = stream(10 * MS, 20 * S), BlockRates(2, 1, S)
    late = prompt[prompt > 3.2 * S]
    for worker, done in enumerate((prompt, late[::2])):
        blocks = cut(done, 0, S, 4, 1)
        watch.add(worker, blocks.edges.tolist(), blocks.edge_ns.tolist())
    np.testing.assert_allclose(watch.rates, np.repeat([[100.0], [50.0]], 16, axis=1))


def test_the_watch_knows_how_long_the_last_worker_waits():
    seen = Completions(2)
    for done, now_s in (((3, 1), 1.0), ((9, 1), 2.5), ((12, 1), 4.0)):
        seen.add(done, now_s)
    assert seen.waiting(4.5) == (1, 3.5)
    seen.add((12, 13), 5.0)
    assert seen.waiting(6.0) == (12, 2.0)


def test_the_watch_and_the_row_have_the_same_interval():
    done = stream(10 * MS, 60 * S, [(int(27.3 * S), 2 * S)])
    done = done + np.random.default_rng(2).integers(0, MS, len(done))
    watch, blocks = BlockRates(1, 1, S), cut(done, 0, S, 4, 1)
    watch.add(0, blocks.edges.tolist(), blocks.edge_ns.tolist())
    check = check_window(watch.rates[0][5 : 5 + 40], STANDARD)
    row = summarise([trace(done)], 5, 40, S, 4).trial
    assert row["rel_half_width"] == pytest.approx(check.interval.relative, rel=1e-12)
    assert row["items_per_s"] == pytest.approx(check.interval.mean, rel=0.002)


def test_no_interval_of_a_rate_reaches_below_zero():
    done = stream(10 * MS, 40 * S, [(3 * S, 30 * S)])
    row = summarise([trace(done)], 2, 30, S, 4).trial
    assert row["rel_half_width"] > 1
    assert 0 < row["items_per_s_lo"] < row["items_per_s"] < row["items_per_s_hi"]
