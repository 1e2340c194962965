"""Is every stall flagged, and do the intervals of rows without a flag still cover what they say?

Simulates the completions of whole trials, stops a worker once at a random place, and lets the code
that measures judge them: cutting into blocks, warm-up rule, stop rule, summary, flags. Nothing
sleeps.

    python benchmarks/stalls.py [--runs 1000] [--seed 1] [--processes 1] [--quick]

Prints a table and, last, one line of JSON. Exit code 1 when a gated cell misses: a stop of 5
batches' length and 20 ms or more that reaches into the window must be flagged in 99 % of runs, a
stream without a stop in none of 1,000, and the intervals of rows without any blocking flag or missed
target must cover the rate of the quiet stream in 93 to 97.5 % of runs (nominal 95 %; two standard
errors wider below 3,000 rows).

The rate of a worker's stream is an AR(1) process over grid cells (lag-1 correlation 0.3, standard
deviation 0.5 %), batches take 1 / rate with 3 % of noise each; in some cases they differ by far more (a tenth are eight
times as long, or exponential), which is no stall. "host alone": the device finishes what is in flight
while its host is stopped. Preset mlperf is publish with a window of 600 s. Columns:

    flagged   share of the runs whose window the stop reaches into that carry `stalled`
    inside    those runs, of all
    alarms    share of the other runs that carry `stalled`
    kept      share of all runs with neither a blocking flag nor a missed target
    covers    share of those whose interval holds the rate of the quiet stream
    with      share of the flagged runs whose interval, stall included, holds that rate
    without   the same of the rate and half-width without the stalls
    bias      mean error of the rate without the stalls, flagged runs
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import sys
import time
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from coverage import PRESETS as SHIPPED
from coverage import ar1

from raybench.measure import flags as flagging
from raybench.measure import stopping
from raybench.measure.blocks import cut
from raybench.measure.evidence import TrialEvidence
from raybench.measure.limits import Limits
from raybench.measure.progress import BlockRates
from raybench.measure.stalls import STALL_BATCHES, STALL_LEAST_NS
from raybench.measure.stream import StreamTrace
from raybench.measure.summary import summarise
from raybench.measure.warmup import warm_up
from raybench.stats.intervals import bounds

PRESETS = {**SHIPPED, "mlperf": replace(SHIPPED["publish"], min_s=600.0, max_s=600.0)}
"""The last is publish with a window of the length that LoadGen asks for."""
PHI, SD, BATCH_SD = 0.3, 0.005, 0.03
COVERAGE = (0.93, 0.975)
LEAST = 0.0
"""As the length of a stop: the shortest that must be flagged."""


@dataclass(frozen=True)
class Case:
    """One kind of trial, simulated many times.

    Attributes:
        preset: name in PRESETS.
        batch_ms: usual time of a batch.
        stop_s: length of the stop; 0 for the least that must be flagged, None for no stop.
        workers: of which the last is stopped; with `all_stop` all of them.
        inflight: batches in flight.
        together: whether the batches in flight complete at the same time.
        all_stop: whether the stop holds every worker at once.
        host_only: whether the device works on what is in flight while its host is stopped.
        lengths: how batches differ from one another, beside their noise.
    """

    preset: str
    batch_ms: float
    stop_s: float | None
    workers: int = 1
    inflight: int = 1
    together: bool = False
    all_stop: bool = False
    host_only: bool = False
    lengths: Literal["even", "lognormal 0.3", "lognormal 0.5", "exponential", "one in ten"] = "even"

    @property
    def stop_ns(self) -> float:
        """Length of the stop; of batches that complete together, all of them are the batch."""
        if self.stop_s == LEAST:
            batch_ns = self.batch_ms * 1e6 * (self.inflight if self.together else 1)
            # what takes 3 % longer than usual is measured against the usual
            return max(STALL_BATCHES * batch_ns, STALL_LEAST_NS)
        return (self.stop_s or 0) * 1e9


STOPS = (LEAST, 0.1, 0.5, 1.0, 5.0, 10.0)
CASES = (
    *(Case("standard", ms, None) for ms in (2, 20, 100)),
    *(Case(preset, 20, None) for preset in ("quick", "publish")),
    Case("standard", 20, None, inflight=4, together=True),
    Case("standard", 20, None, workers=2),
    *(Case("standard", 20, stop) for stop in STOPS),
    *(Case("standard", 2, stop) for stop in (LEAST, 1.0)),
    *(Case("standard", 100, stop) for stop in (LEAST, 1.0, 5.0)),
    *(Case("quick", 20, stop) for stop in STOPS),
    *(Case("publish", 20, stop) for stop in STOPS),
    *(Case("standard", 20, stop, workers=2) for stop in (LEAST, 1.0, 5.0)),
    Case("standard", 20, 5.0, workers=2, all_stop=True),
    *(Case("standard", 20, stop, inflight=2) for stop in (LEAST, 1.0)),
    *(Case("standard", 20, stop, inflight=4, together=True) for stop in (LEAST, 1.0)),
    *(Case("standard", 20, LEAST, inflight=k, host_only=True) for k in (1, 2, 4)),
    *(Case("standard", 1, stop) for stop in (None, LEAST)),
    *(Case("standard", 300, stop) for stop in (None, LEAST, 5.0)),
    *(
        Case(preset, 50, None, lengths=lengths)
        for preset in ("quick", "standard")
        for lengths in ("lognormal 0.3", "lognormal 0.5", "exponential", "one in ten")
    ),
    *(Case("mlperf", 100, stop) for stop in (None, *STOPS[:1], *STOPS[2:])),
)
FEW = (Case("quick", 20, None), Case("quick", 20, LEAST), Case("standard", 20, 1.0, workers=2))


def completions(case: Case, limits: Limits, rng: np.random.Generator) -> np.ndarray:
    """Return the completions of one worker that nothing stops, int64 ns, until the longest end."""
    cells = 2 * limits.warmup_max + limits.measure_max + 12
    span_ns = limits.span_s * 1e9
    speed = np.maximum(1 + SD * ar1(rng, (cells,), PHI), 0.1)
    clock = np.arange(cells + 1) * span_ns
    work = np.concatenate([[0.0], np.cumsum(speed * span_ns)])
    count = int(work[-1] / (case.batch_ms * 1e6))
    noise = 1 + BATCH_SD * rng.standard_normal(count)
    needed = np.cumsum(case.batch_ms * 1e6 * noise * shares(case, count, rng))
    done = np.interp(needed, work, clock)
    if case.together:  # a whole rotation completes when its last batch does
        whole = len(done) // case.inflight * case.inflight
        last = done[:whole].reshape(-1, case.inflight)[:, -1]
        done = np.repeat(last, case.inflight) + np.tile(np.arange(case.inflight), len(last))
    return done.astype(np.int64)


def shares(case: Case, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return the length of each batch over their mean, shape (count,)."""
    if case.lengths.startswith("lognormal"):
        sigma = float(case.lengths.split()[1])
        return rng.lognormal(-sigma * sigma / 2, sigma, count)
    if case.lengths == "exponential":
        return rng.exponential(1.0, count)
    if case.lengths == "one in ten":
        return np.where(rng.random(count) < 0.1, 8.0, 1.0) / 1.7
    return np.ones(count)


def stopped(case: Case, done: np.ndarray, begin: float) -> np.ndarray:
    """Return the completions of a worker that was stopped once."""
    if not case.host_only:
        return np.where(done > begin, done + int(case.stop_ns), done)
    first = int(np.searchsorted(done, begin, side="right"))
    after = min(first + case.inflight, len(done))
    resumed = int(begin + case.stop_ns)
    late = done.copy()
    late[first:after] = np.maximum(done[first:after], resumed + np.arange(after - first))
    late[after:] += max(0, resumed - int(done[after - 1]))  # the device had nothing to do
    return late


def traces(case: Case, limits: Limits, rng: np.random.Generator) -> tuple[list[StreamTrace], float]:
    """Return the traces of all workers, and when the stop began in ns."""
    lead_s = limits.warmup_min + 2 * limits.settings.warmup_window_blocks
    begin = rng.uniform(0.5 * lead_s, lead_s + limits.measure_min) * limits.span_s * 1e9
    made = []
    for worker in range(case.workers):
        done = completions(case, limits, rng)
        if case.stop_ns and (case.all_stop or worker == case.workers - 1):
            done = stopped(case, done, begin)
        depth = case.inflight
        submit = np.concatenate([np.arange(depth) - depth, done[:-depth]])
        made.append(StreamTrace(submit, submit, done, None, 0, 0, 1))
    return made, begin


def run(case: Case, limits: Limits, rng: np.random.Generator) -> dict[str, Any] | None:
    """Judge one trial as the driver does; None when the streams ended before a decision."""
    made, begin = traces(case, limits, rng)
    block_ns, least = round(limits.span_s * 1e9), limits.settings.block_min_batches
    watch = BlockRates(case.workers, 1, block_ns)
    for worker, trace in enumerate(made):
        blocks = cut(trace.done_ns, 0, block_ns, least, 1)
        watch.add(worker, blocks.edges.tolist(), blocks.edge_ns.tolist())
    warm = warm_up(watch.rates, limits, lengths=watch.lengths)
    if warm.window_start is None:
        return None
    aggregate = watch.rates.sum(axis=0)[warm.window_start :]
    stop = stopping.stop_rule(stopping.StopDecision(), aggregate, limits)
    if stop.last is None:
        return None
    summary = summarise(made, warm.window_start, stop.last.blocks, block_ns, least)
    row, (start, end) = summary.trial, summary.window_ns
    flags = flagging.raised_flags(TrialEvidence(warm, stop.last, row))
    truth = case.workers / (case.batch_ms * 1e-3)
    half = row["rel_half_width_without_stalls"]
    without = row["items_per_s_without_stalls"]
    lo, hi = bounds(without, half * without) if half else (0, math.inf)
    return {
        "inside": bool(case.stop_ns) and begin < end and begin + case.stop_ns > start,
        "flagged": "stalled" in flags,
        "kept": flagging.verdict(flags) == "stable",
        "covers": row["items_per_s_lo"] is not None
        and row["items_per_s_lo"] <= truth <= row["items_per_s_hi"],
        "without": bool(lo <= truth <= hi),
        "bias": without / truth - 1,
    }


def share(values: np.ndarray, of: np.ndarray) -> float | None:
    """Return the mean of the values that are counted; None if none is."""
    return float(values[of].mean()) if of.any() else None


def run_case(job: tuple[int, Case, int, int]) -> dict[str, Any]:
    """Simulate a case with its own seed; return its parameters, shares and whether it passes."""
    index, case, runs, seed = job
    rng = np.random.default_rng([seed, index])
    limits = Limits.of(PRESETS[case.preset], case.batch_ms * 1e-3)
    judged = [one for _ in range(runs) if (one := run(case, limits, rng)) is not None]
    table = {name: np.array([one[name] for one in judged], float) for name in judged[0]}
    inside, flagged, kept = (table[name] > 0 for name in ("inside", "flagged", "kept"))
    result: dict[str, Any] = {
        **asdict(case),
        "runs": len(judged),
        "inside": float(inside.mean()),
        "flagged": share(table["flagged"], inside),
        "alarms": share(table["flagged"], ~inside),
        "kept": float(kept.mean()),
        "covers": share(table["covers"], kept),
        "with": share(table["covers"], inside & flagged),
        "without": share(table["without"], inside & flagged),
        "bias": share(table["bias"], inside & flagged),
    }
    result["ok"] = holds(result, int(kept.sum()))
    return result


def holds(result: dict[str, Any], kept: int) -> bool:
    """Return whether a case is within its bounds."""
    slack = 2 * math.sqrt(0.95 * 0.05 / max(kept, 1)) if kept < 3000 else 0.0
    covers, flagged, alarms = result["covers"], result["flagged"], result["alarms"]
    return (
        (flagged is None or flagged >= 0.99)
        and not alarms
        and (covers is None or kept < 100 or COVERAGE[0] - slack <= covers <= COVERAGE[1] + slack)
    )


def describe(result: dict[str, Any]) -> str:
    """Return the description of a case."""
    stop = result["stop_s"]
    length = "no stop" if stop is None else "least stop" if stop == LEAST else f"stop {stop:g} s"
    words = f"{result['preset']}, batch {result['batch_ms']:g} ms, {length}"
    if result["workers"] > 1:
        words += f", {result['workers']} workers" + ", all" * result["all_stop"]
    if result["inflight"] > 1:
        words += f", {result['inflight']} in flight" + " together" * result["together"]
    words += ", host alone" * result["host_only"]
    return words if result["lengths"] == "even" else f"{words}, {result['lengths']}"


def line(result: dict[str, Any]) -> str:
    """Return one line of the table."""
    names = ("inside", "flagged", "alarms", "kept", "covers", "with", "without", "bias")
    cells = ["-" if result[name] is None else f"{100 * result[name]:.1f}" for name in names]
    ok = "ok" if result["ok"] else "MISSED"
    return f"{describe(result):<52}" + "".join(f"{cell:>9}" for cell in cells) + f"  {ok}"


def main(argv: list[str] | None = None) -> int:
    """Run the cases, print the table and the line of JSON; 1 when a case misses."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000, help="simulated trials a case")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="few cases, at most 50 runs each")
    args = parser.parse_args(argv)
    cases = FEW if args.quick else CASES
    runs = min(args.runs, 50) if args.quick else args.runs
    began = time.perf_counter()
    names = ("inside", "flagged", "alarms", "kept", "covers", "with", "without", "bias")
    print(f"{'%':<52}" + "".join(f"{name:>9}" for name in names), flush=True)
    results = []
    jobs = [(index, case, runs, args.seed) for index, case in enumerate(cases)]
    with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
        for result in pool.imap(run_case, jobs):
            print(line(result), flush=True)
            results.append(result)
    ok = all(result["ok"] for result in results)
    seconds = round(time.perf_counter() - began, 1)
    report = {"benchmark": "stalls", "ok": ok, "runs": runs, "seed": args.seed}
    print(json.dumps({**report, "seconds": seconds, "cases": results}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
