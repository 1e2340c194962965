"""`raybench show` on the command line: formats, columns, filters."""

from __future__ import annotations

import csv
import io
import json
import math

import pytest

from raybench.cli.main import main
from raybench.results.store import Store

ROW = {
    "environment_id": "e1", "status": "ok", "verdict": "stable", "precision": "fp32",
    "batch_size": 8, "engine": "openvino", "device": "AMD EPYC", "inflight": 1, "transfers": True,
    "simulated": False, "preset": "standard", "method_version": 1, "trial": 0,
}  # fmt: skip
MODEL = 'a,"b"|<net>`.onnx'


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a folder with a point in two precisions, one of them without a number."""
    monkeypatch.setattr("os.fsync", lambda handle: None)
    run = Store(tmp_path / "results").start_run({})
    run.write_environment([{"environment_id": "e1"}])
    good = {"model": MODEL, "workers": 1, "items_per_s": 100.0, "fidelity_sqnr_db": math.inf}
    run.write_point("a", 0, trials={**ROW, **good})
    run.write_point("b", 0, trials={**ROW, **good, "precision": "int8", "items_per_s": 300.0})
    lost = {"status": "timeout", "reason": "Too slow.", "verdict": None}
    run.write_point("c", 0, trials={**ROW, "model": MODEL, "workers": 2, **lost})
    return str(tmp_path / "results")


def shown(capsys, *words):
    assert main(["show", *words]) == 0
    return capsys.readouterr().out


def test_a_program_reads_every_point_as_json_in_which_unknown_is_null(folder, capsys):
    def refuse(word):
        raise AssertionError(word)

    text = shown(capsys, folder, "format=json")
    points = json.loads(text, parse_constant=refuse)["points"]
    assert [(p["precision"], p["status"], p["items_per_s"]) for p in points] == [
        ("fp32", "ok", 100.0), ("fp32", "timeout", None), ("int8", "ok", 300.0),
    ]  # fmt: skip
    assert points[0]["fidelity_sqnr_db"] is None


def test_a_spreadsheet_reads_the_same_points_as_csv(folder, capsys):
    rows = list(csv.DictReader(io.StringIO(shown(capsys, folder, "--format=csv"))))
    assert [row["model"] for row in rows] == [MODEL] * 3
    assert [row["items_per_s"] for row in rows] == ["100.0", "", "300.0"]


def test_markdown_is_one_table_whatever_the_names_hold(folder, capsys):
    lines = shown(capsys, folder, "format=md").splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1
    assert len(table) == 5
    assert any("timeout. Too slow." in line for line in lines)


def test_columns_are_chosen_in_every_format(folder, capsys):
    wanted = "columns=workers,items_per_s"
    csv_lines = shown(capsys, folder, wanted, "format=csv").splitlines()
    assert csv_lines == ["workers,items_per_s", "1,100.0", "2,", "1,300.0"]
    assert shown(capsys, folder, wanted).splitlines()[0].split() == ["workers", "items_per_s"]
    markdown = shown(capsys, folder, wanted, "format=markdown")
    assert markdown.splitlines()[0] == "| workers | items_per_s |"
    points = json.loads(shown(capsys, folder, wanted, "format=json"))["points"]
    assert points[0] == {"workers": 1, "items_per_s": 100.0}


def test_filters_choose_rows_as_in_compare(folder, capsys):
    out = shown(capsys, f"{folder}:precision=int8")
    assert "300.0" in out
    assert "100.0 " not in out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["A", "B"], "2 folders were named"),
        (["A", "format=xml"], "Unknown format 'xml'. Known: csv, json, markdown, table."),
        (["A", "format="], "format is empty. Give it a value"),
        (["A", "columns=presicion"], "Did you mean 'precision'"),
        (["A", "--colums=model"], "Did you mean 'columns'"),
    ],
)
def test_a_wrong_word_is_refused_in_one_line(words, sentence, folder, capsys):
    assert main(["show", *(folder if word == "A" else word for word in words)]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_a_power_ladder_and_a_rack_are_below_the_table(folder, capsys):
    assert "No rack: nothing was measured at several power limits" in shown(
        capsys, folder, "rack_power_w=10000"
    )
    assert main(["show", folder, "rack_power_w=much"]) == 2
    assert "Write watts above 0, as in rack_power_w=10000." in capsys.readouterr().err
    run = Store(folder).start_run({})
    for watts, rate in ((300.0, 600.0), (700.0, 1000.0)):
        columns = {"model": "lenet", "workers": 1, "items_per_s": rate, "power_limit_w": watts}
        run.write_point(f"p{watts}", 0, trials={**ROW, **columns})
    text = " ".join(shown(capsys, folder, "rack_power_w=10,000").split())
    assert "No knee: the rate grows up to the highest limit, 700 W." in text
    assert "33 devices at 300 W give 19,800 items/s, the most." in text


def test_the_best_points_replace_the_table(folder, capsys):
    text = shown(capsys, folder, "best=items_per_s", "where=batch_size>=8 and workers<2")
    assert (
        text.splitlines()[0] == "best items_per_s where batch_size>=8 and workers<2, in every trial"
    )
    points = json.loads(shown(capsys, folder, "best=items_per_s", "format=json"))["points"]
    assert [point["precision"] for point in points] == ["int8", "fp32"]
    rows = list(csv.DictReader(io.StringIO(shown(capsys, folder, "where=workers=1", "format=csv"))))
    assert float(rows[0]["items_per_s"]) == 300
    assert "int8" in shown(capsys, folder, "best=items_per_s", "format=md")


@pytest.mark.parametrize("word", ["best=items", "where=itemz<3", "where=batch_size", "best=model"])
def test_a_question_without_an_answer_is_one_sentence(folder, capsys, word):
    assert main(["show", folder, word]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
