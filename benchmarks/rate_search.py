"""Search the highest rate under a latency bound in simulated queues whose capacity is known.

M/M/1 (exponential service times), M/D/1 (constant ones) and a server that takes up to 8 items a batch, in
a time that grows with their number. Each run is a search as a run does it: closed-loop capacity, probes,
three confirming trials, with new random numbers in each. Prints how often the rate found is within 2 % of
the true one, how many probes it took, and how often the interval of the capacity holds the true one.

    python benchmarks/rate_search.py [RUNS] [ITEMS of a trial]
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING

import numpy as np

from raybench.analysis.confirmed_rate import confirmed_rate
from raybench.planning.rate_search import RateOutcome, RateSearch
from raybench.results.search_trials import CONFIRMING
from raybench.stats.violations import bound_met

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from raybench.analysis.confirmed_rate import ConfirmedRate

    Latencies = Callable[[float, int, np.random.Generator], NDArray[np.float64]]

SERVICE_MS, BOUND_MS, PERCENTILE = 1.0, 10.0, 99.0
MOST_ITEMS = 8
FIXED_MS, EACH_MS = 1.0, 0.25
"""Time of a batch: fixed + each * items."""


def one_server(
    rate: float, services_ms: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return latencies in ms of a queue with one server, by Lindley's recursion without a loop."""
    gaps_ms = rng.exponential(1e3 / rate, len(services_ms))
    steps = services_ms[:-1] - gaps_ms[1:]
    walk = np.concatenate([[0.0], np.cumsum(steps)])
    waits = walk - np.minimum.accumulate(walk)
    return waits + services_ms


def mm1(rate: float, items: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return latencies with exponential service times."""
    return one_server(rate, rng.exponential(SERVICE_MS, items), rng)


def md1(rate: float, items: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return latencies with constant service times."""
    return one_server(rate, np.full(items, SERVICE_MS), rng)


def batching(rate: float, items: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return latencies of a server that takes all that has arrived, up to 8 items, in one batch."""
    arrivals = np.cumsum(rng.exponential(1e3 / rate, items))
    arrived, done = arrivals.tolist(), np.empty(items)
    first, free = 0, 0.0
    while first < items:
        start = max(free, arrived[first])
        end = min(first + MOST_ITEMS, items)
        last = first + 1
        while last < end and arrived[last] <= start:
            last += 1
        free = start + FIXED_MS + EACH_MS * (last - first)
        done[first:last] = free
        first = last
    return np.asarray(done - arrivals)


def search(
    law: Latencies, capacity: float, items: int, rng: np.random.Generator
) -> tuple[RateSearch, ConfirmedRate]:
    """Search as a run does, a trial for every question, and return what its rows show."""
    found, rows = RateSearch(capacity, 1 - PERCENTILE / 100), []
    while (question := found.question()) is not None:
        latencies = law(question.items_per_s, items, rng)
        warm = latencies[items // 20 :]
        met, share = bound_met(warm, BOUND_MS, PERCENTILE), float((warm > BOUND_MS).mean())
        found.record(question, RateOutcome(met, share))
        rows.append({
            "trial": question.number, "status": "ok", "flags": [], "slo_met": met,
            "offered_items_per_s": question.items_per_s, "slo_violation_frac": share,
        })  # fmt: skip
    return found, confirmed_rate(rows, PERCENTILE)


def truth(law: Latencies, capacity: float) -> float:
    """Return the rate at which 1 % of the latencies is above the bound, from long simulations."""
    if law is mm1:
        return 1e3 / SERVICE_MS - 1e3 * math.log(100) / BOUND_MS
    items = 400_000 if law is batching else 4_000_000
    low, high = 0.3 * capacity, capacity
    for _ in range(12):
        middle = (low + high) / 2
        over = np.mean([
            (law(middle, items, np.random.default_rng(seed)) > BOUND_MS).mean() for seed in range(4)
        ])  # fmt: skip
        low, high = (middle, high) if over <= 1 - PERCENTILE / 100 else (low, middle)
    return (low + high) / 2


def main() -> None:
    """Print a line for each law."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    items = int(sys.argv[2]) if len(sys.argv) > 2 else 400_000
    full = 1e3 * MOST_ITEMS / (FIXED_MS + EACH_MS * MOST_ITEMS)
    laws: list[tuple[str, Latencies, float, int]] = [
        ("M/D/1", md1, 1e3 / SERVICE_MS, runs),
        ("M/M/1", mm1, 1e3 / SERVICE_MS, runs),
        ("batches of up to 8", batching, full, max(runs // 20, 1)),
    ]
    for name, law, capacity, count in laws:
        true = truth(law, capacity)
        found = [search(law, capacity, items, np.random.default_rng(run)) for run in range(count)]
        errors = np.array([(one.answer or 0.0) / true - 1 for one, _ in found])
        within = (abs(errors) <= 0.02).mean()
        print(
            f"{name}: true {true:.1f}/s ({true / capacity:.2f} of {capacity:.0f}/s in closed loop); {count} "
            f"searches: {100 * within:.1f} % within 2 %, error {100 * errors.mean():+.2f} % "
            f"[{100 * np.quantile(errors, 0.025):+.2f}, {100 * np.quantile(errors, 0.975):+.2f}], "
            f"at most {max(one.probes for one, _ in found)} probes and {CONFIRMING} confirming trials; "
            f"{intervals([shown for _, shown in found], true)}"
        )


def intervals(shown: list[ConfirmedRate], true: float) -> str:
    """Return how often the intervals hold the true rate, and how wide they are, in words."""
    spans = [(lo or 0.0, hi or math.inf) for _, lo, hi in (one.items_per_s for one in shown)]
    holds = np.mean([lo <= true <= hi for lo, hi in spans])
    widths = [(hi - lo) / true for lo, hi in spans]
    best = [one.capacity_items_per_s or one.items_per_s.value or 0.0 for one in shown]
    near = np.mean([abs(rate / true - 1) <= 0.02 for rate in best])
    fitted = np.mean([one.capacity_items_per_s is not None for one in shown])
    return (
        f"estimates of the capacity: {100 * near:.1f} % within 2 %, "
        f"{100 * holds:.1f} % of the intervals hold it, median width {100 * np.median(widths):.1f} %, "
        f"{100 * fitted:.0f} % of them fitted"
    )


if __name__ == "__main__":
    main()
