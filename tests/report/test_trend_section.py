"""The section of a report on many runs: when it is there, and what it says."""

from __future__ import annotations

import pytest
from helpers.many_runs import ManyRuns

from raybench.report.build import report


@pytest.fixture(autouse=True)
def _no_flush(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda handle: None)


def test_a_report_of_many_runs_shows_the_steps_and_what_changed(tmp_path):
    rows = ManyRuns(
        [1.0] * 8 + [0.9] * 4,
        count=1,
        machine=lambda run: {"driver_version": "580.82" if run < 8 else "580.95"},
    )
    folder = rows.write(tmp_path / "nightly")
    written = report([folder])
    text = (tmp_path / "nightly" / "report" / "report.md").read_text()
    assert "## Trend over runs" in text
    assert "at 2026-10-09: driver 580.82 -\\> 580.95. 8 runs before, 4 after" in text
    assert {path.name for path in written.files} >= {"trend-1.svg", "trend-1.png"}
    page = written.page.read_text()
    assert "days since 2026-10-01" in page
    assert "12 runs from 2026-10-01 to 2026-10-12" in page


def test_a_report_of_few_runs_has_no_trend(tmp_path):
    folder = ManyRuns([1.0] * 5, count=1).write(tmp_path / "few")
    report([folder])
    assert "Trend over runs" not in (tmp_path / "few" / "report" / "report.md").read_text()
