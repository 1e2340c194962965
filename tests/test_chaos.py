import json
import subprocess
import sys
from pathlib import Path

import pytest

CHAOS = Path(__file__).parent.parent / "benchmarks" / "chaos.py"


@pytest.mark.ray
@pytest.mark.parametrize("cluster", ["embedded", "nodes"])
def test_a_grid_survives_a_short_run_of_faults(cluster):
    """The program that measures this, with one seed and few points; judged on rows, not on time."""
    found = subprocess.run(
        [sys.executable, str(CHAOS), "--cluster", cluster, "--seeds", "1", "--points", "20",
         "--no-calm"],
        capture_output=True, text=True, check=False, timeout=400,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout[-3000:]
    (run,) = json.loads(found.stdout.splitlines()[-1])["runs"]
    assert run["faults"]["driver"] == 1
    assert sum(run["faults"].values()) >= 3
