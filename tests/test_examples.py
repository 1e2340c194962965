"""The examples run as they stand, on nothing but a results folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from raybench.analysis.study2017.data import study_trials
from raybench.results.store import Store

EXAMPLE = Path(__file__).parents[1] / "examples" / "answers.py"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The study of 2017 as a results folder."""
    monkeypatch.setattr("os.fsync", lambda handle: None)
    run = Store(tmp_path / "results").start_run({})
    for row in study_trials().to_pylist():
        kept = {k: v for k, v in row.items() if v is not None and k not in ("run_id", "point_id")}
        name = f"{row['environment_id']}-{row['point_id']}".replace(" ", "")
        run.write_point(name, kept.pop("trial"), trials=kept)
    return str(tmp_path / "results")


def test_the_example_answers_from_rows(folder):
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for words in (
        "googlenet int8: 4 workers give 3.995 times the throughput of 1",
        "alexnet int8: 3.13 x fp32",
        "memory ends at batch 4096",
        "scaling: reproduced.",
        "items_per_s: double",
    ):
        assert words in done.stdout


def test_reading_needs_neither_ray_nor_a_vendors_library():
    code = (
        "import sys, raybench.cli.compare, raybench.analysis.study2017.figures, raybench.report.terminal.table;"
        "print([m for m in ('ray', 'openvino', 'onnxruntime', 'onnx', 'tensorrt', 'omegaconf')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
