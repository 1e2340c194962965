"""Driver: every step of the plan, one after another: gather, measure, summarise, store."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from raybench import row as rows
from raybench.cluster import pool as pools
from raybench.engines import registry
from raybench.errors import ClusterError, EngineFailure, EngineUnavailable, PointError, UsageError
from raybench.experiment import expand
from raybench.measure import hardware, rules
from raybench.measure.clock import watched
from raybench.measure.summary import Summary, summarise
from raybench.measure.watch import Watch
from raybench.models import source
from raybench.schedule import Plan, Step, plan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from raybench.cluster.pool import Pool
    from raybench.config import Request
    from raybench.engines.base import Layer
    from raybench.experiment import Experiment
    from raybench.measure.clock import Clock
    from raybench.measure.rules import Limits
    from raybench.measure.stream import Trace
    from raybench.report.progress import View
    from raybench.results.store import Run
    from raybench.statistics import Floats
    from raybench.worker import Prepared

LOOK_S = 0.5
"""Usual time between two looks."""
SOON_S = 0.05
"""Time to the next look when the block that a rule waits for is about to end."""
SLACK_S = 120.0
"""How far past its longest time a stream may go before its own backstop ends it."""


def make_plan(request: Request, there_is: str) -> Plan:
    """The plan of a request, after everything that can be refused has been.

    Args:
        request: complete.
        there_is: the devices in words, for a refusal.

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
            f"{there_is}."
        )
    return made


@dataclass(frozen=True)
class Streamed:
    """One trial's streams, ended: when they began, what they saw, how the rules went."""

    start_ns: int
    traces: Sequence[Trace]
    summary: Summary
    warm: rules.WarmUp
    stop: rules.Stop


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
            trial = {**self._now(), "status": "infeasible", "reason": reason}
            self._write(step, rows.Tables(trial), tally)
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

    def _write(self, step: Step, tables: rows.Tables, tally: dict[str, int]) -> None:
        row = {**rows.identity(self._experiment, step, self.environment_id), **tables.trial}
        self.run.write_point(
            step.point.id,
            step.trial,
            trials=row,
            workers=tables.workers,
            blocks=tables.blocks,
            samples=tables.samples,
            layers=tables.layers,
        )
        tally[row["status"]] = tally.get(row["status"], 0) + 1
        self.view.row(row)

    def _step(self, step: Step, tally: dict[str, int]) -> None:
        began = datetime.now(timezone.utc)
        tables, error = rows.Tables({}), None
        try:
            tables = self._measure(step)
        except PointError as caught:
            error = caught
        except UsageError as caught:
            error = EngineFailure(str(caught))
        outcome = rows.outcome(began, datetime.now(timezone.utc), error)
        self._write(step, replace(tables, trial={**tables.trial, **outcome}), tally)

    def _measure(self, step: Step) -> rows.Tables:
        point, cluster = step.point, self.request.cluster
        self.view.phase("start")
        with pools.gather(point, _label(self._experiment, step), cluster.start_timeout_s) as pool:
            self.view.phase("prepare")
            prepared = pool.prepare(self._experiment.seed, cluster.prepare_timeout_s)
            limits = rules.limits(point.measure, max(p.batch_s for p in prepared))
            before = pool.clocks()
            streamed = self._stream(pool, prepared, before, limits)
            gang = rows.Gang(pool.members, prepared, watched(before, pool.clocks()))
            layers = self._layers(pool)
            pool.release()
        return rows.Tables(
            trial={
                **rows.loaded(gang),
                **rows.measured(gang, streamed.summary),
                **_judged(streamed, limits, self._experiment.trials, gang),
            },
            workers=rows.workers(gang, streamed.summary),
            blocks=rows.blocks(streamed.summary, streamed.start_ns),
            samples=rows.samples(streamed.traces) if self.request.results.samples == "all" else (),
            layers=rows.layers(layers),
        )

    def _layers(self, pool: Pool) -> tuple[Layer, ...]:
        """Each layer's time when asked for; a profile that fails takes nothing from the row."""
        if not self.request.results.layers:
            return ()
        self.view.phase("layers")
        with contextlib.suppress(PointError):
            return pool.layers(self.request.cluster.prepare_timeout_s)
        return ()

    def _stream(
        self, pool: Pool, prepared: Sequence[Prepared], clocks: Sequence[Clock], limits: Limits
    ) -> Streamed:
        """Let all workers stream; look on, and halt them when the rules say so."""
        settings = limits.settings
        batch_s = min(each.batch_s for each in prepared)
        longest_s = (limits.warmup_max + limits.measure_max) * limits.span_s
        expected = int(longest_s / batch_s) if batch_s > 0 else 0
        block_ns = int(limits.block_s * 1e9)
        start_ns = pool.start(clocks, longest_s + SLACK_S, block_ns, expected)
        watch = Watch(len(pool.members), pool.point.batch_size)
        warm, stop = rules.WarmUp("not_yet"), rules.Stop()
        while stop.state == "measuring":
            left_s = rules.due_s(warm, stop, limits) - (time.perf_counter_ns() - start_ns) / 1e9
            if pool.wait(min(max(left_s, SOON_S), max(limits.span_s, LOOK_S))):
                break
            for rank, seen in enumerate(pool.look()):
                watch.add(rank, seen.edges.tolist(), seen.edge_ns.tolist(), seen.temp_c.tolist())
            rates = watch.rates
            if warm.w0 is None:
                warm = rules.warm_up(rates, limits, watch.temperatures_c)
            if warm.w0 is not None:
                stop = rules.stop_rule(stop, rates.sum(axis=0)[warm.w0 :], limits)
            self._tell(rates, warm, stop, limits)
        measured = pool.finish()
        traces = [measurement.trace for measurement in measured]
        if warm.w0 is None or stop.last is None:
            raise EngineFailure(
                "The streams ended before the warm-up and one look were over: batches are too slow "
                "for this preset. Use a smaller batch_size or a longer measure.max_s."
            )
        summary = summarise(traces, warm.w0, stop.last.blocks, block_ns, settings.block_min_batches)
        summary = hardware.with_hardware(summary, traces, [each.readings for each in measured])
        return Streamed(start_ns, traces, summary, warm, stop)

    def _tell(self, rates: Floats, warm: rules.WarmUp, stop: rules.Stop, limits: Limits) -> None:
        """Show the running rate, its precision and how long this can still take."""
        blocks = rates.shape[1]
        if warm.w0 is None:
            self.view.phase("warm-up")
            mean = float(rates.sum(axis=0)[-4:].mean()) if blocks else None
            self.view.look(blocks * limits.span_s, limits.warmup_max * limits.span_s, mean, None)
            return
        self.view.phase("measure")
        window = rates.sum(axis=0)[warm.w0 :]
        if len(window):
            relative = stop.last.interval.relative if stop.last else None
            longest_s = limits.measure_max * limits.span_s
            self.view.look(len(window) * limits.span_s, longest_s, float(window.mean()), relative)


def _judged(streamed: Streamed, limits: Limits, trials: int, gang: rows.Gang) -> dict[str, Any]:
    """What the rules make of a trial, as columns of `trials`."""
    assert streamed.stop.last is not None
    columns = {**rows.loaded(gang), **streamed.summary.trial}
    kind = gang.prepared[0].device.kind
    evidence = rules.evidence(streamed.warm, streamed.stop.last, trials, columns, kind)
    raised = rules.flags(evidence)
    return {
        "verdict": rules.verdict(raised, limits.settings.verdict_best),
        "flags": list(raised),
        "advice": rules.advice(raised, evidence, limits),
        "warmup_converged": streamed.warm.state == "agreed",
        "looks": streamed.stop.looks,
    }


def _label(experiment: Experiment, step: Step) -> str:
    """Name of a step in Ray's dashboard."""
    point = step.point
    model = point.model.rsplit("/", 1)[-1]
    return f"{experiment.name}/{model}/{point.precision}/b{point.batch_size}/w{point.workers}/t{step.trial}"
