"""Blocks against closed forms, and the same blocks collected while the stream grows."""

from __future__ import annotations

import numpy as np
import pytest

from raybench.measure.blocks import cut, items_between
from raybench.measure.progress import BlockRates

S = 1_000_000_000


def steady(period_ns: int, seconds: float, first_ns: int = 0) -> np.ndarray:
    return np.arange(first_ns, int(seconds * S) + 1, period_ns, dtype=np.int64)


# --- cut ------------------------------------------------------------------------------------------


def test_a_steady_stream_has_equal_blocks_and_its_own_rate():
    blocks = cut(steady(S // 100, 5), 0, S, 4, 8)
    assert blocks.edges.tolist() == [0, 100, 200, 300, 400, 500]
    assert blocks.edge_ns.tolist() == [k * S for k in range(6)]
    assert blocks.items.tolist() == [800] * 5
    assert blocks.rates.tolist() == [800.0] * 5
    assert len(blocks) == 5


def test_a_rate_has_no_error_of_whole_batches():
    blocks = cut(steady(130_000_000, 60, first_ns=70_000_000), 0, S, 4, 8)
    np.testing.assert_allclose(blocks.rates, 8 / 0.13, rtol=1e-12)
    assert (
        len(set(blocks.items.tolist())) > 1
    )  # 7 or 8 batches: counts over fixed seconds would jump


def test_an_edge_is_the_first_completion_at_or_after_the_grid():
    done = steady(300_000_000, 4, first_ns=100_000_000)
    blocks = cut(done, 0, S, 1, 1)
    assert blocks.edge_ns.tolist() == [100_000_000, S, 2_200_000_000, 3_100_000_000, 4 * S]
    assert cut(done + 7 * S, 7 * S, S, 1, 1).edges.tolist() == blocks.edges.tolist()


def test_blocks_of_different_workers_coincide():
    fast, slow = cut(steady(S // 100, 60), 0, S, 4, 1), cut(steady(S // 7, 60, 5), 0, S, 4, 1)
    k = min(len(fast), len(slow))
    assert k >= 59
    assert np.abs(fast.edge_ns[:k] - slow.edge_ns[:k]).max() < S // 7 + 1


def test_a_block_holds_at_least_so_many_batches():
    blocks = cut(steady(300_000_000, 12), 0, S, 4, 1)
    assert blocks.items.min() == 4
    assert blocks.edge_ns[:5].tolist() == [
        0,
        1_200_000_000,
        2_400_000_000,
        3_600_000_000,
        4_800_000_000,
    ]


def test_slow_batches_that_jitter_do_not_double_blocks():
    rng = np.random.default_rng(0)
    done = np.cumsum(rng.normal(0.25 * S, 0.01 * S, 400)).astype(np.int64)
    blocks = cut(done, 0, S, 4, 1)
    assert blocks.items.min() == 4
    assert blocks.items.max() <= 8
    assert np.median(blocks.items) == 4
    assert len(blocks) >= 90


def test_a_stall_is_one_long_block():
    done = np.concatenate([steady(S // 100, 2), steady(S // 100, 10, first_ns=6 * S + S // 2)])
    blocks = cut(done, 0, S, 4, 1)
    assert blocks.edge_ns[:4].tolist() == [0, S, 2 * S, 6_530_000_000]
    assert blocks.items[2] == 4
    assert blocks.edge_ns[4:].tolist() == [7 * S, 8 * S, 9 * S, 10 * S]


@pytest.mark.parametrize("n", [0, 1])
def test_of_too_few_completions_there_is_no_block(n):
    blocks = cut(np.arange(n, dtype=np.int64), 0, S, 4, 8)
    assert (len(blocks), len(blocks.rates), len(blocks.edges)) == (0, 0, n)


def test_blocks_grow_and_never_change():
    rng = np.random.default_rng(1)
    done = np.cumsum(rng.gamma(2, 0.1 * S, 300)).astype(np.int64)
    whole = cut(done, 0, S, 4, 1).edges.tolist()
    for n in range(0, 300, 7):
        seen = cut(done[:n], 0, S, 4, 1).edges.tolist()
        assert seen == whole[: len(seen)]


def test_a_cut_goes_on_from_its_last_edge():
    """Cut like a worker's snapshots: only the batches since the last edge are cut again."""
    rng = np.random.default_rng(2)
    done = np.cumsum(rng.gamma(2, 0.1 * S, 500)).astype(np.int64)
    done[250:] += 5 * S
    edges: list[int] = []
    for n in range(1, 501, 13):
        first = edges[-1] if edges else 0
        fresh = cut(done[first:n], 0, S, 4, 1).edges
        edges += [first + int(edge) for edge in fresh[1 if edges else 0 :]]
    whole = cut(done, 0, S, 4, 1).edges.tolist()
    assert edges == whole[: len(edges)]
    assert len(edges) > len(whole) - 3


# --- items between --------------------------------------------------------------------------------


def test_between_two_completions_it_is_a_count():
    done = np.array([10, 20, 30, 40], np.int64)
    assert items_between(done, 10, 40, 8) == 24
    assert items_between(done, 20, 30, 8) == 8


def test_a_batch_astride_an_instant_counts_in_proportion():
    done = np.array([0, 10, 30], np.int64)
    assert items_between(done, 5, 10, 8) == 4
    assert items_between(done, 10, 15, 8) == 2
    assert items_between(done, 2.5, 25, 8) == 8 * (0.75 + 0.75)


def test_before_the_first_and_after_the_last_nothing_is_known():
    done = np.array([10, 20], np.int64)
    assert items_between(done, 0, 100, 8) == 8
    assert items_between(done, 30, 40, 8) == 0


# --- watch ----------------------------------------------------------------------------------------


def test_a_watch_sees_the_rates_of_the_blocks():
    blocks = cut(steady(130_000_000, 10), 0, S, 4, 8)
    watch = BlockRates(1, 8, S)
    for k in range(len(blocks.edges)):
        watch.add(0, blocks.edges[k : k + 1].tolist(), blocks.edge_ns[k : k + 1].tolist())
        assert watch.rates.shape == (1, k)
    np.testing.assert_allclose(watch.rates[0], blocks.rates)


def test_a_watch_goes_as_far_as_the_slowest_worker():
    watch = BlockRates(2, 4, S)
    assert watch.rates.shape == (2, 0)
    watch.add(0, [0, 10, 20], [0, S, 2 * S])
    assert watch.rates.shape == (2, 0)
    watch.add(1, [0, 5], [0, S])
    assert watch.rates.tolist() == [[40.0], [20.0]]
