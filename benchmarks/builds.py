"""Do intervals over builds hold, and what does a comparison of plans built once claim?

Feeds simulated trials of separately built plans, as tables, to the code that answers: a table of many
networks is many independent repetitions. A build multiplies the rate by a lognormal factor of
`BUILD_SD`, a trial by one of `TRIAL_SD`.

    python benchmarks/builds.py [--runs 10000] [--seed 1]

Prints a table and, last, one line of JSON. Exit code 1 when a gated line misses: intervals of rate and
speedup cover the truth in 93 to 97 %, and of equal sides at most 5 % are called improved or regressed
at the threshold of 1 % where either has several builds.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import numpy as np
import pyarrow as pa
from _table import markdown

from raybench.analysis.compare import IMPROVED, INCONCLUSIVE, REGRESSED, compare
from raybench.analysis.scaling import scaling
from raybench.results.schema import SCHEMAS

BUILD_SD, TRIAL_SD, TRIALS = 0.02, 0.003, 3
Rates = np.ndarray[Any, Any]


def trials_table(rates: Rates, plans: str, workers: int = 1) -> pa.Table:
    """Return rates of shape (networks, builds, trials) as a `trials` table."""
    network, build, trial = (index.ravel() for index in np.indices(rates.shape))
    names = [f"m{k}" for k in network.tolist()]
    same = {
        "run_id": plans, "environment_id": "e", "status": "ok", "verdict": "stable",
        "precision": "int8", "engine": "tensorrt", "engine_version": "8.6", "device": "d",
        "preset": "standard", "method_version": 1, "batch_size": 8, "workers": workers,
        "inflight": 1, "transfers": True, "simulated": True,
    }  # fmt: skip
    columns: dict[str, Any] = {name: [value] * rates.size for name, value in same.items()}
    columns |= {
        "model": names,
        "point_id": [f"{n}-{workers}-{b}" for n, b in zip(names, build.tolist(), strict=True)],
        "first_build_id": [f"{name}-{workers}-0" for name in names],
        "engine_sha256": [f"{plans}-{n}-{b}" for n, b in zip(names, build.tolist(), strict=True)],
        "build": build,
        "trial": trial,
        "items_per_s": rates.ravel(),
    }
    schema = SCHEMAS["trials"]
    return pa.table({name: pa.array(v, schema.field(name).type) for name, v in columns.items()})


def draw(rng: np.random.Generator, runs: int, builds: int) -> tuple[Rates, Rates]:
    """Return the factor of each build, shape (runs, builds, 1), and trials around it."""
    plans = np.exp(BUILD_SD * rng.standard_normal((runs, builds, 1)))
    noise = np.exp(TRIAL_SD * rng.standard_normal((runs, builds, TRIALS)))
    return plans, 1000 * plans * noise


def covered(rng: np.random.Generator, runs: int, builds: int) -> tuple[float, float]:
    """Return how often the intervals of the rate and of the speedup over the same plans hold."""
    plans, one = draw(rng, runs, builds)
    eight = 7900 * plans * np.exp(TRIAL_SD * rng.standard_normal(one.shape))
    tables = [trials_table(one, "p"), trials_table(eight, "p", 8)]
    rate = speedup = 0
    for entry in scaling(pa.concat_tables(tables)).entries:
        if entry.workers == 1:
            rate += (entry.items_per_s.lo or 0) <= 1000 <= (entry.items_per_s.hi or 0)
        else:
            speedup += (entry.speedup.lo or 0) <= 7.9 <= (entry.speedup.hi or 0)
    return rate / runs, speedup / runs


def called(rng: np.random.Generator, runs: int, builds: tuple[int, int]) -> tuple[float, float]:
    """Return the shares of equal sides that are called different, and that stay open."""
    a, b = (trials_table(draw(rng, runs, n)[1], name) for n, name in zip(builds, "pq", strict=True))
    made = compare(a, b)
    return (made.count(IMPROVED) + made.count(REGRESSED)) / runs, made.count(INCONCLUSIVE) / runs


def main() -> int:
    """Print what was counted; return 1 when a gated line misses."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rng, runs = np.random.default_rng(arguments.seed), arguments.runs
    rows, good = [], True
    for builds in (3, 5):
        for what, share in zip(("rate", "speedup"), covered(rng, runs, builds), strict=True):
            good &= 0.93 <= share <= 0.97
            rows.append((f"interval of the {what} holds, {builds} builds", f"{share:.1%}"))
    for pair in ((1, 1), (3, 1), (3, 3), (5, 5)):
        share, undecided = called(rng, runs, pair)
        good &= share <= 0.05 or pair == (1, 1)
        text = f"equal sides are called different, builds {pair[0]} against {pair[1]}"
        rows.append((text, f"{share:.2%} ({undecided:.0%} undecided)"))
    print("\n".join(markdown(("claim", "share"), rows, right="share")))
    print(json.dumps({"runs": runs, "good": good, "rows": rows}))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
