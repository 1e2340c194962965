"""Does a run end well, whatever moment it is stopped, ended or killed at?

LeNet runs on OpenVINO or ONNX Runtime as three points of one worker, as a user would run it. At a
seeded moment, anywhere from the first line of the command to its last, the driver or a worker gets
SIGSTOP (and SIGCONT a while later), SIGTERM or SIGKILL. Afterwards

- the exit code is that of the documentation (130 for SIGTERM to the driver), without a traceback;
- every row is right or flagged: a stop of a worker within its window is flagged `stalled`;
- no process, no lease and no folder of Ray's is left, and the manifest says how the run ended;
- the same command completes the three points, and measures none of them twice.

    python benchmarks/moments.py [--moments 200] [--first 0] [--into moments.jsonl]

Exit code 1 when something does not hold.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
from _faults import MARK, described, marked, title
from _table import markdown
from overhead import lenet5

import raybench
from raybench.results import leases
from raybench.results.schema import FINAL
from raybench.results.storage import open_files

POINTS = 3
WORKERS = ("ray::model/", "ray::BenchWorker")
"""Prefixes of workers' process titles; a busy worker is named after its point."""
BATCH = 6
"""Runs while the lock is held."""
ENGINES = ("openvino", "onnxruntime")
SIGNALS = {"stop": signal.SIGSTOP, "term": signal.SIGTERM, "kill": signal.SIGKILL}
STAGES = {
    "the first line": ("", 2.0),
    "the plan": (" to go.", 6.0),
    "start 1": ("[1/3]", 3.0),
    "start 2": ("[2/3]", 3.0),
    "start 3": ("[3/3]", 3.0),
    "the last row": ("items/s", 1.5),
}
"""Words in the output with which a stage begins, and the longest time after it."""
MEASURING = ("start 1", "start 2", "start 3")
STOP_S = (0.1, 2.0)
"""Length of a stop."""
END_S = 900.0
"""A run that takes longer hangs."""
LEFT_S = 120.0
"""How long processes may outlive the driver: Ray's agents notice its end by polling."""
UNWANTED = ("Traceback", "SystemExit", "Exception ignored", "internal error", "BrokenPipe")
INTERRUPTED = 130
LAST_WORDS = "raybench.load("
"""What the last line of a whole run holds."""


@dataclass
class Moment:
    """One run with one fault, and what was wrong with it."""

    seed: int
    engine: str
    victim: str
    fault: str
    stage: str
    after_s: float
    stop_s: float
    phase: str = "before the first line"
    done: bool = False
    code: int | None = None
    wall_s: float = 0.0
    flagged: bool | None = None
    wrong: list[str] = field(default_factory=list)


def main() -> int:
    """Run every moment that is not in the file yet, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moments", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--into", type=Path, help="file of a JSON line each; those are skipped")
    parser.add_argument("--lock", type=Path, help="file to lock during each batch of runs")
    parser.add_argument("--at-once", type=int, default=1, help="runs at the same time")
    options = parser.parse_args()
    lines = options.into.read_text().splitlines() if options.into and options.into.exists() else []
    moments = [Moment(**json.loads(line)) for line in lines]
    known = {moment.seed for moment in moments}
    seeds = range(options.first, options.first + options.moments)
    missing = [seed for seed in seeds if seed not in known]
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="m") as folder:
        model = lenet5()

        def run(seed: int) -> Moment:
            engine = ENGINES[seed % len(ENGINES)]
            own = Path(folder, str(seed))
            own.mkdir()
            return run_moment(draw(seed, engine), model, own)

        for begin in range(0, len(missing), BATCH):
            with _locked(options.lock), ThreadPoolExecutor(options.at_once) as pool:
                for moment in pool.map(run, missing[begin : begin + BATCH]):
                    moments.append(moment)
                    _keep(moment, options.into)
    print(*_summary(moments), sep="\n")
    return 1 if any(moment.wrong for moment in moments) else 0


def _keep(moment: Moment, into: Path | None) -> None:
    """Print a line, and write one to the file."""
    print(_line(moment), flush=True)
    if into:
        with into.open("a") as file:
            file.write(json.dumps(asdict(moment)) + "\n")


@contextlib.contextmanager
def _locked(path: Path | None) -> Any:
    """Hold a lock, so that nothing else that starts Ray runs meanwhile."""
    if path is None:
        yield
        return
    import fcntl

    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def draw(seed: int, engine: str) -> Moment:
    """Return the moment of a seed."""
    chance = random.Random(f"moment {seed}")
    victim, stages = chance.choice((("driver", tuple(STAGES)), ("worker", MEASURING)))
    stage = chance.choice(stages)
    after_s = chance.uniform(0, STAGES[stage][1])
    fault = chance.choice(tuple(SIGNALS))
    return Moment(seed, engine, victim, fault, stage, after_s, chance.uniform(*STOP_S))


def words(engine: str, model: Path, results: Path) -> list[str]:
    """Return the command: three points of a second or two each."""
    return [
        sys.executable, "-m", "raybench", f"model={model}", f"engine={engine}", "batch_size=[1,2,4]",
        "precision=fp32", "workers=1", "trials=1", "preset=quick", "measure.block_s=0.05",
        "measure.warmup_min_s=0.1", "measure.warmup_max_s=0.3", "measure.min_s=0.7",
        "measure.max_s=1.2", "measure.look_s=0.1", "cluster.cpus=1", f"results.dir={results}",
    ]  # fmt: skip


def _environment(folder: Path, mark: str) -> dict[str, str]:
    """Return variables that keep all that a run leaves below a folder, and mark its processes."""
    return {
        **os.environ, MARK: mark, "TMPDIR": str(folder), "RAYBENCH_CACHE": str(folder.parent / "cache"),
        "PYTHONUNBUFFERED": "1",
    }  # fmt: skip


def run_moment(moment: Moment, model: Path, folder: Path) -> Moment:
    """Run, with the fault at its moment, judge, and run again to the end."""
    mark = secrets.token_hex(8)
    env, results = _environment(folder, mark), folder / "results"
    command = words(moment.engine, model, results)
    log = folder / f"{moment.seed}.log"
    began = time.monotonic()
    with log.open("w") as output:
        driver = subprocess.Popen(command, env=env, stdout=output, stderr=output, text=True)
        stopped = _fault(moment, driver, mark, log)
        try:
            moment.code = driver.wait(END_S)
        except subprocess.TimeoutExpired:
            moment.wrong.append("hangs")
            driver.kill()
            moment.code = driver.wait()
    moment.wall_s = round(time.monotonic() - began, 2)
    _judge_end(moment, log.read_text(), results, mark)
    if moment.victim == "worker" and moment.fault == "stop" and stopped is not None:
        _judge_stop(moment, results, *stopped)
    if moment.code:
        again = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=END_S, check=False
        )
        if again.returncode:
            moment.wrong.append(f"again: exit code {again.returncode}: {again.stderr[-500:]}")
    _judge_whole(moment, results)
    left = [path.name for path in folder.glob("ray/session_2*")] + _leases(results)
    if left:
        moment.wrong.append(f"left after the second run: {left}")
    if moment.wrong:
        moment.wrong.append(f"output: {log.read_text()[-1500:]}")
    return moment


def _fault(
    moment: Moment, driver: subprocess.Popen[str], mark: str, log: Path
) -> tuple[int, int] | None:
    """Cause the fault at its moment, or as soon after it as there is a victim.

    Returns:
        Begin and end of the stop on the monotonic clock, in ns; None without a stop.
    """
    words, _ = STAGES[moment.stage]
    count = POINTS if moment.stage == "the last row" else 1
    due_s = None
    while driver.poll() is None:
        if due_s is None and (not words or log.read_text().count(words) >= count):
            due_s = time.monotonic() + moment.after_s
        if due_s is not None and time.monotonic() >= due_s:
            victim = _victim(moment.victim, driver, mark)
            if victim is not None:
                lines = log.read_text().splitlines()
                moment.phase = lines[-1][:60] if lines else moment.phase
                return _strike(moment, victim)
        time.sleep(0.002)
    return None


def _victim(kind: str, driver: subprocess.Popen[str], mark: str) -> psutil.Process | None:
    with contextlib.suppress(psutil.Error):
        if kind == "driver":
            return psutil.Process(driver.pid)
        workers = [process for process in marked(mark) if title(process).startswith(WORKERS)]
        return workers[0] if workers else None
    return None


def _strike(moment: Moment, victim: psutil.Process) -> tuple[int, int] | None:
    with contextlib.suppress(psutil.Error):
        victim.send_signal(SIGNALS[moment.fault])
        moment.done = True
        if moment.fault == "stop":
            began_ns = time.monotonic_ns()
            time.sleep(moment.stop_s)
            ended_ns = time.monotonic_ns()
            victim.send_signal(signal.SIGCONT)
            return began_ns, ended_ns
    return None


# ---------------------------------------------------------------- what must hold


def _judge_end(moment: Moment, output: str, results: Path, mark: str) -> None:
    """Check exit code, output, and what is left of the first run."""
    killed = moment.done and moment.victim == "driver" and moment.fault == "kill"
    allowed = {0}
    if killed:
        allowed = {-signal.SIGKILL}
    elif moment.done and moment.victim == "driver" and moment.fault == "term":
        allowed = {INTERRUPTED}
        if not output or LAST_WORDS in output:  # Python itself was starting, or ending
            allowed |= {-signal.SIGTERM, 0}
    if moment.code not in allowed:
        moment.wrong.append(f"exit code {moment.code}")
    if moment.code == INTERRUPTED and "raybench: interrupted" not in output:
        moment.wrong.append("does not say that it was interrupted")
    moment.wrong += [f"prints {word!r}" for word in UNWANTED if word in output]
    _judge_processes(moment, mark)
    if not killed:
        _judge_folders(moment, results)


def _judge_processes(moment: Moment, mark: str) -> None:
    """Check that no process is left, and end those that are."""
    deadline = time.monotonic() + LEFT_S
    while (left := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    if left:
        moment.wrong.append(f"processes left: {list(map(described, left))}")
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()


def _judge_folders(moment: Moment, results: Path) -> None:
    """Check that no folder and no lease is left, and what the manifest says."""
    manifests = [json.loads(path.read_text()) for path in results.glob("runs/*/manifest.json")]
    expected = "interrupted" if moment.code else "finished"
    # one that comes while the table prints finds the run finished
    states = {manifest["state"] for manifest in manifests} - {expected, "finished"}
    if states:
        moment.wrong.append(f"the manifest says {states}")
    sessions = [path.name for path in results.parent.glob("ray/session_2*")]
    if sessions or _leases(results):
        moment.wrong.append(f"left: {sessions + _leases(results)}")


def _leases(results: Path) -> list[str]:
    unfinished = results.glob(".tmp-*")
    found = [*results.glob(f"{leases.FOLDER}/*"), *unfinished]
    return [str(path.relative_to(results)) for path in found]


def _judge_stop(moment: Moment, results: Path, began_ns: int, ended_ns: int) -> None:
    """Check that a stop within a window is flagged."""
    with contextlib.suppress(raybench.ResultsError):
        rows = {row["point_id"]: row for row in raybench.load(results).to_pylist()}
        blocks = raybench.load(results, "blocks").to_pylist()
        for point_id, row in rows.items():
            window = [
                block
                for block in blocks
                if block["point_id"] == point_id and block["phase"] == "measure"
            ]
            if not window or row["status"] != "ok":
                continue
            begin = min(block["t_start_ns"] for block in window)
            end = max(block["t_end_ns"] for block in window)
            if begin < began_ns and ended_ns < end:
                moment.flagged = "stalled" in row["flags"] and row["verdict"] == "unstable"
                if not moment.flagged:
                    moment.wrong.append(f"a stop in the window is not flagged: {row['flags']}")


def _judge_whole(moment: Moment, results: Path) -> None:
    """Check the rows after the command has come to its end."""
    rows = []
    with contextlib.suppress(raybench.ResultsError):
        rows = [row for row in raybench.load(results).to_pylist() if row["status"] in FINAL]
    counts = Counter(row["point_id"] for row in rows)
    if len(counts) != POINTS or set(counts.values()) != {1}:
        moment.wrong.append(f"final rows of the points: {sorted(counts.values())}")
    bad = [row["status"] for row in rows if row["status"] != "ok"]
    if bad:
        moment.wrong.append(f"rows: {bad}")
    if leases.at_work(open_files(results)):
        moment.wrong.append("a lease counts although nobody is at work")


def _line(moment: Moment) -> str:
    what = f"{moment.fault} {moment.victim}" if moment.done else "nobody there"
    state = "; ".join(moment.wrong) or "holds"
    return (
        f"{moment.seed:>3} {moment.engine:<11} {what:<12} at {moment.after_s:.2f} s after {moment.stage}, code {moment.code}, "
        f"{moment.wall_s:5.1f} s [{moment.phase}] {state}"
    )


def _summary(moments: list[Moment]) -> list[str]:
    cells = Counter((m.fault, m.victim) for m in moments if m.done)
    wrong = Counter((m.fault, m.victim) for m in moments if m.wrong)
    rows = [[*cell, count, wrong[cell]] for cell, count in sorted(cells.items())]
    rows.append(["none", "nobody there", sum(not m.done for m in moments), 0])
    flagged = sum(m.flagged is True for m in moments)
    return [
        f"{len(moments)} moments, {sum(bool(m.wrong) for m in moments)} wrong; "
        f"{flagged} stops of a worker within its window, all flagged",
        *markdown(("signal", "to", "moments", "wrong"), rows, right="moments, wrong"),
    ]


if __name__ == "__main__":
    sys.exit(main())
