"""Does a grid survive? Workers, nodes and the driver are killed while it runs, at seeded points.

A grid of simulated points runs as a user would run it, with faults from outside: SIGKILL of workers
(kill), SIGSTOP of workers (hang), SIGKILL of a raylet (node), SIGKILL of the driver, which is then
started again with the same command (driver). A fault is due when so many points are finished, and stays due
until it has a victim. The largest batches do not fit in the memory of the simulated device. Afterwards
every fault must be done, every point must have exactly one final row with the status that it has
without faults, no process may be left, and the wall time may be at most 1.5 times that of the run
without faults plus the times in which faults are to be noticed. The last line is one JSON document.

    python benchmarks/chaos.py [--seeds 20] [--points 120] [--cluster embedded|nodes|both]

"embedded": raybench starts Ray with 8 declared devices. "nodes": it attaches to a cluster of 3 nodes
on this machine, with 4, 2 and 2 declared devices. Exit code 1 when something does not hold.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _faults import MARK, Faults, end_left
from _table import markdown

import raybench
from raybench.results.schema import FINAL

STALL_S, PREPARE_S, START_S = 10.0, 30.0, 60.0
"""Deadlines of the phases in which a worker can hang; no working one misses them on a busy machine."""
FAULT_OF_STATUS = {"worker_died": "kill", "timeout": "hang", "node_died": "node"}
"""Fault by the status that the driver prints when it notices it."""
FAULTS = {
    "embedded": ("kill", "kill", "kill", "hang", "hang", "driver"),
    "nodes": ("kill", "kill", "hang", "hang", "node", "driver"),
}
SLOWER = 1.5
FIRST_POINT = re.compile(r"^\[")
RETRIES = re.compile(r"^\[\d+\] (\w+), tried again")
SIZES = (1, 2, 4)
"""Devices of a point."""
MOST_TRIALS = 5
"""So many trials of each point must suffice for all faults."""


@dataclass
class Case:
    """One run of the grid: its faults, its output and what was wrong; times are monotonic."""

    cluster: str
    seed: int | None
    points: int
    trials: int = 1
    done: list[tuple[float, str]] = field(default_factory=list)
    heard: list[tuple[float, str]] = field(default_factory=list)
    wall_s: float = 0.0
    starts_s: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def noticed(self) -> list[tuple[str, float]]:
        """Return the faults that the driver reported, each with the seconds until it did."""
        reported = [
            (at, FAULT_OF_STATUS.get(status))
            for at, line in self.heard
            for status in RETRIES.findall(line)
        ]
        noticed = []
        for began, fault in self.done:
            at = next((at for at, kind in reported if kind == fault and at > began), None)
            if at is not None:
                reported.remove((at, fault))
                noticed.append((fault, at - began))
        return noticed

    @property
    def allowed_s(self) -> float:
        """Return the time that faults may cost beyond the factor: detection and restarts."""
        return sum(seconds for _, seconds in self.noticed) + sum(self.starts_s[1:])

    @property
    def log(self) -> str:
        """Return the output of the drivers, with seconds since the first fault."""
        zero = self.done[0][0] if self.done else 0.0
        return "\n".join(f"{at - zero:8.2f}  {line}" for at, line in sorted(self.heard))


def main() -> int:
    """Run without faults, then with those of every seed; print a line each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--points", type=int, default=120)
    parser.add_argument("--cluster", choices=("embedded", "nodes", "both"), default="both")
    parser.add_argument(
        "--no-calm", action="store_true", help="without the run without faults: time is not judged"
    )
    parser.add_argument(
        "--into", type=Path, help="file of one JSON line per run; runs in it are skipped"
    )
    options = parser.parse_args()
    kinds = ("embedded", "nodes") if options.cluster == "both" else (options.cluster,)
    runs = _earlier_runs(options.into)
    seeds = range(options.first, options.first + options.seeds)
    for kind in kinds:
        for seed in seeds if options.no_calm else (None, *seeds):
            calm = runs.get((kind, None))
            if (kind, seed) not in runs:
                run = runs[kind, seed] = _facts(_case(kind, seed, options.points, calm), calm)
                if options.into:
                    with options.into.open("a") as file:
                        file.write(json.dumps(run) + "\n")
                print(_line(run), flush=True)
    wrong = sum(bool(run["wrong"]) for run in runs.values())
    print(f"{len(runs)} runs, {wrong} of them wrong", *_summary(list(runs.values())), sep="\n")
    print(json.dumps({"benchmark": "chaos", "runs": list(runs.values())}))
    return 1 if wrong else 0


def _earlier_runs(into: Path | None) -> dict[tuple[str, int | None], dict[str, Any]]:
    """Return the runs of an earlier call by cluster and seed."""
    lines = into.read_text().splitlines() if into and into.exists() else []
    runs = map(json.loads, lines)
    return {(run["cluster"], run["seed"]): run for run in runs}


def _line(run: dict[str, Any]) -> str:
    who = "no faults" if run["seed"] is None else f"seed {run['seed']:>2}"
    limit = "" if run["limit_s"] is None else f" (limit {run['limit_s']:.0f} s)"
    done = " ".join(f"{kind} {n}" for kind, n in run["faults"].items())
    noticed = " ".join(f"{kind} {seconds:.1f} s" for kind, seconds in run["noticed_s"])
    state = "; ".join(run["wrong"]) or "holds"
    return f"{run['cluster']:<9} {who:<9} {run['wall_s']:6.1f} s{limit}  {done}; noticed: {noticed}; {state}"


def _summary(runs: list[dict[str, Any]]) -> list[str]:
    """Return a table of all runs with faults, one line per cluster."""
    heads = (
        "cluster",
        "seeds",
        "points",
        "done",
        "noticed, longest",
        "wrong",
        "time, without faults",
    )
    rows = []
    for kind in dict.fromkeys(run["cluster"] for run in runs):
        mine = [run for run in runs if run["cluster"] == kind and run["seed"] is not None]
        calm = [run["wall_s"] for run in runs if run["cluster"] == kind and run["seed"] is None]
        done, longest = Counter[str](), dict[str, float]()
        for run in mine:
            done.update(run["faults"])
            for fault, seconds in run["noticed_s"]:
                longest[fault] = max(seconds, longest.get(fault, 0.0))
        times = [run["wall_s"] for run in mine]
        cells = [
            kind, len(mine), max((run["points"] for run in mine), default=0),
            ", ".join(f"{n} {fault}" for fault, n in sorted(done.items())),
            ", ".join(f"{fault} {seconds:.1f} s" for fault, seconds in sorted(longest.items())),
            sum(bool(run["wrong"]) for run in mine),
            f"{min(times, default=0):.0f} to {max(times, default=0):.0f} s"
            + "".join(f", {seconds:.0f} s" for seconds in calm),
        ]  # fmt: skip
        rows.append(cells)
    return ["", *markdown(heads, rows, right="seeds, points, wrong"), ""]


def _facts(case: Case, calm: dict[str, Any] | None) -> dict[str, Any]:
    """Return the record of a run, judged by the run without faults."""
    limit_s = None if calm is None else SLOWER * case.trials * calm["wall_s"] + case.allowed_s
    late = limit_s is not None and case.wall_s > limit_s
    return {
        "cluster": case.cluster,
        "seed": case.seed,
        "points": case.points,
        "faults": Counter(sorted(fault for _, fault in case.done)),
        "wall_s": round(case.wall_s, 1),
        "limit_s": None if limit_s is None else round(limit_s, 1),
        "starts_s": [round(seconds, 1) for seconds in case.starts_s],
        "noticed_s": [(kind, round(seconds, 2)) for kind, seconds in case.noticed],
        "wrong": [*case.wrong, *["took too long"] * late],
    }


# ---------------------------------------------------------------- one run


def words(points: int, folder: Path) -> list[str]:
    """Return the command: about `points` points on 1, 2 and 4 devices; two batches do not fit."""
    batches = list(range(1, fits(points) + 3))
    return [
        "experiment=scaling", "engine=simulated", "model=alexnet",
        f"workers={list(SIZES)}".replace(" ", ""), f"batch_size={batches}".replace(" ", ""),
        "engine.overhead_ms=8", "engine.item_us=100", "engine.item_mib=1024",
        f"engine.memory_gib={fits(points)}", "preset=quick", "measure.block_s=0.05",
        "measure.warmup_min_s=0.1", "measure.warmup_max_s=0.2", "measure.min_s=0.2",
        "measure.max_s=0.3", "measure.look_s=0.1", "measure.looks_in_a_row=1", "cluster.isolation=gpu",
        "cluster.processes=kept", "cluster.retries=5", f"cluster.stall_timeout_s={STALL_S}",
        f"cluster.prepare_timeout_s={PREPARE_S}", f"cluster.start_timeout_s={START_S}",
        f"results.dir={folder}",
    ]  # fmt: skip


def fits(points: int) -> int:
    """Return the largest batch that fits."""
    return max(points // len(SIZES), 3) - 2


def planned_points(points: int) -> int:
    """Return the number of points of the command."""
    return len(SIZES) * (fits(points) + 2)


def _case(kind: str, seed: int | None, points: int, calm: dict[str, Any] | None) -> Case:
    case = Case(kind, seed, points)
    mark = secrets.token_hex(8)
    env = {**os.environ, MARK: mark, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": mark * 4}
    faults = _faults(kind, seed, planned_points(points))
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        results = Path(folder) / "results"
        command = [sys.executable, "-m", "raybench", *words(points, results)]
        if kind == "nodes":
            address = stack.enter_context(_three_nodes(env))
            command += [f"cluster.address={address}"]
        else:
            command += ["cluster.gpus=8", "cluster.cpus=1", "cluster.dashboard=false"]
        began = time.monotonic()
        _run(case, command, results, Faults(faults, env, mark, random.Random(seed)))
        case.wall_s = time.monotonic() - began
        _judge(case, results)
        if case.wrong:
            print(case.log)
    left = end_left(mark)
    if left:
        case.wrong.append(f"{len(left)} processes left: {left}")
    return case


def _faults(kind: str, seed: int | None, points: int) -> list[tuple[float, str]]:
    """Return each fault with the number of points that have a row when it is due."""
    if seed is None:
        return []
    chance = random.Random(f"{kind}/{seed}")
    return sorted((chance.uniform(0.05, 0.85) * points, fault) for fault in FAULTS[kind])


def _run(case: Case, command: list[str], results: Path, faults: Faults) -> None:
    """Run the command to its end, with faults; again after a kill, and with a trial more for the rest.

    A fault that finds no victim stays due. Where the grid ends before the last is done, which a
    busy machine can bring about, each point gets one trial more.
    """
    while True:
        code = _drive(case, [*command, f"trials={case.trials}"], results, faults)
        if code:
            case.wrong.append(f"exit code {code}")
        if code is None:
            continue
        if code or not faults.waiting:
            break
        if case.trials == MOST_TRIALS:
            case.wrong.append(f"faults without a victim: {[fault for _, fault in faults.waiting]}")
            break
        case.trials += 1


def _drive(case: Case, command: list[str], results: Path, faults: Faults) -> int | None:
    """Run one driver with the faults that are due; return its exit code, None where it was killed."""
    started = time.monotonic()
    driver = subprocess.Popen(
        command, env=faults.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    begun = threading.Event()
    ear = threading.Thread(target=_listen, args=(driver, case.heard, begun))
    ear.start()
    with contextlib.ExitStack() as stack:
        stack.callback(ear.join)
        stack.callback(driver.kill)
        while not begun.wait(0.05) and driver.poll() is None:
            pass
        case.starts_s.append(time.monotonic() - started)
        while driver.poll() is None:
            at = time.monotonic()
            done = faults.do_next(driver, finished=_rows(results))
            if done is not None:
                fault, victim = done
                case.done.append((at, fault))
                case.heard.append((at, f"======== {fault}: {victim}"))
                if fault == "driver":
                    return None
            time.sleep(0.1)
    return driver.returncode


def _rows(results: Path) -> int:
    """Return how many trials have their row by now."""
    try:
        return int(raybench.load(results).num_rows)
    except raybench.ResultsError:
        return 0


def _listen(
    driver: subprocess.Popen[str], heard: list[tuple[float, str]], begun: threading.Event
) -> None:
    """Record the driver's lines with their times; set `begun` at its first point."""
    assert driver.stdout is not None
    with driver.stdout as lines:
        for line in lines:
            heard.append((time.monotonic(), line.rstrip()))
            if FIRST_POINT.match(line):
                begun.set()


def _judge(case: Case, results: Path) -> None:
    """Check that every trial of every point has exactly one final row with the right status."""
    trials = planned_points(case.points) * case.trials
    try:
        rows = raybench.load(results).to_pylist()
    except raybench.ResultsError as error:
        case.wrong.append(str(error))
        return
    final = [row for row in rows if row["status"] in FINAL]
    count = Counter((row["point_id"], row["trial"], row["environment_id"]) for row in final)
    if len(count) != trials:
        case.wrong.append(f"{len(count)} trials with a final row, not {trials}")
    doubled = sum(n > 1 for n in count.values())
    if doubled:
        case.wrong.append(f"{doubled} trials with more than one")
    for row in final:
        right = (
            ("ok",) if row["batch_size"] <= fits(case.points) else ("out_of_memory", "infeasible")
        )
        if row["status"] not in right:
            case.wrong.append(f"batch {row['batch_size']} is {row['status']}: {row['reason']}")


# ---------------------------------------------------------------- three nodes


@contextlib.contextmanager
def _three_nodes(env: dict[str, str]) -> Any:
    """Start a Ray cluster of 4, 2 and 2 declared devices and yield its address."""
    program = """
import sys, ray
from ray.cluster_utils import Cluster
common = dict(object_store_memory=80_000_000, include_dashboard=False)
cluster = Cluster(initialize_head=True, head_node_args=dict(
    num_cpus=1, num_gpus=4, _system_config={"worker_niceness": 0}, **common))
for _ in range(2):
    cluster.add_node(num_cpus=1, num_gpus=2, **common)
print("address", cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""
    host = subprocess.Popen(
        [sys.executable, "-c", program],
        env={**env, "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert host.stdout is not None
    for line in host.stdout:
        if line.startswith("address"):
            break
    else:
        raise SystemExit("The cluster of three nodes did not start.")
    try:
        yield line.split()[1]
    finally:
        host.communicate()


if __name__ == "__main__":
    raise SystemExit(main())
