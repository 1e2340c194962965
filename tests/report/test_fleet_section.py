"""The section of a report on every device of a fleet: verdicts, heat maps, table."""

from __future__ import annotations

import pytest
from helpers.fleets import FleetRows

from raybench.report.build import report


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
