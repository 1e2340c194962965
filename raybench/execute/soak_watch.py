"""Watches the streams of a soak to their end, and summarises them whatever ended them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from typing_extensions import override

from raybench.errors import EngineFailure, PointError
from raybench.execute.events import PhaseChanged
from raybench.execute.stream_watch import BACKSTOP_S, SNAPSHOT_S, StreamedTrial, StreamWatch
from raybench.measure.output_bits import with_outputs
from raybench.measure.soak_summary import summarise_soak
from raybench.measure.stopping import StopDecision, check_window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.execute.soak_rows import SoakRows
    from raybench.execute.workers import WorkerStream
    from raybench.measure.clock import ClockDrift
    from raybench.measure.running_stream import StreamSnapshot
    from raybench.measure.warmup import WarmUp

LAST_SNAPSHOTS = 30
"""A block comes up to so many seconds after its end, when the sensors have sampled it."""


@dataclass(frozen=True)
class SoakWatch(StreamWatch):
    """Runs the streams of a soak for their time.

    Attributes:
        rows: takes their blocks.
    """

    rows: SoakRows | None = None

    @property
    @override
    def _longest_wait_s(self) -> float:
        return SNAPSHOT_S  # a worker keeps the stamps of what it has not folded yet

    @override
    def run(self) -> StreamedTrial:
        """Start the streams, keep their blocks, and summarise them when they have ended.

        What ended them before their time is in the result, if anything was measured by then.

        Raises:
            PointError: when they end before the first whole block of the window.
        """
        limits, rows, number = self.limits, self._rows, self.attempt.planned.number
        longest_s = (limits.warmup_max + limits.measure_max + 2) * limits.span_s
        self.on_event(PhaseChanged(number, "warm-up"))
        stream = self.group.start_stream(longest_s + BACKSTOP_S, rows.record.block_ns)
        rows.begin(stream.elapsed_s())
        try:
            self._watch(stream, rows.record.block_ns)
            self._await_last_blocks(stream)
            rows.end()
            self.on_event(PhaseChanged(number, "measure", "waiting for the last batches"))
            measurements, clocks = stream.finish()
        except PointError as error:
            rows.end_early(error, stream.elapsed_s())
            try:
                return self._streamed(stream, (), error)
            except EngineFailure:
                raise error from None
        failures = {text for each in measurements for text in each.readings.failures}
        streamed = self._streamed(stream, clocks, notes=sorted(failures))
        ends = [measured.outputs_sha256 for measured in measurements]
        return replace(streamed, summary=with_outputs(streamed.summary, ends))

    @property
    def _rows(self) -> SoakRows:
        assert self.rows is not None
        return self.rows

    @override
    def _note(self, snapshots: Sequence[StreamSnapshot], warm_up: WarmUp) -> None:
        self._rows.add(snapshots)
        if warm_up.window_start is not None:
            self._rows.record.begin_window(warm_up, self.limits.measure_max)

    def _await_last_blocks(self, stream: WorkerStream) -> None:
        """Take snapshots until the last block of the window has come from every worker."""
        for _ in range(LAST_SNAPSHOTS):
            if self._rows.record.is_complete or stream.wait(SNAPSHOT_S):
                break
            self._rows.add(stream.snapshot(self.stall_s))

    def _streamed(
        self,
        stream: WorkerStream,
        clocks: Sequence[ClockDrift],
        ended_by: PointError | None = None,
        notes: Sequence[str] = (),
    ) -> StreamedTrial:
        record = self._rows.record
        summary = summarise_soak(record)
        self._rows.conclude(summary.workers)
        aggregate = np.sum([record.rates(rank) for rank in range(len(record.series))], axis=0)
        check = check_window(aggregate, self.limits.settings)
        return StreamedTrial(
            stream.start_ns,
            (),
            summary,
            clocks,
            record.warm_up,
            StopDecision("time_up", 1, 0, check),
            notes,
            ended_by=ended_by,
        )
