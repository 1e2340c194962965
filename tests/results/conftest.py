from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from raybench.results.store import Store

DAWN = datetime(2026, 11, 1, 8, 0, tzinfo=timezone.utc)


@pytest.fixture(autouse=True)
def _no_flush(monkeypatch):
    """Order and atomicity are tested, not the disk: a flush costs 10 ms."""
    monkeypatch.setattr("os.fsync", lambda handle: None)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "results"


@pytest.fixture
def store(root):
    return Store(root)


@pytest.fixture
def write():
    """Return a function that writes one trial; missing columns are those of a good one."""

    def write(run, point_id="p1", trial=0, blocks=2, minute=0, **columns):
        row = {
            "environment_id": "e1",
            "status": "ok",
            "verdict": "stable" if columns.get("status", "ok") == "ok" else None,
            "started_at": DAWN + timedelta(minutes=minute),
            "model": "resnet50",
            "batch_size": 8,
            "workers": 1,
            "items_per_s": 1234.5,
            **columns,
        }
        parts = [{"worker": 0, "block": k, "phase": "measure", "items": 80} for k in range(blocks)]
        run.write_point(point_id, trial, trials=row, workers=[{"worker": 0}], blocks=parts)

    return write
