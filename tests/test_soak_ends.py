"""Soaks that are ended from outside, with the whole program as a process and a Ray of its own."""

import os
import signal
import subprocess
import sys

import psutil
import pytest
from helpers.processes import killed_at_the_end

import raybench
from raybench.errors import ResultsError

pytestmark = pytest.mark.ray

SOAK = (
    *("experiment=soak", "engine=simulated", "device=cpu", "model=lenet", "workers=1"),
    *("cluster.cpus=1", "cluster=local", "measure.max_s=600", "measure.row_every_s=1"),
    *("measure.block_s=0.25", "measure.warmup_min_s=0", "measure.warmup_max_s=1"),
)
ROWS = 3


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_a_soak_that_is_ended_keeps_every_interval_but_the_open_one(tmp_path, end):
    folder = tmp_path / "results"
    with subprocess.Popen(
        [sys.executable, "-m", "raybench", *SOAK, f"results.dir={folder}"], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
    ) as process, killed_at_the_end(process):  # fmt: skip
        assert process.stdout is not None
        lines = (line for line in process.stdout if line.startswith("soak, "))
        for _ in range(ROWS):
            next(lines)
        started = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(end)
        code = process.wait(120)
        # after SIGKILL nobody ends Ray, which takes a minute to notice
        _, left = psutil.wait_procs(started, timeout=0 if end == signal.SIGKILL else 120)
        for other in left:
            other.kill()
    rows = raybench.load(folder, table="soak").sort_by("interval").to_pylist()
    assert [row["interval"] for row in rows] == list(range(len(rows)))
    assert len(rows) >= ROWS
    for row in rows[:ROWS]:
        assert row["window_s"] == pytest.approx(1.0, abs=0.3)
        assert row["latency_n"] == row["batches"] > 0
    if end == signal.SIGKILL:
        with pytest.raises(ResultsError, match="no finished trial"):
            raybench.load(folder)
        return
    (trial,) = raybench.load(folder).to_pylist()
    assert (code, trial["status"]) == (130, "interrupted")
    assert trial["window_s"] >= ROWS - 0.3
    assert trial["items_per_s"] > 0
    ended = raybench.load(folder, table="events").to_pylist()
    assert "ended" in [event["kind"] for event in ended]
    assert os.path.isdir(folder / "blocks")
