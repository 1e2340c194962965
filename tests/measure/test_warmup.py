"""When constructed series count as warm."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.windows import LIMITS, STANDARD, noise

from raybench.measure.blocks import cut
from raybench.measure.limits import Limits
from raybench.measure.progress import BlockRates
from raybench.measure.warmup import WarmUp, warm_up

S = 1_000_000_000


def test_warm_at_the_first_try():
    rates = np.ones((1, 25))
    assert warm_up(rates[:, :24], LIMITS) == WarmUp("not_yet")
    assert warm_up(rates, LIMITS) == WarmUp("agreed", 15)


def test_nothing_measured_yet():
    assert warm_up(np.empty((2, 0)), LIMITS).state == "not_yet"


@pytest.mark.parametrize(("step_at", "w0"), [(5, 15), (6, 20), (10, 20), (12, 25), (31, 45)])
def test_the_window_begins_after_a_change(step_at, w0):
    # A is allowed none of the old rate once it makes more than 0.5 % of the mean
    rates = np.where(np.arange(200) < step_at, 0.5, 1.0)[None]
    if step_at > 25:  # seen from the start, the old rate is steady as well
        rates = rates * np.where(np.arange(200) < step_at, 1 - 0.02 * np.arange(200), 1.0)
    assert warm_up(rates, LIMITS) == WarmUp("agreed", w0)


def test_gives_up_at_the_longest_warm_up():
    rates = np.exp(0.01 * np.arange(200))[None]
    assert warm_up(rates[:, :69], LIMITS).state == "not_yet"
    assert warm_up(rates[:, :70], LIMITS) == WarmUp("given_up", 60)


def test_gives_up_at_once_where_the_windows_do_not_fit():
    limits = Limits.of(STANDARD, 10.0)
    assert warm_up(np.empty((1, 0)), limits) == WarmUp("given_up", limits.warmup_max)


def test_later_blocks_change_no_earlier_answer():
    rates = noise(0.004, workers=4, seed=3) * (1 - 0.1 * np.exp(-np.arange(200) / 8))
    answers = [warm_up(rates[:, :k], LIMITS) for k in range(201)]
    first = next(a for a in answers if a.state != "not_yet")
    since = answers.index(first)
    assert all(a.state == "not_yet" for a in answers[:since])
    assert all(a == first for a in answers[since:])


def test_one_worker_still_warming_keeps_all_waiting():
    rates = noise(0.001, workers=16)
    rates[3] *= 1 - 0.15 * np.exp(-np.arange(200) / 15)
    alone = warm_up(rates.sum(axis=0)[None], LIMITS)
    warm = warm_up(rates, LIMITS)
    assert (alone.state, warm.state) == ("agreed", "agreed")
    assert warm.window_start >= alone.window_start + 20


@pytest.mark.parametrize("workers", [8, 64])
def test_noise_of_single_workers_does_not_hold_up_the_start(workers):
    warm = warm_up(noise(0.01, workers=workers), LIMITS)
    assert warm.state == "agreed"
    assert warm.window_start <= 25


def test_a_dead_stream_never_warms():
    assert warm_up(np.zeros((1, 200)), LIMITS).state == "given_up"


def test_waits_for_the_temperature():
    rates, t = np.ones((2, 200)), np.arange(200.0)
    heat = np.stack((np.full(200, 60.0), 80 - 20 * np.exp(-t / 10)))
    warm = warm_up(rates, LIMITS, heat)
    assert (warm.state, warm.settled) == ("agreed", True)
    assert warm.window_start > 15


def test_temperature_gives_up_softly():
    rates, t = np.ones((1, 200)), np.arange(200.0)
    assert warm_up(rates, LIMITS, 40 + 0.2 * t[None]) == WarmUp("agreed", 60, False)


def test_a_step_of_the_sensor_between_two_short_windows_is_no_warming():
    quick = Limits.of(replace(STANDARD, block_s=0.1, look_s=1.0))
    heat = np.repeat([[60.0, 61.0]], 40, axis=1)
    assert warm_up(np.ones((1, 80)), quick, heat).settled is True


def test_unknown_temperatures_count_for_nothing():
    rates = np.ones((1, 30))
    assert warm_up(rates, LIMITS, np.full((1, 30), np.nan)) == WarmUp("agreed", 15, None)


def watched(stop_s: float, at_s: float) -> BlockRates:
    """What the driver sees of a steady worker that was stopped once."""
    done = np.arange(0, 120 * S, S // 100, dtype=np.int64)
    done = np.where(done > at_s * S, done + int(stop_s * S), done)
    watch, blocks = BlockRates(1, 1, S), cut(done, 0, S, 4, 1)
    watch.add(0, blocks.edges.tolist(), blocks.edge_ns.tolist())
    return watch


def test_two_windows_inside_one_stall_do_not_agree():
    """Both have the same rate, that of the stall."""
    watch = watched(40, 6.5)
    assert warm_up(watch.rates, LIMITS, lengths=watch.lengths).window_start > 46


@pytest.mark.parametrize("at_s", [5.5, 9.5, 14.5, 20.5])
def test_a_stall_in_the_warm_up_is_over_before_the_window_begins(at_s):
    watch = watched(5, at_s)
    start = warm_up(watch.rates, LIMITS, lengths=watch.lengths).window_start
    assert start > at_s + 5


def test_a_block_of_three_cells_holds_a_stall_and_is_left_behind():
    lengths = np.where(np.isin(np.arange(80), [20, 21, 22]), 3.0, 1.0)[None]
    found = warm_up(noise(0.001, 80), LIMITS, lengths=lengths)
    assert found.state == "agreed"
    assert found.window_start > 22


def test_slow_batches_that_miss_an_edge_are_no_stall():
    rates = noise(0.001, 80)
    lengths = np.where(np.arange(80) % 5 < 2, 2.0, 1.0)[None]
    assert warm_up(rates, LIMITS, lengths=lengths) == WarmUp("agreed", 15)
