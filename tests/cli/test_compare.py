"""`raybench compare` on the command line: sides, options, formats, exit codes."""

from __future__ import annotations

import csv
import io
import json
from xml.etree import ElementTree

import pytest

from raybench.cli.compare import RowSelection, parse_side
from raybench.cli.main import main
from raybench.results.store import Store

ROW = {
    "environment_id": "e1", "status": "ok", "verdict": "stable", "model": "resnet50",
    "precision": "fp32", "batch_size": 8, "workers": 1, "engine": "openvino",
    "engine_version": "2026.4", "device": "AMD EPYC", "inflight": 1, "transfers": True,
    "simulated": False, "preset": "standard", "method_version": 1, "memory_limit_bytes": None,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _no_flush(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda handle: None)


@pytest.fixture
def write(tmp_path):
    """Write a run of three trials a rate into a folder; returns the folder and the run's id."""

    def write(name, *rates, **row):
        run = Store(tmp_path / name).start_run({})
        run.write_environment([{"environment_id": row.get("environment_id", "e1")}])
        for workers, rate in enumerate(rates, 1):
            for trial, noise in enumerate((0.999, 1.0, 1.001)):
                whole = {**ROW, "workers": workers, "items_per_s": rate * noise, **row}
                run.write_point(f"p{workers}{row.get('precision', '')}", trial, trials=whole)
        return str(tmp_path / name), run.id

    return write


def test_a_regression_is_exit_code_1_and_named(write, capsys):
    a, b = write("old", 100.0, 200.0)[0], write("new", 100.0, 180.0)[0]
    assert main(["compare", a, b]) == 1
    out = capsys.readouterr().out
    assert "▼ regressed" in out
    assert "2 points: 1 regressed, 1 same." in out
    assert "0.900 [0.89" in out
    assert main(["compare", a, a]) == 0


def test_a_side_can_be_the_rows_of_some_inputs(write, capsys):
    inputs = "file cats.npz; 24 items; sha256 0123456789ab"
    folder, _ = write("both", 100.0, inputs="synthetic")
    write("both", 100.0, inputs=inputs, precision="fp32")
    assert (
        main(["compare", f"{folder}:inputs=synthetic", f"{folder}:inputs={inputs}", "by=inputs"])
        == 0
    )
    assert "1 point: 1 same." in capsys.readouterr().out


def test_strict_distinguishes_undecided_from_unchanged(write, capsys):
    a, b = write("old", 100.0, 200.0)[0], write("new", 100.0)[0]
    assert main(["compare", a, b]) == 0
    assert main(["compare", a, b, "--strict"]) == 3
    assert "1 of 2 points has a number on one side only." in capsys.readouterr().out


def test_filters_choose_the_sides_of_one_folder(write, capsys):
    folder, _ = write("both", 100.0)
    write("both", 300.0, precision="int8")
    words = [f"{folder}:precision=fp32", f"{folder}:precision=int8", "by=precision"]
    assert main(["compare", *words]) == 0
    out = capsys.readouterr().out
    assert "▲ improved" in out
    assert "precision: fp32 against int8" in out


def test_two_networks_are_compared_where_that_is_the_question(write, capsys):
    folder, _ = write("both", 100.0, model="alexnet", model_identity="zoo:alexnet@1/seed=0")
    write("both", 300.0, precision="fp32", model="resnet50", model_identity="zoo:resnet50@1/seed=0")
    sides = [f"{folder}:model=alexnet", f"{folder}:model=resnet50"]
    assert main(["compare", *sides]) == 2
    assert "add by=model" in capsys.readouterr().err
    assert main(["compare", *sides, "by=model"]) == 0
    out = capsys.readouterr().out
    assert "▲ improved" in out
    assert "model: alexnet against resnet50" in out


def test_the_id_of_a_run_is_a_side(write, capsys, monkeypatch, tmp_path):
    _, first = write("results", 100.0)
    _, second = write("results", 90.0)
    monkeypatch.chdir(tmp_path)
    assert main(["compare", first, second]) == 1
    assert main(["compare", f"run={second}", f"results:run={first}"]) == 0
    assert main(["compare", first, second, f"results.dir={tmp_path / 'results'}"]) == 1


def test_a_side_is_a_folder_filters_or_both(tmp_path):
    assert parse_side(str(tmp_path), "results") == RowSelection(str(tmp_path), str(tmp_path), ())
    word = "old:precision=int8,workers=2"
    assert parse_side(word, "results") == RowSelection(
        word, "old", (("precision", "int8"), ("workers", "2"))
    )
    assert parse_side("engine=x", "there").folder == "there"


@pytest.mark.parametrize(
    ("word", "folder", "filters"),
    [
        ("old:model=timm:resnet18", "old", (("model", "timm:resnet18"),)),
        ("model=hf:a/b,workers=1", "here", (("model", "hf:a/b"), ("workers", "1"))),
        ("s3://b/r?x=h:9000:model=timm:a", "s3://b/r?x=h:9000", (("model", "timm:a"),)),
        ("s3://b/r?endpoint=h:9000&scheme=http", "s3://b/r?endpoint=h:9000&scheme=http", ()),
        ("a:b:precision=int8", "a:b", (("precision", "int8"),)),
        ("missing:folder", "missing:folder", ()),
    ],
)
def test_folders_and_values_may_hold_colons(word, folder, filters):
    assert parse_side(word, "here") == RowSelection(word, folder, filters)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "0 sides were named"),
        (["A"], "1 side was named"),
        (["A", "A", "format=xml"], "Unknown format 'xml'"),
        (["A", "A", "--fast"], "Unknown option '--fast'"),
        (["A", "A", "threshold=much"], "threshold takes a share"),
        (["A", "A", "by=devise"], "Did you mean 'device'"),
        (["A", "A", "metric=speed"], "Unknown metric 'speed'"),
        (["A:precision=int4", "A"], "No row has precision=int4. There are: fp32."),
        (["A:precisoin=fp32", "A"], "Did you mean 'precision'"),
        (["A:workers=1,fp32", "A"], "'fp32' in"),
        (["nowhere", "A"], "does not exist"),
    ],
)
def test_a_wrong_word_is_refused_in_one_line_with_exit_code_2(words, sentence, write, capsys):
    folder, _ = write("old", 100.0)
    assert main(["compare", *(w.replace("A", folder, 1) if w[0] == "A" else w for w in words)]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_sides_that_differ_otherwise_are_refused_with_the_option_to_add(write, capsys):
    a = write("old", 100.0)[0]
    b = write("new", 120.0, engine_version="2026.5")[0]
    assert main(["compare", a, b]) == 2
    error = capsys.readouterr().err
    assert "engine_version (2026.4 against 2026.5)" in error
    assert error.endswith("add by=engine_version\n")
    assert main(["compare", a, b, "by=engine_version"]) == 0


# --- formats --------------------------------------------------------------------------------------


@pytest.fixture
def written(write, capsys):
    a = write("old", 100.0, 200.0, 300.0)[0]
    b = write("new", 100.0, 180.0)[0]

    def written(*words):
        main(["compare", a, b, *words])
        return capsys.readouterr().out

    return written


def test_markdown(written):
    lines = written("format=markdown").splitlines()
    assert lines[0] == "### raybench compare: 3 points: 1 regressed, 1 same, 1 missing."
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 5
    assert rows[3].startswith(
        "| resnet50 fp32 batch 8 x2 | 200.0 ± 0.2 % | 180.0 ± 0.2 % | 0.900 ["
    )
    assert rows[3].endswith("| **regressed** |")


def test_json(written):
    facts = json.loads(written("--format=json"))
    assert facts["exit_code"] == 1
    assert facts["counts"] == {
        "regressed": 1, "improved": 0, "same": 1, "inconclusive": 0, "missing": 1,
    }  # fmt: skip
    change = facts["changes"][1]
    assert (change["outcome"], change["series"]["model"], change["workers"]) == (
        "regressed",
        "resnet50",
        2,
    )
    assert facts["changes"][2]["b"] is None


def test_csv(written):
    rows = list(csv.DictReader(io.StringIO(written("format=csv"))))
    assert [row["outcome"] for row in rows] == ["same", "regressed", "missing"]
    assert float(rows[1]["ratio"]) == pytest.approx(0.9)
    assert rows[2]["b"] == ""


def test_junit(written):
    (suite,) = ElementTree.fromstring(written("format=junit"))
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "1", "1")
    first, second, third = suite
    assert second.find("failure").get("message").startswith("regressed: 200.0 ")
    assert second.get("name") == "resnet50 fp32 batch 8 x2"
    assert third.find("skipped") is not None
    assert first.find("failure") is None
    (strict,) = ElementTree.fromstring(written("format=junit", "--strict"))
    assert (strict.get("failures"), strict.get("skipped")) == ("2", "0")
