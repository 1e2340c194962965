"""Do raybench and MLCommons LoadGen find the same capacity under a latency bound?

    python benchmarks/loadgen.py [--python PATH] [--rounds 2] [--seconds 10] [--batch 1] [--bound MS]

The graph is that of peers.py, a small fp32 ResNet, on OpenVINO with one thread on one core. raybench
runs `experiment=slo` by its whole program. LoadGen's Server scenario offers a rate and says the 99th
percentile of the latencies; around it goes the same search (`planning.rate_search`), since LoadGen
itself wants the rate from whoever asks. Its system under test is what peer_loops.py has under
`server`: a thread on that core takes what has arrived, up to the batch, and infers. LoadGen's own
thread, which issues queries, has the other cores. Both measure for the same time a rate, and take
turns A B B A.

A trial of LoadGen keeps the bound when its percentile does; of three that confirm, two have to. The
bound is ten times the time of a batch of one, unless it is given.

PATH is the Python of an environment with mlcommons-loadgen and openvino; without it that of peers.py
(`python benchmarks/peers.py --install`). Prints a table and, last, one line of JSON. Exit code 1 when
the capacities differ by more than 5 %, 2 when LoadGen is missing.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import peers
from _table import markdown

import raybench
from raybench.analysis.bounded import bounded
from raybench.machine import devices
from raybench.planning.rate_search import RateOutcome, RateSearch
from raybench.stats.ratios import ratio_ci

PERCENTILE = 99.0
ALLOWED = 1 - PERCENTILE / 100
SERVICES = 10.0
"""Times of a batch of one that the bound is, unless it is given."""
ALIKE = 0.05
KEPT, BROKEN = RateOutcome(None, ALLOWED / 2), RateOutcome(None, 2 * ALLOWED)
"""What a percentile says as a share of late items: three trials keep the bound when two do."""


@dataclass(frozen=True)
class Trials:
    """What both measure.

    Attributes:
        python: of the environment with LoadGen.
        batch: most items of a batch.
        bound_ms: the bound.
        seconds: of a rate.
        capacity: items/s of the bare loop.
    """

    python: Path
    batch: int
    bound_ms: float
    seconds: float
    capacity: float


def ours(bench: peers.Bench, trials: Trials) -> float:
    """Return the capacity that `experiment=slo` answers, in items/s."""
    with tempfile.TemporaryDirectory(dir=bench.folder) as results:
        peers.run(
            *(sys.executable, "-m", "raybench", "experiment=slo", f"model={bench.model}"),
            *("engine=openvino", "device=cpu", "precision=fp32", "workers=1", "preset=quick"),
            *(f"batch_size={trials.batch}", f"slo_ms={trials.bound_ms:.6g}"),
            *(f"percentile={PERCENTILE:g}", f"measure.min_s={trials.seconds:g}"),
            *(f"measure.max_s={trials.seconds:g}", "cluster.dashboard=false"),
            f"results.dir={results}/rows",
        )
        (curve,) = bounded(raybench.load(f"{results}/rows"))
    (point,) = curve.points
    if point.items_per_s.value is None:
        raise peers.Missing(f"raybench found no rate: {point.reason}")
    return point.items_per_s.value


def theirs(bench: peers.Bench, trials: Trials, seed: int) -> float:
    """Return the capacity that the search finds with LoadGen, in items/s."""
    search = RateSearch(trials.capacity, ALLOWED)
    while (question := search.question()) is not None:
        seed += 1
        rate = question.items_per_s
        words = ("server", bench.model, trials.batch, trials.seconds, rate, bench.core, seed)
        (row,) = peers.loops(trials.python, *words)
        search.record(question, KEPT if row["p99_ms"] <= trials.bound_ms else BROKEN)
        print(f"  LoadGen {rate:,.1f}/s: {row['p99_ms']:.3f} ms", file=sys.stderr)
    if search.answer is None:
        raise peers.Missing("the search with LoadGen found no rate")
    return search.answer


def compare(options: argparse.Namespace, bench: peers.Bench) -> dict[str, Any]:
    """Measure both by turns and return what was found."""
    alone = peers.loops(
        *(sys.executable, "bare", "openvino", bench.model, f"1,{options.batch}", 2.0),
        pinned=bench.core,
    )
    bound_ms = options.bound or SERVICES * 1e3 / alone[0]["items_per_s"]
    capacity = alone[-1]["items_per_s"]
    trials = Trials(options.python, options.batch, bound_ms, options.seconds, capacity)
    found: dict[str, list[float]] = {"raybench": [], "LoadGen": []}
    for number in range(options.rounds):
        for name in sorted(found, reverse=number % 2 == 0):
            mine = name == "raybench"
            rate = ours(bench, trials) if mine else theirs(bench, trials, 1_000 * number)
            found[name].append(rate)
            print(f"round {number + 1}: {name} {rate:,.1f} items/s", file=sys.stderr)
    return {"bound_ms": bound_ms, "bare_items_per_s": capacity, **found}


def report(found: dict[str, Any]) -> int:
    """Print the table and the line of JSON; return the exit code."""
    rates = np.array([found["raybench"], found["LoadGen"]])
    ratios = rates[0] / rates[1]
    ratio = float(np.exp(np.log(ratios).mean()))
    span = ratio_ci(ratios, np.ones_like(ratios)) if ratios.size > 1 else None
    interval = f" [{span.lo:.3f}, {span.hi:.3f}]" if span else ""
    rows = [
        (name, ", ".join(f"{rate:,.1f}" for rate in found[name]), f"{share:.2f}")
        for name, share in zip(
            ("raybench", "LoadGen"), rates.mean(axis=1) / found["bare_items_per_s"], strict=True
        )
    ]
    print(
        "\n".join(markdown(("", "capacity, items/s", "of the bare loop"), rows, "of the bare loop"))
    )
    print(
        f"p{PERCENTILE:g} within {found['bound_ms']:.2f} ms: raybench over LoadGen {ratio:.3f}{interval}"
    )
    ok = abs(ratio - 1) <= ALIKE
    print(json.dumps({"benchmark": "loadgen", "ok": ok, "ratio": ratio, **found}))
    return 0 if ok else 1


def main() -> int:
    """Compare the two and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--python", type=Path, default=peers.PYTHON["harness"])
    parser.add_argument("--rounds", type=int, default=2, help="turns of each; default 2")
    parser.add_argument("--seconds", type=float, default=10.0, help="of a rate; default 10")
    parser.add_argument("--batch", type=int, default=1, help="most items of a batch; default 1")
    parser.add_argument("--bound", type=float, help="ms; default ten times a batch of one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = peers.Bench(Path(folder), devices.cores()[0])
        peers.write_model(bench.model)
        try:
            peers.ours(bench, "openvino", (options.batch,), 1.0)  # fills the cache of graphs
            return report(compare(options, bench))
        except peers.Missing as missing:
            print(f"loadgen.py: {missing}", file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main())
