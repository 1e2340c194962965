"""Verdicts and flags of the whole program with real workers, streams and telemetry."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

import raybench
from raybench.cli.main import main
from raybench.execute.stream_watch import StreamWatch
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
    """Return a function that runs one point and gives its row."""

    def run(*words):
        _, folder = measure(*SHORT, *SIMULATED, *words)
        (row,) = raybench.load(folder).to_pylist()
        assert row["status"] == "ok", row["reason"]
        return row

    return run


def test_a_device_that_throttles_inside_the_window_is_unstable(judged):
    row = judged(
        *("engine.throttle_at_s=5", "engine.throttle_drop=0.2", "measure.warmup_max_s=3"),
        *("measure.min_s=8", "measure.max_s=8"),
    )
    assert row["verdict"] == "unstable"
    # however long the warm-up took: no machine makes it faster
    assert 0 < row["items_per_s"] < 9_500
    assert row["advice"]


def test_one_slow_worker_of_four_is_flagged_and_named(judged):
    row = judged(
        *("grid.workers=4", "engine.slow_worker=2", "engine.slow_drop=0.8"),
        *("measure.min_s=2", "measure.max_s=6"),
    )
    assert "imbalance" in row["flags"]
    assert row["imbalance"] > 0
    assert row["slowest_worker"] == 2


def test_the_device_that_is_slow_alone_is_rejected_in_the_part_that_was_measured(
    measure, quick, capsys
):
    _, folder = measure(
        *("experiment=accept", "engine=simulated", "device=gpu", "trials=2", *quick),
        *("exclude=[{model: [gemm, resnet50]}]", "transfers=off", "cluster.isolation=gpu"),
        *("engine.slow_device=1", "engine.slow_drop=0.9"),
    )
    capsys.readouterr()
    assert main(["accept", str(folder), "format=json"]) == 1
    facts = json.loads(capsys.readouterr().out)
    (rejected,) = (one for one in facts["devices"] if one["verdict"] == "reject")
    assert rejected["name"].endswith("GPU 1")
    assert rejected["slow_in"] == ["memory"]
    assert {verdict["situation"] for verdict in facts["verdicts"]} == {"alone", "together"}


@pytest.fixture
def stopped_in_the_window(monkeypatch):
    """Stop the first worker for over a second once, as soon as its window has begun."""
    report, stopped = StreamWatch._report, []

    def stop_once(watch, rates, warm_up, *more):
        report(watch, rates, warm_up, *more)
        if warm_up.window_start is not None and not stopped:
            stopped.append(watch.group.members[0].host.pid)
            os.kill(stopped[0], signal.SIGSTOP)
            time.sleep(1.3)  # the length of the stop, of which the stall is all but the ends
            os.kill(stopped[0], signal.SIGCONT)

    monkeypatch.setattr(StreamWatch, "_report", stop_once)
    return stopped


def test_a_worker_that_is_stopped_is_flagged_with_the_rate_without_it(
    judged, stopped_in_the_window
):
    row = judged("measure.min_s=6", "measure.max_s=6")
    assert stopped_in_the_window
    assert row["verdict"] == "unstable"
    assert "stalled" in row["flags"]
    assert row["longest_stall_s"] >= 1
    assert row["longest_stall_worker"] == 0
    assert 0 < row["items_per_s_lo"] < row["items_per_s"] < row["items_per_s_without_stalls"]
    assert "No batch for" in row["advice"]


@contextlib.contextmanager
def load_on(cpu):
    """Run another process that keeps one CPU busy."""
    code = f"import os; os.sched_setaffinity(0, {{{cpu}}})\nwhile True: pass"
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        yield
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def on_a_core(measure, tiny):
    """Return a function that measures a network while another process loads a CPU core."""

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
    assert row["foreign_load_frac"] == worker["foreign_load_frac"]


@pytest.mark.skipif(len(devices.cores()) < 2, reason="there is no other core to load")
def test_load_on_another_core_is_load_of_the_node(on_a_core):
    cpu = devices.cores()[1]
    row, worker = on_a_core(cpu)
    assert worker["cpu_affinity"] != str(cpu)
    assert ("node_load" in row["flags"]) == (row["node_load_frac"] > 0.1)
