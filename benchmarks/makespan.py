"""How well are devices packed, and what does the driver itself cost?

500 points of 1, 2, 4 and 8 devices go through the real plan, scheduler and writer on 8 devices with
isolation gpu, in virtual time: a point takes the time that it would, only that nobody waits for it.
The lower bound is the larger of the longest point and all device-seconds over 8. For each point
(trials, workers and 20 blocks for each worker) it prints, in ms: `plan`, once before the first; `loop`, for
which free devices wait: scheduler and handing the rows to the writer, which works at the same time;
`rows`, until the writer has them on this disk, devices working on; `cpu`, of all threads together.
The last line is one JSON document.

    python benchmarks/makespan.py [--points 500] [--seeds 20] [--dir FOLDER]
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import statistics
import tempfile
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from raybench.config.compose import read
from raybench.execute.progress_lines import ProgressLines
from raybench.execute.rows import Tables, identity_columns
from raybench.execute.stop_request import StopRequest
from raybench.execute.writer import Writer
from raybench.planning.expansion import expand
from raybench.planning.plan import order_trials
from raybench.planning.scheduler import Scheduler, SchedulingPolicy
from raybench.planning.slots import DeviceSlot
from raybench.results.store import Store

if TYPE_CHECKING:
    from raybench.experiment import Experiment, Point
    from raybench.planning.attempts import Attempt
    from raybench.planning.plan import PlannedTrial
    from raybench.results.store import RunWriter

DEVICES = 8
SIZES = (1, 2, 4, 8)
BLOCKS = 20


def main() -> None:
    """Pack the grid once per seed and print medians and worst cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--dir", default=None, help="where rows are written; a temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.dir) as folder:
        store = Store(folder)
        runs = [_pack(options.points, seed, store.start_run({})) for seed in range(options.seeds)]
    ratios = [one["over_bound"] for one in runs]
    print(f"{options.points} points of {SIZES} devices on {DEVICES}, {options.seeds} orders")
    print(
        f"makespan over lower bound: median {statistics.median(ratios):.3f}, worst {max(ratios):.3f}"
    )
    for part in ("plan_ms", "loop_ms", "rows_ms", "cpu_ms"):
        times = [one[part] for one in runs]
        print(f"{part} a point: median {statistics.median(times):.2f}, worst {max(times):.2f}")
    print(json.dumps({"benchmark": "makespan", "points": options.points, "runs": runs}))


def _pack(points: int, seed: int, run: RunWriter) -> dict[str, Any]:
    began, used = time.perf_counter(), time.process_time()
    experiment, grid = _grid(points, seed)
    plan = order_trials(experiment, grid, {"gpu": DEVICES}, "gpu")
    trials = plan.trials
    planned_s = time.perf_counter() - began
    chance = random.Random(seed)
    # preparation and warm-up vary, as does the time until the interval is narrow enough
    lasting_s = {planned.number: chance.uniform(8.0, 24.0) for planned in trials}
    work = sum(lasting_s[planned.number] * planned.point.workers for planned in trials) / DEVICES
    slots = [DeviceSlot("gpu", "node", number) for number in range(DEVICES)]
    scheduler = Scheduler(trials, slots, SchedulingPolicy("gpu", 1))
    ending: list[tuple[float, int, Attempt]] = []
    now = loop_s = 0.0
    began_rows = time.perf_counter()
    lines = ProgressLines(plan, lambda line: None)
    with Writer(run, lines.on_event, StopRequest()) as writer:
        while True:
            began = time.perf_counter()
            while (attempt := scheduler.next_attempt()) is not None:
                heapq.heappush(
                    ending,
                    (now + lasting_s[attempt.planned.number], attempt.planned.number, attempt),
                )
            if not ending:
                break
            now, _, attempt = heapq.heappop(ending)
            for entry in scheduler.end(attempt, None):
                writer.put(entry.planned, *_rows(experiment, entry.planned))
            loop_s += time.perf_counter() - began
    rows_s = time.perf_counter() - began_rows
    assert sum(writer.tally.values()) == len(trials)
    per_point_ms = 1e3 / len(trials)
    return {
        "seed": seed,
        "over_bound": now / max(work, max(lasting_s.values())),
        "plan_ms": planned_s * per_point_ms,
        "loop_ms": loop_s * per_point_ms,
        "rows_ms": rows_s * per_point_ms,
        "cpu_ms": (time.process_time() - used) * per_point_ms,
    }


def _grid(points: int, seed: int) -> tuple[Experiment, tuple[Point, ...]]:
    """Return the experiment and about `points` points, each size with equally many batches."""
    batches = list(range(1, points // len(SIZES) + 1))
    words = [
        "experiment=scaling", "engine=simulated", "model=alexnet", f"seed={seed}", "device=gpu",
        f"workers={list(SIZES)}".replace(" ", ""), f"batch_size={batches}".replace(" ", ""),
        "trials=1",
    ]  # fmt: skip
    experiment = read(words).resolve({"gpu": DEVICES}).experiment
    return experiment, expand(experiment, {"gpu": DEVICES}, {"alexnet": "a"})


def _rows(experiment: Experiment, planned: PlannedTrial) -> tuple[dict[str, Any], Tables]:
    trial = {
        **identity_columns(experiment, planned, "e"),
        "status": "ok",
        "verdict": "stable",
        "started_at": datetime.now(timezone.utc),
        "items_per_s": 1.0,
    }
    workers = [{"worker": rank} for rank in range(planned.point.workers)]
    blocks = [
        {"worker": rank, "block": block, "phase": "measure", "items": 80}
        for rank in range(planned.point.workers)
        for block in range(BLOCKS)
    ]
    return trial, Tables(trial, workers, blocks)


if __name__ == "__main__":
    main()
