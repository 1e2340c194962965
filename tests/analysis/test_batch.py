"""Batch curves: the knee, the memory end, and whether throughput rises and flattens."""

from __future__ import annotations

import pytest
from helpers.trial_tables import failed_trial, table, trials

from raybench.analysis.batch import batch
from raybench.analysis.study2017.data import study_trials


def ladder(*rows):
    (only,) = batch(table(*rows)).ladders
    return only


def test_the_curves_of_the_study_of_2017():
    alexnet, googlenet = batch(study_trials()).ladders
    assert (alexnet.best_batch_size, alexnet.knee_batch_size) == (4096, 512)  # 17502 / 18011
    assert (googlenet.best_batch_size, googlenet.knee_batch_size) == (2048, 256)  # 6630 / 6842
    assert (alexnet.memory_end_batch_size, googlenet.memory_end_batch_size) == (None, 4096)
    assert [r.batch_size for r in googlenet.points if r.knee] == [256]
    assert (alexnet.rises, alexnet.flattens, googlenet.rises, googlenet.flattens) == (True,) * 4
    assert googlenet.points[-1].status == "out_of_memory"
    assert "memory ends at batch 4096" in googlenet.finding


def test_a_fall_is_distinguished_from_noise_only_with_trials_enough():
    low = trials([100.0, 101.0, 99.0], batch_size=1)
    assert ladder(*low, *trials([99.5, 100.5, 98.5], batch_size=2)).rises is True
    assert ladder(*low, *trials([80.0, 80.1, 79.9], batch_size=2)).rises is False


def test_single_trials_fall_when_their_own_intervals_part():
    def one(rate, size):
        bounds = {"items_per_s_lo": rate - 2, "items_per_s_hi": rate + 2}
        return trials([rate], batch_size=size, **bounds)

    assert ladder(*one(100.0, 1), *one(97.0, 2)).rises is True
    assert ladder(*one(100.0, 1), *one(95.0, 2)).rises is False
    assert ladder(*trials([100.0], batch_size=1), *trials([99.0], batch_size=2)).rises is False


def test_a_curve_that_doubles_to_the_end_does_not_flatten():
    rows = [row for size in (1, 2, 4) for row in trials([10.0 * size], batch_size=size)]
    assert ladder(*rows).flattens is False


def test_memory_ends_at_the_smallest_batch_that_ran_out_or_was_spared_for_it():
    reason = "Batch 16 of the same series ran out of memory."
    rows = [
        *trials([10.0], batch_size=1),
        failed_trial("out_of_memory", batch_size=16),
        failed_trial("infeasible", reason, batch_size=32),
    ]
    assert ladder(*rows).memory_end_batch_size == 16
    spared = ladder(*rows[:1], rows[2])
    assert (spared.memory_end_batch_size, spared.memory_end_reason) == (32, reason)
    short = failed_trial("infeasible", "workers=2 needs 2 GPUs.", batch_size=8)
    assert ladder(*rows[:1], short).memory_end_batch_size is None


def test_a_single_number_tells_no_knee_and_says_so():
    only = ladder(*trials([10.0], batch_size=1), failed_trial("failed", batch_size=2))
    assert (only.knee_batch_size, only.rises, only.flattens) == (None, None, None)
    assert only.missing[0].startswith("No knee: 1 batch sizes")
    assert only.missing[-1] == "Without a number: batch 2: failed."


def test_a_curve_that_falls_within_its_noise_is_not_said_to_rise():
    falls = ladder(*trials([48.6], batch_size=4), *trials([48.2], batch_size=8))
    assert "throughput does not rise" in falls.finding
    assert "rises" not in falls.finding


def test_what_cannot_be_said_is_named():
    assert batch(table()).missing == ("There are no rows.",)
    assert "single batch size" in batch(table(*trials([1.0]))).missing[0]
    failed = batch(
        table(failed_trial("failed", batch_size=1), failed_trial("failed", batch_size=2))
    )
    assert failed.ladders[0].finding == "No batch size has a number."


def test_as_a_table_a_rung_is_a_row_with_its_series():
    rows = batch(study_trials()).as_table()
    assert rows.num_rows == 18
    best = [r for r in rows.to_pylist() if r["share_of_best"] == 1]
    assert [r["items_per_s"] for r in best] == [18011, 6842]
    assert rows["share_of_best"][0].as_py() == pytest.approx(791 / 18011)
