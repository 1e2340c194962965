"""A run that is stopped, ended or killed at seeded moments; benchmarks/moments.py has 200 of them."""

import subprocess
import sys

import moments
import pytest

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_a_run_ends_well_whatever_moment_it_is_ended_at():
    done = subprocess.run(
        [sys.executable, moments.__file__, "--moments", "6"],
        capture_output=True, text=True, check=False, timeout=3000,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-1000:]
