"""Verdicts and flags through the whole program, on devices that misbehave as they are told to."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

import pytest

import raybench
from raybench.machine import devices

pytestmark = pytest.mark.ray

SHORT = (
    *("preset=standard", "trials=1", "experiment=scaling", "model=alexnet"),
    *("measure.block_s=0.1", "measure.warmup_min_s=0.5", "measure.warmup_max_s=8"),
    *("measure.warmup_window_blocks=5", "measure.warmup_advance_blocks=5"),
    *("measure.warmup_agree=0.02", "measure.target=0.02", "measure.look_s=0.5"),
)
"""The default preset, ten times faster and four times less strict: this machine sleeps unevenly."""
SIMULATED = (
    *("engine=simulated", "grid.workers=1", "batch_size=64", "engine.overhead_ms=0"),
    *("engine.item_us=100",),
)
"""Batches of 6.4 ms, 10,000 items/s."""


@pytest.fixture
def judged(measure):
    """Run one point; gives its row."""

    def run(*words):
        _, folder = measure(*SHORT, *SIMULATED, *words)
        (row,) = raybench.load(folder).to_pylist()
        assert row["status"] == "ok", row["reason"]
        return row

    return run


def test_an_even_device_is_stable_and_its_noise_is_covered(judged):
    row = judged(
        *("engine.noise=0.02", "engine.noise_phi=0.3", "measure.min_s=3", "measure.max_s=12")
    )
    assert row["verdict"] == "stable", row["flags"]
    assert row["advice"] is None
    assert row["items_per_s"] == pytest.approx(10_000, rel=0.03)
    assert row["harness_us_per_batch"] > 0
    assert row["clock_skew"] == 0  # one host has one clock
    assert row["clock_bound_us"] > 0


def test_a_device_that_throttles_inside_the_window_is_a_step_and_unstable(judged):
    row = judged(
        *("engine.throttle_at_s=5", "engine.throttle_drop=0.2"),
        *("measure.min_s=8", "measure.max_s=8"),
    )
    assert row["verdict"] == "unstable"
    assert "step" in row["flags"]
    assert row["step_rel"] == pytest.approx(-0.2, abs=0.06)
    assert "shifted" in row["advice"]


def test_a_device_that_warms_up_is_waited_for(judged):
    length = ("measure.min_s=2", "measure.max_s=6")
    cold = judged("engine.warmup_drop=0.3", "engine.warmup_tau_s=0.8", *length)
    assert cold["warmup_s"] > 1.4  # an even device takes 1.0 s: 0.5 s and one window
    assert cold["items_per_s"] == pytest.approx(10_000, rel=0.04)


def test_a_device_that_never_settles_is_unstable(judged):
    row = judged(
        *("engine.warmup_drop=0.5", "engine.warmup_tau_s=6", "measure.warmup_max_s=2"),
        *("measure.min_s=2", "measure.max_s=2"),
    )
    assert row["verdict"] == "unstable"
    assert "warmup_not_converged" in row["flags"]
    assert row["warmup_converged"] is False


def test_one_slow_worker_of_four_is_told_and_named(judged):
    row = judged(
        *("grid.workers=4", "engine.slow_worker=2", "engine.slow_drop=0.2"),
        *("measure.min_s=2", "measure.max_s=6"),
    )
    assert "imbalance" in row["flags"]
    assert row["imbalance"] == pytest.approx(0.25, rel=0.2)
    assert row["slowest_worker"] == 2
    assert row["items_per_s"] == pytest.approx(38_000, rel=0.04)


@contextlib.contextmanager
def load_on(cpu):
    """Another process that never rests on one CPU."""
    code = f"import os; os.sched_setaffinity(0, {{{cpu}}})\nwhile True: pass"
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        yield
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def on_a_core(measure, tiny):
    """Measure a network on one CPU core beside a load; gives the rows of trial and worker."""

    def run(cpu):
        with load_on(cpu):
            _, folder = measure(
                *(*SHORT, "device=cpu", f"model={tiny}", "grid.workers=1", "grid.batch_size=64"),
                *("grid.precision=fp32", "measure.min_s=2", "measure.max_s=2"),
            )
        (row,) = raybench.load(folder).to_pylist()
        (worker,) = raybench.load(folder, table="workers").to_pylist()
        assert row["status"] == "ok", row["reason"]
        return row, worker

    return run


def test_load_on_the_workers_core_makes_the_row_say_so(on_a_core):
    cpu = devices.cores()[0]
    row, worker = on_a_core(cpu)
    assert worker["cpu_affinity"] == str(cpu)
    assert dict(worker["env_allowlist"])["OMP_NUM_THREADS"] == "1"  # Ray's doing
    assert row["verdict"] == "unstable"
    assert "foreign_load" in row["flags"]
    assert worker["foreign_load_frac"] > 0.2
    assert row["foreign_load_frac"] == worker["foreign_load_frac"]


@pytest.mark.skipif(len(devices.cores()) < 2, reason="there is no other core to load")
def test_load_on_another_core_is_told_as_load_of_the_node(on_a_core):
    cpu = devices.cores()[1]
    row, worker = on_a_core(cpu)
    assert worker["cpu_affinity"] != str(cpu)
    beside_own = row["node_load_frac"] * os.cpu_count() - worker["foreign_load_frac"]
    assert beside_own > 0.5  # CPUs, less what the machine gave to others
    assert ("node_load" in row["flags"]) == (row["node_load_frac"] > 0.1)
