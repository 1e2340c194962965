"""Write results folders for tests of the report: any rows, or the study of 2017."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone

from raybench.analysis.study2017.data import study_trials
from raybench.results.store import Store

STARTED_AT = datetime(2026, 11, 1, 8, 0, tzinfo=timezone.utc)
GOOD = {
    "environment_id": "e1", "status": "ok", "verdict": "stable", "model": "resnet50",
    "precision": "fp32", "batch_size": 8, "engine": "tensorrt", "engine_version": "10.0",
    "device": "NVIDIA H200", "inflight": 2, "transfers": True, "simulated": False, "workers": 1,
    "preset": "standard", "method_version": 1, "started_at": STARTED_AT, "experiment": "scaling",
    "items_per_s": 1000.0, "items_per_s_lo": 995.0, "items_per_s_hi": 1005.0,
    "latency_p50_ms": 7.9, "latency_p99_ms": 8.4, "warmup_s": 10.0, "window_s": 30.0,
    "block_s": 1.0, "engine_options": "{}",
}  # fmt: skip
WITHOUT_NUMBER = {"verdict": None, "device": None, "engine_version": None, "items_per_s": None,
        "items_per_s_lo": None, "items_per_s_hi": None}  # fmt: skip


def blocks(rate, workers=1, count=40, gauges=False):
    """Return the blocks of one trial: a quarter is warm-up, and the GPU slows as it heats up."""
    rows = []
    for worker in range(workers):
        for k in range(count):
            wave = 1 + 0.004 * math.sin(1.7 * k + worker)
            cold = 1 - 0.1 * math.exp(-k / 3)
            row = {
                "worker": worker,
                "block": k,
                "phase": "warmup" if k < count // 4 else "measure",
                "t_start_ns": k * 10**9,
                "t_end_ns": (k + 1) * 10**9,
                "items": int(rate * wave * cold / workers),
            }
            if gauges:
                row |= {"sm_clock_mhz": 1980 - k, "temp_c": 41 + 0.6 * k, "power_w": 410.0 + k}
            rows.append(row)
    return rows


def folder(path, rows, *, environment=True, **shape):
    """Write these rows of `trials` to a results folder; missing columns are those of a good row.

    `layers` of a row are the times of its layers in ms by name.
    """
    run = Store(path).start_run({})
    for k, columns in enumerate(rows):
        row = {**GOOD, "started_at": STARTED_AT + timedelta(minutes=k), **columns}
        point = row.pop("point_id", f"p{k}")
        trial = row.pop("trial", 0)
        good = row["items_per_s"] is not None
        parts = blocks(row["items_per_s"], row["workers"], **shape) if good else ()
        workers = [{"worker": n, "hostname": "node"} for n in range(row["workers"] or 0)]
        layers = [
            {"layer": number, "name": name, "time_ms": time_ms}
            for number, (name, time_ms) in enumerate(row.pop("layers", {}).items())
        ]
        run.write_point(point, trial, trials=row, workers=workers, blocks=parts, layers=layers)
    if environment:
        facts = {"environment_id": "e1", "hostname": "node<1>", "driver_version": "580.1"}
        run.write_environment([facts])
    return path


def study_folder(path, **more):
    """Write the study's numbers to a results folder; rows with a number also get the columns `more`."""
    rows = []
    for row in study_trials().to_pylist():
        number = more if row["status"] == "ok" else {}
        point = f"{row['environment_id']}-{row['point_id']}".replace(" ", "_")
        shape = {"point_id": point, "started_at": STARTED_AT, "verdict": None, **number}
        rows.append(dict.fromkeys(GOOD) | row | shape)
    return folder(path, rows, environment=False, gauges=True)
