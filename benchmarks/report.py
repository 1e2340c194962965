"""What does a report of many points cost? Time to write it, its page's size, its figures.

Makes a results folder of the asked number of points (blocks with clocks and temperature), writes
its report in a process of its own, once from the many small files that a run leaves and once from
the folder compacted, and prints wall and CPU time of that process, imports included, and what it
wrote. The last line is one JSON document.

    python benchmarks/report.py [--points 500] [--trials 3]
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from raybench.results.load import compact
from raybench.results.store import Store

BLOCKS = 40


def main() -> None:
    """Make the folder, write the report twice, print what it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=500)
    parser.add_argument("--trials", type=int, default=3)
    asked = parser.parse_args()
    os.fsync = lambda _: None  # a folder that is thrown away need not outlive a power cut
    with tempfile.TemporaryDirectory() as base:
        results, out = Path(base, "results"), Path(base, "out")
        _fill(results, asked.points, asked.trials)
        costs: dict[str, float] = {"points": asked.points, "trials": asked.trials}
        costs["wall_s"], costs["cpu_s"] = _report(results, out)
        compact(str(results))
        costs["compacted_wall_s"], costs["compacted_cpu_s"] = _report(results, out)
        costs["page_bytes"] = (out / "report.html").stat().st_size
        costs["markdown_bytes"] = (out / "report.md").stat().st_size
        costs["figures"] = len(list((out / "figures").glob("*.svg")))
    for name, value in costs.items():
        print(f"{name:18} {value:>12,}")
    print(json.dumps(costs))


def _report(results: Path, out: Path) -> tuple[float, float]:
    """Return wall and CPU seconds of the command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    command = [sys.executable, "-m", "raybench", "report", str(results), f"out={out}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall_s = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return round(wall_s, 2), round(cpu_s, 2)


def _fill(results: Path, points: int, trials: int) -> None:
    """Return points of 1, 2, 4 and 8 workers over models, precisions and batches."""
    axes = itertools.product(range(99), ("fp32", "fp16", "bf16", "int8", "fp8"), range(5), range(4))
    run = Store(str(results)).start_run({})
    run.write_environment([{"environment_id": "e1", "hostname": "node"}])
    for index, (model, precision, batch, power) in enumerate(itertools.islice(axes, points)):
        workers = 2**power
        for trial in range(trials):
            rate = 100.0 * workers**0.97 * 2**batch * (1 + 0.003 * math.sin(index + 2.1 * trial))
            row = {
                "environment_id": "e1", "status": "ok", "verdict": "stable", "preset": "standard",
                "model": f"net{model}", "precision": precision, "batch_size": 2**batch,
                "workers": workers, "engine": "tensorrt", "engine_version": "10.0",
                "device": "NVIDIA H200", "inflight": 2, "transfers": True, "simulated": False,
                "method_version": 1, "items_per_s": rate, "items_per_s_lo": 0.995 * rate,
                "items_per_s_hi": 1.005 * rate, "latency_p50_ms": 7.9, "fidelity_sqnr_db": 40.0,
                "gflops_per_item": 3.2, "items_per_j": 9.0,
            }  # fmt: skip
            parts = {"trials": row, "workers": [{"worker": k} for k in range(workers)]}
            run.write_point(f"p{index}", trial, **parts, blocks=list(_blocks(rate, workers)))


def _blocks(rate: float, workers: int) -> list[dict[str, object]]:
    return [
        {
            "worker": worker, "block": k, "phase": "warmup" if k < 10 else "measure",
            "t_start_ns": k * 10**9, "t_end_ns": (k + 1) * 10**9,
            "items": int(rate / workers * (1 + 0.004 * math.sin(1.7 * k + worker))),
            "sm_clock_mhz": 1980.0 - k, "temp_c": 41 + 0.6 * k, "power_w": 410.0 + k,
        }
        for worker in range(workers) for k in range(BLOCKS)
    ]  # fmt: skip


if __name__ == "__main__":
    main()
