from __future__ import annotations

import numpy as np
import pytest

from raybench.models.batches import BatchPool, calibration_batches
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
    values = BatchPool(IMAGE, 4096, 0, {}, min_bytes=1).first(10**9)["data"]
    assert values.size > 2**23  # about as many as there are values to draw
    assert np.count_nonzero(values) == values.size
    assert -1 <= values.min() < -0.999
    assert 0.999 < values.max() < 1
    assert abs(float(values.mean(dtype=np.float64))) < 0.01


def test_tokens_fill_their_range_and_flags_are_both() -> None:
    pool = BatchPool(TOKENS, 2, 0, {"ids": (5, 9)}, min_bytes=1 << 16)
    items = pool.first(10**9)
    assert set(np.unique(items["ids"])) == {5, 6, 7, 8, 9}
    assert set(np.unique(items["mask"])) == {False, True}


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


def test_calibration_uses_other_items_than_the_pool() -> None:
    calibrating = calibration_batches(IMAGE, {}, 4, 2)
    assert [batch["data"].shape[0] for batch in calibrating] == [2] * 4
    pool = BatchPool(IMAGE, 8, 0, {}, min_bytes=1).first(10**9)["data"]
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
