"""What do parts of batches gain over padding, and what does the open loop cost the stream?

One process on one core, without Ray. For each load, a share of the closed-loop rate, the same arrivals
are served padded (every batch computed in full) and in parts, in the order A B B A; percentiles are medians
over streams, and ratios those of neighbours in time. Then closed loop and an overload of 1.3 take turns in the same order: every batch is
full, and the ratio of the rates, with its interval, is what the open loop costs. Full batches in closed
loop of an engine loaded with and without parts are compared as well.

The clock is the process's CPU time, so that others who use the core do not count: waiting is spinning.

    python benchmarks/part_batches.py [--engine openvino] [--model lenet] [--seconds 0.5] [--rounds 10]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from _table import markdown

from raybench.engines import registry
from raybench.engines.base import Load
from raybench.experiment import ModelSettings
from raybench.machine import devices
from raybench.measure.arrivals import WorkerArrivals
from raybench.measure.open_stream import OpenStream
from raybench.measure.stream import Stream
from raybench.models.cache import cache_dir
from raybench.models.items.batches import BatchPool
from raybench.models.prepare import prepare
from raybench.stats.intervals import percentile_ci

if TYPE_CHECKING:
    from collections.abc import Callable

    from raybench.engines.base import EngineBase
    from raybench.measure.open_stream import OpenTrace

LOADS = (0.2, 0.5, 0.8)
OVERLOAD = 1.3
ORDER = "ABBA"
CLOCK = time.process_time_ns
WARM = 0.2
"""Share of a stream that is left out at its beginning."""


def loads(args: argparse.Namespace) -> tuple[Load, Load]:
    """Return what to load for a closed loop, and for parts of batches."""
    engine = registry.get(args.engine)
    settings, folder = ModelSettings(), cache_dir()
    rewrites = engine.traits.rewrites_lrn
    model = prepare(args.model, settings, "fp32", None, folder, rewrite_lrn=rewrites)
    device = devices.core(args.core)
    options = engine.traits.settings()
    pool = BatchPool(model.inputs, args.batch_size, 0, model.ranges)
    closed = Load(model, pool, device, args.inflight, True, options, None, folder)
    return closed, replace(closed, part_batches=True)


def spin(seconds: float) -> None:
    """Let time pass on a clock that stands still while the process sleeps."""
    end_ns = CLOCK() + round(seconds * 1e9)
    while CLOCK() < end_ns:
        pass


def padded(engine: EngineBase) -> Any:
    """Return an engine that cannot be given a part: it computes all of every batch."""
    return SimpleNamespace(submit=engine.submit, collect=engine.collect, info=engine.info)


def closed_rate(engine: Any, args: argparse.Namespace) -> float:
    """Return the items a second of a closed loop."""
    now = CLOCK()
    trace = Stream(engine, args.batch_size, args.inflight, CLOCK, spin).run(now, now + ns(args))
    done_ns = trace.done_ns[int(WARM * len(trace.done_ns)) :]
    return float((len(done_ns) - 1) * args.batch_size * 1e9 / (done_ns[-1] - done_ns[0]))


def ns(args: argparse.Namespace) -> int:
    """Return the length of a stream in ns."""
    length: int = round(args.seconds * 1e9)
    return length


def served(engine: Any, rate: float, seed: int, args: argparse.Namespace) -> OpenTrace:
    """Return the trace of an open loop."""
    arrivals = WorkerArrivals("poisson", rate, 1.0, (seed,), drain_ms=0.0)
    stream = OpenStream(engine, args.batch_size, args.inflight, arrivals, CLOCK, spin)
    now = CLOCK()
    return stream.run(now, now + ns(args))


def open_rate(trace: OpenTrace) -> float:
    """Return the items a second that were served, after the warm-up."""
    first = int(WARM * len(trace.done_ns))
    items = trace.items[first + 1 :].sum()
    return float(items * 1e9 / (trace.done_ns[-1] - trace.done_ns[first]))


def latencies_ms(trace: OpenTrace) -> np.ndarray[Any, Any]:
    """Return the latencies of all items after the warm-up."""
    latency = trace.latency_ns[int(WARM * len(trace.latency_ns)) :]
    return latency / 1e6


def compared(engine: EngineBase, args: argparse.Namespace) -> list[list[str]]:
    """Return a row for each load: percentiles padded and in parts, medians over streams."""
    kinds = {"A": padded(engine), "B": engine}
    rows = []
    for load in LOADS:
        found: dict[str, list[list[float]]] = {"A": [], "B": []}
        traces = []
        for turn in range(args.rounds):
            rate = load * closed_rate(engine, args)  # the speed of a busy machine changes
            for kind in ORDER:
                trace = served(kinds[kind], rate, turn, args)
                found[kind].append(np.percentile(latencies_ms(trace), [50, 99]).tolist())
                traces += [trace] if kind == "B" else []
        a, b = (np.array(found[kind]) for kind in "AB")
        both = zip(
            np.median(a, axis=0), np.median(b, axis=0), np.median(b / a, axis=0), strict=True
        )
        cells = [
            f"{value:.{digits}f}"
            for each in both
            for value, digits in zip(each, (3, 3, 2), strict=True)
        ]
        means = [
            np.concatenate([getattr(t, n) for t in traces]).mean() for n in ("items", "computed")
        ]
        rows.append([f"{load:.0%}", *cells, *(f"{mean:.2f}" for mean in means)])
    return rows


def ratio(a: Callable[[], float], b: Callable[[], float], rounds: int) -> str:
    """Return the ratio of the rates that two functions give in turn, B over A: its median and interval.

    What disturbs a stream on a busy machine disturbs few of many short ones.
    """
    ratios = []
    for _ in range(rounds):
        rates = [{"A": a, "B": b}[kind]() for kind in ORDER]
        ratios.append((rates[1] * rates[2] / (rates[0] * rates[3])) ** 0.5)
    span = percentile_ci(np.array(ratios), 0.5)
    assert span is not None, "too few rounds"
    return f"{span.value:.4f} ({span.lo:.4f} to {span.hi:.4f})"


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", default="openvino")
    parser.add_argument("--model", default="lenet")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--inflight", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--core", type=int, default=0)
    args = parser.parse_args()
    os.sched_setaffinity(0, {args.core})
    without, parts = loads(args)
    engine = registry.get(args.engine)
    plain, parted = engine.load(without), engine.load(parts)
    capacity = closed_rate(parted, args)
    print(
        f"{args.engine}, {args.model}, batch {args.batch_size}: {capacity:,.0f} items/s; sizes",
        end=" ",
    )
    print(*getattr(parted, "sizes", ()), sep=", ")
    heads = [
        "load",
        "p50 padded",
        "parts, ms",
        "ratio",
        "p99 padded",
        "parts, ms ",
        "ratio ",
        "items",
        "computed",
    ]
    print(*markdown(heads, compared(parted, args), ", ".join(heads)), sep="\n")
    args.seconds /= 4

    def closed() -> float:
        return closed_rate(parted, args)

    def over() -> float:
        return open_rate(served(parted, OVERLOAD * capacity, 0, args))

    rounds = 4 * args.rounds
    same = ratio(lambda: closed_rate(plain, args), closed, rounds)
    print(f"closed loop, loaded for parts / without them: {same}")
    print(f"load {OVERLOAD} / closed loop: {ratio(closed, over, rounds)}")
    plain.close()
    parted.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
