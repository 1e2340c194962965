"""`raybench accept` and `raybench baseline`: verdicts, formats, files and exit codes."""

from __future__ import annotations

import csv
import io
import json
from xml.etree import ElementTree

import pytest
from helpers.fleets import FleetRows

from raybench.cli.main import main
from raybench.execute.finished_run import Run
from raybench.results.load import load


@pytest.fixture(autouse=True)
def _no_flush(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda handle: None)


@pytest.fixture
def sound(tmp_path):
    return FleetRows([1.0] * 4).write(tmp_path / "sound")


@pytest.fixture
def slow(tmp_path):
    rows = FleetRows([1.0, 1.0, 1.0, 0.9], gpus={3: {"power_limit_w": 500.0}})
    return rows.write(tmp_path / "slow")


def test_exit_codes_of_a_sound_a_slow_and_an_open_fleet(sound, slow, tmp_path, capsys):
    assert main(["accept", sound]) == 0
    assert "0 rejected, 0 undecided, 4 accepted" in capsys.readouterr().out
    assert main(["accept", slow]) == 1
    out = capsys.readouterr().out
    assert "✗ reject" in out
    assert "power limit 500 W, 200 W under the others'" in out
    few = FleetRows([1.0, 0.96, 1.0], sd=0.02, count=2).write(tmp_path / "few")
    assert main(["accept", few]) == 3
    assert "To decide: measure again with trials=" in capsys.readouterr().out


def test_a_wide_tolerance_accepts_what_a_narrow_one_rejects(slow):
    assert main(["accept", slow, "tolerance=20%"]) == 0


def test_every_format_names_the_slow_device(slow, capsys):
    formats = {}
    for form in ("markdown", "json", "csv", "junit"):
        assert main(["accept", slow, f"format={form}"]) == 1
        formats[form] = capsys.readouterr().out
    assert "| n01 GPU 3 | 0.90" in formats["markdown"]
    facts = json.loads(formats["json"])
    assert facts["counts"] == {"reject": 1, "undecided": 0, "accept": 3}
    assert facts["exit_code"] == 1
    rows = list(csv.DictReader(io.StringIO(formats["csv"])))
    assert {r["name"] for r in rows if r["verdict"] == "reject"} == {"n01 GPU 3"}
    assert {r["situation"] for r in rows} == {"alone", "together"}
    failures = [
        case.get("name")
        for case in ElementTree.fromstring(formats["junit"]).iter("testcase")
        if case.find("failure") is not None
    ]
    assert failures == ["n01 GPU 3"]


def test_out_writes_the_verdicts_to_a_file(slow, tmp_path, capsys):
    target = tmp_path / "accept.xml"
    assert main(["accept", slow, "format=junit", f"out={target}"]) == 1
    assert "1 rejected" in capsys.readouterr().out
    assert 'failures="1"' in target.read_text()


def test_a_baseline_file_judges_a_device_alone(sound, tmp_path, capsys):
    single = FleetRows([0.9]).write(tmp_path / "single")
    assert main(["accept", single]) == 2
    assert "raybench baseline DIR out=FILE" in capsys.readouterr().err
    baseline = tmp_path / "sound.json"
    assert main(["baseline", sound, f"out={baseline}"]) == 0
    assert "4 devices, 3 trials each" in capsys.readouterr().out
    assert main(["accept", single, f"baseline={baseline}"]) == 1
    assert "to the baseline" in capsys.readouterr().out


def test_a_baseline_tells_its_points_apart(tmp_path, capsys):
    for transfers, prefix in ((True, "on"), (False, "off")):
        columns = {"model": "copy", "transfers": transfers}
        folder = FleetRows([1.0] * 3, columns=columns, prefix=prefix).write(tmp_path / "copy")
    assert main(["baseline", folder, f"out={tmp_path / 'copy.json'}"]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert "4 rates of up to 3 devices; copy" in first
    assert {line.partition(":")[0].split(", ", 1)[1] for line in lines} == {
        f"copy, {transfers} transfers, {situation}"
        for transfers in ("with", "without")
        for situation in ("alone", "together")
    }


def test_racks_measured_one_after_another_are_judged_together(tmp_path, capsys):
    shares = [1.0] * 8 + [0.9] * 8 + [1.0] * 8
    folder = FleetRows(shares, per_host=4, racks=2).write(tmp_path / "racks")
    assert main(["accept", folder]) == 1
    out = capsys.readouterr().out
    assert "rack b1, 8 devices" in out
    assert "8 devices of rack b1" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["accept"], "accept takes results folders"),
        (["accept", "nowhere"], "does not exist"),
        (["accept", "DIR", "tolerance=2"], "tolerance takes a share"),
        (["accept", "DIR", "tolerance=x"], "tolerance takes a share"),
        (["accept", "DIR", "baseline=nowhere.json"], "cannot be read"),
        (["accept", "DIR", "format=pdf"], "Unknown format"),
        (["accept", "DIR", "tolerence=0.1"], "tolerance"),
        (["accept", "DIR", "out=nowhere/else/file.txt"], "cannot be written"),
        (["baseline", "DIR"], "baseline takes results folders and a file"),
    ],
)
def test_bad_words_are_refused_in_one_line(words, said, sound, capsys):
    assert main([sound if word == "DIR" else word for word in words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_rows_are_chosen_by_a_tag(tmp_path, capsys):
    shares = [1.0] * 4 + [0.9] * 4
    folder = FleetRows(shares, per_host=2, racks=1).write(tmp_path / "racks")
    assert main(["show", f"{folder}:tags.rack=b1", "format=csv", "columns=workers"]) == 0
    assert capsys.readouterr().out.split() == ["workers", "1", "2"]
    assert main(["show", f"{folder}:tags.rack=b9"]) == 2
    assert "There are: b0, b1" in capsys.readouterr().err


def test_a_run_with_devices_alone_points_to_accept(sound, tmp_path):
    def closing(folder):
        run = Run(folder, load(folder), load(folder, "workers"), failed=False, preset="standard")
        return run.table()

    assert f"raybench accept {sound} accepts or rejects" in closing(sound)
    together = FleetRows([1.0] * 4, alone=False).write(tmp_path / "together")
    assert "raybench accept" not in closing(together)
