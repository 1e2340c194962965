"""Steps in a series of runs: where its level changed, by how much, and what would have been seen.

The values are one number a run, in the order of time: logarithms of rates, so that a difference is a
ratio. Runs vary more than the trials of one, so the noise is the spread between runs of one level.
A step is tested by Student's t on windows of runs around it, once for each place and width
(Bonferroni), which bounds false alarms without a table of critical values. `benchmarks/trend.py`
simulates how often a series without a step has one, and how often steps are found.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from raybench.stats.intervals import ROUNDING, rho

if TYPE_CHECKING:
    import numpy.typing as npt

    from raybench.stats.intervals import Floats

    Ints = npt.NDArray[np.int64]

FALSE_ALARMS = 0.01
"""Chance of any step in a trend without one, over all of its series together."""
LEAST = 3
"""Fewest runs on either side of a step: one or two strange runs are not a new level."""
FEWEST = 2 * LEAST
"""Runs of the shortest series in which a step can be found."""
FOUND = 0.80
"""Chance with which the smallest visible step is found."""
MOST_RUNS = 1000
"""No more runs than this are advised."""
_PASSES = 3
_NARROWEST = 5
"""Runs on either side in the narrowest windows; each wider one doubles them."""


@dataclass(frozen=True)
class Candidate:
    """The place in a series where a step fits best.

    Attributes:
        index: first run of the new level.
        p: chance of one as clear anywhere in a series without a step; at most 1.
    """

    index: int
    p: float


@dataclass(frozen=True)
class Step:
    """A change of the level, with an interval that holds for all steps of a trend together.

    Attributes:
        index: first run of the new level.
        before: first run of the level before; runs from there to `index` count.
        after: end of the new level, one past its last run.
        shift: later mean minus earlier mean.
        lo: lower end of its interval.
        hi: upper end of its interval.
    """

    index: int
    before: int
    after: int
    shift: float
    lo: float
    hi: float


def most_likely_step(x: Floats) -> Candidate | None:
    """Return the clearest step of a series; None for one of fewer than `FEWEST` runs.

    Every place is tried with all runs on either side, which finds a single step best, and with the
    nearest 5, 10, 20 ... on either side, which another step elsewhere does not hide. Standard
    errors carry the AR(1) factor of the residuals. Where one or two runs at an end of the window
    differ more from the rest, the place is none.

    Args:
        x: shape (n,), in time order.
    """
    if len(x) < FEWEST:
        return None
    lo, at, hi = _windows(len(x))
    centred = x - x.mean()
    sums = np.concatenate(([0.0], np.cumsum(centred)))
    squares = np.concatenate(([0.0], np.cumsum(centred * centred)))
    left, right = at - lo, hi - at

    def within(split: Ints) -> Floats:
        """Return the sum of squares about the means before and after a split of each window."""
        a, b = sums[split] - sums[lo], sums[hi] - sums[split]
        about: Floats = squares[hi] - squares[lo] - a**2 / (split - lo) - b**2 / (hi - split)
        return about

    shift = (sums[hi] - sums[at]) / right - (sums[at] - sums[lo]) / left
    variance = np.maximum(within(at), 0.0) / (left + right - 2) * (1 / left + 1 / right)
    t = np.abs(shift) / np.maximum(np.sqrt(variance), _floor(x))
    p = _p_value(t, left + right - 2)
    edges = [within(split) for few in range(1, LEAST) for split in (lo + few, hi - few)]
    p[np.min(edges, axis=0) < within(at)] = 1.0  # one or two strange runs at an end fit better
    best = Candidate(int(at[np.argmin(p)]), 1.0)
    for k in np.argsort(p, kind="stable").tolist():
        if len(at) * p[k] >= best.p:  # what follows is less clear before it is corrected
            break
        part = x[lo[k] : hi[k]]
        corrected = t[k] / _ar1_factor(_residuals(part, int(at[k] - lo[k])))
        of_all = len(at) * float(_p_value(corrected, len(part) - 2))
        if of_all < best.p:
            best = Candidate(int(at[k]), of_all)
    return best


def levels(p: Floats, level: float = FALSE_ALARMS) -> Floats:
    """Return the level at which Holm's method tests each of several series.

    Each series whose p is at most its level has a step; any false one comes with chance `level`.

    Args:
        p: of each series, shape (n,).
        level: of all together.
    """
    order = np.argsort(p, kind="stable")
    ladder = level / np.arange(len(p), 0, -1)
    failed = np.flatnonzero(p[order] > ladder)
    if len(failed):
        ladder[failed[0] :] = ladder[failed[0]]
    of_each: Floats = np.empty(len(p))
    of_each[order] = ladder
    return of_each


def find_steps(x: Floats, level: float) -> list[int]:
    """Return the first run of each new level, in time order.

    Where a step is found, the runs before and after it are searched in turn; they share the level
    by their lengths, so that all stretches without a step have a false one with at most that chance.
    Each then moves to where it fits best between its neighbours: the window in which it was
    clearest may have ended early, to leave another step out.

    Args:
        x: shape (n,), in time order.
        level: chance of a step where there is none.
    """
    places = _search(x, level)
    for _ in range(_PASSES):
        edges = [0, *places, len(x)]
        moved = [
            first + _best_split(x[first:last])
            for first, last in zip(edges, edges[2:], strict=False)
        ]
        if moved == places or any(b - a < LEAST for a, b in pairwise(moved)):
            break
        places = moved
    return places


def _search(x: Floats, level: float) -> list[int]:
    best = most_likely_step(x)
    if best is None or best.p > level:
        return []
    share = best.index / len(x)
    before = _search(x[: best.index], level * share)
    after = _search(x[best.index :], level * (1 - share))
    return [*before, best.index, *(best.index + k for k in after)]


def _best_split(x: Floats) -> int:
    """Return where two levels fit a series best, by least squares."""
    at = np.arange(LEAST, len(x) - LEAST + 1)
    sums = np.concatenate(([0.0], np.cumsum(x - x.mean())))
    gain = sums[at] ** 2 * (1 / at + 1 / (len(x) - at))  # what the split explains
    return int(at[np.argmax(gain)])


def measure_steps(x: Floats, places: list[int], level: float) -> list[Step]:
    """Return each step between the level before and the one after, with its interval.

    Args:
        x: shape (n,), in time order.
        places: first runs of new levels, from `find_steps`.
        level: chance that the interval of any of them misses the truth.
    """
    if not places:
        return []
    edges = [0, *places, len(x)]
    critical = 1 - level / (2 * len(_windows(len(x))[0]))
    found = []
    for first, index, last in zip(edges, edges[1:], edges[2:], strict=False):
        part, left = x[first:last], index - first
        residual = _residuals(part, left)
        df = len(part) - 2
        error = math.sqrt(float(residual @ residual) / df * (1 / left + 1 / (len(part) - left)))
        reach = _quantile(critical, df) * error * _ar1_factor(residual)
        shift = float(part[left:].mean() - part[:left].mean())
        found.append(Step(index, first, last, shift, shift - reach, shift + reach))
    return found


def spread_of_runs(x: Floats, places: list[int]) -> float:
    """Return the standard deviation between runs of one level."""
    residual = _about_levels(x, places)
    return math.sqrt(float(residual @ residual) / (len(x) - len(places) - 1))


def smallest_visible(spread: float, runs: int, level: float) -> float:
    """Return the step that would be found in the middle of a series in 80 % of cases.

    Args:
        spread: between runs of one level, of logarithms.
        runs: of the series, `FEWEST` or more.
        level: chance of a step where there is none.
    """
    df = runs - 2
    critical = _quantile(1 - level / (2 * len(_windows(runs)[0])), df)
    error = spread * math.sqrt(1 / (runs // 2) + 1 / (runs - runs // 2))
    return (critical + _quantile(FOUND, df)) * error


def newest_away(x: Floats, level: float) -> tuple[int, float] | None:
    """Return how many of the newest runs lie off the level before them, and by how much.

    One or two runs make no step, but may be the beginning of one. None where they are within what
    chance allows, or too few are before them.

    Args:
        x: of the newest level, shape (n,), in time order.
        level: chance that sound runs lie off.
    """
    for few in range(1, LEAST):
        rest, newest = x[:-few], x[-few:]
        if len(rest) < LEAST:
            return None
        shift = float(newest.mean() - rest.mean())
        error = float(rest.std(ddof=1)) * math.sqrt(1 / few + 1 / len(rest))
        if abs(shift) > _quantile(1 - level / (2 * (LEAST - 1)), len(rest) - 1) * max(
            error, _floor(x)
        ):
            return few, shift
    return None


def runs_to_see(size: float, spread: float, level: float) -> int | None:
    """Return the fewest runs in which a step of a size would be visible; None above 1,000."""
    if smallest_visible(spread, MOST_RUNS, level) > size:
        return None
    few, enough = FEWEST - 1, MOST_RUNS
    while enough - few > 1:
        middle = (few + enough) // 2
        seen = smallest_visible(spread, middle, level) <= size
        few, enough = (few, middle) if seen else (middle, enough)
    return enough


def _windows(runs: int) -> tuple[Ints, Ints, Ints]:
    """Return the first run, the place of the step and the end of every window that is tried."""
    at = np.arange(LEAST, runs - LEAST + 1)
    first, place, end = [np.zeros_like(at)], [at], [np.full_like(at, runs)]
    width = _NARROWEST
    while 2 * width < runs:
        at = np.arange(width, runs - width + 1)
        first.append(at - width)
        place.append(at)
        end.append(at + width)
        width *= 2
    return np.concatenate(first), np.concatenate(place), np.concatenate(end)


def _residuals(x: Floats, index: int) -> Floats:
    return _about_levels(x, [index])


def _about_levels(x: Floats, places: list[int]) -> Floats:
    """Return the values less the mean of their level."""
    parts = np.split(x, places)
    residual: Floats = np.concatenate([part - part.mean() for part in parts])
    return residual


def _ar1_factor(residual: Floats) -> float:
    """Return by how much neighbouring runs that resemble each other widen a standard error."""
    r = rho(residual)
    return math.sqrt((1 + r) / (1 - r))


def _floor(x: Floats) -> float:
    """Return a standard error below which a difference is rounding."""
    return ROUNDING * max(float(np.abs(x).max()), 1e-300)


def _p_value(t: Floats | float, df: Ints | int) -> Floats:
    from scipy.special import stdtr

    p: Floats = 2 * stdtr(df, -t)
    return p


def _quantile(p: float, df: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(df, p))
