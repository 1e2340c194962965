"""Tables of trials for tests of the analysis: a good trial, with what a test changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.results.store import build

if TYPE_CHECKING:
    import pyarrow as pa

GOOD = {
    "run_id": "01A",
    "trial": 0,
    "environment_id": "e1",
    "method_version": 1,
    "status": "ok",
    "verdict": "stable",
    "model": "googlenet",
    "precision": "int8",
    "batch_size": 128,
    "workers": 1,
    "engine": "tensorrt",
    "engine_version": "10.0",
    "device": "Tesla P40",
    "inflight": 2,
    "transfers": True,
    "simulated": False,
    "preset": "standard",
}
FACTORS = ("model", "precision", "batch_size", "workers", "engine", "device", "method_version")


def table(*rows) -> pa.Table:
    """Return a `trials` table; a row without `point_id` gets one from its factors."""
    complete = [{**GOOD, **row} for row in rows]
    for row in complete:
        row.setdefault("point_id", "-".join(str(row[name]) for name in FACTORS))
    return build("trials", complete, {})


def trials(rates, **row):
    """Return one trial per rate."""
    return [{"trial": k, "items_per_s": rate, **row} for k, rate in enumerate(rates)]


def failed_trial(status, reason="Why.", **row):
    """Return a trial that ended without a number, before its device was detected."""
    unknown = {"verdict": None, "device": None, "engine_version": None}
    return {"status": status, "reason": reason, **unknown, **row}
