"""`raybench.run` and `raybench.plan`, up to where Ray would start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from helpers.tiny_graphs import graph_of
from onnx import TensorProto, helper

import raybench
from raybench.cli.main import main
from raybench.cluster import session as sessions

FOUR_GPUS = {"engine": "simulated", "cluster.gpus": 4, "model": "alexnet"}


def test_a_plan_is_data_and_starts_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sessions, "connect", None)
    plan = raybench.plan("scaling", {**FOUR_GPUS, "grid.batch_size": [1, 8], "workers": [1, 2]})
    assert [(p.batch_size, p.workers) for p in plan.points] == [(1, 1), (1, 2), (8, 1), (8, 2)]
    assert [trial.number for trial in plan.trials] == list(range(12))
    assert 0 < plan.shortest_s < plan.longest_s
    assert (list(tmp_path.iterdir()), capsys.readouterr().out) == ([], "")


@pytest.mark.parametrize(
    "overrides",
    [
        {"trials": 2, "batch_size": (4, 8), "transfers": False, "model": Path("alexnet")},
        {
            "trials": np.int64(2),
            "batch_size": np.array([4, 8]),
            "transfers": "off",
            "model": "alexnet",
        },
        ["trials=2", "batch_size=[4,8]", "transfers=off", "model=alexnet"],
    ],
)
def test_a_mapping_says_the_same_as_the_words_of_the_command_line(overrides):
    plan = raybench.plan("experiment=smoke", overrides)
    usual = raybench.plan("smoke", "preset=quick")
    assert [(p.batch_size, p.transfers, p.model) for p in plan.points] == [
        (4, False, "alexnet"), (8, False, "alexnet"),
    ]  # fmt: skip
    assert len(plan.trials) == 4
    assert len(usual.trials) == 1


def test_a_mapping_may_name_inputs_and_dimensions_with_dots(tmp_path):
    shape = ["p2o.DynamicDimension.0", "p2o.DynamicDimension.1", 3]
    node = helper.make_node("Relu", ["x:0"], ["y"])
    path = tmp_path / "dotted.onnx"
    onnx.save(
        graph_of([node], [("x:0", TensorProto.FLOAT, shape)], [("y", TensorProto.FLOAT, None)]),
        path,
    )
    sizes = {"model.shapes": {"p2o.DynamicDimension.1": 8}, "model.values": {"x:0": 0.5}}
    whole = {"model.shapes": {"x:0": ["N", 8, 3]}}
    for settings in (sizes, whole):
        plan = raybench.plan("smoke", {**FOUR_GPUS, "model": path, **settings})
        assert plan.points[0].model == str(path)


@pytest.mark.parametrize(
    ("overrides", "start"),
    [
        ({"batch_size": 1, "trials": 1}, "1 point, 1 trial each, "),
        ({"batch_size": [1, 2, 4], "workers": [1, 2], "trials": 2}, "6 points, 2 trials each, "),
    ],
)
def test_a_plan_is_described_in_singular_and_plural(
    overrides, start, monkeypatch, tmp_path, capsys
):
    monkeypatch.chdir(tmp_path)
    words = [f"{key}={value}" for key, value in {"workers": 1, **FOUR_GPUS, **overrides}.items()]
    assert main(["plan", "experiment=scaling", *words]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith(start)


def test_a_model_is_enough(tiny):
    (point,) = raybench.plan(overrides={"model": tiny, "engine": "onnxruntime"}).points
    assert (point.model, point.precision, point.workers) == (str(tiny), "fp32", 1)
    with pytest.raises(raybench.ConfigError, match="No experiment was named"):
        raybench.plan()


def test_settings_can_be_nested():
    plan = raybench.plan("smoke", {"measure": {"min_s": 3.5, "max_s": 4}})
    assert plan.points[0].measure.min_s == 3.5
    plan = raybench.plan(
        "batch_size",
        {"device": {"batch_ladder": [3]}, "cluster": {"retries": 0}, "model": "alexnet"},
    )
    assert [point.batch_size for point in plan.points] == [3]


@pytest.mark.parametrize(
    ("overrides", "error", "sentence"),
    [
        ({"modle": "alexnet"}, raybench.ConfigError, "Did you mean 'model'"),
        ({"batch_size": None}, raybench.ConfigError, "batch_size is empty"),
        ({"model": "missing.onnx"}, raybench.ModelError, "missing.onnx"),
        ({"workers": 64}, raybench.ClusterError, "needs 64 CPU cores"),
    ],
)
def test_what_the_command_line_refuses_is_an_exception_with_its_sentence(
    overrides, error, sentence, tmp_path
):
    for function in (raybench.plan, raybench.run):
        with pytest.raises(error, match=sentence):
            function("scaling", {**overrides, "results.dir": tmp_path / "results"})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("experiment", [3, b"smoke", True])
def test_what_is_no_name_of_an_experiment_is_refused(experiment):
    with pytest.raises(raybench.ConfigError, match="is no experiment"):
        raybench.plan(experiment)


@pytest.mark.parametrize("overrides", [[3], 3, [["trials", 3]]])
def test_overrides_that_are_not_words_are_refused(overrides):
    with pytest.raises(raybench.ConfigError, match=r"is not key=value"):
        raybench.plan("scaling", overrides)


def test_a_process_that_is_connected_to_ray_is_asked_to_disconnect(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: True))
    with pytest.raises(raybench.ClusterError, match=r"Call ray\.shutdown"):
        raybench.run("smoke", {"engine": "simulated", "results.dir": tmp_path / "results"})


def test_every_public_name_can_be_imported_and_importing_the_package_loads_nothing():
    assert all(getattr(raybench, name) is not None for name in raybench.__all__)
    code = (
        "import sys, raybench; print(sorted(m for m in sys.modules if m.startswith('raybench.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['raybench.version']\n"


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_returns_its_rows_prints_nothing_and_leaves_no_ray(tmp_path):
    code = """
import gc
import ray
import raybench
run = raybench.run("scaling", {
    "engine": "simulated", "cluster.gpus": 2, "cluster.dashboard": False, "model": "alexnet",
    "workers": [1, 2], "preset": "quick", "results.dir": "rows",
    "measure": {"min_s": 0.5, "max_s": 1, "look_s": 0.25, "block_s": 0.05, "warmup_min_s": 0.1},
})
assert run.rows["status"].to_pylist() == ["ok", "ok"]
assert (run.folder, run.failed, run.workers.num_rows) == ("rows", False, 3)
assert "speedup" in run.table()
assert not ray.is_initialized()
assert gc.isenabled() and gc.get_freeze_count() == 0
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
