"""Rows and answers for reports: a folder of any size, and the study of 2017 as answers."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from importlib import resources

import pyarrow as pa

from raybench.analysis.batch import Batch, Ladder, Rung
from raybench.analysis.efficiency import Efficiency, Use
from raybench.analysis.generation import Generation, Side
from raybench.analysis.paper import Bar, Evidence, Figure, Finding, Paper
from raybench.analysis.points import Series
from raybench.analysis.precision import Gain, Precision
from raybench.analysis.scaling import scaling
from raybench.report.answers import Answers
from raybench.report.source import Source
from raybench.results.schema import SCHEMAS
from raybench.results.store import Store, build

DAWN = datetime(2026, 11, 1, 8, 0, tzinfo=timezone.utc)
GOOD = {
    "environment_id": "e1", "status": "ok", "verdict": "stable", "model": "resnet50",
    "precision": "fp32", "batch_size": 8, "engine": "tensorrt", "engine_version": "10.0",
    "device": "NVIDIA H200", "inflight": 2, "transfers": True, "simulated": False, "workers": 1,
    "preset": "standard", "method_version": 1, "started_at": DAWN, "experiment": "scaling",
    "items_per_s": 1000.0, "items_per_s_lo": 995.0, "items_per_s_hi": 1005.0,
    "latency_p50_ms": 7.9, "latency_p99_ms": 8.4, "warmup_s": 10.0, "window_s": 30.0,
    "block_s": 1.0, "engine_options": "{}",
}  # fmt: skip
LOST = {"verdict": None, "device": None, "engine_version": None, "items_per_s": None,
        "items_per_s_lo": None, "items_per_s_hi": None}  # fmt: skip


def blocks(rate, workers=1, count=40, gauges=False):
    """Blocks of one trial: a quarter is warm-up; a GPU that grows warm and slows a little."""
    made = []
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
            made.append(row)
    return made


def folder(path, rows, *, environment=True, **shape):
    """A results folder with these rows of `trials`; what is not told is that of a good one."""
    run = Store(path).start_run({})
    for k, some in enumerate(rows):
        row = {**GOOD, "started_at": DAWN + timedelta(minutes=k), **some}
        point = row.pop("point_id", f"p{k}")
        trial = row.pop("trial", 0)
        good = row["items_per_s"] is not None
        parts = blocks(row["items_per_s"], row["workers"], **shape) if good else ()
        workers = [{"worker": n, "hostname": "node"} for n in range(row["workers"] or 0)]
        run.write_point(point, trial, trials=row, workers=workers, blocks=parts)
    if environment:
        facts = {"environment_id": "e1", "hostname": "node<1>", "driver_version": "580.1"}
        run.write_environment([facts])
    return path


def series(**factors):
    """A series of a good row."""
    known = {name: GOOD.get(name) for name in Series.__dataclass_fields__}
    return Series(**{**known, **factors})


def study():
    """The bars of the study, a mapping each."""
    file = resources.files("raybench.analysis").joinpath("data/p40_2017.csv")
    rows = []
    for row in csv.DictReader(file.read_text().splitlines()):
        rate = float(row["images_per_s"]) if row["images_per_s"] else None
        rows.append({**row, "figure": int(row["figure"]), "rate": rate,
                     "batch_size": int(row["batch_size"]), "workers": int(row["workers"])})  # fmt: skip
    return rows


def study_rows():
    """The study as rows of `trials`, one trial each, every point once."""
    points = {}
    # figures 2 and 3 last: theirs is the base of their own speedups
    for row in sorted(study(), key=lambda row: row["figure"] in (2, 3)):
        key = (row["model"], row["device"], row["precision"], row["batch_size"], row["workers"])
        points[key] = {
            "model": row["model"], "device": row["device"], "precision": row["precision"],
            "batch_size": row["batch_size"], "workers": row["workers"], "status": row["outcome"],
            "items_per_s": row["rate"], "items_per_s_lo": None, "items_per_s_hi": None,
            "verdict": "stable" if row["rate"] else None, "engine": "tensorrt",
            "engine_version": "2.0", "latency_p50_ms": None, "latency_p99_ms": None,
            "environment_id": row["device"], "reason": None if row["rate"] else "Too large.",
        }  # fmt: skip
    return list(points.values())


def study_answers(marks=()):
    """What the analysis says of the study's own numbers, written down by hand."""
    rows = study()
    source = _source(study_rows())
    return Answers(
        source=source,
        scaling=scaling(source.trials),
        precision=Precision(tuple(_gains(rows, marks)), ()),
        batch=Batch(tuple(_ladders(rows, marks)), ()),
        generation=Generation("device", ("Tesla M40", "Tesla P40"), tuple(_sides(rows, marks)), ()),
        efficiency=Efficiency(tuple(_uses(rows, marks)), ()),
        paper=_paper(rows, marks),
        traces={},
    )


def _source(rows):
    whole = [
        {**GOOD, "run_id": "r", "trial": 0, "point_id": str(k), **r} for k, r in enumerate(rows)
    ]
    empty = {name: pa.Table.from_pylist([], schema=SCHEMAS[name])
             for name in ("workers", "blocks", "environment")}  # fmt: skip
    return Source(("study",), build("trials", whole, {}), notes=(), **empty)


def _place(row, **more):
    return series(model=row["model"], device=row["device"], precision=row["precision"],
                  batch_size=row["batch_size"], **more)  # fmt: skip


def _gains(rows, marks):
    for row in (r for r in rows if r["figure"] == 1):
        base = next(r["rate"] for r in rows if r["figure"] == 1 and r["model"] == row["model"])
        yield Gain(_place(row), 1, "s8s8", "ok", None, 1, row["rate"], verdict="stable",
                   ratio=row["rate"] / base, peak_ratio=47.0 / 11.8 if row["precision"] == "int8" else 1.0,
                   fidelity_sqnr_db=36.0, marks=marks)  # fmt: skip


def _ladders(rows, marks):
    for model in ("alexnet", "googlenet"):
        some = [r for r in rows if r["figure"] == 6 and r["model"] == model]
        best = max(r["rate"] or 0 for r in some)
        rungs = tuple(
            Rung(r["batch_size"], r["outcome"], None, 1, r["rate"], marks=marks, verdict="stable",
                 latency_p50_ms=r["rate"] and 1e3 * r["batch_size"] / r["rate"])
            for r in some
        )  # fmt: skip
        knee = next(r["batch_size"] for r in some if r["rate"] >= 0.95 * best)
        place = replace(_place(some[0]), batch_size=None)
        end = 4096 if model == "googlenet" else None
        yield Ladder(place, 1, rungs, 4096, best, knee, 2048, end, None, True, True,
                     f"{model} is within 5 % of its best from batch {knee} on.", (), marks)  # fmt: skip


def _sides(rows, marks):
    for row in (r for r in rows if r["figure"] in (4, 5) and r["precision"] == "fp32"):
        base = next(r["rate"] for r in rows if r["figure"] == row["figure"])
        yield Side(_place(row), 1, row["device"], "Tesla M40", "ok", None, 1, row["rate"],
                   ratio=row["rate"] / base, verdict="stable", marks=marks)  # fmt: skip


def _uses(rows, marks):
    work = {"alexnet": 1.4, "googlenet": 3.2}
    for row in (r for r in rows if r["figure"] == 1):
        done = row["rate"] * work[row["model"]] / 1e3
        peak = 47.0 if row["precision"] == "int8" else 11.8
        yield Use(_place(row), 1, 1, row["rate"], None, None, work[row["model"]], done, "Tesla P40",
                  peak, "Table 2", done / peak, None, None, None, None, None, None, None, None, None,
                  "stable", (), marks)  # fmt: skip


def _paper(rows, marks):
    axes = {
        1: "precision",
        2: "workers",
        3: "workers",
        4: "generation",
        5: "generation",
        6: "batch_size",
    }
    figures = []
    for number, axis in axes.items():
        some = [r for r in rows if r["figure"] == number]
        first = {r["model"]: r["rate"] for r in reversed(some)}
        bars = tuple(
            Bar(r["model"], r["device"], r["precision"], r["batch_size"], r["workers"], r["outcome"],
                r["rate"], relative=r["rate"] and r["rate"] / first[r["model"]])
            for r in some
        )  # fmt: skip
        here = tuple(replace(bar, marks=marks) for bar in bars)
        figures.append(Figure(number, f"figure {number} by {axis}", axis, bars, here, ()))
    proof = (Evidence("googlenet int8 / fp32", 2.894, 2.894, None, None, True, marks),)
    finding = Finding("int8_gain", (1,), "int8 is about 3 times fp32", "2.5 to 3.5", "reproduced",
                      "2.894 and 3.134 times.", proof, marks)  # fmt: skip
    return Paper(tuple(figures), (finding,))
