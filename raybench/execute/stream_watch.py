"""Watches the running streams of an attempt and stops them when the stopping rule decides."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from raybench.errors import Refused
from raybench.execute.events import PhaseChanged, ProgressUpdated
from raybench.measure import stopping, telemetry_columns, warmup
from raybench.measure.open_rules import cut_short, open_stop_rule
from raybench.measure.open_summary import any_grew, count_unserved_once, with_arrivals, with_bound
from raybench.measure.output_bits import with_outputs
from raybench.measure.overload import BacklogWatch
from raybench.measure.progress import BlockRates, Completions, TrialProgress, WorkerStatus
from raybench.measure.summary import Summary, summarise_cut
from raybench.measure.worker_blocks import cut_traces

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from raybench.errors import PointError
    from raybench.execute.events import Listener
    from raybench.execute.workers import WorkerGroup, WorkerStream
    from raybench.measure.arrivals import Arrivals
    from raybench.measure.clock import ClockDrift
    from raybench.measure.limits import Limits
    from raybench.measure.running_stream import StreamSnapshot
    from raybench.measure.stream import StreamTrace
    from raybench.planning.attempts import Attempt

RECENT_BLOCKS = 4
"""Blocks that the displayed rate is the mean of."""
SNAPSHOT_S = 1.0
"""Usual time between two snapshots; each takes a millisecond of the worker's core."""
HEARTBEAT_S = 10.0
"""Longest time between two snapshots, also where a block takes longer."""
SHORTEST_WAIT_S = 0.05
"""Time to the next snapshot when the block that a rule waits for is about to end."""
BACKSTOP_S = 120.0
"""A stream that is not stopped ends by itself so long after its longest time."""


@dataclass(frozen=True)
class StreamedTrial:
    """The ended streams of a trial and the decisions of the rules.

    Attributes:
        start_ns: common start on the driver's `perf_counter_ns`.
        traces: of each worker.
        summary: of the traces, with the columns of the telemetry.
        clocks: of each worker, before and after.
        warm_up: how the warm-up ended.
        stop: how the stopping rule ended.
        notes: what else is to be known of the streams, a sentence each.
        overloaded: whether the backlog of an open loop grew.
        ended_by: what ended a soak before its time.
    """

    start_ns: int
    traces: Sequence[StreamTrace]
    summary: Summary
    clocks: Sequence[ClockDrift]
    warm_up: warmup.WarmUp
    stop: stopping.StopDecision
    notes: Sequence[str] = ()
    overloaded: bool = False
    ended_by: PointError | None = None


@dataclass(frozen=True)
class StreamWatch:
    """Runs the streams of a group from their common start to the end that the rules decide.

    Attributes:
        group: prepared workers.
        attempt: that they belong to.
        limits: of warm-up and measurement.
        stall_s: a worker that completes no batch for so long counts as hung.
        on_event: receives phases and progress.
        arrivals: at all workers in open loop; None for a closed loop.
    """

    group: WorkerGroup
    attempt: Attempt
    limits: Limits
    stall_s: float
    on_event: Listener
    arrivals: Arrivals | None = None

    def run(self) -> StreamedTrial:
        """Start the streams, stop them when the rules say so, and summarise them.

        Raises:
            PointError: when a worker fails or hangs, or the streams end before there is a number.
        """
        limits = self.limits
        # a block lies between two completions, and the first may come late
        longest_s = (limits.warmup_max + limits.measure_max + 2) * limits.span_s
        block_ns = round(limits.span_s * 1e9)
        self.on_event(PhaseChanged(self.attempt.planned.number, "warm-up"))
        stream = self.group.start_stream(longest_s + BACKSTOP_S, block_ns, self.arrivals)
        warm_up, stop, early = self._watch(stream, block_ns)
        number = self.attempt.planned.number
        self.on_event(PhaseChanged(number, "measure", "waiting for the last batches"))
        measurements, clocks = stream.finish()
        if warm_up.window_start is None or stop.last is None:
            raise Refused(
                "The streams ended before the warm-up and one check were over: batches are too slow "
                "for this preset. Use a smaller batch_size or a longer measure.max_s."
            )
        traces: Sequence[StreamTrace] = [measurement.trace for measurement in measurements]
        shared = self.arrivals is not None and self.arrivals.shared
        if shared:
            traces = count_unserved_once(traces)
        readings = [measurement.readings for measurement in measurements]
        window = (warm_up.window_start, stop.last.blocks)
        instances = self.attempt.instances
        workers = cut_traces(traces, *window, block_ns, limits.settings.block_min_batches)
        summary = summarise_cut(workers, block_ns, instances)
        overloaded = False
        if self.arrivals is not None:
            overloaded = early or any_grew(workers, shared)
            summary = with_arrivals(summary, workers, self.arrivals, overloaded)
            summary = with_bound(summary, workers, overloaded, limits.settings)
        summary = telemetry_columns.with_hardware(summary, traces, readings, instances)
        summary = with_outputs(summary, [measured.outputs_sha256 for measured in measurements])
        notes = sorted({text for reading in readings for text in reading.failures})
        return StreamedTrial(
            stream.start_ns, traces, summary, clocks, warm_up, stop, notes, overloaded
        )

    @property
    def _longest_wait_s(self) -> float:
        return HEARTBEAT_S

    def _watch(
        self, stream: WorkerStream, block_ns: int
    ) -> tuple[warmup.WarmUp, stopping.StopDecision, bool]:
        """Take snapshots until the rules are done, a stream has ended or the backlog grows."""
        limits, members = self.limits, self.group.members
        batch_size = self.attempt.planned.point.batch_size if self.arrivals is None else 1
        blocks = BlockRates(len(members), batch_size, block_ns)
        completions, backlog = Completions(len(members)), BacklogWatch(len(members))
        warm_up, stop = warmup.WarmUp("not_yet"), stopping.StopDecision()
        while stop.state == "measuring":
            due_s = stopping.due_s(warm_up, stop, limits) - stream.elapsed_s()
            usual_s = min(max(limits.span_s, SNAPSHOT_S), self._longest_wait_s)
            if stream.wait(min(max(due_s, SHORTEST_WAIT_S), usual_s)):
                break
            snapshots = stream.snapshot(self.stall_s)
            now_s = stream.elapsed_s()
            completions.add([seen.done for seen in snapshots], now_s)
            for rank, seen in enumerate(snapshots):
                blocks.add(rank, seen.edges.tolist(), seen.edge_ns.tolist(), seen.temp_c.tolist())
                blocks.add_speeds(rank, [] if seen.speeds is None else seen.speeds.tolist())
            warm_up, stop = self._decide(blocks, warm_up, stop)
            self._note(snapshots, warm_up)
            rates = blocks.rates
            current = TrialProgress(
                now_s, 0.0, None, None, self._worker_status(rates, snapshots),
                *completions.waiting(now_s),
            )  # fmt: skip
            self._report(rates, warm_up, stop, current)
            if self.arrivals is not None and backlog.overloaded(snapshots):
                ended = cut_short(rates.sum(axis=0), limits)
                if ended is not None:
                    return *ended, True
        return warm_up, stop, False

    def _note(self, snapshots: Sequence[StreamSnapshot], warm_up: warmup.WarmUp) -> None:
        """Take notice of new snapshots; a soak keeps what is in them."""

    def _decide(
        self, blocks: BlockRates, warm_up: warmup.WarmUp, stop: stopping.StopDecision
    ) -> tuple[warmup.WarmUp, stopping.StopDecision]:
        """Apply the rules of warm-up and stopping to the blocks so far."""
        limits, rates, is_open = self.limits, blocks.rates, self.arrivals is not None
        if warm_up.window_start is None:
            speeds = blocks.speeds if is_open else rates
            lengths = None if is_open else blocks.lengths  # a wait for arrivals is no stall
            warm_up = warmup.warm_up(speeds, limits, blocks.temperatures_c, lengths, is_open)
        if warm_up.window_start is not None:
            rule = open_stop_rule if is_open else stopping.stop_rule
            stop = rule(stop, rates.sum(axis=0)[warm_up.window_start :], limits)
        return warm_up, stop

    def _worker_status(
        self, rates: NDArray[np.float64], snapshots: Sequence[StreamSnapshot]
    ) -> list[WorkerStatus]:
        has_blocks = bool(rates.shape[1])
        recent = rates[:, -RECENT_BLOCKS:].mean(axis=1) if has_blocks else [None] * len(snapshots)
        return [
            WorkerStatus(
                member.host.hostname,
                slot.place,
                None if rate is None else float(rate),
                seen.latency_ms,
                seen.power_w if slot.part == 0 else None,  # of the device, once
                seen.now_c,
            )
            for member, slot, rate, seen in zip(
                self.group.members, self.attempt.worker_slots, recent, snapshots, strict=True
            )
        ]

    def _report(
        self,
        rates: NDArray[np.float64],
        warm_up: warmup.WarmUp,
        stop: stopping.StopDecision,
        current: TrialProgress,
    ) -> None:
        """Announce the current rate, its precision and how long this phase can still take.

        Args:
            rates: of each worker in each block.
            warm_up: the decision so far.
            stop: the decision so far.
            current: without rate and limit, the time since the common start.
        """
        number, limits = self.attempt.planned.number, self.limits
        totals = rates.sum(axis=0)
        if warm_up.window_start is None:
            self.on_event(PhaseChanged(number, "warm-up"))
            rate = float(totals[-RECENT_BLOCKS:].mean()) if len(totals) else None
            limit_s = max(limits.warmup_max, 1) * limits.span_s
            progress = replace(current, limit_s=limit_s, items_per_s=rate)
            self.on_event(ProgressUpdated(number, progress))
            return
        self.on_event(PhaseChanged(number, "measure"))
        window = totals[warm_up.window_start :]
        relative = stop.last.interval.relative if stop.last else None
        progress = replace(
            current,
            elapsed_s=max(current.elapsed_s - warm_up.window_start * limits.span_s, 0.0),
            limit_s=limits.measure_max * limits.span_s,
            items_per_s=float(window.mean()) if len(window) else None,
            relative=relative,
        )
        self.on_event(ProgressUpdated(number, progress))
