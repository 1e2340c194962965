"""`raybench trend`: folders, formats, files and exit codes."""

from __future__ import annotations

import csv
import io
import json

import pytest
from helpers.many_runs import ManyRuns

from raybench.cli.main import main


@pytest.fixture(autouse=True)
def _no_flush(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda handle: None)


def driver(run):
    return {"driver_version": "580.82" if run < 8 else "580.95"}


@pytest.fixture
def slower(tmp_path):
    return ManyRuns([1.0] * 8 + [0.9] * 4, machine=driver, count=1).write(tmp_path / "slower")


@pytest.fixture
def steady(tmp_path):
    return ManyRuns([1.0] * 12, count=1).write(tmp_path / "steady")


def test_exit_codes_of_a_regression_a_steady_level_and_too_few_runs(
    slower, steady, tmp_path, capsys
):
    assert main(["trend", slower]) == 1
    out = capsys.readouterr().out
    assert "▼ regressed" in out
    assert "at 2026-10-09: driver 580.82 -> 580.95. 8 runs before, 4 after" in out
    assert main(["trend", steady]) == 0
    assert main(["trend", steady, "strict"]) == 0
    few = ManyRuns([1.0] * 4, count=1).write(tmp_path / "few")
    assert main(["trend", few]) == 0
    assert "a step takes 6 or more, 3 on either side" in capsys.readouterr().out
    assert main(["trend", few, "--strict"]) == 3


def test_every_format_names_the_step(slower, capsys):
    said = {}
    for form in ("markdown", "json", "csv"):
        assert main(["trend", slower, f"format={form}"]) == 1
        said[form] = capsys.readouterr().out
    assert said["markdown"].startswith("### raybench trend: 1 point: 1 regressed.")
    assert "| **regressed** |" in said["markdown"]
    facts = json.loads(said["json"])
    assert facts["counts"]["regressed"] == facts["exit_code"] == 1
    assert facts["points"][0]["steps"][0]["changed"] == ["driver 580.82 -> 580.95"]
    rows = list(csv.DictReader(io.StringIO(said["csv"])))
    assert len(rows) == 12
    assert [row["started_at"][:10] for row in rows if row["step_outcome"]] == ["2026-10-09"]


def test_runs_of_many_folders_are_one_data_set(tmp_path, capsys):
    levels = [1.0] * 6 + [0.9] * 6
    folders = [
        ManyRuns(
            [level], count=1, seed=k, columns=lambda run, k=k: at_day(k)
        ).write(tmp_path / f"night{k}")
        for k, level in enumerate(levels)
    ]  # fmt: skip
    assert main(["trend", *folders]) == 1
    assert "12 runs from 2026-10-01 to 2026-10-12" in capsys.readouterr().out


def at_day(run):
    from datetime import timedelta

    from helpers.many_runs import FIRST_DAY

    return {"started_at": FIRST_DAY + timedelta(days=run)}


def test_out_writes_a_file_and_since_leaves_a_step_behind(slower, tmp_path, capsys):
    target = tmp_path / "trend.md"
    assert main(["trend", slower, "format=markdown", f"out={target}"]) == 1
    assert "1 regressed. Written to" in capsys.readouterr().out
    assert target.read_text().startswith("### raybench trend")
    assert main(["trend", slower, "since=2026-10-09"]) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trend"], "trend takes results folders"),
        (["trend", "nowhere"], "does not exist"),
        (["trend", "DIR", "tolerance=2"], "tolerance takes a share"),
        (["trend", "DIR", "by=colour"], "Unknown factor 'colour'"),
        (["trend", "DIR", "metric=speed"], "Unknown metric 'speed'"),
        (["trend", "DIR", "since=yesterday"], "since takes a day"),
        (["trend", "DIR", "since=2030-01-01"], "an earlier day"),
        (["trend", "DIR", "format=junit"], "Unknown format"),
        (["trend", "DIR", "strict=perhaps"], "strict takes true or false"),
        (["trend", "DIR", "out=nowhere/else/file.md"], "cannot be written"),
        (["trend", "DIR", "tolerence=0.1"], "tolerance"),
    ],
)
def test_bad_words_are_refused_in_one_line(words, said, steady, capsys):
    assert main([steady if word == "DIR" else word for word in words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
