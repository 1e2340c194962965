"""Check and measure raybench on one NVIDIA GPU: batches, overheads, memory, telemetry, stability.

First the plans are built, several at a time: a builder keeps one core of the host busy and the GPU
for a small part of the time. Then the jobs run one after another in a process of their own
(gpu_worker.py), most telling first, until the budget is spent; what is done is skipped next time.
Rows go to RESULTS/rows.jsonl, the tables to RESULTS/table.md and, last, to the terminal.

    benchmarks/gpu.sh RESULTS [--budget 470] [--measure 245] [--only ladder,overhead] [--engine tensorrt]
"""

from __future__ import annotations

import argparse
import json
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _table import markdown

from raybench.measure.flag_conditions import FIDELITY_LEAST_DB

if TYPE_CHECKING:
    from collections.abc import Iterable

Row = dict[str, Any]
MODELS = ("alexnet", "googlenet", "resnet50")
PRECISIONS = ("int8", "fp32", "fp16", "tf32")
PRECISIONS_SHOWN = ("fp32", "tf32", "fp16", "int8")
"""Columns of the throughput table, in order."""
BATCHES = (1, 8, 32, 128, 1024, 4096)
BOTH_WAYS = (1, 128)
"""Batches that are also measured with transfers."""
ORDER = (128, 1, 32, 8, 1024, 4096)
GRACE_S = 15.0
"""How far a job may run past the budget before its process is ended."""
MEASURE_S = 5.0
"""Rough duration of two measurements of a built plan."""
BUILDERS = 6
"""Processes that build at the same time; they take turns on the GPU, and 15 were no faster."""

BUILDING = (*("timing_rounds", "jit_convolutions", "optimization_level"),
            *("largest_batch", "best_batch", "int8_rest"))  # fmt: skip
"""Options that decide a plan."""

WAYS: dict[str, dict[str, Any]] = {
    "graph": {},
    "no graph": {"cuda_graphs": False},
}


BUILDER: dict[str, Any] = {
    "timing_rounds": 2,
    "optimization_level": 2,
    "jit_convolutions": False,
    "largest_batch": 1024,
    "best_batch": 128,
}
"""Engine options of every row: one dynamic plan per network and precision, little search."""
STATIC: dict[str, Any] = {**BUILDER, "largest_batch": None, "best_batch": None}


def _case(model: str, precision: str, batch: int, **more: Any) -> Row:
    options = {**BUILDER, **more.pop("options", {})}
    return {"model": model, "precision": precision, "batch_size": batch, "options": options, **more}


def _for_batch(batch: int) -> dict[str, Any]:
    return STATIC if batch > BUILDER["largest_batch"] else BUILDER


def _job(kind: str, part: str, name: str, guess_s: float, **more: Any) -> Row:
    return {"kind": kind, "part": part, "id": f"{part}/{name}", "guess_s": guess_s, **more}


def _ladder(models: Iterable[str], batches: Iterable[int]) -> list[Row]:
    return [
        _job(
            "points",
            "ladder",
            f"{model}-{precision}-{batch}",
            MEASURE_S,
            cases=[
                _case(model, precision, batch, transfers=on, options=_for_batch(batch))
                for on in ((False, True) if batch in BOTH_WAYS else (False,))
            ],
        )
        for batch in batches
        for model in models
        for precision in PRECISIONS
    ]


def _check() -> Row:
    small = {"pool_bytes": 32 << 20}
    modes = [
        {"inflight": inflight, "transfers": on, "options": {**BUILDER, **way, **streams}}
        for way in WAYS.values()
        for streams in ({}, {"streams": 2})
        for on in (True, False)
        for inflight in (1, 3)
    ]
    plain = {**BUILDER, "cuda_graphs": False}
    case = _case("googlenet", "fp32", 32, transfers=True, **small)
    return _job("check", "check", "modes", 30.0, case=case, plain=plain, modes=modes, rounds=8)


def _overhead(model: str, precision: str, batch: int) -> Row:
    cases = [
        _case(model, precision, batch, transfers=on, inflight=inflight, options=way)
        for way in WAYS.values()
        for on in (False, True)
        for inflight in ((1, 2) if batch == 1 else (2,))
    ]
    return _job("points", "overhead", f"{model}-{precision}-{batch}", 15.0, cases=cases)


def _memory() -> list[Row]:
    """Return jobs on memory: a limit that only a large batch exceeds, and too many in flight."""
    capped = [
        _case("googlenet", "fp32", batch, limit=1 << 30, options=STATIC) for batch in (8, 4096, 8)
    ]
    full = [
        _case("alexnet", "fp32", 1024, transfers=True, inflight=256),
        _case("alexnet", "fp32", 128),
    ]
    return [
        _job("points", "memory", "limit", 15.0, cases=capped),
        _job("points", "memory", "device", 15.0, cases=full),
    ]


def _ablations() -> list[Row]:
    rest = [_case(model, "int8_fp16", 128) for model in MODELS]
    static = [_case("resnet50", "int8", batch, options=STATIC) for batch in (1, 128)]
    thorough = {**STATIC, "optimization_level": 3, "jit_convolutions": True, "timing_rounds": 8}
    defaults = [_case("resnet50", "int8", 128, options=thorough)]
    streams = [_case("googlenet", "fp16", b, options={"streams": 2}) for b in (1, 8, 128)]
    return [
        _job("points", "ablation", "streams", 10.0, cases=streams),
        _job("points", "ablation", "static", 10.0, cases=static),
        _job("points", "ablation", "int8-rest", 10.0, cases=rest),
        _job("points", "ablation", "defaults", 10.0, cases=defaults),
    ]


def _others() -> tuple[Row, Row]:
    polling = {"case": _case("resnet50", "int8", 1), "hz": [0, 5, 50], "turns": 12, "seconds": 0.5}
    steady = _case("resnet50", "int8", 128)
    stream = {"idle_s": 4.0, "long_s": 35.0, "warm_s": 8.0, "trials": 5, "trial_s": 3.0}
    return (
        _job("nvml", "nvml", "polling", 25.0, **polling),
        _job("stability", "stability", "resnet50-int8-128", 60.0, case=steady, **stream),
    )


def gpu_jobs() -> list[Row]:
    """Return every job, the most important first."""
    telemetry, stability = _others()
    return [
        _job("environment", "environment", "here", 3.0),
        *_ladder(MODELS[::-1], ORDER[:2]),
        *(_overhead("resnet50", "int8", batch) for batch in (1, 128)),
        _overhead("alexnet", "fp16", 1),
        telemetry,
        *_memory(),
        *_ladder(MODELS[::-1], ORDER[2:5]),
        stability,
        _check(),
        *_ladder(MODELS[::-1], ORDER[5:]),
        *_ablations(),
    ]


def drill_jobs() -> list[Row]:
    """Return a few jobs of every kind for an engine on a CPU, to test this script."""
    case = {"model": "googlenet", "precision": "fp32", "batch_size": 2, "transfers": True}
    case = {**case, "pool_bytes": 1 << 20, "inflight": 1}
    polled = {**case, "inflight": 1}
    return [
        _job("environment", "environment", "here", 3.0),
        _job("check", "check", "modes", 9.0, case=case, plain={}, modes=[{"inflight": 2}], rounds=2),
        _job("points", "ladder", "drill", 9.0, cases=[case, {**case, "precision": "fp16"}]),
        _job("nvml", "nvml", "polling", 9.0, case=polled, hz=[0, 5], turns=3, seconds=0.3),
        _job(
            "stability", "stability", "drill", 9.0, case=case, idle_s=0.1, long_s=9.0, warm_s=2.0,
            trials=2, trial_s=3.0,
        ),
    ]  # fmt: skip


class Child:
    """Worker process; started when needed, ended when it hangs."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str | None] = queue.Queue()

    def ask(self, job: Row, deadline: float) -> tuple[list[Row], str | None]:
        """Run a job; return its rows and the reason why it did not finish, None when it did."""
        process = self._process or self._start()
        assert process.stdin is not None
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        rows: list[Row] = []
        while True:
            try:
                line = self._lines.get(timeout=max(deadline - time.monotonic(), 0.01))
            except queue.Empty:
                self.end()
                return rows, "timeout"
            if line is None:
                self.end()
                return rows, "worker_died"
            answer = json.loads(line)
            if "done" in answer:
                if answer["last"]:
                    self.end()
                return rows, None
            rows.append(answer["row"])

    def _start(self) -> subprocess.Popen[str]:
        script = str(Path(__file__).with_name("gpu_worker.py"))
        self._lines = queue.Queue()
        with self._log.open("a") as log:
            process = subprocess.Popen(
                [sys.executable, script],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        threading.Thread(target=_pump, args=(process, self._lines), daemon=True).start()
        self._process = process
        return process

    def end(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _pump(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line)
    lines.put(None)


def _plan_of(case: Row) -> str:
    """Return the part of a case that decides its plan: one dynamic plan serves many batches."""
    options = {k: v for k, v in case["options"].items() if k in BUILDING}
    static = options.get("largest_batch") is None
    kept = ("model", "precision", "limit", *(("batch_size",) if static else ()))
    return json.dumps([{k: case.get(k) for k in kept}, options], sort_keys=True)


def _needed(job: Row) -> list[Row]:
    """Return the cases of a job that need a plan; of those on memory only the first."""
    if job["kind"] == "environment":
        return []
    cases: list[Row] = job.get("cases") or [job["case"]]
    return cases[:1] if job["part"] == "memory" else cases


def build(jobs: list[Row], results: Path, stop: float, engine: str) -> dict[str, Row]:
    """Build every plan that the jobs ask for, in their order, until the time is up.

    Returns:
        What became of each plan that is done: status and, of one that was refused, the reason.
    """
    done, _ = _known(results)
    wanted: dict[str, Row] = {}
    for case in (case for job in jobs if job["id"] not in done for case in _needed(job)):
        wanted.setdefault(_plan_of(case), case)
    waiting = queue.SimpleQueue[Row]()
    for case in wanted.values():
        waiting.put(case)
    there: dict[str, Row] = {}
    threads = [
        threading.Thread(target=_builder, args=(waiting, there, results, stop, engine))
        for _ in range(min(BUILDERS, len(wanted)))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return there


def _builder(
    waiting: queue.SimpleQueue[Row], there: dict[str, Row], results: Path, stop: float, engine: str
) -> None:
    child = Child(results / "builders.log")
    while time.monotonic() < stop:
        try:
            case = waiting.get_nowait()
        except queue.Empty:
            break
        began = time.monotonic()
        kept = ("model", "precision", "batch_size", "limit", "options")
        asked = {k: case[k] for k in kept if k in case}
        rows, trouble = child.ask(
            {"kind": "build", "id": "", "case": asked, "engine": engine}, stop
        )
        outcome = trouble or "; ".join(row.get("reason") or "built" for row in rows)
        words = f"{case['model']} {case['precision']} {case['batch_size']}"
        print(f"plan  {words:<28} {time.monotonic() - began:5.0f} s  {outcome[:300]}", flush=True)
        if not trouble:
            there[_plan_of(case)] = rows[-1]
    child.end()


def run(
    jobs: list[Row], results: Path, stop: float, engine: str, there: dict[str, Row] | None = None
) -> None:
    """Run the jobs that are not done and have their plans, until the time is up."""
    began = time.monotonic()
    done, tries = _known(results)
    child = Child(results / "worker.log")
    pace = 1.0
    with (results / "rows.jsonl").open("a") as file:
        for job in jobs:
            left = stop - time.monotonic()
            plans = [] if there is None else [_plan_of(case) for case in _needed(job)]
            if there is not None and not set(plans) <= there.keys():
                continue
            if job["id"] in done or tries.get(job["id"], 0) >= 2 or left < job["guess_s"] * pace:
                continue
            started = time.monotonic()
            asked = {**_with_way(job, _rows(results)), "engine": engine}
            refused = [there[plan] for plan in plans if there and there[plan]["status"] != "ok"]
            rows, trouble = (
                ([{**_case_columns(case), **refused[0]} for case in _needed(job)], None)
                if refused
                else child.ask(asked, stop + GRACE_S)
            )
            seconds = time.monotonic() - started
            if trouble:
                rows.append({"status": trouble, "reason": f"after {seconds:.0f} s"})
            for row in rows:
                file.write(json.dumps({"job": job["id"], "part": job["part"], **row}) + "\n")
            end: Row = {"job": job["id"], "end": trouble or "done", "seconds": seconds}
            file.write(json.dumps(end) + "\n")
            file.flush()
            pace = 0.7 * pace + 0.3 * min(max(seconds / job["guess_s"], 0.3), 3.0)
            _tell(job, rows, seconds, time.monotonic() - began)
    child.end()


def _case_columns(case: Row) -> Row:
    """Return the columns that the worker writes for a case."""
    return {
        "transfers": False,
        "inflight": 2,
        "limit": None,
        **case,
        "options": json.dumps(case["options"], sort_keys=True),
    }


def _with_way(job: Row, earlier: list[Row]) -> Row:
    """Return the job with the fastest way of launching that passed the checks."""
    failed = [
        json.loads(row["options"])
        for row in earlier
        if row.get("what") == "mode" and row["status"] != "ok"
    ]
    failed = [options for options in failed if options.get("streams", 1) == 1]
    if not failed or "cases" not in job or job["id"] == "ladder/drill":
        return job
    sound = [way for way in WAYS.values() if not any(_is_way(way, options) for options in failed)]
    way = sound[0] if sound else {"cuda_graphs": False}
    cases = [{**case, "options": {**way, **case.get("options", {})}} for case in job["cases"]]
    return {**job, "cases": cases}


def _is_way(way: Row, options: Row) -> bool:
    return bool(options.get("cuda_graphs", True) == way.get("cuda_graphs", True))


def _known(results: Path) -> tuple[set[str], dict[str, int]]:
    done: set[str] = set()
    tries: dict[str, int] = {}
    for row in _rows(results):
        if row.get("end") == "done":
            done.add(row["job"])
        elif "end" in row:
            tries[row["job"]] = tries.get(row["job"], 0) + 1
    return done, tries


def _rows(results: Path) -> list[Row]:
    path = results / "rows.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line]


def _tell(job: Row, rows: list[Row], seconds: float, total: float) -> None:
    rates = [f"{row['items_per_s']:.0f}" for row in rows if row.get("items_per_s")]
    bad = [
        f"{row['status']}: {row.get('reason', '')[:300]}" for row in rows if row["status"] != "ok"
    ]
    built = [f"built {row['build_s']:.0f} s" for row in rows[:1] if row.get("build_s")]
    words = " ".join([*built, *rates, *bad])
    print(f"{total:5.0f} s  {job['id']:<28} {seconds:5.1f} s  {words}", flush=True)


# tables


def tables(rows: list[Row]) -> str:
    """Return all results as Markdown."""
    latest: dict[str, list[Row]] = {}
    for row in rows:
        if "end" not in row:
            latest.setdefault(row["part"], []).append(row)
    parts = [
        _environment_table(latest.get("environment", [])),
        _check_table(latest.get("check", [])),
        *(_ladder_table(latest.get("ladder", []), on) for on in (False, True)),
        _case_table("Overheads", latest.get("overhead", [])),
        _nvml_table(latest.get("nvml", [])),
        _stability_table(latest.get("stability", [])),
        _case_table("Memory", latest.get("memory", [])),
        _case_table("Ablations", latest.get("ablation", [])),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _environment_table(rows: list[Row]) -> str:
    kept = ("device", "driver_version", "cuda_driver_version", "pcie_gen", "pcie_width",
            "power_limit_w", "max_clock_sm_mhz", "cpu_model", "cpu_cores", "kernel",
            "python_version")  # fmt: skip
    shown = {k: v for row in rows[-1:] for k, v in row.items() if k in kept and v is not None}
    return ", ".join(f"{name} {value}" for name, value in shown.items())


def _check_table(rows: list[Row]) -> str:
    lines = []
    for row in rows:
        if row.get("what") == "mode" and row["status"] == "ok":
            continue
        mode = {k: row.get(k) for k in ("inflight", "transfers", "options", "different", "worst")}
        lines.append(f"- {row.get('what')}: {row['status']} {row.get('reason', '')} {mode}")
    good = sum(row.get("what") == "mode" and row["status"] == "ok" for row in rows)
    return "\n".join([f"## Checks\n\n{good} modes give bitwise what the plain loop gives.", *lines])


def _ladder_table(rows: list[Row], transfers: bool) -> str:
    cells = {(r["model"], r["precision"], r["batch_size"]): r for r in rows
             if r.get("model") and r["transfers"] == transfers}  # fmt: skip
    if not cells:
        return ""
    words = "with transfers" if transfers else "without transfers"
    heads = (
        "model",
        "batch",
        *PRECISIONS_SHOWN,
        "int8/fp32",
        "int8 dB",
        "compute fp32 ms",
        "int8 ms",
    )
    lines = []
    for model in MODELS:
        for batch in BATCHES:
            mine = {p: cells[model, p, batch] for p in PRECISIONS if (model, p, batch) in cells}
            if mine:
                lines.append([model, batch, *_ladder_cells(mine)])
    return "\n".join([f"## Items/s {words}\n", *markdown(heads, lines)])


def _ladder_cells(mine: dict[str, Row]) -> list[str]:
    int8, fp32 = (mine.get(p, {}).get("items_per_s") for p in ("int8", "fp32"))
    ratio = int8 / fp32 if int8 and fp32 else None
    shown = [_rate(mine.get(p)) for p in PRECISIONS_SHOWN]
    more = [
        _number(ratio, ".2f"),
        _number(mine.get("int8", {}).get("sqnr_db"), ".1f"),
        _number(mine.get("fp32", {}).get("compute_ms_median"), ".3f"),
        _number(mine.get("int8", {}).get("compute_ms_median"), ".3f"),
    ]
    return [*shown, *more]


def _rate(row: Row | None) -> str:
    if row is None:
        return ""
    if row["status"] != "ok":
        return row["status"]
    sqnr_db = row.get("sqnr_db")
    wrong = sqnr_db is not None and sqnr_db < FIDELITY_LEAST_DB
    return _number(row.get("items_per_s"), ",.0f") + (" (wrong outputs)" if wrong else "")


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _case_table(title: str, rows: list[Row]) -> str:
    if not rows:
        return ""
    heads = ("case", "options", "inflight", "transfers", "status", "items/s", "compute ms", "p50 ms",
             "enqueue us", "device MiB", "build s", "notes")  # fmt: skip
    lines = []
    for row in rows:
        case = f"{row.get('model')} {row.get('precision')} {row.get('batch_size')}"
        cells = [
            case,
            _unusual(row.get("options")),
            str(row.get("inflight", "")),
            "on" if row.get("transfers") else "off",
            row["status"],
            _number(row.get("items_per_s"), ",.0f"),
            _number(row.get("compute_ms_median"), ".3f"),
            _number(row.get("latency_p50_ms"), ".3f"),
            _number(row.get("enqueue_us"), ".1f"),
            _number(row.get("device_mib"), ".0f"),
            _number(row.get("build_s"), ".1f"),
            row.get("notes", "") or row.get("reason", ""),
        ]
        lines.append(cells)
    return "\n".join([f"## {title}\n", *markdown(heads, lines)])


def _unusual(options: str | None) -> str:
    """Return the options that differ from those of every case."""
    given = json.loads(options or "{}")
    return ", ".join(f"{k}={v}" for k, v in given.items() if BUILDER.get(k) != v)


def _nvml_table(rows: list[Row]) -> str:
    lines = [
        f"- {row['hz']} Hz: {row['items_per_s']:.0f} items/s, ratio to none {row['ratio']:.4f} "
        f"+- {row['ratio_se']:.4f}"
        for row in rows
        if "hz" in row
    ]
    return "\n".join(["## NVML polling\n", *lines]) if lines else ""


def _stability_table(rows: list[Row]) -> str:
    lines = []
    for row in rows:
        if row.get("what") in (None, "sample"):
            continue
        hidden = ("job", "part", "status", "options", "pool_bytes", "limit", "seconds", "head")
        shown = {k: _brief(v) for k, v in row.items() if k not in hidden and v is not None}
        lines.append("- " + ", ".join(f"{name} {value}" for name, value in shown.items()))
    return "\n".join(["## Stability\n", *lines]) if lines else ""


def _brief(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    return [_brief(item) for item in value] if isinstance(value, list) else value


def main() -> None:
    """Run the jobs that are not done and print all results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--budget", type=float, default=450.0, help="seconds; default 450")
    parser.add_argument("--measure", type=float, default=180.0, help="seconds kept for measuring")
    parser.add_argument("--only", default="", help="parts, with commas between")
    parser.add_argument("--engine", default="tensorrt")
    parser.add_argument("--drill", action="store_true", help="try this script itself on a CPU")
    options = parser.parse_args()
    options.results.mkdir(parents=True, exist_ok=True)
    jobs = drill_jobs() if options.drill else gpu_jobs()
    wanted = [part for part in options.only.split(",") if part]
    jobs = [job for job in jobs if not wanted or job["part"] in wanted]
    stop = time.monotonic() + options.budget
    there = None
    if not options.drill:
        there = build(jobs, options.results, stop - options.measure, options.engine)
    run(jobs, options.results, stop, options.engine, there)
    text = tables(_rows(options.results))
    (options.results / "table.md").write_text(text)
    done, _ = _known(options.results)
    print(text + f"\n{len(done)} of {len(jobs)} jobs done; start again to go on.")


if __name__ == "__main__":
    main()
