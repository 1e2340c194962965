"""What the real command prints when its workers or Ray's processes are killed: one sentence of ours."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading

import psutil
import pytest

import raybench

COMMAND = (
    "experiment=smoke", "engine=simulated", "model=alexnet", "batch_size=1", "workers=1",
    "preset=quick", "measure.look_s=0.25", "measure.block_s=0.05", "measure.warmup_min_s=0.1",
)  # fmt: skip
RAYS = re.compile(
    r"\x1b|raylet|autoscaler|Lease ID|Worker ID|actor_id|error code|ray stop|\.cc:|rpc_|Traceback"
    r"|FutureWarning|gcs_server|ActorDied|OOM killer|pid="
)
"""What only Ray's own texts contain."""


class Command:
    """The command in a process of its own, with all that it prints."""

    def __init__(self, folder, *words, **variables):
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "raybench", *COMMAND, *words, f"results.dir={folder}"],
            env=os.environ | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.errors = []
        self._reader = threading.Thread(target=lambda: self.errors.extend(self.process.stderr))
        self._reader.start()

    def lines(self):
        return self.process.stdout  # a generator over it would close it when it is left

    def begin(self):
        """Wait for the line that begins the point, and return all until then."""
        lines = []
        for line in self.lines():
            lines.append(line)
            if line.endswith(" ...\n"):
                break
        return lines

    def end(self):
        code = self.process.wait(600)
        self._reader.join()
        return code

    def child(self, pattern):
        """Wait for the process of the run whose command line has the pattern."""
        while self.process.poll() is None:
            for child in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if re.search(pattern, " ".join(child.cmdline())):
                        return child
        raise AssertionError("".join(self.errors))


@pytest.fixture
def command(tmp_path):
    commands = []

    def start(*words, **variables):
        commands.append(Command(tmp_path / "results", *words, **variables))
        return commands[-1]

    yield start
    for each in commands:
        each.process.kill()
        each.end()
        each.process.stdout.close()
        each.process.stderr.close()


@pytest.mark.ray
@pytest.mark.slow
def test_a_killed_worker_costs_one_sentence(command):
    run = command("measure.min_s=30", "measure.max_s=60", "cluster.retries=0")
    printed = run.begin()
    run.child(r"^ray::.*measure").kill()
    printed += run.lines()
    assert run.end() == 1
    assert run.errors == []
    assert not RAYS.search("".join(printed))
    (row,) = raybench.load(str(run.folder)).to_pylist()
    assert row["reason"] == (
        "A worker's process ended in phase 'measure': it was killed, by hand or by the system for its "
        "memory (dmesg says so)."
    )


@pytest.mark.ray
@pytest.mark.slow
def test_a_worker_that_ray_ends_for_memory_costs_one_sentence(command):
    run = command(
        "measure.min_s=30",
        "measure.max_s=60",
        RAY_memory_usage_threshold="0.01",  # as if another process had filled the memory
        RAY_memory_monitor_refresh_ms="100",
    )
    printed = "".join(run.lines())
    assert run.end() == 0
    assert run.errors == []
    assert not RAYS.search(printed)
    (row,) = raybench.load(str(run.folder)).to_pylist()
    assert row["status"] == "out_of_memory"
    assert "Ray ended the worker to save the node" in row["reason"]


@pytest.mark.ray
@pytest.mark.slow
def test_a_cluster_whose_head_is_killed_ends_the_run_with_one_sentence(command):
    run = command("measure.min_s=100", "measure.max_s=120")
    printed = run.begin()
    run.child(r"^ray::.*measure")
    run.child(r"gcs_server").kill()
    printed += run.lines()
    assert run.end() == 1
    (error,) = run.errors
    assert re.fullmatch(
        r"raybench: The cluster's head node 127\.0\.0\.1:\d+ went away\. Finished rows are kept; .*\n",
        error,
    )
    assert not RAYS.search("".join(printed))
