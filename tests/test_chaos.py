"""Faults, two drivers on one folder and Ctrl-C, with the whole program as a process."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter

import chaos
import psutil
import pytest
from helpers.last_words import last_of
from helpers.processes import killed_at_the_end

import raybench

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.mark.parametrize(("cluster", "seed"), [("embedded", 0), ("nodes", 7)])
def test_a_grid_survives_a_short_run_of_faults(cluster, seed):
    """Run benchmarks/chaos.py with one seed and few points; it judges rows, not times."""
    done = subprocess.run(
        [sys.executable, chaos.__file__, "--cluster", cluster, "--first", str(seed), "--seeds", "1",
         "--points", "20", "--no-calm"],
        capture_output=True, text=True, check=False, timeout=1800,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    (run,) = json.loads(done.stdout.splitlines()[-1])["runs"]
    assert run["wrong"] == []
    assert run["faults"] == Counter(chaos.FAULTS[cluster])


def test_two_drivers_on_one_folder_measure_nothing_twice(tmp_path, quick):
    folder = tmp_path / "results"
    command = [sys.executable, "-m", "raybench", "experiment=scaling", "model=alexnet",
               "engine=simulated", "grid.workers=1", "batch_size=[1,2]", "cluster.gpus=1",
               "cluster.cpus=1", *quick, f"results.dir={folder}"]  # fmt: skip
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=1800)[0] for process in both]
    codes = sorted(process.returncode for process in both)
    assert codes in ([0, 2], [0, 0]), outputs  # one is refused, or comes when all rows are there
    rows = raybench.load(folder).to_pylist()
    assert [row["status"] for row in rows] == ["ok", "ok"]
    assert len({row["point_id"] for row in rows}) == 2
    assert not (folder / ".leases").exists()
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert again.stdout.count("kept (ok)") == 2
    assert "Dashboard" not in again.stdout  # nothing was started


def test_ctrl_c_keeps_rows_marks_what_ran_and_leaves_nothing(tmp_path, quick):
    folder = tmp_path / "results"
    words = ["experiment=scaling", "model=alexnet", "engine=simulated", "grid.workers=1",
             "batch_size=[1,1000]", "engine.item_us=10000", "cluster.gpus=1", "cluster.cpus=1",
             *quick, f"results.dir={folder}"]  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-m", "raybench", *last_of(words)], stdout=subprocess.PIPE, text=True,
        stderr=subprocess.DEVNULL, start_new_session=True,
    ) as process, killed_at_the_end(process):  # fmt: skip
        assert process.stdout is not None
        assert any(line.startswith("[2/2]") for line in process.stdout)
        started = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to Ray's processes too
        assert process.wait(300) == 130
    rows = raybench.load(folder).to_pylist()
    assert sorted(row["status"] for row in rows) == ["interrupted", "ok"]
    _, left = psutil.wait_procs(started, timeout=300)
    assert not left
