"""Does `raybench trend` find steps, as often as it should, and nothing else?

Simulated trends of several points over many runs, judged by the code that judges rows
(`raybench.analysis.trend`), with noise between runs of 0.7 % unless said otherwise:

- trends without a change have any step in at most 1 % (within chance), and any regression less often;
  how often with noise that is not normal, or where neighbouring runs resemble each other, is shown;
- a step of 4 % is found in 99 %, of one point in 20 runs and of 10 points in 30, also with few runs after
  it; how often it is called a regression, and how often the day is right, is shown;
- one of the tolerance itself is called a regression in at most 1 %;
- a step down and a step up that undo each other are both found.

    python benchmarks/trend.py [--trends 1000]

Exit code 1 when a line fails. 1,000 trends take two minutes on a 2-core VM.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from _table import markdown

from raybench.stats import steps

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPREAD = 0.007
TOLERANCE = 0.01
SURE = 4.0
"""Standard errors of a share by which it may differ from what is allowed by chance."""


@dataclass(frozen=True)
class Noise:
    """How runs vary: standard deviation, AR(1) of neighbours, and degrees of freedom of its tails."""

    spread: float = SPREAD
    phi: float = 0.0
    tails: float = math.inf

    def draw(self, rng: np.random.Generator, runs: int) -> NDArray[np.float64]:
        """Return the noise of a series of runs."""
        if math.isinf(self.tails):
            x = rng.standard_normal(runs)
        else:
            x = rng.standard_t(self.tails, runs) * math.sqrt((self.tails - 2) / self.tails)
        for k in range(1, runs if self.phi else 0):
            x[k] = self.phi * x[k - 1] + math.sqrt(1 - self.phi**2) * x[k]
        return np.asarray(self.spread * x)


@dataclass(frozen=True)
class Found:
    """The steps of each point of one trend, and whether any is surely a loss beyond the tolerance."""

    places: list[list[int]]
    regressed: list[bool]


def judge(series: list[NDArray[np.float64]]) -> Found:
    """Return what is found in one trend: Holm over its points, then the steps of each."""
    likely = [steps.most_likely_step(x) for x in series]
    levels = steps.levels(np.array([1.0 if one is None else one.p for one in likely]))
    places = [steps.find_steps(x, float(level)) for x, level in zip(series, levels, strict=True)]
    limit = math.log1p(-TOLERANCE)
    regressed = [
        any(step.hi < limit for step in steps.measure_steps(x, at, float(level)))
        for x, at, level in zip(series, places, levels, strict=True)
    ]
    return Found(places, regressed)


def trends(
    count: int, points: int, runs: int, noise: Noise, step: tuple[float, int] | None = None
) -> list[Found]:
    """Return what is found in many trends, of which the first point has a step."""
    rng = np.random.default_rng([points, runs, round(1000 * noise.phi), step[1] if step else 0])
    found = []
    for _ in range(count):
        series = [noise.draw(rng, runs) for _ in range(points)]
        if step is not None:
            series[0][step[1] :] += math.log1p(step[0])
        found.append(judge(series))
    return found


def alarm_rows(count: int) -> list[tuple[list[str], bool]]:
    """Return how often a trend without a change has any step, and any regression."""
    cases = [
        ("1 point", 1, Noise(), True),
        ("10 points", 10, Noise(), True),
        ("10 points, noise with heavy tails (t, 4 df)", 10, Noise(tails=4.0), False),
        ("1 point, neighbouring runs alike (AR(1) 0.3)", 1, Noise(phi=0.3), False),
        ("1 point, AR(1) 0.6", 1, Noise(phi=0.6), False),
        ("1 point, AR(1) 0.6, spread 3 %", 1, Noise(0.03, 0.6), False),
    ]
    rows = []
    for name, points, noise, bound in cases:
        for runs in (6, 20, 60):
            found = trends(count, points, runs, noise)
            alarms = float(np.mean([any(one.places) for one in found]))
            regressed = float(np.mean([any(one.regressed) for one in found]))
            allowed = 0.01 + SURE * math.sqrt(0.01 * 0.99 / count)
            fine = not bound or alarms <= allowed
            cells = [f"{name}, {runs} runs", f"{alarms:.1%}", f"{regressed:.1%}"]
            rows.append(
                ([*cells, "at most 1 %" if bound else "no bound", "yes" if fine else "NO"], fine)
            )
    return rows


def power_rows(count: int) -> list[tuple[list[str], bool]]:
    """Return how often a step of 4 % is found."""
    cases = [
        (1, 20, 10, True), (1, 20, 15, True), (1, 20, 17, False), (1, 30, 27, True), (1, 12, 6, False),
        (10, 20, 10, True), (10, 30, 25, True), (10, 30, 27, False), (10, 60, 57, True),
    ]  # fmt: skip
    rows = []
    for points, runs, at, bound in cases:
        found = trends(count, points, runs, Noise(), (-0.04, at))
        seen = float(np.mean([bool(one.places[0]) for one in found]))
        exact = float(np.mean([one.places[0] == [at] for one in found]))
        regressed = float(np.mean([one.regressed[0] for one in found]))
        fine = not bound or seen >= 0.99 - SURE * math.sqrt(0.99 * 0.01 / count)
        name = f"{points} point{'s' * (points > 1)}, {runs} runs, {runs - at} after"
        shown = [f"{share:.1%}" for share in (seen, regressed, exact)]
        rows.append(
            ([name, *shown, "99 %" if bound else "no bound", "yes" if fine else "NO"], fine)
        )
    return rows


def border_rows(count: int) -> list[tuple[list[str], bool]]:
    """Return how often a step of the tolerance is a regression, and two that undo each other found."""
    at_border = trends(count, 1, 40, Noise(), (-TOLERANCE, 20))
    regressed = float(np.mean([one.regressed[0] for one in at_border]))
    rng = np.random.default_rng(7)
    both = 0
    for _ in range(count):
        x = Noise().draw(rng, 30)
        x[10:20] += math.log1p(-0.04)
        both += judge([x]).places[0] == [10, 20]
    share = both / count
    return [
        (["a step of the tolerance, 1 %, 40 runs: called a regression", f"{regressed:.1%}",
          "at most 1 %", "yes" if regressed <= 0.02 else "NO"], regressed <= 0.02),
        (["4 % down and up again, 10 runs each: both found on their day", f"{share:.1%}",
          "95 %", "yes" if share >= 0.95 else "NO"], share >= 0.95),
    ]  # fmt: skip


def main() -> int:
    """Print the tables; return 1 when a line fails."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trends", type=int, default=1000)
    count = parser.parse_args().trends
    tables = [
        (["no change", "any step", "any regression", "allowed", "right"], alarm_rows(count)),
        (["step of 4 %", "found", "called a regression", "day exact", "wanted", "right"], power_rows(count)),
        (["borders", "share", "wanted", "right"], border_rows(count)),
    ]  # fmt: skip
    for heads, rows in tables:
        print(*markdown(heads, [cells for cells, _ in rows], ", ".join(heads[1:-2])), sep="\n")
        print()
    return 0 if all(fine for _, rows in tables for _, fine in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
