"""Power limits in a real run: set for each point, and restored however the run or a worker ends."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.last_words import last_of
from helpers.limited_boards import Driver
from helpers.processes import killed_at_the_end

import raybench
from raybench.machine.board_power import lock_folder

pytestmark = pytest.mark.ray

BOARDS = tuple(f"GPU-{secrets.token_hex(8)}-{k}" for k in (0, 1))
"""The locks of boards are those of this user, and another run of the tests may go on beside this one."""
ENGINE = """
import time

from raybench.engines.base import EngineBase, EngineInfo, EngineTraits


class Drowsy(EngineBase):
    traits = EngineTraits(name="drowsy", device_kinds=("gpu",), reads_graph=False)
    info = EngineInfo(version="1")

    @classmethod
    def load(cls, load):
        return cls()

    def submit(self, sequence):
        time.sleep(0.002)

    def collect(self, sequence):
        return None

    def outputs(self):
        return {}
"""


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """Two boards of a fake driver, and an engine that sleeps on them, as other packages offer one."""
    driver = Driver(tmp_path, monkeypatch, BOARDS)
    (tmp_path / "drowsy.py").write_text(ENGINE)
    offered = tmp_path / "drowsy-1.0.dist-info"
    offered.mkdir()
    (offered / "METADATA").write_text("Metadata-Version: 2.1\nName: drowsy\nVersion: 1.0\n")
    (offered / "entry_points.txt").write_text("[raybench.engines]\ndrowsy = drowsy:Drowsy\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([os.environ["PYTHONPATH"], str(tmp_path)]))
    yield driver
    driver.close()
    for uuid in BOARDS:
        Path(lock_folder(), uuid).unlink(missing_ok=True)


def command(folder, *words):
    every = last_of(["experiment=power", "engine=drowsy", "device=gpu", "model=lenet",
                     "precision=fp32", "trials=1", "cluster.dashboard=false", "cluster.cpus=1",
                     *words, f"results.dir={folder}"])  # fmt: skip
    return [sys.executable, "-m", "raybench", *every]


def test_each_point_runs_at_its_limit_and_all_boards_are_as_before(driver, tmp_path, quick):
    folder = tmp_path / "results"
    words = ("power_limit_w=[unchanged,400]", "workers=2", "instances=2", *quick)
    done = subprocess.run(command(folder, *words), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    asked = {row["point_id"]: row["power_limit_w"] for row in raybench.load(folder).to_pylist()}
    workers = raybench.load(folder, table="workers").to_pylist()
    read = sorted((asked[w["point_id"]] or 0, w["gpu_uuid"], w["power_limit_w"]) for w in workers)
    assert read == sorted(
        (limit, BOARDS[k // 2], limit or 700.0) for limit in (0, 400.0) for k in range(4)
    )
    assert driver.state["limits"] == dict.fromkeys(BOARDS, 700_000)
    assert driver.state["log"].count(400_000) == 2


def test_without_permission_nothing_starts(driver, tmp_path):
    driver.set(refuses="Insufficient Permissions")
    done = subprocess.run(command(tmp_path / "results", "power_limit_w=400"), capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "may not set the power limit of GPU 0 (NVIDIA H200)" in done.stderr
    assert "Insufficient Permissions" in done.stderr
    assert driver.state["log"] == []


@pytest.mark.parametrize("end", ["Ctrl-C", "driver killed", "worker killed"])
def test_a_limit_is_restored_when_the_run_ends_in_the_middle(driver, tmp_path, end):
    words = ("power_limit_w=400", "preset=quick", "measure.min_s=60", "measure.max_s=60",
             "cluster.retries=0", "cluster.gpus=1")  # fmt: skip
    with subprocess.Popen(
        command(tmp_path / "results", *words), stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,
    ) as process, killed_at_the_end(process):  # fmt: skip
        until(lambda: driver.watts == 400)
        if end == "worker killed":
            (worker,) = driver.processes(measures)
            worker.kill()
        else:
            process.send_signal(signal.SIGINT if end == "Ctrl-C" else signal.SIGKILL)
        until(lambda: driver.watts == 700)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)


def measures(words):
    """Return whether a process is a worker, by its title: Ray names it by what it does."""
    title = "".join(words)
    return title.startswith("ray::") and not title.startswith("ray::IDLE")


def until(true):
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)
