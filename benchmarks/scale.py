"""Does it hold for a large fleet? 1,024 devices on 128 nodes, 10,000 points, in virtual time.

The points, of 2 to 16 devices each, go through the real plan, scheduler, progress lines and writer; a
point takes the time that it would, only that nobody waits for it. Then every device runs `gemm` and
`copy` alone, twice, and all of them together. The run is left as it is, neither compacted nor ended, and
is then loaded, accepted and reported, each in a process of its own. Prints for each part its time, the
most memory and the most files of a table at any time. The last line is one JSON document; exit code 1
when a promise of `LIMITS` does not hold.

    python benchmarks/scale.py [--points 10000] [--dir FOLDER]
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raybench.config.compose import read
from raybench.execute.progress_lines import ProgressLines
from raybench.execute.rows import Tables, identity_columns
from raybench.execute.stop_request import StopRequest
from raybench.execute.writer import Writer
from raybench.planning.plan import make_plan
from raybench.planning.scheduler import Scheduler, SchedulingPolicy
from raybench.planning.slots import DeviceSlot
from raybench.results.store import Store

if TYPE_CHECKING:
    from raybench.experiment import Experiment
    from raybench.planning.attempts import Attempt
    from raybench.planning.plan import Plan
    from raybench.results.store import RunWriter

NODES, DEVICES_PER_NODE = 128, 8
DEVICES = {"gpu": NODES * DEVICES_PER_NODE}
SIZES = (2, 4, 8, 16)
MODELS = ("alexnet", "googlenet")
BLOCKS = 20
BEHIND = 256
"""Most trials of which the writer still has the rows."""
SLOW = 77
"""This device is slower by a tenth."""
LIMITS = {
    "plan_s": 5.0, "driver_ms": 10.0, "driver_mib": 1024.0, "files": 64, "load_s": 5.0,
    "accept_s": 60.0, "report_s": 60.0, "page_mb": 3.0,
}  # fmt: skip
SLOTS = tuple(
    DeviceSlot("gpu", f"n{node:03}", number, f"host{node:03}")
    for node in range(NODES)
    for number in range(DEVICES_PER_NODE)
)


def main() -> int:
    """Run, read, accept and report; return 1 when a promise does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--dir", default=None, help="where rows are written; a temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.dir) as base:
        results, out = Path(base, "results"), Path(base, "out")
        found = _drive(options.points, results)
        load = (
            f"import raybench; [raybench.load({str(results)!r}, t) for t in ('trials', 'workers')]"
        )
        found["load_s"] = _timed([sys.executable, "-c", load])
        raybench = [sys.executable, "-m", "raybench"]
        found["accept_s"] = _timed([*raybench, "accept", str(results), f"out={base}/accept.txt"])
        found["report_s"] = _timed([*raybench, "report", str(results), f"out={out}"])
        found["page_mb"] = (out / "report.html").stat().st_size / 1e6
    broken = [name for name, most in LIMITS.items() if found[name] > most]
    for name, value in found.items():
        promise = f"at most {LIMITS[name]:g}" if name in LIMITS else ""
        print(f"{name:12} {value:>12,.2f}  {promise}{'  BROKEN' * (name in broken)}", flush=True)
    print(json.dumps({"benchmark": "scale", **found, "broken": broken}))
    return int(bool(broken))


def _drive(points: int, results: Path) -> dict[str, float]:
    """Plan and pack both experiments; return what the driver took."""
    began = time.perf_counter()
    batches = ",".join(str(size) for size in range(1, points // len(SIZES) // len(MODELS) + 1))
    sizes = ",".join(map(str, SIZES))
    grid = _plan(f"model=[{','.join(MODELS)}]", f"workers=[{sizes}]", f"batch_size=[{batches}]")
    plan_s = time.perf_counter() - began
    alone = _plan("model=[gemm,copy]", f"workers=[1,{DEVICES['gpu']}]", "batch_size=8",
                  "scaling.baseline=solo", "trials=2")  # fmt: skip
    run = Store(results).start_run({})
    facts = [{"environment_id": "e", "hostname": host} for host in {s.host: 0 for s in SLOTS}]
    run.write_environment(facts)
    files = 0
    used, began = time.process_time(), time.perf_counter()
    for experiment, plan in (grid, alone):
        files = max(files, _pack(experiment, plan, run, results))
    trials = sum(len(plan.trials) for _, plan in (grid, alone))
    return {
        "points": len(grid[1].points) + len(alone[1].points),
        "trials": trials,
        "plan_s": plan_s,
        "driver_ms": 1e3 * (time.process_time() - used) / trials,
        "wall_ms": 1e3 * (time.perf_counter() - began) / trials,
        "driver_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "files": files,
    }


def _plan(*words: str) -> tuple[Experiment, Plan]:
    """Return an experiment and its plan, as `raybench plan` makes it."""
    common = ("experiment=scaling", "engine=simulated", "device=gpu", "trials=1")
    keys = {word.partition("=")[0] for word in words}
    given = [*(word for word in common if word.partition("=")[0] not in keys), *words]
    request = read(given).resolve(DEVICES)
    return request.experiment, make_plan(request.experiment, DEVICES, "gpu", "")


def _pack(experiment: Experiment, plan: Plan, run: RunWriter, results: Path) -> int:
    """Run all trials in virtual time; return the most files that a table had."""
    chance = random.Random(0)
    scheduler = Scheduler(plan.trials, SLOTS, SchedulingPolicy("gpu", 1))
    lines = ProgressLines(plan, lambda line: None)
    ending: list[tuple[float, int, Attempt]] = []
    now, ended, files = 0.0, 0, 0
    with Writer(run, lines.on_event, StopRequest()) as writer:
        while True:
            while (attempt := scheduler.next_attempt()) is not None:
                number = attempt.planned.number
                heapq.heappush(ending, (now + chance.uniform(8.0, 24.0), number, attempt))
            if not ending:
                break
            now, _, attempt = heapq.heappop(ending)
            for outcome in scheduler.end(attempt, None):
                writer.put(outcome.planned, *_rows(experiment, attempt, chance))
            ended += 1
            while ended - sum(writer.tally.values()) > BEHIND:
                time.sleep(0.001)  # trials that really ran would leave the writer its time
            if ended % 500 == 0:
                files = max(
                    files, *(len(list(results.glob(f"{t}/*/*"))) for t in ("trials", "workers"))
                )
    assert sum(writer.tally.values()) == len(plan.trials)
    return files


def _rows(
    experiment: Experiment, attempt: Attempt, chance: random.Random
) -> tuple[dict[str, Any], Tables]:
    planned, point = attempt.planned, attempt.planned.point
    speeds = [
        (0.9 if SLOTS[SLOW] == slot else 1.0) * chance.gauss(1.0, 0.003) for slot in attempt.slots
    ]
    rate = 100.0 * point.batch_size**0.5
    total = rate * sum(speeds)
    trial = {
        **identity_columns(experiment, planned, "e"), "status": "ok", "verdict": "stable",
        "started_at": datetime.now(timezone.utc), "device": "NVIDIA H200", "engine_version": "1",
        "items_per_s": total, "items_per_s_lo": 0.995 * total, "items_per_s_hi": 1.005 * total,
        "latency_p50_ms": 7.9, "latency_p99_ms": 9.1, "window_s": 30.0,
    }  # fmt: skip
    workers = [
        {"worker": rank, "hostname": slot.host, "node_id": slot.node, "gpu_index": slot.number,
         "gpu_name": "NVIDIA H200", "device": "NVIDIA H200",
         "gpu_uuid": f"GPU-{slot.node}-{slot.number}", "items_per_s": rate * speed}
        for rank, (slot, speed) in enumerate(zip(attempt.slots, speeds, strict=True))
    ]  # fmt: skip
    blocks = [
        {"worker": rank, "block": k, "phase": "measure", "t_start_ns": k * 10**9,
         "t_end_ns": (k + 1) * 10**9, "items": int(rate * speeds[rank] * (1 + 0.002 * math.sin(k)))}
        for rank in range(min(point.workers, 16))
        for k in range(BLOCKS)
    ]  # fmt: skip
    return trial, Tables(trial, workers, blocks)


def _timed(command: list[str]) -> float:
    """Return the wall time of a command; its exit code says something of the rows."""
    began = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode not in (0, 1, 3):
        raise SystemExit(f"{command} ended with {done.returncode}: {done.stderr}")
    return time.perf_counter() - began


if __name__ == "__main__":
    os.environ.setdefault("RAYBENCH_CACHE", tempfile.gettempdir() + "/raybench-scale-cache")
    sys.exit(main())
