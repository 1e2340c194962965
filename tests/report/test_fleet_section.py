"""The section of a report on every device of a fleet: verdicts, heat maps, table."""

from __future__ import annotations

import pytest
from helpers.fleets import FleetRows
from helpers.trial_tables import GOOD

from raybench.report.build import report
from raybench.results.store import Store


@pytest.fixture(autouse=True)
def _no_flush(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda handle: None)


def test_a_fleet_has_a_heat_map_by_host_and_a_table_of_devices(tmp_path):
    shares = [1.0] * 8 + [0.9] * 8 + [1.0] * 16
    shares[25] = 0.8
    slow_link = {device: {"pcie_width": 8} for device in range(8, 16)}
    rows = FleetRows(shares, per_host=4, racks=2, facts=slow_link)
    written = report([rows.write(tmp_path / "rows")], str(tmp_path / "out"))
    text = (tmp_path / "out/report.md").read_text("utf-8")
    assert "9 rejected, 0 undecided, 23 accepted" in text
    assert "rack b1, 8 devices: 0.90" in text
    assert "PCIe x8 instead of x16" in text
    svg = (tmp_path / "out/figures/fleet-1.svg").read_text("utf-8")
    assert "b1 · n03" in svg
    assert svg.count("\N{MULTIPLICATION SIGN}") == 9
    assert tmp_path / "out/figures/fleet-2.png" in written.files
    assert "v-reject" in written.page.read_text("utf-8")


def test_rows_without_devices_measured_alone_have_no_such_section(tmp_path):
    rows = FleetRows([1.0] * 4, alone=False)
    report([rows.write(tmp_path / "rows")], str(tmp_path / "out"))
    assert "Every device" not in (tmp_path / "out/report.md").read_text("utf-8")


def test_a_device_whose_outputs_changed_is_in_the_report_with_that_cause(tmp_path):
    same = {"outputs_sha256_start": "aa", "outputs_sha256_end": "aa"}
    facts = dict.fromkeys(range(8), same) | {5: {**same, "outputs_sha256_end": "bb"}}
    report([FleetRows([1.0] * 8, facts=facts).write(tmp_path / "rows")], str(tmp_path / "out"))
    text = (tmp_path / "out/report.md").read_text("utf-8")
    assert "1 rejected, 0 undecided, 7 accepted" in text
    assert "its outputs changed during the trial" in text
    assert "Same bits before and after every trial: 7 of 8 devices" in text


def test_points_of_several_builds_have_a_table_of_their_spread(tmp_path):
    run = Store(tmp_path / "rows").start_run({})
    for build, rate in enumerate((980.0, 1000.0, 1020.0)):
        for trial in (0, 1):
            row = {**GOOD, "items_per_s": rate + trial, "build": build, "first_build_id": "b0"}
            known = {name: value for name, value in row.items() if name not in ("run_id", "trial")}
            run.write_point(f"b{build}", trial, trials=known)
    report([str(tmp_path / "rows")], str(tmp_path / "out"))
    text = (tmp_path / "out/report.md").read_text("utf-8")
    assert "Spread between separately built plans" in text
    assert "Plans were built 3 times" in text
