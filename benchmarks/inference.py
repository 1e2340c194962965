"""Do the intervals and verdicts of the analysis hold at the rate that they claim?

Feeds simulated trials, as tables, to the code that answers, and counts: a table of many networks is
many independent repetitions. Trial means are lognormal with relative standard deviation sd.

    python benchmarks/inference.py [--runs 20000] [--laws 2000] [--seed 1] [--quick]

Prints a table and, last, one line of JSON. Exit code 1 when a gated cell misses:

- speedup: the 95 % interval of the speedup of 4 workers over 1 covers the truth in 93 to 97 % from
  3 trials on (with 2: to 98.5 %); so does that over the same devices each alone.
- compare: of equal sides (A/A) at most 1 % are called improved or regressed at the threshold of
  1 % with 3 trials and sd 0.5 %; a true drop of 5 % is found in 99 % or more; a drop as large as
  the threshold itself is called a regression in at most 3 % (nominal 2.5 %).
- law: the 95 % intervals of contention and coherency cover the truth in 93 to 97 %, where the truth
  is not at the edge (0); that of the throughput predicted at twice the measured size in 93 to 98 %.

Below 3000 runs the bands are wider by two standard errors of that many runs.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from raybench.analysis.compare import IMPROVED, REGRESSED, compare
from raybench.analysis.scaling import scaling
from raybench.analysis.scaling_law import law
from raybench.results.schema import SCHEMAS
from raybench.stats.scaling_law import UslFit, usl

COVERS = (0.93, 0.97)
PREDICTS = (0.93, 0.98)
PAIRS = (0.93, 0.985)
"""Welch's interval of two trials a side is wider than it says (97.7 %), never narrower."""
ENOUGH = 3000
SERIES_SIZE = 2000
"""Networks in one table, so that no table is large."""


@dataclass(frozen=True)
class Cell:
    """One simulated situation.

    Attributes:
        trials: a side.
        sd: relative, between trials of the base or of the first side.
        sd_other: of the other side.
        shift: true change of the second side.
        band: what share is asked for; None reports only.
    """

    what: str
    trials: int = 3
    sd: float = 0.005
    sd_other: float = 0.005
    shift: float = 0.0
    sigma: float = 0.0
    kappa: float = 0.0
    workers: tuple[int, ...] = (1, 2, 4, 8)
    band: tuple[float, float] | None = None


SPEEDUPS = [
    Cell("speedup", trials, sd, other, band=COVERS if trials > 2 else PAIRS)
    for trials in (2, 3, 5, 10)
    for sd, other in ((0.005, 0.005), (0.02, 0.02), (0.005, 0.02))
    if trials > 2 or sd == other
]
SOLOS = [Cell("alone", trials, 0.005, 0.005, band=COVERS) for trials in (3, 5)]
COMPARISONS = [
    Cell("called, A/A", 3, band=(0, 0.01)),
    Cell("called, A/A", 2, band=(0, 0.01)),
    Cell("called, A/A", 5, band=(0, 0.01)),
    Cell("called, A/A", 3, 0.01, 0.01, band=(0, 0.01)),
    Cell("called, A/A", 3, 0.03, 0.03),
    Cell("called, edge", 3, shift=-0.01, band=(0, 0.03)),
    Cell("called, edge", 5, shift=-0.01, band=(0, 0.03)),
    Cell("found", 3, shift=-0.05, band=(0.99, 1)),
    Cell("found", 5, shift=-0.05, band=(0.99, 1)),
    Cell("found", 3, shift=-0.02),
    Cell("found", 5, shift=-0.02),
    Cell("found", 3, shift=-0.03),
    Cell("found", 3, 0.01, 0.01, shift=-0.05),
    Cell("detectable", 3),
    Cell("detectable", 5),
]
LAWS = [
    Cell("law", 3, sigma=0.02, kappa=0.001, workers=(1, 2, 4, 8, 16), band=COVERS),
    Cell("law", 5, sigma=0.02, kappa=0.001, workers=(1, 2, 4, 8, 16), band=COVERS),
    Cell("law", 3, sigma=0.05, kappa=0.002, band=COVERS),
    Cell("law", 3, sigma=0.005, kappa=0.0002),
    Cell("law", 3, sigma=0.0, kappa=0.0),
]
FEW = [SPEEDUPS[2], SOLOS[0], COMPARISONS[0], COMPARISONS[7], LAWS[0]]


# --- tables ---------------------------------------------------------------------------------------


def trials_table(rates: np.ndarray[Any, Any], workers: int, run: str = "A") -> pa.Table:
    """Return rates of shape (networks, trials) as a `trials` table."""
    networks, trials = rates.shape
    count = networks * trials
    network = np.repeat(np.arange(networks), trials)
    names = [f"m{k}" for k in network.tolist()]
    same = {
        "run_id": run, "environment_id": "e", "status": "ok", "verdict": "stable",
        "precision": "fp32", "engine": "simulated", "device": "d", "preset": "standard",
        "method_version": 1, "batch_size": 8, "workers": workers, "inflight": 1,
        "transfers": True, "simulated": True,
    }  # fmt: skip
    columns: dict[str, Any] = {name: [value] * count for name, value in same.items()}
    columns |= {
        "model": names,
        "point_id": [f"{name}-{workers}" for name in names],
        "trial": np.tile(np.arange(trials), networks),
        "items_per_s": rates.ravel(),
    }
    schema = SCHEMAS["trials"]
    return pa.table({name: pa.array(v, schema.field(name).type) for name, v in columns.items()})


def draw(
    rng: np.random.Generator, mean: float, sd: float, networks: int, trials: int
) -> np.ndarray[Any, Any]:
    """Return lognormal trial means around a true rate."""
    return np.asarray(mean * np.exp(sd * rng.standard_normal((networks, trials))))


# --- what is counted ------------------------------------------------------------------------------


def speedup(cell: Cell, rng: np.random.Generator, runs: int) -> dict[str, float]:
    """Return how often the interval of the speedup covers the truth."""
    truth, hits, widths = 3.9, 0, 0.0
    one = trials_table(draw(rng, 100, cell.sd, runs, cell.trials), 1)
    four = trials_table(draw(rng, 100 * truth, cell.sd_other, runs, cell.trials), 4)
    for entry in scaling(pa.concat_tables([one, four])).entries:
        if entry.workers == 4:
            hits += (entry.speedup.lo or 0) <= truth <= (entry.speedup.hi or 0)
            widths += ((entry.speedup.hi or 0) - (entry.speedup.lo or 0)) / 2 / truth
    return {"share": hits / runs, "half_width": widths / runs}


def alone(cell: Cell, rng: np.random.Generator, runs: int) -> dict[str, float]:
    """How often the interval of the speedup over the same devices each alone covers the truth.

    The four devices differ by up to 3 %, and lose 2 % together.
    """
    own = 100 * np.array([1.0, 1.01, 0.98, 1.02])
    truth = 4 * 0.98
    together = draw(rng, 0.98 * own.sum(), cell.sd_other, runs, cell.trials)
    tables = [trials_table(together, 4)]
    workers = [_workers(tables[0], np.tile(np.arange(4), (tables[0].num_rows, 1)))]
    for device, rate in enumerate(own):
        rows = trials_table(draw(rng, rate, cell.sd, runs, cell.trials), 1, f"solo{device}")
        rows = rows.set_column(
            rows.column_names.index("point_id"),
            "point_id",
            pa.array([f"{point}-{device}" for point in rows["point_id"].to_pylist()]),
        )
        tables.append(rows)
        workers.append(_workers(rows, np.full((rows.num_rows, 1), device)))
    found = scaling(pa.concat_tables(tables), pa.concat_tables(workers)).entries
    four = [entry for entry in found if entry.workers == 4]
    hits = sum((e.solo_speedup.lo or 0) <= truth <= (e.solo_speedup.hi or 0) for e in four)
    widths = sum(((e.solo_speedup.hi or 0) - (e.solo_speedup.lo or 0)) / 2 / truth for e in four)
    return {"share": hits / len(four), "half_width": widths / len(four)}


def _workers(rows: pa.Table, devices: np.ndarray[Any, Any]) -> pa.Table:
    """A `workers` table of some trials: which device each worker had, shape (trials, workers)."""
    count, width = devices.shape
    schema = SCHEMAS["workers"]
    columns = {
        name: rows[name].take(pa.array(np.repeat(np.arange(count), width)))
        for name in ("run_id", "point_id", "trial")
    }
    columns["worker"] = pa.array(np.tile(np.arange(width), count), schema.field("worker").type)
    columns["gpu_uuid"] = pa.array([f"GPU-{k}" for k in devices.ravel().tolist()])
    columns["items_per_s"] = pa.array(np.full(count * width, 100.0))
    return pa.table(columns)


def comparison(cell: Cell, rng: np.random.Generator, runs: int) -> dict[str, float]:
    """Return the share of points called improved or regressed, or only regressed."""
    a = trials_table(draw(rng, 100, cell.sd, runs, cell.trials), 1)
    b = trials_table(draw(rng, 100 * (1 + cell.shift), cell.sd_other, runs, cell.trials), 1, "B")
    made = compare(a, b)
    called = made.count(REGRESSED) + made.count(IMPROVED)
    share = made.count(REGRESSED) if cell.what == "found" else called
    return {"share": share / runs}


def detectable(cell: Cell, rng: np.random.Generator, runs: int) -> dict[str, float]:
    """Return the share of detected drops that are as large as the median detectable change."""
    answer = compare(
        trials_table(draw(rng, 100, cell.sd, 500, cell.trials), 1),
        trials_table(draw(rng, 100, cell.sd, 500, cell.trials), 1, "B"),
    )
    change = float(np.median([c.detectable for c in answer.changes if c.detectable is not None]))
    found = comparison(Cell("found", cell.trials, cell.sd, cell.sd_other, shift=-change), rng, runs)
    return {"share": found["share"], "half_width": change}


def universal(cell: Cell, rng: np.random.Generator, runs: int) -> dict[str, float]:
    """Return how often the intervals of a law's coefficients and prediction cover the truth."""
    truth = UslFit(100.0, cell.sigma, cell.kappa)
    rates = usl(cell.workers, truth)
    end = 2 * max(cell.workers)
    hits = {"share": 0, "share_kappa": 0, "share_predicted": 0}
    for _ in range(runs):
        noise = np.exp(cell.sd * rng.standard_normal((len(rates), cell.trials)))
        fit = law(cell.workers, [row.tolist() for row in rates[:, None] * noise])
        assert fit is not None
        predicted = {point.workers: point for point in fit.predictions}[end]
        for name, lo, value, hi in (
            ("share", fit.sigma.lo, cell.sigma, fit.sigma.hi),
            ("share_kappa", fit.kappa.lo, cell.kappa, fit.kappa.hi),
            (
                "share_predicted",
                predicted.items_per_s.lo,
                float(usl(end, truth)),
                predicted.items_per_s.hi,
            ),
        ):
            hits[name] += (lo or 0.0) <= value <= (hi or 0.0)
    return {name: count / runs for name, count in hits.items()}


COUNT = {"speedup": speedup, "alone": alone, "detectable": detectable, "law": universal}


def run_cell(cell: Cell, seed: int, runs: int) -> dict[str, Any]:
    """Simulate all repetitions of a cell, about a thousand per table."""
    rng = np.random.default_rng(seed)
    count = COUNT.get(cell.what, comparison)
    sizes = [SERIES_SIZE] * (runs // SERIES_SIZE) or [runs]
    parts = [count(cell, rng, size) for size in sizes]
    figures = {name: float(np.mean([part[name] for part in parts])) for name in parts[0]}
    return {**asdict(cell), "runs": sum(sizes), **figures, "ok": _holds(cell, figures, sum(sizes))}


def _holds(cell: Cell, figures: dict[str, float], runs: int) -> bool | None:
    if cell.band is None:
        return None
    bands = {"share": cell.band, "share_kappa": cell.band, "share_predicted": PREDICTS}
    return all(
        _inside(figures[name], band, runs) for name, band in bands.items() if name in figures
    )


def _inside(share: float, band: tuple[float, float], runs: int) -> bool:
    lo, hi = (
        (edge, 2 * math.sqrt(edge * (1 - edge) / runs) if runs < ENOUGH else 0.0) for edge in band
    )
    return lo[0] - lo[1] <= share <= hi[0] + hi[1]


def line(result: dict[str, Any]) -> str:
    """Return one line of the table."""
    words = f"{result['what']}, {result['trials']} trials, sd {100 * result['sd']:g} %"
    if result["sd_other"] != result["sd"]:
        words += f" and {100 * result['sd_other']:g} %"
    if result["shift"]:
        words += f", true change {100 * result['shift']:+g} %"
    if result["what"] == "law":
        words += f", sigma {result['sigma']:g}, kappa {result['kappa']:g}, {max(result['workers'])}"
    names = ("share", "share_kappa", "share_predicted", "half_width")
    shares = (f"{100 * result[name]:.2f}" if name in result else "" for name in names)
    ok = {None: "", True: "ok", False: "MISSED"}[result["ok"]]
    return f"{words:<58}" + "".join(f"{share:>10}" for share in shares) + f"  {ok}"


def main(argv: list[str] | None = None) -> int:
    """Run the cells, print the table and the line of JSON; 1 when a gated cell misses."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=20000, help="repetitions a cell")
    parser.add_argument("--laws", type=int, default=2000, help="laws fitted a cell")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="few cells, few repetitions")
    args = parser.parse_args(argv)
    cells = FEW if args.quick else [*SPEEDUPS, *SOLOS, *COMPARISONS, *LAWS]
    began = time.perf_counter()
    print(f"{'%':<58}{'share':>10}{'kappa':>10}{'predicted':>10}{'±':>10}")
    results = []
    for index, cell in enumerate(cells):
        runs = args.laws if cell.what == "law" else args.runs
        if args.quick:
            runs = 100 if cell.what == "law" else 2000
        results.append(run_cell(cell, args.seed + index, runs))
        print(line(results[-1]), flush=True)
    ok = all(result["ok"] is not False for result in results)
    seconds = round(time.perf_counter() - began, 1)
    report = {"benchmark": "inference", "ok": ok, "seed": args.seed, "seconds": seconds}
    print(json.dumps({**report, "cells": results}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
