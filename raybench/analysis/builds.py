"""Cells of several separately built plans: each plan counts once, and how far the plans lie apart."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from raybench.analysis.columns import floats
from raybench.analysis.grouping import BUILDS
from raybench.analysis.series import Series  # noqa: TC001 - get_type_hints reads it
from raybench.stats.builds import differences, over_builds, variance_parts
from raybench.stats.intervals import bounds, half_width_df, t_quantile
from raybench.stats.ratios import logs as moments

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from raybench.analysis.cells import Cell
    from raybench.analysis.grouping import Groups
    from raybench.stats.ratios import Logs


@dataclass(frozen=True)
class CellBuild:
    """The trials of one build of a cell.

    Attributes:
        plan: hash of the built plan; None where the engine gives none, or several nodes have their own.
        values: the metric in each trial.
        logs: moments of their logarithms; None unless all are positive.
    """

    plan: str | None
    values: tuple[float, ...]
    logs: Logs | None


@dataclass(frozen=True)
class BuildSpread:
    """One point with several builds. All parts are standard deviations relative to the rate.

    Attributes:
        builds: how many.
        trials: of all of them together.
        between_builds: of the rates of builds; with that of trials in it where `between_trials` is None.
        between_trials: of trials of one build, beyond the noise within them; None with one trial a build.
        within: of one trial's rate by the noise within it; None where unknown, and then in
            `between_trials`.
    """

    series: Series
    workers: int
    builds: int
    trials: int
    between_builds: float
    between_trials: float | None
    within: float | None


def with_several_builds(every: list[Cell], rows: pa.Table, groups: Groups) -> list[Cell]:
    """Return cells, of which those with several builds have these as their sample.

    Args:
        every: cells with numbers, whose sample are their trials.
        rows: the table of their trials.
        groups: the rows of each cell.
    """
    numbers = np.nan_to_num(floats(rows["build"]))[groups.order]  # null: there are no others
    lowest, highest = (of.reduceat(numbers, groups.start) for of in (np.minimum, np.maximum))
    found = list(every)
    for k in np.flatnonzero(lowest != highest).tolist():
        own = slice(groups.start[k], groups.start[k] + groups.count[k])
        plans = rows["engine_sha256"].take(pa.array(groups.order[own])).to_pylist()
        found[k] = with_builds(found[k], numbers[own].astype(int).tolist(), plans)
    return found


def with_builds(cell: Cell, numbers: Sequence[int], plans: Sequence[str | None]) -> Cell:
    """Return a cell whose sample are its builds, of which it has several.

    Mean, interval and logarithms are then those over builds, of which each counts once: what a build
    happens to be is in all of its trials, so that more of them do not average it out.

    Args:
        cell: with a number, whose sample are its trials.
        numbers: of the build of each trial, in the order of `cell.values`.
        plans: hash of the plan of each trial.
    """
    by_number: dict[int, list[int]] = {}
    for place, number in enumerate(numbers):
        by_number.setdefault(number, []).append(place)
    builds = tuple(_build(cell, places, plans) for _, places in sorted(by_number.items()))
    means = np.array([np.mean(build.values) for build in builds])
    mean, count = float(means.mean()), len(builds)
    half = t_quantile(0.975, count - 1) * float(means.std(ddof=1)) / np.sqrt(count)
    lo, hi = bounds(mean, half)
    known = [build.logs for build in builds if build.logs is not None]
    return replace(
        cell,
        builds=builds,
        mean=mean,
        lo=float(lo),
        hi=float(hi),
        interval=BUILDS,
        logs=over_builds(known) if len(known) == count else None,
    )


def _build(cell: Cell, places: Sequence[int], plans: Sequence[str | None]) -> CellBuild:
    values = tuple(cell.values[place] for place in places)
    own = {plans[place] for place in places}
    logs = moments(np.array(values)) if min(values) > 0 else None
    return CellBuild(own.pop() if len(own) == 1 else None, values, logs)


def plans_of(cell: Cell) -> dict[str, Logs]:
    """Return the moments of the trials of each plan that a cell ran, where its hash is known."""
    if cell.builds:
        return {b.plan: b.logs for b in cell.builds if b.plan is not None and b.logs is not None}
    plan = cell.newest.get("engine_sha256")
    return {} if plan is None or cell.logs is None else {plan: cell.logs}


def shared_plans(cell: Cell, base: Cell) -> tuple[list[Logs], list[Logs]]:
    """Return the moments on either side of each plan that both cells ran."""
    own, other = plans_of(cell), plans_of(base)
    both = [plan for plan in own if plan in other]
    return [own[plan] for plan in both], [other[plan] for plan in both]


class LogRatio(NamedTuple):
    """Logarithm of the ratio of two cells, with its variances and the degrees of freedom of each."""

    value: float
    variances: list[tuple[float, float]]


def log_ratio(a: Cell, b: Cell) -> LogRatio | None:
    """Return the ratio of two cells, or None where they have too few trials to say how sure it is.

    Where either has several builds, plans that both ran are compared with themselves.
    """
    if a.builds or b.builds:
        own, other = shared_plans(a, b)
        if len(own) > 1:
            pairs = differences(own, other)
            return LogRatio(pairs.mean, [_of_mean(pairs)])
        if own and min(own[0].count, other[0].count) > 1:
            return LogRatio(own[0].mean - other[0].mean, [_of_mean(own[0]), _of_mean(other[0])])
    if a.logs is None or b.logs is None or min(a.logs.count, b.logs.count) < 2:
        return None
    return LogRatio(a.logs.mean - b.logs.mean, _unpaired(a, b))


def _of_mean(logs: Logs) -> tuple[float, float]:
    return logs.variance / logs.count, float(logs.count - 1)


def _unpaired(a: Cell, b: Cell) -> list[tuple[float, float]]:
    """Return the variances of either mean, and what a single build adds to its own.

    A cell of one build has as much from that build as the builds of the other show, where these are of
    the same engine; else nothing is known of it.
    """
    parts = []
    for cell, other in ((a, b), (b, a)):
        assert cell.logs is not None
        variance, df = _of_mean(cell.logs)
        alike = cell.series.engine == other.series.engine
        if cell.builds and not other.builds and alike and plans_of(other):
            # of the same few builds as the variance of their mean, so that both have one df
            variance += variance_parts([np.log(build.values) for build in cell.builds]).builds
        parts.append((variance, df))
    return parts


def spread_unknown(a: Cell, b: Cell) -> bool:
    """Return whether two cells ran different plans, each of a single build, that differ by chance."""
    of_a, of_b = (cell.newest for cell in (a, b))
    plans = of_a.get("engine_sha256"), of_b.get("engine_sha256")
    several = a.builds or b.builds or None in (of_a.get("build"), of_b.get("build"), *plans)
    return not several and plans[0] != plans[1]


def build_spreads(every: Sequence[Cell], trials: pa.Table) -> Iterator[BuildSpread]:
    """Yield the spread of each point with several builds.

    Args:
        every: cells of items per second.
        trials: the table that they were made from.
    """
    several = [cell for cell in every if len(cell.builds) > 1 and cell.logs is not None]
    if not several:
        return
    for cell in several:
        parts = variance_parts(
            [np.log(build.values) for build in cell.builds], _within(cell, trials)
        )
        between, inside, noise = (
            None if part is None else float(np.sqrt(part))
            for part in (parts.builds, parts.trials, parts.within)
        )
        assert between is not None
        yield BuildSpread(
            cell.series, cell.workers or 0, len(cell.builds), cell.trials, between, inside, noise
        )


def _within(cell: Cell, trials: pa.Table) -> float | None:
    """Return the variance of a trial's rate by the noise within it, relative; None if unknown."""
    names = ("rel_half_width", "n_blocks", "n_eff")
    if not set(names) <= set(trials.column_names):
        return None
    halves, blocks, effective = (floats(trials[name])[list(cell.rows)] for name in names)
    if not np.isfinite(halves + blocks + effective).all():
        return None
    df = map(half_width_df, blocks.tolist(), effective.tolist())
    t = np.array([t_quantile(0.975, one) for one in df])
    return float(np.mean(np.square(halves / t)))
