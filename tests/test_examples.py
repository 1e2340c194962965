"""The examples run as they stand, on nothing but a results folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import raybench
from raybench.analysis.study2017.data import study_trials
from raybench.results.store import Store

EXAMPLES = Path(__file__).parents[1] / "examples"
EXAMPLE = EXAMPLES / "answers.py"
NOTEBOOK = EXAMPLES / "scaling.ipynb"


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
        "print([m for m in ('ray', 'openvino', 'onnxruntime', 'onnx', 'tensorrt')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_notebook_is_committed_without_outputs():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) == 5
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


@pytest.mark.ray
@pytest.mark.slow
def test_the_notebook_goes_from_a_run_to_a_figure(tmp_path):
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=1200, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    table, finding, figure = [c for c in notebook.cells if c.cell_type == "code"][2:]
    assert "SIMULATED" in str(table.outputs)
    assert "4 workers give" in str(finding.outputs)
    assert "image/png" in figure.outputs[-1].data
    assert raybench.load(tmp_path / "results" / "notebook").num_rows == 6


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Install the example engine into a folder; return the environment that has it."""
    source = shutil.copytree(EXAMPLES / "engine_plugin", tmp_path / "source")
    installed = tmp_path / "installed"
    words = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run(
        [sys.executable, "-m", "pip", *words, "--target", str(installed), str(source)],
        check=True, capture_output=True,
    )  # fmt: skip
    return {**os.environ, "PYTHONPATH": f"{installed}{os.pathsep}{EXAMPLES.parent}"}


def raybench_in(environment, *words):
    done = subprocess.run(
        [sys.executable, "-m", "raybench", *words],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_example_engine_conforms_and_is_on_the_menu(plugin):
    test = EXAMPLES / "engine_plugin" / "test_raybench_reference.py"
    words = ["-q", "-p", "no:cacheprovider", "--rootdir", str(test.parent), str(test)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words], capture_output=True, text=True, check=False,
        env=plugin, cwd=test.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "reference on cpu" in " ".join(raybench_in(plugin, "list", "engines").split())
    assert "engine reference ready, on cpu" in " ".join(raybench_in(plugin, "doctor").split())
    assert "reference" in raybench_in(plugin, "plan", "model=lenet", "engine=reference")


@pytest.mark.ray
def test_the_example_engine_measures(plugin, quick, tmp_path):
    words = ("model=lenet", "engine=reference", f"results.dir={tmp_path}/results", *quick)
    raybench_in(plugin, *words, "cluster.address=local", "cluster.dashboard=false")
    (row,) = raybench.load(tmp_path / "results").to_pylist()
    assert row["status"] == "ok", row["reason"]
    assert (row["engine"], row["engine_version"], row["build_s"]) == ("reference", "1.0", None)
    assert row["fidelity_sqnr_db"] > 80
