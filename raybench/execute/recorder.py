"""The recorder: turns the outcomes of trials into rows for the writer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from raybench.errors import Infeasible, Interrupted
from raybench.execute import rows
from raybench.planning.plan import PlannedTrial

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from raybench.errors import PointError
    from raybench.execute.writer import Writer
    from raybench.experiment import Experiment
    from raybench.planning.attempts import Attempt, Outcome
    from raybench.planning.plan import Plan
    from raybench.planning.rate_searches import RateSearches


@dataclass(frozen=True)
class FinishedAttempt:
    """An attempt that has ended, with its rows or its error."""

    attempt: Attempt
    tables: rows.Tables
    error: PointError | None
    started_at: datetime


class Recorder:
    """Gives the writer a row for every trial that is decided.

    Args:
        experiment: that is run.
        environment_id: of the rows.
        writer: stores them.
        searches: of the run, which ask by what the rows say.

    Attributes:
        lost: number of rows that are infeasible because devices went away during the run.
    """

    def __init__(
        self, experiment: Experiment, environment_id: str, writer: Writer, searches: RateSearches
    ) -> None:
        self.lost = 0
        self._searches = searches
        self._experiment = experiment
        self._environment_id = environment_id
        self._writer = writer

    def infeasible(self, plan: Plan, finals: Iterable[tuple[str, int]]) -> None:
        """Record the trials of points that cannot run here, except those that are final already."""
        already = set(finals)
        for index, point in enumerate(plan.points):
            for trial in range(self._experiment.trials):
                if point.id in plan.infeasible and (point.id, trial) not in already:
                    now = datetime.now(timezone.utc)
                    columns = rows.status_columns(now, now, reason=plan.infeasible[point.id])
                    self._put(PlannedTrial(point, index, trial), rows.Tables(columns))

    def outcomes(self, outcomes: Iterable[Outcome], finished: FinishedAttempt | None) -> None:
        """Record outcomes; `finished` is the attempt that led to them, if there was one."""
        for outcome in outcomes:
            planned, error = outcome.planned, outcome.error
            started_at, tables = datetime.now(timezone.utc), rows.Tables({})
            if finished is not None and planned == finished.attempt.planned:
                started_at, tables = finished.started_at, finished.tables
            columns = rows.status_columns(
                started_at, datetime.now(timezone.utc), error, outcome.attempts
            )
            if outcome.note is not None:
                columns["notes"] = [*tables.trial.get("notes", ()), outcome.note]
            if isinstance(error, Infeasible) and error.devices_lost:
                self.lost += 1
            self._put(planned, replace(tables, trial={**tables.trial, **columns}))

    def interrupted(
        self, attempts: Iterable[Attempt], ended: Sequence[FinishedAttempt] = ()
    ) -> None:
        """Record the measurements that were running when the run was interrupted.

        Args:
            attempts: that were running.
            ended: those that ended meanwhile; a soak's holds what was measured by then.
        """
        measured = {finished.attempt.planned.key: finished for finished in ended}
        for attempt in attempts:
            if attempt.planned.purpose == "measure":
                now = datetime.now(timezone.utc)
                error = Interrupted(
                    "The run was interrupted. The same command measures this point again."
                )
                finished = measured.get(attempt.planned.key)
                tables = rows.Tables({}) if finished is None else finished.tables
                began_at = now if finished is None else finished.started_at
                columns = rows.status_columns(began_at, now, error, attempt.number)
                self._put(attempt.planned, replace(tables, trial={**tables.trial, **columns}))

    def _put(self, planned: PlannedTrial, tables: rows.Tables) -> None:
        identity = rows.identity_columns(self._experiment, planned, self._environment_id)
        row = {**identity, **tables.trial}
        self._searches.record(planned, row)
        self._writer.put(planned, row, tables)
