"""How the points of many runs went on over time: steps, what changed at them, and how sure that is."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from raybench.analysis.cells import METRICS
from raybench.analysis.estimate import Estimate
from raybench.analysis.marks import union
from raybench.analysis.run_facts import RunFacts, what_changed
from raybench.analysis.run_series import BY, ENVIRONMENT, point_runs, rows_since
from raybench.analysis.trend_verdicts import (
    IMPROVED,
    REGRESSED,
    STEADY,
    UNDECIDED,
    PointTrend,
    Trend,
    TrendStep,
)
from raybench.errors import ConfigError, nearest
from raybench.stats import steps
from raybench.text import agreeing, counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import date

    import pyarrow as pa

    from raybench.analysis.run_series import Key, PointRun
    from raybench.stats.intervals import Floats

TOLERANCE = 0.01
MOST_TOLERANCE = 0.4
SEEN = 0.05
"""Without a step a point is steady where one of this size, or of twice the tolerance, would be seen."""


def trend(
    trials: pa.Table,
    environment: pa.Table,
    *,
    by: Sequence[str] = (ENVIRONMENT,),
    metric: str = "items_per_s",
    tolerance: float = TOLERANCE,
    since: date | None = None,
) -> Trend:
    """Follow every point over many runs and find the steps of its level.

    A run counts with the geometric mean of its trials; the noise is the spread between runs. A
    series without a step has one in about 1 % of cases, over all points together (Holm).
    A point is regressed or improved by its newest step that lies beyond the tolerance with its whole
    interval; undecided where a newer one may, where there are too few runs, or where the newest run
    has no number; else steady.

    Args:
        trials: as `raybench.load` returns it, of one or more folders.
        environment: of the same folders; names what changed.
        by: see `BY`; the environment may differ unless NOTHING may.
        metric: see `cells.METRICS`.
        tolerance: changes below this share are no regression.
        since: runs that started before this day (UTC) count no more.

    Raises:
        ConfigError: an unknown factor or metric, a tolerance out of range, a run with two cells for
            one point, or no run with a number.
    """
    _check(by, metric, tolerance)
    rows = trials if since is None else rows_since(trials, since)
    every = point_runs(rows, by, metric)
    good = {key: runs for key, runs in every.items() if any(run.level for run in runs)}
    if not good:
        raise ConfigError(
            f"No run has a number of {metric}. Name results folders with finished trials"
            + (", or an earlier day in since=." if since else ", or another metric.")
        )
    points = judge_points(good, RunFacts(rows, environment), metric, tolerance)
    levels = [run for point in points for run in point.runs]
    starts = sorted(run.started_at for run in levels)
    return Trend(
        metric=metric,
        tolerance=tolerance,
        by=tuple(by),
        runs=len({run.run_id for run in levels}),
        first_at=starts[0],
        last_at=starts[-1],
        points=points,
        missing=_missing(good.values()),
    )


def trend_of_many(trials: pa.Table, environment: pa.Table) -> Trend | None:
    """Return the trend of rows with a point in `steps.FEWEST` runs or more; None for other rows.

    Args:
        trials: as `raybench.load` returns it, of one or more folders.
        environment: of the same folders.
    """
    if len(trials["run_id"].unique()) < steps.FEWEST or "ok" not in trials["status"].to_pylist():
        return None
    found = trend(trials, environment)
    long_enough = tuple(p for p in found.points if len(p.runs) >= steps.FEWEST)
    return replace(found, points=long_enough) if long_enough else None


def _check(by: Sequence[str], metric: str, tolerance: float) -> None:
    for name in by:
        if name not in BY:
            raise ConfigError(f"Unknown factor {name!r} in by=. {nearest(name, BY)}")
    if metric not in METRICS:
        raise ConfigError(f"Unknown metric {metric!r}. {nearest(metric, METRICS)}")
    if not 0 <= tolerance <= MOST_TOLERANCE:
        raise ConfigError(
            f"tolerance takes a share from 0 to {MOST_TOLERANCE}, not {tolerance!r}. Correct the value."
        )


def judge_points(
    series: Mapping[Key, Sequence[PointRun]], facts: RunFacts, metric: str, tolerance: float
) -> tuple[PointTrend, ...]:
    """Return the verdict on each point.

    Args:
        series: the runs of each point, oldest first, each with a number in some run.
        facts: of the runs.
        metric: see `cells.METRICS`.
        tolerance: changes below this share are no regression.
    """
    logs = [
        np.array([math.log(run.level.value) for run in runs if run.level])
        for runs in series.values()
    ]
    likely = [steps.most_likely_step(x) for x in logs]
    long_enough = [place for place, one in enumerate(likely) if one is not None]
    at_level = dict(
        zip(long_enough, steps.levels(np.array([one.p for one in likely if one])), strict=True)
    )
    higher = METRICS[metric] == "higher"
    return tuple(
        _point(key, runs, _Numbers(x, float(at_level.get(k, 0.0)), tolerance, higher), facts)
        for k, ((key, runs), x) in enumerate(zip(series.items(), logs, strict=True))
    )


class _Numbers:
    """The steps of one point, and what they mean.

    Args:
        x: logarithms of its runs, oldest first.
        level: chance of a false step; 0 for a series that is too short.
        tolerance: changes below this share are no regression.
        higher: whether more is better.
    """

    def __init__(self, x: Floats, level: float, tolerance: float, higher: bool) -> None:
        self.x, self.level, self._tolerance, self._higher = x, level, tolerance, higher
        self.long_enough = level > 0
        places = steps.find_steps(x, level) if level else []
        self.steps = steps.measure_steps(x, places, level)
        self.spread = steps.spread_of_runs(x, places) if level else None
        self.newest = x[places[-1] :] if places else x

    def outcome_of(self, step: steps.Step) -> str:
        """Return what one step means."""
        down, up = math.log1p(-self._tolerance), math.log1p(self._tolerance)
        if step.hi < down or step.lo > up:
            return IMPROVED if (step.lo > up) == self._higher else REGRESSED
        return STEADY if step.lo >= down and step.hi <= up else UNDECIDED

    def outcome(self) -> str:
        """Return what the steps together mean, were there runs enough."""
        last = STEADY
        for outcome in map(self.outcome_of, self.steps):
            if outcome == UNDECIDED and last != REGRESSED:
                last = UNDECIDED
            elif outcome in (IMPROVED, REGRESSED):
                last = outcome
        return last

    def visible(self) -> float | None:
        """Return the change for the worse that would be called one in 80 of 100 cases."""
        if self.spread is None:
            return None
        reach = steps.smallest_visible(self.spread, len(self.x), self.level)
        return 1 - (1 - self._tolerance) * math.exp(-reach)

    @property
    def to_be_seen(self) -> float:
        """The change that must be visible before no step says that nothing changed."""
        return max(SEEN, 2 * self._tolerance)

    def runs_to_see(self) -> int | None:
        """Return how many runs would show that change; None for more than 1,000."""
        if self.spread is None:
            return None
        size = math.log1p(-self._tolerance) - math.log1p(-self.to_be_seen)
        return steps.runs_to_see(size, self.spread, self.level)

    def away(self) -> tuple[int, float] | None:
        """Return how many of the newest runs are worse than their level, and by which ratio."""
        if not self.level or (away := steps.newest_away(self.newest, self.level)) is None:
            return None
        few, shift = away
        return (few, math.exp(shift)) if (shift < 0) == self._higher else None


def _point(key: Key, runs: Sequence[PointRun], numbers: _Numbers, facts: RunFacts) -> PointTrend:
    good = [run for run in runs if run.level]
    outcome, note, needed = _verdict(runs, numbers)
    return PointTrend(
        series=key[0],
        workers=key[1],
        outcome=outcome,
        note=note,
        runs=tuple(run.level for run in good if run.level),
        steps=tuple(_step(good, step, numbers, facts) for step in numbers.steps),
        spread=numbers.spread,
        smallest_visible=numbers.visible(),
        runs_needed=needed,
        marks=union(run.marks for run in good),
    )


def _verdict(runs: Sequence[PointRun], numbers: _Numbers) -> tuple[str, str | None, int | None]:
    """Return the outcome of a point, a note, and how many runs would decide."""
    outcome = numbers.outcome()
    newest = runs[-1]
    if newest.level is None:
        kept = outcome if outcome == REGRESSED else UNDECIDED
        return kept, f"The newest run has no number: {newest.reason}", None
    if not numbers.long_enough:
        few = counted(len(numbers.x), "run")
        return (
            UNDECIDED,
            f"{few}; a step takes {steps.FEWEST} or more, {steps.LEAST} on either side of it.",
            steps.FEWEST,
        )
    if outcome == UNDECIDED:
        return outcome, "The step may lie beyond the tolerance; more runs tell.", None
    if (away := numbers.away()) is not None:
        return _off_level(outcome, *away)
    visible, needed = numbers.visible(), numbers.runs_to_see()
    if outcome == STEADY and visible is not None and visible > numbers.to_be_seen:
        more = f"it takes {needed} runs" if needed else "it takes more than 1,000 runs"
        sentence = (
            f"No step, but one below {100 * visible:.0f} % would hardly be seen; {more} to see one "
            f"of {100 * numbers.to_be_seen:g} %."
        )
        return UNDECIDED, sentence, needed
    return outcome, None, None


def _off_level(outcome: str, few: int, ratio: float) -> tuple[str, str, int | None]:
    """Return the verdict where the newest runs are worse, but too few for a step."""
    which = "The newest run is" if few == 1 else f"The newest {few} runs are"
    more = steps.LEAST - few
    sentence = (
        f"{which} {100 * (ratio - 1):+.1f} % off the level, more than chance allows; "
        f"{counted(more, 'more run')} {agreeing(more, 'tells', 'tell')} whether it is a step."
    )
    return (outcome if outcome == REGRESSED else UNDECIDED), sentence, None


def _step(
    good: Sequence[PointRun], step: steps.Step, numbers: _Numbers, facts: RunFacts
) -> TrendStep:
    before, after = good[step.before : step.index], good[step.index : step.after]
    sides = [
        [
            facts.of(run.run_id, run.environment_id) | ({"plan": run.plans} if run.plans else {})
            for run in side
        ]
        for side in (before, after)
    ]
    measured = [[run.medians for run in side] for side in (before, after)]
    return TrendStep(
        run_id=after[0].run_id,
        started_at=after[0].order[0],
        previous_at=before[-1].order[0],
        ratio=Estimate(*(math.exp(end) for end in (step.shift, step.lo, step.hi))),
        outcome=numbers.outcome_of(step),
        runs_before=len(before),
        runs_after=len(after),
        changed=what_changed(sides[0], sides[1], measured),
    )


def _missing(series: Iterable[Sequence[PointRun]]) -> tuple[str, ...]:
    sentences = []
    every = [run for runs in series for run in runs]
    failed = [run for run in every if run.level is None]
    if failed:
        sentences.append(
            f"{counted(len(failed), 'point')} of a run without a number. The newest: "
            f"{max(failed, key=lambda run: run.order).reason}"
        )
    unstable = sum(run.verdict == "unstable" for run in every)
    if unstable:
        sentences.append(
            f"{counted(unstable, 'point')} of a run with the verdict unstable: "
            f"{agreeing(unstable, 'it counts', 'they count')}, as noise between runs."
        )
    return tuple(sentences)
