"""Hand-made trials: rows as an engine would leave them, with what a test wants different."""

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
    """A `trials` table; a row that names no point is of the point that its factors make."""
    whole = [{**GOOD, **row} for row in rows]
    for row in whole:
        row.setdefault("point_id", "-".join(str(row[name]) for name in FACTORS))
    return build("trials", whole, {})


def trials(rates, **row):
    """One row a trial."""
    return [{"trial": k, "items_per_s": rate, **row} for k, rate in enumerate(rates)]


def lost(status, reason="Why.", **row):
    """A trial that ended without a number, before it learnt its device."""
    unknown = {"verdict": None, "device": None, "engine_version": None}
    return {"status": status, "reason": reason, **unknown, **row}
