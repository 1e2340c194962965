"""What is known of the trials that run: phase, step, progress and the time that is left."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raybench.execute.events import (
    AttemptEnded,
    BatchTimed,
    PhaseChanged,
    ProgressUpdated,
    RowWritten,
    SearchesAdvanced,
    TrialSkipped,
    TrialStarted,
)
from raybench.planning.estimates import LONG_BATCH_S, TimeLeft

if TYPE_CHECKING:
    from collections.abc import Callable

    from raybench.execute.events import Event
    from raybench.measure.progress import TrialProgress
    from raybench.planning.estimates import TimeRange
    from raybench.planning.plan import Plan, PlannedTrial

_STREAMING = ("warm-up", "measure")


@dataclass
class RunningTrial:
    """A trial that runs.

    Attributes:
        planned: the trial.
        began_s: when it started, on the clock of `RunningTrials`.
        entered_s: when it entered its phase or step.
        phase: start, prepare, warm-up, measure or layers.
        step: what its workers do in the phase; empty where unknown.
        detail: how far they are with it; empty where unknown.
        progress: of its streams; None before the first.
        batch_s: time of a batch; None before it is known.
    """

    planned: PlannedTrial
    began_s: float
    entered_s: float
    phase: str = "start"
    step: str = ""
    detail: str = ""
    progress: TrialProgress | None = None
    batch_s: float | None = None

    @property
    def is_slow(self) -> bool:
        """Whether nothing but time passes: no stream yet, or a batch of seconds."""
        return self.phase not in _STREAMING or (self.batch_s or 0.0) > LONG_BATCH_S

    def describe(self, now_s: float) -> str:
        """Say what the trial does now."""
        progress = self.progress
        if self.phase not in _STREAMING or progress is None:
            doing = f"{self.phase}: {self.step}" if self.step else self.phase
            seconds = now_s - self.entered_s
            since = f" for {duration(seconds)}" if seconds >= 1 else ""
            return doing + since + (f" ({self.detail})" if self.detail else "")
        limit_s = max(progress.limit_s, progress.elapsed_s)  # the last block may end later
        text = f"{self.phase} {progress.elapsed_s:.0f} of at most {limit_s:.0f} s"
        if progress.items_per_s:
            text += f"  {items_per_s(progress.items_per_s, 0)} items/s"
        if progress.relative is not None and progress.relative < 1:
            text += f" ± {100 * progress.relative:.1f} %"
        if progress.waiting_s > LONG_BATCH_S:
            batch = "first batch" if not progress.batches else f"batch {progress.batches + 1}"
            text += f"  {batch} running for {duration(progress.waiting_s)}"
        return text


class RunningTrials:
    """Keeps what is known of the trials that run up to date with the events of the run.

    Args:
        plan: of the run.
        clock: returns monotonic seconds.

    Attributes:
        by_number: the trials that run, by their number in the plan.
        left: estimates of the time that is left.
        clock: as given.
    """

    def __init__(self, plan: Plan, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.left = TimeLeft(plan, clock)
        self.by_number: dict[int, RunningTrial] = {}

    def on_event(self, event: Event) -> None:
        """Note what an event says."""
        if isinstance(event, TrialStarted):
            now = self.clock()
            self.by_number[event.planned.number] = RunningTrial(event.planned, now, now)
            self.left.started(event.planned)
        elif isinstance(event, BatchTimed):
            self._time_batch(event)
        elif isinstance(event, PhaseChanged):
            self._enter(event)
        elif isinstance(event, ProgressUpdated):
            if event.number in self.by_number:
                self.by_number[event.number].progress = event.progress
        elif isinstance(event, AttemptEnded):
            self.by_number.pop(event.planned.number, None)
            self.left.attempt_ended(event.planned)
        elif isinstance(event, TrialSkipped):
            self.left.decided(event.planned, measured=False)
        elif isinstance(event, RowWritten):
            self.left.decided(event.planned, event.row["status"] == "ok")
        elif isinstance(event, SearchesAdvanced):
            self.left.searches_advanced(event.ahead)

    def _time_batch(self, event: BatchTimed) -> None:
        running = self.by_number.get(event.planned.number)
        if running is not None:
            running.batch_s = event.batch_s
        self.left.batch_timed(event.planned, event.batch_s)

    def _enter(self, event: PhaseChanged) -> None:
        running = self.by_number.get(event.number)
        if running is None:
            return
        running.detail = event.detail
        if (event.phase, event.step) != (running.phase, running.step):
            running.phase, running.step = event.phase, event.step
            running.entered_s = self.clock()
            running.progress = None


def duration(seconds: float) -> str:
    """Convert seconds to "42 s", "3 min 05 s" or "2 h 10 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def items_per_s(rate: float, places: int = 1) -> str:
    """Write a rate with some decimals; one below 10, as of a slow model, with three digits."""
    return f"{rate:,.{places}f}" if rate >= 10 else f"{rate:.3g}"


def span(time_range: TimeRange) -> str:
    """Write a range of time: "about 40 s" where its ends are near, else "6 s to 2 min 00 s"."""
    shortest, longest = duration(time_range.shortest_s), duration(time_range.longest_s)
    near = time_range.longest_s <= 1.25 * time_range.shortest_s or shortest == longest
    return f"about {longest}" if near else f"{shortest} to {longest}"
