"""Gang: the life of one step: gather its workers, prepare, stream, watch, sum up."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from raybench.errors import PointError, Refused
from raybench.execute import rows
from raybench.measure import stopping, telemetry_columns
from raybench.measure.progress import Glance, Pulse, Watch
from raybench.measure.summary import Summary, summarise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.config.compose import Request
    from raybench.engines.base import Layer
    from raybench.execute.events import View
    from raybench.execute.workers import Reservation, WorkerGroup
    from raybench.experiment import Experiment
    from raybench.measure.clock import Watched
    from raybench.measure.stopping import Limits
    from raybench.measure.stream import Trace
    from raybench.planning.attempts import Attempt
    from raybench.planning.plan import PlannedTrial
    from raybench.stats.intervals import Floats
    from raybench.worker import Look, Prepared

RECENT_BLOCKS = 4
"""Blocks that a running rate is the mean of."""
LOOK_S = 1.0
"""Usual time between two looks; each takes a millisecond of the worker's core."""
SOON_S = 0.05
"""Time to the next look when the block that a rule waits for is about to end."""
SLACK_S = 120.0
"""How far past its longest time a stream may go before its own backstop ends it."""
STALL_BATCHES = 20.0
"""A worker may take so many times a batch's usual time before it counts as hung."""


@dataclass(frozen=True)
class Streamed:
    """One trial's streams, ended: when they began, what they saw, how the rules went."""

    start_ns: int
    traces: Sequence[Trace]
    clocks: Sequence[Watched]
    summary: Summary
    warm: stopping.WarmUp
    stop: stopping.Stop


@dataclass(frozen=True)
class TrialRunner:
    """Measures one step on the seats that it was given; a failure is a PointError."""

    request: Request
    view: View
    reservation: Reservation
    start: Attempt

    def measure(self) -> rows.Tables:
        """All rows of the step; none when it is not to be measured."""
        step, cluster = self.start.planned, self.request.cluster
        experiment = self.request.experiment
        kept = f"{step.trial}/{step.point.engine}" if cluster.processes == "kept" else ""
        try:
            self._phase("start")
            label = _label(experiment, step)
            pool = self.reservation.start_workers(
                self.start.slots, step.point, label, kept, cluster.start_timeout_s
            )
            self._phase("prepare")
            if step.purpose == "prepare":
                others = {seat.node for seat in step.allowed_slots}
                pool.build(experiment.seed, cluster.prepare_timeout_s, others)
                return rows.Tables({})
            prepared = pool.prepare(experiment.seed, cluster.prepare_timeout_s, self._sharers())
            if step.purpose != "measure":
                return rows.Tables({})
            limits = stopping.limits(step.point.measure, max(p.batch_s for p in prepared))
            streamed = self._stream(pool, prepared, limits)
            gang = rows.TrialWorkers(pool.members, prepared, streamed.clocks)
            layers = self._layers(pool)
            pool.release()
            if kept:
                self.reservation.park(self.start.slots, kept)
        except BaseException:
            kept = ""
            raise
        finally:
            if not kept or step.purpose != "measure":
                self.reservation.stop(self.start.slots)
        return rows.Tables(
            trial={
                **rows.loaded(gang),
                **rows.measured(gang, streamed.summary),
                **_judged(streamed, limits, experiment.trials, gang),
                "fresh_processes": pool.fresh,
            },
            workers=rows.workers(gang, streamed.summary),
            blocks=rows.blocks(streamed.summary, streamed.start_ns),
            samples=rows.samples(streamed.traces) if self.request.results.samples == "all" else (),
            layers=rows.layers(layers),
        )

    def _sharers(self) -> Counter[str]:
        """How many workers share the memory of a node: those of other points count as well."""
        alone = self.request.cluster.isolation != "gpu"
        return Counter(
            seat.node for seat in (self.start.slots if alone else self.reservation.slots)
        )

    def _phase(self, name: str) -> None:
        self.view.phase(self.start.planned.number, name)

    def _layers(self, pool: WorkerGroup) -> Sequence[Layer]:
        """Each layer's time when asked for; a profile that fails takes nothing from the row."""
        if not self.request.results.layers:
            return ()
        self._phase("layers")
        with contextlib.suppress(PointError):
            return pool.layers(self.request.cluster.prepare_timeout_s)
        return ()

    def _stream(self, pool: WorkerGroup, prepared: Sequence[Prepared], limits: Limits) -> Streamed:
        """Let all workers stream; look on, and halt them when the rules say so."""
        settings = limits.settings
        longest_s = (limits.warmup_max + limits.measure_max) * limits.span_s
        block_ns = int(limits.block_s * 1e9)
        slowest_s = max(each.batch_s for each in prepared)
        stall_s = max(self.request.cluster.stall_timeout_s, STALL_BATCHES * slowest_s)
        watch = Watch(len(pool.members), self.start.planned.point.batch_size)
        warm, stop = stopping.WarmUp("not_yet"), stopping.Stop()
        stream = pool.start_stream(longest_s + SLACK_S, block_ns)
        while stop.state == "measuring":
            left_s = stopping.due_s(warm, stop, limits) - stream.elapsed_s()
            if stream.wait(min(max(left_s, SOON_S), max(limits.span_s, LOOK_S))):
                break
            looks = stream.snapshot(stall_s)
            for rank, seen in enumerate(looks):
                watch.add(rank, seen.edges.tolist(), seen.edge_ns.tolist(), seen.temp_c.tolist())
            rates = watch.rates
            if warm.w0 is None:
                warm = stopping.warm_up(rates, limits, watch.temperatures_c)
            if warm.w0 is not None:
                stop = stopping.stop_rule(stop, rates.sum(axis=0)[warm.w0 :], limits)
            self._tell(rates, warm, stop, limits, self._pulses(pool, rates, looks))
        measured, clocks = stream.finish()
        traces = [measurement.trace for measurement in measured]
        if warm.w0 is None or stop.last is None:
            raise Refused(
                "The streams ended before the warm-up and one look were over: batches are too slow "
                "for this preset. Use a smaller batch_size or a longer measure.max_s."
            )
        summary = summarise(traces, warm.w0, stop.last.blocks, block_ns, settings.block_min_batches)
        summary = telemetry_columns.with_hardware(
            summary, traces, [each.readings for each in measured]
        )
        return Streamed(stream.start_ns, traces, clocks, summary, warm, stop)

    def _pulses(self, pool: WorkerGroup, rates: Floats, looks: Sequence[Look]) -> list[Pulse]:
        recent = rates[:, -RECENT_BLOCKS:].mean(axis=1) if rates.shape[1] else [None] * len(looks)
        return [
            Pulse(
                member.host.hostname,
                seat.device,
                None if rate is None else float(rate),
                look.latency_ms,
                look.power_w,
                look.now_c,
            )
            for member, seat, rate, look in zip(
                pool.members, self.start.slots, recent, looks, strict=True
            )
        ]

    def _tell(
        self,
        rates: Floats,
        warm: stopping.WarmUp,
        stop: stopping.Stop,
        limits: Limits,
        pulses: Sequence[Pulse],
    ) -> None:
        """Show the running rate, its precision and how long this can still take."""
        blocks = rates.shape[1]
        if warm.w0 is None:
            self._phase("warm-up")
            mean = float(rates.sum(axis=0)[-RECENT_BLOCKS:].mean()) if blocks else None
            most_s = limits.warmup_max * limits.span_s
            glance = Glance(blocks * limits.span_s, most_s, mean, None, pulses)
            self.view.look(self.start.planned.number, glance)
            return
        self._phase("measure")
        window = rates.sum(axis=0)[warm.w0 :]
        if len(window):
            relative = stop.last.interval.relative if stop.last else None
            gone_s, most_s = (n * limits.span_s for n in (len(window), limits.measure_max))
            glance = Glance(gone_s, most_s, float(window.mean()), relative, pulses)
            self.view.look(self.start.planned.number, glance)


def _judged(
    streamed: Streamed, limits: Limits, trials: int, gang: rows.TrialWorkers
) -> dict[str, Any]:
    """What the rules make of a trial, as columns of `trials`."""
    assert streamed.stop.last is not None
    columns = {**rows.loaded(gang), **streamed.summary.trial}
    kind = gang.prepared[0].device.kind
    evidence = stopping.evidence(streamed.warm, streamed.stop.last, trials, columns, kind)
    evidence = replace(evidence, uneven=gang.uneven)
    raised = stopping.flags(evidence)
    return {
        "verdict": stopping.verdict(raised, limits.settings.verdict_best),
        "flags": list(raised),
        "advice": stopping.advice(raised, evidence, limits),
        "warmup_converged": streamed.warm.state == "agreed",
        "looks": streamed.stop.looks,
    }


def _label(experiment: Experiment, step: PlannedTrial) -> str:
    """Name of a step in Ray's dashboard."""
    point = step.point
    model = point.model.rsplit("/", 1)[-1]
    return f"{experiment.name}/{model}/{point.precision}/b{point.batch_size}/w{point.workers}/t{step.trial}"
