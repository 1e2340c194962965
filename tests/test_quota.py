"""The command line under a real CPU quota, where this user may make a control group."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers.control_groups import quota_missing, real_quota

import raybench
from raybench.machine import devices

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _quota_possible() -> None:
    reason = quota_missing()
    if reason is not None:
        pytest.skip(reason)


def raybench_within(cores: float, words: Sequence[str], folder: Path) -> tuple[int, str]:
    """Return exit code and output of a command whose control group has a quota of some cores."""
    with real_quota(cores) as group:
        done = subprocess.run(
            ["sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$0" "$@"',
             sys.executable, "-m", "raybench", *words],
            cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "300"},
            capture_output=True, text=True, encoding="utf-8", timeout=1200, check=False,
        )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(("cores", "said"), [(0.5, "only 50% of its time"), (1.5, "no more")])
def test_doctor_says_what_a_quota_leaves(cores: float, said: str, tmp_path: Path) -> None:
    if len(devices.physical_cores()) < 2:
        pytest.skip("there is one core, which a quota of 1.5 leaves whole")
    code, output = raybench_within(cores, ["doctor"], tmp_path)
    assert code == 0, output
    assert "1 core to measure on" in output
    assert said in output
    assert f"a CPU quota of {cores:g} cores" in output


def test_more_workers_than_a_quota_allows_are_refused(tmp_path: Path) -> None:
    words = ["experiment=smoke", "engine=onnxruntime", "workers=2", "results.dir=r"]
    code, output = raybench_within(1.5, words, tmp_path)
    assert code == 2, output
    assert "the cluster has 1" in output


@pytest.mark.ray
def test_a_window_that_a_quota_held_back_is_flagged(tmp_path: Path) -> None:
    words = ["experiment=smoke", "engine=onnxruntime", "preset=quick", "cluster.dashboard=false",
             "results.dir=r"]  # fmt: skip
    code, output = raybench_within(0.5, words, tmp_path)
    assert code == 0, output
    (row,) = raybench.load(tmp_path / "r").to_pylist()
    assert row["cpu_quota_cores"] == 0.5
    assert row["cpu_throttled_frac"] > 0.1
    assert row["flags"][0] == "cpu_throttled"
    assert row["verdict"] == "unstable"
    assert "A CPU quota of 0.5 cores held the workers back" in row["advice"]
    assert "cpu_throttled" in output or "held the workers back" in output
