"""Do raybench and MLCommons LoadGen find the same capacity under a latency bound?

    python benchmarks/loadgen.py [--python PATH] [--rounds 2] [--seconds 10] [--batch 1] [--bound MS]

The graph is that of peers.py, a small fp32 ResNet, on OpenVINO with one thread on one core. raybench
runs `experiment=slo` by its whole program. LoadGen's Server scenario offers a rate and traces the
latency of every sample; around it goes the same search (`planning.rate_search`) with the same rule
for late items, since LoadGen itself wants the rate from whoever asks. Its system under test is what
peer_loops.py has under `server`: a thread on that core takes what has arrived, up to the batch, and
infers. LoadGen's own thread, which issues queries, has the other cores. Both measure for the same time
a rate, and take turns A B B A. raybench alone asks disturbed trials again.

Two figures each: the rate that each search confirmed, and the capacity that a line through the trials
of all rounds says (`analysis.confirmed_rate`), which varies less. The bound is ten times the time of a batch
of one, unless it is given.

PATH is the Python of an environment with mlcommons-loadgen and openvino; without it that of peers.py
(`python benchmarks/peers.py --install`). Prints a table and, last, one line of JSON. Exit code 1 when
the confirmed rates differ by more than 5 %, 2 when LoadGen is missing or a search found no rate.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import peers
from _table import markdown

import raybench
from raybench.analysis.confirmed_rate import confirmed_rate, fitted_capacity
from raybench.machine import devices
from raybench.planning.rate_search import RateOutcome, RateSearch
from raybench.stats.ratios import ratio_ci
from raybench.stats.violations import bound_met, violation_span

if TYPE_CHECKING:
    from raybench.stats.intervals import Span

PERCENTILE = 99.0
ALLOWED = 1 - PERCENTILE / 100
SERVICES = 10.0
"""Times of a batch of one that the bound is, unless it is given."""
ALIKE = 0.05


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


def ours(bench: peers.Bench, trials: Trials) -> list[dict[str, Any]]:
    """Return the rows of `experiment=slo`."""
    with tempfile.TemporaryDirectory(dir=bench.folder) as results:
        peers.run(
            *(sys.executable, "-m", "raybench", "experiment=slo", f"model={bench.model}"),
            *("engine=openvino", "device=cpu", "precision=fp32", "workers=1", "preset=quick"),
            *(f"batch_size={trials.batch}", f"slo_ms={trials.bound_ms:.6g}"),
            *(f"percentile={PERCENTILE:g}", f"measure.min_s={trials.seconds:g}"),
            *(f"measure.max_s={trials.seconds:g}", "cluster.dashboard=false"),
            f"results.dir={results}/rows",
        )
        rows = raybench.load(f"{results}/rows").to_pylist()
    return [row for row in rows if row["slo_ms"] is not None]


def theirs(bench: peers.Bench, trials: Trials, seed: int) -> list[dict[str, Any]]:
    """Return rows of the same search around LoadGen."""
    search = RateSearch(trials.capacity, ALLOWED)
    rows: list[dict[str, Any]] = []
    while (question := search.question()) is not None:
        rate = question.items_per_s
        words = ("server", bench.model, trials.batch, trials.seconds, rate, bench.core)
        (found,) = peers.loops(trials.python, *words, seed + len(rows))
        latency_ms = np.array(found["latency_ms"])
        met = bound_met(latency_ms, trials.bound_ms, PERCENTILE)
        share = violation_span(latency_ms, trials.bound_ms).value
        search.record(question, RateOutcome(met, share))
        facts = {"trial": question.number, "status": "ok", "flags": [], "offered_items_per_s": rate}
        rows.append(facts | {"slo_met": met, "slo_violation_frac": share})
        print(f"  LoadGen {rate:,.1f}/s: {share:.2%} late", file=sys.stderr)
    return rows


def compare(options: argparse.Namespace, bench: peers.Bench) -> dict[str, Any]:
    """Measure both by turns and return what was found."""
    alone = peers.loops(
        *(sys.executable, "bare", "openvino", bench.model, f"1,{options.batch}", 2.0),
        pinned=bench.core,
    )
    bound_ms = options.bound or SERVICES * 1e3 / alone[0]["items_per_s"]
    capacity = alone[-1]["items_per_s"]
    trials = Trials(options.python, options.batch, bound_ms, options.seconds, capacity)
    found: dict[str, list[list[dict[str, Any]]]] = {"raybench": [], "LoadGen": []}
    for number in range(options.rounds):
        for name in sorted(found, reverse=number % 2 == 0):
            mine = name == "raybench"
            rows = ours(bench, trials) if mine else theirs(bench, trials, 1_000 * number)
            found[name].append(rows)
            answer = confirmed_rate(rows, PERCENTILE).items_per_s.value
            print(f"round {number + 1}: {name} {answer} items/s", file=sys.stderr)
    return {"bound_ms": bound_ms, "bare_items_per_s": capacity, **found}


def report(found: dict[str, Any]) -> int:
    """Print the table and the line of JSON; return the exit code."""
    rows, answers, facts = [], [], {name: found[name] for name in ("bound_ms", "bare_items_per_s")}
    for name in ("raybench", "LoadGen"):
        each = [confirmed_rate(one, PERCENTILE).items_per_s.value for one in found[name]]
        if None in each:
            raise peers.Missing(
                f"a search with {name} found no rate; measure each longer (--seconds)"
            )
        answers.append(np.array(each))
        span = fitted_capacity([row for one in found[name] for row in one], PERCENTILE)
        mean = float(np.exp(np.log(answers[-1]).mean()))
        written = ", ".join(f"{rate:,.0f}" for rate in answers[-1])
        share = f"{mean / found['bare_items_per_s']:.3f}"
        rows.append((name, written, share, _written(span)))
        facts[name] = {"confirmed": each, "capacity": span and asdict(span)}
    header = ("", "confirmed, items/s", "of the bare loop", "capacity, items/s")
    print("\n".join(markdown(header, rows, "of the bare loop")))
    ratio = float(np.exp(np.log(answers[0] / answers[1]).mean()))
    span = ratio_ci(*answers) if found["raybench"][1:] else None
    facts |= {"ratio": ratio, "interval": span and [span.lo, span.hi]}
    between = f" [{span.lo:.3f}, {span.hi:.3f}]" if span else ""
    what = f"p{PERCENTILE:g} within {found['bound_ms']:.2f} ms"
    print(f"{what}, confirmed: raybench over LoadGen {ratio:.3f}{between}")
    ok = abs(ratio - 1) <= ALIKE
    print(json.dumps({"benchmark": "loadgen", "ok": ok, **facts}))
    return 0 if ok else 1


def _written(span: Span | None) -> str:
    """Return a capacity with its interval, or that the trials do not determine it."""
    if span is None or span.lo is None or span.hi is None:
        return "not determined"
    return f"{span.value:,.0f} [{span.lo:,.0f}, {span.hi:,.0f}]"


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
