import os
import subprocess
import sys

import numpy as np
import pytest
from helpers.fake_nvml import FakeNvml

from raybench.cli.main import main
from raybench.cluster.nodes import environment_id
from raybench.config.compose import read
from raybench.errors import PointError
from raybench.execute import lead
from raybench.execute.discovery import discover
from raybench.execute.run import plan_request
from raybench.results.store import Store
from raybench.version import __version__


def test_help_loads_no_library_but_the_standard_one():
    code = (
        "import sys, runpy; sys.argv = ['raybench', '--help']\n"
        "try: runpy.run_module('raybench', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "heavy = {'ray', 'numpy', 'pyarrow', 'yaml', 'onnx', 'scipy', 'rich', 'matplotlib'}\n"
        "print('loaded:', heavy & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "usage: raybench" in done.stdout
    assert done.stdout.endswith("loaded: set()\n")


def test_modules_that_ray_can_start_without_are_not_imported_before(tmp_path):
    code = (
        "import sys, raybench.cli.run; from raybench.results.store import Store; "
        f"Store({str(tmp_path / 'results')!r}).finals(); "
        "late = {'ray', 'scipy', 'pandas', 'raybench.execute.runner', 'raybench.report.terminal.table'}; "
        "print(late & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["rnu", "experiment=scaling"], "Unknown verb 'rnu'. Did you mean 'run'"),
        (["mine.onnx"], "Unknown verb 'mine.onnx'. Write model=mine.onnx."),
        (["scaling"], "Write experiment=scaling."),
        (["alexnet", "trials=1"], "Write model=alexnet."),
        (["--trials"], "'--trials' has no value. Write trials=VALUE."),
        (["--trails", "3"], "Unknown key 'trails' in the command line. Did you mean 'trials'?"),
        (["plan", "exp\x1b[31m=x"], "holds a control character"),
        (["show", "caf\udce9"], "holds bytes that are not UTF-8"),
        (["experiment=scaling", "model=alexnt"], "'alexnt'"),
        (["experiment=scaling", "model=missing.onnx"], "missing.onnx"),
        (
            ["model=alexnet", "model.inputs=missing.npz"],
            "model.inputs='missing.npz' does not exist",
        ),
        (["experiment=scaling", "workers=64"], "needs 64 CPU cores"),
        (
            ["experiment=scaling", "device=gpu", "engine=simulated", "cluster.gpus=0", "workers=1"],
            "needs 1 GPU and the cluster has 0",
        ),
        (["experiment=scaling", "cluster.cpus=999"], "offers more cores"),
        (["experiment=scaling", "cluster.address=ray://host:10001"], "Ray Client address"),
        (["experiment=scaling", "cluster.address=127.0.0.1:1"], "Nothing answers at"),
        (["experiment=scaling", "cluster.address=here"], "is not host:port"),
        (["list", "enginse"], "Did you mean 'engines'"),
        (["experiment=smoke", "cluster.select={rack: r1}"], "Leave it out"),
        (["doctor", "please"], "takes no words but cluster.address"),
        (["show"], "takes one results folder, and 0 folders were named"),
        (["show", "no/such/folder"], "no/such/folder"),
    ],
)
def test_a_wrong_word_is_refused_in_one_line_with_exit_code_2(words, sentence, capsys):
    assert main(words) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_a_folder_that_holds_something_else_is_refused_before_anything_runs(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("mine")
    words = ["experiment=scaling", "model=alexnet", f"results.dir={tmp_path}"]
    assert main(words) == 2
    assert str(tmp_path) in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["thesis.txt"]


@pytest.mark.parametrize("content", [b"not a graph at all", b""])
def test_a_file_that_is_not_onnx_is_refused(tmp_path, capsys, content):
    file = tmp_path / "broken.onnx"
    file.write_bytes(content)
    assert main(["experiment=scaling", f"model={file}"]) == 2
    assert "broken.onnx" in capsys.readouterr().err


def test_a_dynamic_dimension_without_a_size_is_asked_for_by_name(two_inputs, capsys):
    assert main(["experiment=scaling", f"model={two_inputs}"]) == 2
    assert "model.shapes.sequence" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["-V", "--version"])
def test_the_version_is_a_word_away(word, capsys):
    assert main([word]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


def test_a_page_of_a_verb_that_does_not_exist_is_refused(capsys):
    assert main(["help", "shwo"]) == 2
    assert "Unknown verb 'shwo'. Did you mean 'show'?" in capsys.readouterr().err


def test_plan_lists_the_points_and_starts_nothing(tmp_path, capsys):
    folder = tmp_path / "results"
    words = ["experiment=paper", "engine=simulated", "cluster.gpus=4", f"results.dir={folder}"]
    assert main(["plan", *words]) == 0
    assert "googlenet, int8, batch 4,096" in capsys.readouterr().out
    assert not folder.exists()


def test_plan_leaves_out_what_has_its_row_and_changes_nothing(tmp_path, capsys):
    words = ["experiment=smoke", "engine=simulated", "trials=2", f"results.dir={tmp_path}"]
    draft = read(words)
    with discover(draft.cluster) as cluster:
        request = draft.resolve(cluster.devices, cluster.unavailable)
        first, *_ = plan_request(request, cluster).trials
        row = {"environment_id": environment_id(cluster.facts), "status": "ok"}
    Store(tmp_path).start_run({}).write_point(*first.key, trials=row)
    before = sorted(tmp_path.rglob("*"))
    assert main(["plan", *words]) == 0
    assert "1 of 2 trials has its row" in capsys.readouterr().out
    assert sorted(tmp_path.rglob("*")) == before


def test_a_model_alone_is_planned_as_one_point(tiny, capsys):
    assert main(["plan", f"model={tiny}", "batch_size=5", "engine=onnxruntime"]) == 0
    question, points, *_ = capsys.readouterr().out.splitlines()
    assert "How fast does this model run here?" in question
    assert points.startswith("1 point, 1 trial each")


def test_a_plan_says_which_inputs_were_found(tiny, tmp_path, capsys):
    np.save(tmp_path / "items.npy", np.zeros((7, 3, 8, 8), np.float32))
    words = [f"model={tiny}", f"model.inputs={tmp_path / 'items.npy'}", "engine=onnxruntime"]
    assert main(["plan", *words, "batch_size=[1,2]"]) == 0
    assert capsys.readouterr().out.count("\nInputs: file items.npy; 7 items; sha256 ") == 1


def test_a_run_keeps_the_words_it_was_given_and_not_those_of_the_process(tmp_path, monkeypatch):
    kept = []

    def start_run(context, words, stop):
        kept.extend(words)
        raise PointError("far enough")

    monkeypatch.setattr(lead, "start_run", start_run)
    words = ["experiment=smoke", "engine=simulated", f"results.dir={tmp_path / 'results'}"]
    assert main(["run", *words]) == 1
    assert kept == words


def test_list_names_every_kind_of_thing(capsys):
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("scaling", "googlenet", "openvino", "standard"))
    assert all(f"{prefix}:NAME" in text for prefix in ("timm", "torchvision", "hf"))


def test_doctor_names_every_engine(capsys):
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert all(f"engine {name}" in text for name in ("openvino", "onnxruntime", "tensorrt"))


def test_a_value_that_fills_the_screen_is_cut_in_a_message(capsys):
    assert main(["doctor", "1" * 9000]) == 2
    error = capsys.readouterr().err
    assert len(error) < 1600
    assert " ... " in error
    assert error.endswith("Write: raybench doctor\n")


@pytest.mark.parametrize("words", [["model=alexnet", "plan"], ["--model", "alexnet", "plan"]])
def test_a_verb_comes_first(words, capsys):
    assert main(words) == 2
    assert "Write: raybench plan key=value" in capsys.readouterr().err


def test_doctor_says_which_counters_a_gpu_has_and_which_gpu_is_unwell(monkeypatch, capsys):
    fake = FakeNvml()
    fake.answers["nvmlDeviceGetRemappedRows"] = (0, 1, 1, 0)
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    main(["doctor"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "(NVML GPM) on 3 of 3" in shown
    assert "rows of the memory of GPU-0 wait to be replaced" in shown
