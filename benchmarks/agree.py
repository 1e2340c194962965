"""Run an experiment twice: do the intervals of trial means agree as often as they should?

Runs the whole program once on the simulated engine, whose processes differ by a given spread, with an
even number of trials of each point. Trials 0, 2, 4 ... are one experiment, 1, 3, 5 ... the other: the
same points, interleaved, so that no drift of the machine falls on one of them. A pair agrees when
the interval of the ratio of its two means (`stats.ratios.ratio_ci`, 95 %) holds 1; of 40 pairs 35 to
40 should (the middle 95 % and more of a binomial of 0.95). For contrast "one trial": two single
trials, each with the interval that its own blocks give.

Every point has two workers, so the start of every trial also shows how far apart two workers begin.

    python benchmarks/agree.py [--pairs 40] [--trials 3] [--spread 0.01]

Prints a table and, last, one line of JSON. Exit code 1 when too few pairs agree or when the 99th
percentile of the start skew reaches 5 ms.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binom

import raybench
from raybench.stats import ratios

ITEM_US = 400.0
MOST_SKEW_MS = 5.0
SHORT = (
    *("measure.block_s=0.05", "measure.block_min_batches=1", "measure.warmup_min_s=0"),
    *("measure.warmup_max_s=0.3", "measure.warmup_window_blocks=2", "measure.min_s=0.6"),
    *("measure.warmup_advance_blocks=2", "measure.max_s=0.6", "measure.look_s=0.3"),
)


def main() -> int:
    """Run, count, print; 1 when the intervals do not keep their word."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--trials", type=int, default=3, help="of each of the two experiments")
    parser.add_argument("--spread", type=float, default=0.01, help="between processes, relative")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = _measured(options, Path(folder))
    report = _counted(options, rows)
    least = int(binom.ppf(0.025, report["pairs"], 0.95))
    report["ok"] = report["agree"] >= least and report["start_skew_p99_ms"] < MOST_SKEW_MS
    print(f"pairs of the same experiment            {report['pairs']:>8}")
    print(f"agree, by trial means                   {report['agree']:>8}  at least {least}")
    print(f"agree, by one trial's own interval each {report['agree_one_trial']:>8}")
    print(f"between-trial spread, median            {report['between_sd']:>8.2%}")
    print(f"starts of two workers                   {report['starts']:>8}")
    print(f"start skew, median                      {report['start_skew_p50_ms']:>8.3f} ms")
    print(f"start skew, 99th percentile             {report['start_skew_p99_ms']:>8.3f} ms")
    print(f"clock bound, worst                      {report['clock_bound_max_ms']:>8.3f} ms")
    print(json.dumps(report))
    return 0 if report["ok"] else 1


def _measured(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    sizes = range(20, 20 + options.pairs)  # each its own point; batches of 8 ms and more
    question = folder / "agree.yaml"
    question.write_text(
        "# Do two runs of the same experiment agree?\n"
        f"grid: {{model: alexnet, workers: 2, batch_size: [{', '.join(map(str, sizes))}]}}\n"
    )
    command = [
        *(sys.executable, "-m", "raybench", f"experiment={question}", "device=cpu", *SHORT),
        *("engine=simulated", f"engine.item_us={ITEM_US}", "engine.overhead_ms=0"),
        *(f"engine.trial_noise={options.spread}", "engine.noise=0.01", "preset=quick"),
        *(f"trials={2 * options.trials}", f"results.dir={folder / 'results'}"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    return list(raybench.load(folder / "results").to_pylist())


def _counted(options: argparse.Namespace, rows: list[dict[str, Any]]) -> dict[str, Any]:
    points = defaultdict(list)
    for row in sorted(rows, key=lambda row: row["trial"]):
        points[row["point_id"]].append(row)
    agree = alone = 0
    spreads = []
    for trials in points.values():
        rates = np.array([row["items_per_s"] for row in trials])
        span = ratios.ratio_ci(rates[0::2], rates[1::2])
        assert span.lo is not None
        assert span.hi is not None
        agree += span.lo <= 1 <= span.hi
        alone += _overlap(*trials[:2])
        spreads.append(rates.std(ddof=1) / rates.mean())
    skews = [row["start_skew_ms"] for row in rows]
    return {
        "benchmark": "agree",
        "pairs": len(points),
        "trials": options.trials,
        "spread": options.spread,
        "agree": agree,
        "agree_one_trial": alone,
        "between_sd": float(np.median(spreads)),
        "starts": len(skews),
        "start_skew_p50_ms": float(np.quantile(skews, 0.5)),
        "start_skew_p99_ms": float(np.quantile(skews, 0.99)),
        "start_skew_max_ms": max(skews),
        "end_skew_p99_ms": float(np.quantile([row["end_skew_ms"] for row in rows], 0.99)),
        "clock_bound_max_ms": max(row["clock_bound_us"] for row in rows) / 1e3,
    }


def _overlap(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Return whether two trials differ by no more than their own intervals together allow."""
    halves = [row["rel_half_width"] * row["items_per_s"] for row in (a, b)]
    return abs(a["items_per_s"] - b["items_per_s"]) <= math.hypot(*halves)


if __name__ == "__main__":
    sys.exit(main())
