"""The searches of a run for the highest rate under a latency bound, a series of trials each.

What a search asks next follows from the rows that there are, so that one that was interrupted goes on
from the store, and nothing else has to be kept.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from raybench.experiment import CLOSED
from raybench.planning.plan import PlannedTrial
from raybench.planning.rate_search import RateOutcome, RateQuestion, RateSearch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from raybench.experiment import Experiment, Point
    from raybench.planning.plan import Plan

    Facts = Mapping[str, Any]
    Key = tuple[str, int]

FACTS = ("status", "items_per_s", "slo_met", "slo_violation_frac")
"""Columns of a row that a search reads."""


class RateSearches:
    """One search for each point in closed loop whose trials have their rows.

    Args:
        experiment: that is run; there are no searches unless it asks for them.
        plan: of the run.
        rows: what the store holds of its trials and of probes, by point id and trial.
    """

    def __init__(self, experiment: Experiment, plan: Plan, rows: Mapping[Key, Facts]) -> None:
        self._experiment = experiment
        self._plan = plan
        self._rows = dict(rows)
        self._numbers: dict[Key, int] = {}

    def record(self, planned: PlannedTrial, row: Facts) -> None:
        """Note the row of a trial."""
        self._rows[planned.key] = {name: row.get(name) for name in FACTS}

    def asked(self) -> list[PlannedTrial]:
        """Return every trial that the searches have asked for so far, those with a row first."""
        every = [
            planned for point, index in self._bases() for planned in self._trials(point, index)
        ]
        return sorted(every, key=lambda planned: planned.key not in self._rows)

    def missing(self) -> list[PlannedTrial]:
        """Return what to measure next: a trial of each search that has not ended."""
        return [planned for planned in self.asked() if planned.key not in self._rows]

    def _bases(self) -> Iterator[tuple[Point, int]]:
        if self._experiment.find_rate:
            for index, point in enumerate(self._plan.points):
                if point.load == CLOSED and not point.largest:
                    yield point, index

    def _trials(self, base: Point, index: int) -> Iterator[PlannedTrial]:
        """Yield the trials of a search in order; the last one may have no row yet."""
        capacity = self._capacity(base)
        if capacity is None:
            return
        search = RateSearch(capacity, 1 - base.measure.slo_percentile / 100)
        while (question := search.question()) is not None:
            planned = self._planned(base, index, question)
            yield planned
            row = self._rows.get(planned.key)
            outcome = None if row is None else outcome_of(row)
            if outcome is None:  # not measured yet, or not measurable
                return
            search.record(question, outcome)

    def _capacity(self, base: Point) -> float | None:
        """Return the mean rate in closed loop; None before every trial of it has a row."""
        rows = [self._rows.get((base.id, trial)) for trial in range(self._experiment.trials)]
        rates = [row["items_per_s"] for row in rows if row is not None and row["status"] == "ok"]
        complete = None not in rows and rates and None not in rates
        return sum(rates) / len(rates) if complete else None

    def _planned(self, base: Point, index: int, question: RateQuestion) -> PlannedTrial:
        point = replace(base, load=f"poisson({question.items_per_s:.15g})")
        number = len(self._plan.trials) + len(self._numbers)
        number = self._numbers.setdefault((point.id, question.trial), number)
        return PlannedTrial(point, index, question.trial, number)


def outcome_of(row: Facts) -> RateOutcome | None:
    """Return what a trial says of the bound; None where it gave no number."""
    met, share = row["slo_met"], row["slo_violation_frac"]
    if row["status"] != "ok" or (met is None and share is None):
        return None
    return RateOutcome(met, share)


def facts_of(rows: Sequence[Facts]) -> dict[Key, Facts]:
    """Return the columns that searches read, by point id and trial."""
    return {(row["point_id"], row["trial"]): {name: row[name] for name in FACTS} for row in rows}
