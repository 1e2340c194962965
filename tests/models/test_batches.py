from __future__ import annotations

import numpy as np
import pytest

from raybench.models.items.batches import BatchPool, calibration_batches
from raybench.models.model import TensorSpec

IMAGE = (TensorSpec("data", "float32", ("N", 3, 32, 32)),)
ITEM_BYTES = 3 * 32 * 32 * 4
TOKENS = (TensorSpec("ids", "int64", ("N", 128)), TensorSpec("mask", "bool", ("N", 128)))


@pytest.mark.parametrize("batch_size", [1, 3, 8, 100, 4096])
def test_the_pool_is_larger_than_asked_and_bounded(batch_size: int) -> None:
    floor = 200 * ITEM_BYTES
    pool = BatchPool(IMAGE, batch_size, 0, {}, min_bytes=floor)
    assert floor <= pool.nbytes <= max(2 * floor, (batch_size + 3) * ITEM_BYTES)
    assert 4 <= pool.count <= 256
    batches = [pool.batch(index)["data"] for index in range(pool.count)]
    assert {batch.shape for batch in batches} == {(batch_size, 3, 32, 32)}
    assert all(batch.flags.c_contiguous and batch.base is not None for batch in batches)
    assert len({batch[0].tobytes() for batch in batches}) == pool.count


def test_no_value_is_zero_and_all_lie_within_one() -> None:
    values = BatchPool(IMAGE, 4096, 0, {}, min_bytes=1).stored("data")
    assert values.size > 2**23  # about as many as there are values to draw
    assert np.count_nonzero(values) == values.size
    assert -1 <= values.min() < -0.999
    assert 0.999 < values.max() < 1
    assert abs(float(values.mean(dtype=np.float64))) < 0.01


def test_tokens_fill_their_range_and_flags_are_both() -> None:
    pool = BatchPool(TOKENS, 2, 0, {"ids": (5, 9)}, min_bytes=1 << 16)
    assert set(np.unique(pool.stored("ids"))) == {5, 6, 7, 8, 9}
    assert set(np.unique(pool.stored("mask"))) == {False, True}


def test_small_items_give_no_flood_of_batches() -> None:
    assert BatchPool(TOKENS, 1, 0, {}, min_bytes=64 << 20).count == 256


def test_the_same_seed_gives_the_same_items_whatever_the_batch() -> None:
    for specs in (IMAGE, TOKENS):
        small, large = (
            BatchPool(specs, size, 5, {"ids": (0, 30521)}, min_bytes=1) for size in (3, 64)
        )
        other = BatchPool(specs, 3, 6, {"ids": (0, 30521)}, min_bytes=1)
        for name in small.first(3):
            assert np.array_equal(small.batch(0)[name], large.first(3)[name])
            assert not np.array_equal(small.batch(0)[name], other.batch(0)[name])


@pytest.mark.parametrize("items", [3, 64, 3000])
def test_pools_of_a_pair_of_seeds_share_the_first_batch_alone(items):
    specs = (
        TensorSpec("x", "float32", ("N", 16)),
        TensorSpec("odd", "int64", (2, "N", 4)),
        CONSTANT,
    )
    plain, mine, yours = (
        BatchPool(specs, items, seed, {"odd": (0, 9999)}, min_bytes=1 << 14)
        for seed in (5, (5, 6), (5, 7))
    )
    for name, first in plain.batch(0).items():
        assert np.array_equal(mine.batch(0)[name], first)
        assert np.array_equal(yours.batch(0)[name], first)
    last = plain.count - 1
    assert not np.array_equal(mine.batch(last)["x"][-1], yours.batch(last)["x"][-1])
    assert not np.array_equal(mine.batch(last)["x"][-1], plain.batch(last)["x"][-1])
    assert len({plain.key, mine.key, yours.key}) == 3
    assert BatchPool(specs, items, (5, 5), {"odd": (0, 9999)}).key == plain.key


def test_calibration_uses_other_items_than_the_pool() -> None:
    calibrating = calibration_batches(IMAGE, {}, 4, 2)
    assert [batch["data"].shape[0] for batch in calibrating] == [2] * 4
    pool = BatchPool(IMAGE, 8, 0, {}, min_bytes=1).stored("data")
    assert not any(np.array_equal(calibrating[0]["data"][0], item) for item in pool)


def test_indices_outside_the_pool_and_empty_batches_are_refused() -> None:
    pool = BatchPool(IMAGE, 2, 0, {}, min_bytes=1)
    with pytest.raises(IndexError):
        pool.batch(pool.count)
    with pytest.raises(ValueError, match="batch_size"):
        BatchPool(IMAGE, 0, 0, {})


def test_no_inputs_need_no_memory() -> None:
    pool = BatchPool((), 16, 0, {})
    assert (pool.count, pool.nbytes, pool.batch(3)) == (4, 0, {})


SECOND = TensorSpec("state", "float32", (2, "N", 128))
CONSTANT = TensorSpec("scale", "float32", (1, 4))
SCALAR = TensorSpec("rate", "int64", ())


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_a_batch_that_is_not_first_is_contiguous_and_of_the_same_items(batch_size: int) -> None:
    pool = BatchPool((SECOND,), batch_size, 5, {}, min_bytes=1 << 14)
    batches = [pool.batch(index)["state"] for index in range(pool.count)]
    assert {batch.shape for batch in batches} == {(2, batch_size, 128)}
    assert all(batch.flags.c_contiguous and batch.base is not None for batch in batches)
    assert len({batch.tobytes() for batch in batches}) == pool.count
    assert pool.nbytes <= max(1 << 15, 4 * batch_size * 2 * 128 * 4)
    single = BatchPool((SECOND,), 1, 5, {}, min_bytes=1)
    first = pool.first(3)["state"]
    assert first.shape == (2, min(3, batch_size), 128)
    assert first.flags.c_contiguous
    assert np.array_equal(first[:, :1], single.batch(0)["state"])


def test_an_input_without_a_batch_is_one_array_in_all_batches() -> None:
    pool = BatchPool((*IMAGE, CONSTANT, SCALAR), 2, 0, {"rate": (7, 7)}, min_bytes=1 << 16)
    scales = [pool.batch(index)["scale"] for index in range(pool.count)]
    assert len({scale.ctypes.data for scale in scales}) == 1
    assert scales[0].shape == pool.first(1)["scale"].shape == (1, 4)
    rate = pool.batch(1)["rate"]
    assert (rate.shape, rate.dtype, int(rate)) == ((), np.int64, 7)
    assert len({pool.batch(i)["data"].tobytes() for i in range(pool.count)}) == pool.count


def test_where_no_input_has_a_batch_each_batch_is_drawn_as_a_whole() -> None:
    fixed = (TensorSpec("x", "float32", (1, 16)), TensorSpec("state", "float32", (2, 1, 8)))
    pool = BatchPool(fixed, 4, 0, {}, min_bytes=1 << 12)
    assert pool.nbytes >= 1 << 12
    assert len({pool.batch(i)["state"].tobytes() for i in range(pool.count)}) == pool.count
    assert pool.first(1)["state"].shape == (2, 1, 8)
    assert [batch["x"].shape for batch in calibration_batches(fixed, {}, 3, 2)] == [(1, 16)] * 3


def test_given_items_are_repeated_in_turn_and_change_the_key() -> None:
    specs = (SECOND, SCALAR)
    given = {"state": np.arange(3, dtype=np.float32).repeat(256).reshape(3, 2, 128)}
    given["rate"] = np.array([16000])
    pool = BatchPool(specs, 2, 0, {}, min_bytes=1 << 13, given=given)
    seen = np.concatenate([pool.batch(i)["state"][0, :, 0] for i in range(3)])
    assert seen.tolist() == [0, 1, 2, 0, 1, 2]
    assert int(pool.batch(3)["rate"]) == 16000
    assert pool.key != BatchPool(specs, 2, 0, {}, min_bytes=1 << 13).key
    calibrating = calibration_batches(specs, {}, 2, 2, given)
    assert calibrating[1]["state"].shape == (2, 2, 128)
    assert calibrating[1]["state"][0, :, 0].tolist() == [2, 0]
