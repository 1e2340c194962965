"""The searches of a run for the highest rate under a latency bound, a series of trials each.

What a search asks next follows from the rows that there are, so that one that was interrupted goes on
from the store, and nothing else has to be kept.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from raybench.planning.plan import PlannedTrial
from raybench.planning.rate_search import (
    NOT_BEGUN,
    RateOutcome,
    RateQuestion,
    RateSearch,
    TrialsAhead,
)
from raybench.results.search_trials import OFFERED_OFF, disturbances
from raybench.stats.violations import least_items

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from raybench.experiment import Experiment, Point
    from raybench.planning.plan import Plan

    Facts = Mapping[str, Any]
    Key = tuple[str, int]

FACTS = (
    "status", "items_per_s", "slo_met", "slo_violation_frac", "flags", "offered_items_per_s",
    "arrived_items_per_s",
)  # fmt: skip
"""Columns of a row that a search reads."""
SPARE = 1.2
"""A rate is asked for if a window can be expected to hold so many times the items that the percentile needs."""
WHOLE = -1
"""Number of a trial that stands for a whole search, where drivers share work."""


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
        self._left: frozenset[Key] = frozenset()
        self._planned: dict[tuple[int, RateQuestion], PlannedTrial] = {}

    def record(self, planned: PlannedTrial, row: Facts) -> None:
        """Note the row of a trial."""
        self._rows[planned.key] = {name: row.get(name) for name in FACTS}

    def leave(self, searches: Collection[Key]) -> None:
        """Leave these searches to other drivers; keys as in `unfinished`."""
        self._left = frozenset(searches)

    def unfinished(self) -> set[Key]:
        """Return a key for each search that has not ended: its point in closed loop, and `WHOLE`."""
        ahead = self.ahead()
        return {(point.id, WHOLE) for point, index in self._bases() if ahead[index].most}

    def asked(self) -> list[PlannedTrial]:
        """Return every trial that the searches have asked for so far, those with a row first."""
        every = [
            planned for point, index in self._bases() for planned in self._replayed(point, index)[1]
        ]
        return sorted(every, key=lambda planned: planned.key not in self._rows)

    def missing(self) -> list[PlannedTrial]:
        """Return what to measure next: a trial of each search that has not ended."""
        return [planned for planned in self.asked() if planned.key not in self._rows]

    def ahead(self) -> dict[int, TrialsAhead]:
        """Return how many trials each search still takes, by the place of its point in the plan."""
        found = {}
        for point, index in self._bases():
            search = self._replayed(point, index)[0]
            waits = any(row is None for row in self._closed_rows(point))
            found[index] = search.ahead if search else NOT_BEGUN if waits else TrialsAhead(0, 0)
        return found

    def remarks(self) -> list[str]:
        """Return a sentence on each trial that is asked again next."""
        searches = (self._replayed(point, index)[0] for point, index in self._bases())
        return [
            f"{question.items_per_s:,.15g} items/s is asked again once: its trial was disturbed "
            f"({', '.join(sorted(search.why_again))})."
            for search in searches
            if search and (question := search.question()) and question.again
        ]

    def _bases(self) -> Iterator[tuple[Point, int]]:
        for index in self._plan.searched:
            point = self._plan.points[index]
            if (point.id, WHOLE) not in self._left:
                yield point, index

    def _replayed(self, base: Point, index: int) -> tuple[RateSearch | None, list[PlannedTrial]]:
        """Return a search and its trials in order, of which the last one may have no row yet.

        There is none before the closed loop is measured.
        """
        capacity, trials = self._capacity(base), list[PlannedTrial]()
        if capacity is None:
            return None, trials
        measure = base.measure
        least = SPARE * least_items(measure.slo_percentile) / measure.max_s
        search = RateSearch(capacity, 1 - measure.slo_percentile / 100, least)
        while (question := search.question()) is not None:
            trials.append(self._trial(base, index, question))
            row = self._rows.get(trials[-1].key)
            if row is None:
                break
            search.record(question, outcome_of(row))
        return search, trials

    def _closed_rows(self, base: Point) -> list[Facts | None]:
        return [self._rows.get((base.id, trial)) for trial in range(self._experiment.trials)]

    def _capacity(self, base: Point) -> float | None:
        """Return the mean rate in closed loop; None before every trial of it has a row."""
        rows = self._closed_rows(base)
        rates = [row["items_per_s"] for row in rows if row is not None and row["status"] == "ok"]
        complete = None not in rows and rates and None not in rates
        return sum(rates) / len(rates) if complete else None

    def _trial(self, base: Point, index: int, question: RateQuestion) -> PlannedTrial:
        if (index, question) not in self._planned:
            point = replace(base, load=f"poisson({question.items_per_s:.15g})")
            number = len(self._plan.trials) + len(self._planned)
            self._planned[index, question] = PlannedTrial(point, index, question.number, number)
        return self._planned[index, question]


def outcome_of(row: Facts) -> RateOutcome:
    """Return what a trial says of the bound, and what disturbed it."""
    causes = set(disturbances(row))
    more = (row.get("arrived_items_per_s") or 0) > (row.get("offered_items_per_s") or 0)
    eased = frozenset(causes & {OFFERED_OFF}) if not more else frozenset[str]()
    slowed = frozenset(causes - eased)
    if row["status"] != "ok":
        return RateOutcome(None, None, slowed)
    return RateOutcome(row["slo_met"], row["slo_violation_frac"], slowed, eased)


def facts_of(rows: Sequence[Facts]) -> dict[Key, Facts]:
    """Return the columns that searches read, by point id and trial."""
    return {(row["point_id"], row["trial"]): {name: row[name] for name in FACTS} for row in rows}
