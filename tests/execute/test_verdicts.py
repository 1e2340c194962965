"""Verdicts and flags of whole runs, on devices that misbehave in a known way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers.fake_runs import SLOTS, FakeRun
from helpers.fake_workers import FakeReservation


def judge(*words, speed=lambda rank, at_s: 1.0):
    """Row of one point that is measured with the default preset on workers of this speed."""
    reservation = FakeReservation(SLOTS, speed=speed, batch_s=0.05)
    run = FakeRun(
        "preset=standard", "trials=1", "batch_size=64", *words, reservation=reservation
    ).execute()
    (row,) = run.rows
    assert row["status"] == "ok", row["reason"]
    return row


RATE = 64 / 0.05


def test_an_even_device_is_stable_and_its_interval_covers_its_rate():
    noise = np.random.default_rng(5)
    row = judge("workers=1", speed=lambda rank, at_s: math.exp(0.05 * noise.standard_normal()))
    assert row["verdict"] == "stable", row["flags"]
    assert row["advice"] is None
    assert row["items_per_s"] == pytest.approx(RATE, rel=0.01)
    assert row["items_per_s_lo"] < row["items_per_s"] < row["items_per_s_hi"]
    assert (row["clock_skew"], row["clock_bound_us"]) == (0, 0.5)


def test_a_device_that_throttles_inside_the_window_has_a_step_and_is_unstable():
    row = judge("workers=1", speed=lambda rank, at_s: 1.0 if at_s < 35 else 0.8)
    assert row["verdict"] == "unstable"
    assert "step" in row["flags"]
    assert row["step_rel"] == pytest.approx(-0.2, abs=0.06)
    assert "Throughput went from" in row["advice"]


def test_the_measurement_waits_for_a_device_that_warms_up():
    row = judge("workers=1", speed=lambda rank, at_s: 1 - 0.3 * math.exp(-at_s / 5))
    assert row["warmup_converged"]
    assert row["warmup_s"] > 15
    assert row["items_per_s"] == pytest.approx(RATE, rel=0.02)


def test_a_device_that_never_settles_is_unstable():
    row = judge("workers=1", speed=lambda rank, at_s: 1 - 0.5 * math.exp(-at_s / 60))
    assert row["verdict"] == "unstable"
    assert "warmup_not_converged" in row["flags"]
    assert row["warmup_converged"] is False


def test_one_slow_worker_of_four_is_flagged_and_named():
    row = judge("workers=4", speed=lambda rank, at_s: 0.8 if rank == 2 else 1.0)
    assert "imbalance" in row["flags"]
    assert row["imbalance"] == pytest.approx(0.25, rel=0.05)
    assert row["slowest_worker"] == 2
    assert row["items_per_s"] == pytest.approx(3.8 * RATE, rel=0.01)


def of_outputs(outputs_sha256):
    """Row and rows of workers of a point whose four workers have these outputs."""
    reservation = FakeReservation(SLOTS, batch_s=0.05, outputs_sha256=outputs_sha256)
    words = ("preset=standard", "trials=1", "batch_size=64", "workers=4")
    run = FakeRun(*words, reservation=reservation).execute()
    (row,) = run.rows
    (tables,) = run.store.tables
    return row, tables["workers"]


def test_a_device_whose_outputs_change_makes_its_trial_unstable_and_is_named():
    row, workers = of_outputs(lambda rank, when: f"{when if rank == 2 else 'same'}")
    assert row["verdict"] == "unstable"
    assert "outputs_changed" in row["flags"]
    assert "outputs_differ" not in row["flags"]
    assert row["advice"].startswith("Worker 2 (")
    hashes = [(w["outputs_sha256_start"], w["outputs_sha256_end"]) for w in workers]
    assert hashes == [("same", "same"), ("same", "same"), ("start", "end"), ("same", "same")]


def test_workers_that_differ_from_one_another_are_no_reason_to_distrust_the_rate():
    row, _ = of_outputs(lambda rank, when: f"{rank == 3}")
    assert row["verdict"] == "stable", row["flags"]
    assert "outputs_differ" in row["flags"]
    assert row["advice"].startswith("Worker 3 (")


def test_an_engine_without_outputs_has_null_and_no_flag():
    row, workers = of_outputs(lambda rank, when: None)
    assert not {"outputs_changed", "outputs_differ", "nondeterministic"} & set(row["flags"])
    assert {w["outputs_sha256_start"] for w in workers} == {None}
