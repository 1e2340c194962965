"""A plan is built once for each kind of machine and copied to the other nodes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import plan_nodes

import raybench

pytestmark = pytest.mark.ray


def test_a_plan_is_built_once_for_a_kind_of_machine_and_copied_to_the_other_nodes(
    tmp_path, tiny, quick
):
    entry = tmp_path / "path" / "planned-1.0.dist-info"
    entry.mkdir(parents=True)
    (entry / "METADATA").write_text("Metadata-Version: 2.1\nName: planned\nVersion: 1.0\n")
    (entry / "entry_points.txt").write_text(plan_nodes.ENTRY_POINTS)
    program = Path(plan_nodes.__file__)
    folders = (Path(raybench.__file__).parents[1], program.parent, entry.parent)
    usual = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, str(program), "experiment=scaling", f"model={tiny}", "engine=planned",
         "grid.workers=3", "batch_size=8", f"results.dir={tmp_path}/results", *quick],
        env={**usual, "PYTHONPATH": os.pathsep.join(map(str, folders)),
             "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0",
             plan_nodes.FOLDER: str(tmp_path)},
        capture_output=True, text=True, timeout=1200,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    builders = (tmp_path / "builds").read_text().split()
    assert len(builders) == 2
    assert "other" in builders
    plans = {name: list((tmp_path / name / "planned").iterdir()) for name, _ in plan_nodes.NODES}
    assert [len(files) for files in plans.values()] == [1, 1, 1]
    assert plans["one"][0].read_bytes() == plans["two"][0].read_bytes()
    workers = raybench.load(tmp_path / "results", "workers").to_pylist()
    assert [worker["build_cache_hit"] for worker in workers] == [True] * 3
    assert len({worker["engine_sha256"] for worker in workers}) == 2
