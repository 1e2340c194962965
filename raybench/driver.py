"""Driver: every step of the plan, one after another: gather, measure, summarise, store."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from raybench import row as rows
from raybench.cluster import pool as pools
from raybench.engines import registry
from raybench.errors import ClusterError, EngineFailure, EngineUnavailable, PointError, UsageError
from raybench.experiment import expand
from raybench.measure.summary import Summary, summarise
from raybench.models import source
from raybench.schedule import Plan, Step, plan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from raybench.cluster.pool import Pool
    from raybench.config import Request
    from raybench.experiment import Experiment, MeasureSettings
    from raybench.report.progress import View
    from raybench.results.store import Run

log = logging.getLogger(__name__)

SLACK_S = 120.0
"""How far past its longest time a stream may go before its own backstop ends it."""


def make_plan(request: Request) -> Plan:
    """The plan of a request, after everything that can be refused has been.

    Raises:
        UsageError: an unknown or broken model, a missing engine library, or no point that can
            run on these devices.
    """
    experiment = request.experiment
    names = dict.fromkeys(name for grid in experiment.grids for name in grid["model"])
    for name in names:
        source.check(name, experiment.model)
    identities = {name: source.identity(name, experiment.model) for name in names}
    for choice in experiment.engines.values():
        reason = registry.get(choice.name).unavailable()
        if reason is not None:
            raise EngineUnavailable(reason)
    points = expand(experiment, request.devices, identities)
    made = plan(experiment, points, request.devices)
    if not made.steps:
        raise ClusterError(
            f"No point of {experiment.name!r} can run: {next(iter(made.infeasible.values()))} "
            f"There are {request.devices.get('gpu', 0)} GPUs and {request.devices.get('cpu', 0)} CPU cores."
        )
    return made


@dataclass(frozen=True)
class Driver:
    """Runs a plan on a connected cluster and writes its rows at once.

    Attributes:
        finals: status of every step that is final in the store already, by (point_id, trial).
    """

    request: Request
    plan: Plan
    run: Run
    view: View
    environment_id: str
    finals: Mapping[tuple[str, int], str]

    @property
    def _experiment(self) -> Experiment:
        return self.request.experiment

    def execute(self) -> Mapping[str, int]:
        """Run all steps; returns how many rows there are of each status."""
        tally: dict[str, int] = {}
        for step in self._impossible():
            reason = self.plan.infeasible[step.point.id]
            self._write(step, {**self._now(), "status": "infeasible", "reason": reason}, tally)
        for number, step in enumerate(self.plan.steps):
            known = self.finals.get((step.point.id, step.trial))
            if known is not None:
                tally[known] = tally.get(known, 0) + 1
                self.view.skipped(number, step, known)
                continue
            self.view.step(number, step)
            self._step(step, tally)
        return tally

    def _impossible(self) -> list[Step]:
        return [
            Step(point, index, trial)
            for index, point in enumerate(self.plan.points)
            if point.id in self.plan.infeasible
            for trial in range(self._experiment.trials)
            if (point.id, trial) not in self.finals
        ]

    def _now(self) -> dict[str, Any]:
        now = datetime.now(timezone.utc)
        return rows.outcome(now, now)

    def _write(
        self,
        step: Step,
        columns: Mapping[str, Any],
        tally: dict[str, int],
        workers: list[dict[str, Any]] | None = None,
        blocks: list[dict[str, Any]] | None = None,
    ) -> None:
        row = {**rows.identity(self._experiment, step, self.environment_id), **columns}
        self.run.write_point(
            step.point.id, step.trial, trials=row, workers=workers or [], blocks=blocks or []
        )
        tally[row["status"]] = tally.get(row["status"], 0) + 1
        self.view.row(row)

    def _step(self, step: Step, tally: dict[str, int]) -> None:
        began = datetime.now(timezone.utc)
        try:
            columns, workers, blocks = self._measure(step)
            error: PointError | None = None
        except PointError as caught:
            columns, workers, blocks, error = {}, [], [], caught
        except UsageError as caught:
            columns, workers, blocks, error = {}, [], [], EngineFailure(str(caught))
        ended = datetime.now(timezone.utc)
        self._write(step, {**columns, **rows.outcome(began, ended, error)}, tally, workers, blocks)

    def _measure(
        self, step: Step
    ) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
        point, cluster = step.point, self.request.cluster
        self.view.phase("start")
        with pools.gather(point, _label(self._experiment, step), cluster.start_timeout_s) as pool:
            self.view.phase("prepare")
            prepared = pool.prepare(self._experiment.seed, cluster.prepare_timeout_s)
            gang = rows.Gang(pool.members, prepared, pool.clocks())
            batch_s = max(p.batch_s for p in prepared)
            start_ns, summary = self._stream(pool, gang, point.measure, batch_s)
            pool.release()
        columns = {**rows.loaded(gang), **rows.measured(gang, summary), "verdict": "unverified"}
        return columns, rows.workers(gang, summary), rows.blocks(summary, start_ns)

    def _stream(
        self, pool: Pool, gang: rows.Gang, measure: MeasureSettings, batch_s: float
    ) -> tuple[int, Summary]:
        """Stream for a warm-up and a window of fixed length, looking on now and then."""
        block_s = min(max(measure.block_s, measure.block_min_batches * batch_s), 4 * measure.block_s)
        longest_s = measure.warmup_max_s + measure.max_s
        expected = int(longest_s / batch_s) if batch_s > 0 else 0
        start_ns = pool.start(list(gang.clocks), longest_s + SLACK_S, int(block_s * 1e9), expected)
        total_s = measure.warmup_min_s + measure.min_s + 2 * block_s
        while True:
            gone_s = (time.perf_counter_ns() - start_ns) / 1e9
            if gone_s >= total_s or pool.wait(min(1.0, max(total_s - gone_s, 0.01))):
                break
            self.view.look(gone_s, total_s, _rate(pool.look(), pool))
        traces = pool.finish()
        summary = summarise(
            traces, int(measure.warmup_min_s * 1e9), int(block_s * 1e9), measure.block_min_batches
        )
        return start_ns, summary
