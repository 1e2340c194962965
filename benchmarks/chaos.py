"""Does a grid survive? Workers, nodes and the driver are killed while it runs, at seeded points.

A grid of simulated points runs as a user would run it, with faults from outside: SIGKILL of workers
(kill), SIGSTOP of workers (hang), SIGKILL of a raylet (node), SIGKILL of the driver, which is then
started again with the same command (driver). The largest batches do not fit in the memory of the
simulated device. Afterwards every point must have exactly one final row with the status that it has
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
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from _table import markdown

import raybench
from raybench.results.schema import FINAL

MARK = "RAYBENCH_CHAOS"
"""Variable that every process of a run inherits, to find the processes that are left."""
STALL_S, PREPARE_S, START_S = 3.0, 10.0, 20.0
"""Deadlines of the phases in which a worker can hang."""
FAULT_OF_STATUS = {"worker_died": "kill", "timeout": "hang", "node_died": "node"}
"""Fault by the status that the driver prints when it notices it."""
FAULTS = {
    "embedded": ("kill", "kill", "kill", "hang", "hang", "driver"),
    "nodes": ("kill", "kill", "hang", "hang", "node", "driver"),
}
SLOWER = 1.5
RETRIES = re.compile(r"^\[\d+\] (\w+), tried again")
BEGINS = re.compile(r"^\[\d+/\d+\] .* \.\.\.$")
WORKERS = ("ray::scaling/", "ray::BenchWorker")
"""Prefixes of workers' process titles; a busy worker is named after its point."""
WORKERS_S = 10.0
"""How long workers and raylets may outlive the last driver."""
AGENTS_S = 120.0
"""How long Ray's agents may outlive a killed raylet; they hold no device."""
SIZES = (1, 2, 4)
"""Devices of a point."""


@dataclass
class Case:
    """One run of the grid: its faults, its output and what was wrong; times are monotonic."""

    cluster: str
    seed: int | None
    points: int
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
    limit_s = None if calm is None else SLOWER * calm["wall_s"] + case.allowed_s
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


def _case(kind: str, seed: int | None, points: int, calm: dict[str, Any] | None) -> Case:
    case = Case(kind, seed, points)
    mark = secrets.token_hex(8)
    env = {**os.environ, MARK: mark, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": mark * 4}
    faults = _faults(kind, seed, fits(points) * len(SIZES))
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        results = Path(folder) / "results"
        command = [sys.executable, "-m", "raybench", *words(points, results)]
        if kind == "nodes":
            address = stack.enter_context(_three_nodes(env))
            command += [f"cluster.address={address}"]
        else:
            command += ["cluster.gpus=8", "cluster.cpus=1", "cluster.dashboard=false"]
        began = time.monotonic()
        _drive(case, command, env, faults, random.Random(seed))
        case.wall_s = time.monotonic() - began
        _judge(case, results, len(_planned(command)))
        if case.wrong:
            print(case.log)
    left = _left(mark)
    if left:
        case.wrong.append(f"{len(left)} processes left: {left}")
    return case


def _planned(command: list[str]) -> list[str]:
    """Return the ids of the command's points, as `raybench plan` prints them."""
    words = [word for word in command[3:] if not word.startswith("cluster.address")]
    plan = [*command[:3], "plan", *words, "cluster.gpus=8"]
    done = subprocess.run(plan, capture_output=True, text=True, check=True)
    return re.findall(r"^  ([0-9a-f]{20})  ", done.stdout, re.MULTILINE)


def _faults(kind: str, seed: int | None, points: int) -> list[tuple[float, str]]:
    """Return each fault with the number of points, of those that fit, that begin before it."""
    if seed is None:
        return []
    chance = random.Random(f"{kind}/{seed}")
    return sorted((chance.uniform(0.05, 0.85) * points, fault) for fault in FAULTS[kind])


def _drive(
    case: Case,
    command: list[str],
    env: dict[str, str],
    faults: list[tuple[float, str]],
    chance: random.Random,
) -> None:
    """Run the driver to its end, with the faults that are due; restart it when it was killed."""
    waiting = list(faults)
    while True:
        started = time.monotonic()
        driver = subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
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
            killed = False
            while driver.poll() is None:
                begun_points = sum(bool(BEGINS.match(line)) for _, line in list(case.heard))
                if waiting and begun_points > waiting[0][0]:
                    fault = waiting[0][1]
                    at = time.monotonic()
                    victim = _do(fault, driver, env[MARK], chance)
                    if victim is not None:  # otherwise it stays due until there is a victim
                        del waiting[0]
                        case.done.append((at, fault))
                        case.heard.append((at, f"======== {fault}: {victim}"))
                        killed = fault == "driver"
                time.sleep(0.02)
        if not killed:
            if driver.returncode:
                case.wrong.append(f"exit code {driver.returncode}")
            return


def _listen(
    driver: subprocess.Popen[str], heard: list[tuple[float, str]], begun: threading.Event
) -> None:
    """Record the driver's lines with their times; set `begun` at its first point."""
    assert driver.stdout is not None
    with driver.stdout as lines:
        for line in lines:
            heard.append((time.monotonic(), line.rstrip()))
            if BEGINS.match(line):
                begun.set()


def _do(fault: str, driver: subprocess.Popen[str], mark: str, chance: random.Random) -> str | None:
    """Cause the fault and return a description of the victim, or None without a victim."""
    if fault == "driver":
        driver.kill()
        driver.wait()
        return "driver"
    if fault == "node":
        raylets = [p for p in _marked(mark) if p.name() == "raylet" and _gpus(p) == 2]
        victims = raylets
    else:
        victims = [p for p in _marked(mark) if _title(p).startswith(WORKERS) and _in_hand(p)]
    with contextlib.suppress(psutil.Error, IndexError):
        victim = chance.choice(victims)
        words = _described(victim)
        victim.send_signal(signal.SIGSTOP if fault == "hang" else signal.SIGKILL)
        return words
    return None


def _in_hand(worker: psutil.Process) -> bool:
    """Return whether the worker runs under a living raylet, which could still end it."""
    with contextlib.suppress(psutil.Error):
        return worker.status() != psutil.STATUS_STOPPED and _parent(worker).startswith("raylet")
    return False


def _gpus(raylet: psutil.Process) -> int:
    resources = [word for word in raylet.cmdline() if word.startswith("--static_resource_list")]
    parts = resources[0].partition("=")[2].split(",") if resources else []
    return int(float(parts[parts.index("GPU") + 1])) if "GPU" in parts else 0


def _title(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def _marked(mark: str) -> list[psutil.Process]:
    marked = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                marked.append(process)
    return marked


def _left(mark: str) -> list[str]:
    """Return the processes that outlive their limit, and kill them."""
    began = time.monotonic()
    while left := _marked(mark):
        agents = all("agent" in _title(process).lower() for process in left)
        if time.monotonic() - began > (AGENTS_S if agents else WORKERS_S):
            break
        time.sleep(0.5)
    descriptions = list(map(_described, left))
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    return descriptions


def _described(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return f"{_title(process)[:60]} ({process.status()}, of {_parent(process)})"
    return "already gone"


def _parent(process: psutil.Process) -> str:
    parent = process.parent()
    return f"{parent.name()} {parent.pid}" if parent else "nobody"


def _judge(case: Case, results: Path, points: int) -> None:
    """Check that every point has exactly one final row with the right status."""
    try:
        rows = raybench.load(results).to_pylist()
    except raybench.ResultsError as error:
        case.wrong.append(str(error))
        return
    final = [row for row in rows if row["status"] in FINAL]
    count = Counter((row["point_id"], row["trial"], row["environment_id"]) for row in final)
    if len(count) != points:
        case.wrong.append(f"{len(count)} points with a final row, not {points}")
    doubled = sum(n > 1 for n in count.values())
    if doubled:
        case.wrong.append(f"{doubled} points with more than one")
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
