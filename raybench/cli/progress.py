"""The live display of a run in a terminal: what is running, how fast, and the time left."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.live import Live
from typing_extensions import override

from raybench.execute.events import (
    AttemptEnded,
    PhaseChanged,
    ProgressUpdated,
    RowWritten,
    TrialSkipped,
    TrialStarted,
)
from raybench.execute.progress_lines import ProgressLines, duration, node_lines
from raybench.report.terminal.console import lines_of, print_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console
    from rich.text import Text

    from raybench.execute.events import Event
    from raybench.planning.plan import Plan

MAX_LINES = 24
"""Most lines of the live display; running trials beyond that are not shown."""


@dataclass
class _RunningTrial:
    """What is shown of a running trial."""

    title: str
    phase: str = ""
    detail: str = ""
    nodes: list[str] = field(default_factory=list)


class LiveProgress(ProgressLines):
    """Writes lines for finished trials, and below them a live display of the running ones.

    Args:
        plan: of the run; its least time is the first estimate of the time left.
        console: a terminal.
    """

    def __init__(self, plan: Plan, console: Console) -> None:
        def write_line(line: str) -> None:
            print_line(console, line)

        super().__init__(plan, write_line)
        self._live = Live(console=console, refresh_per_second=2, transient=True)
        self._running: dict[int, _RunningTrial] = {}
        self._missing = len(plan.trials)
        self._left_s = plan.shortest_s
        self._began = self._estimated = time.monotonic()
        self._finished = 0

    def __enter__(self) -> LiveProgress:
        self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.stop()

    @override
    def on_event(self, event: Event) -> None:
        """Update the live display, and write a line for a trial that has ended."""
        if isinstance(event, TrialStarted):
            self._running[event.planned.number] = _RunningTrial(self._title(event.planned))
        elif isinstance(event, PhaseChanged):
            self._enter(event)
        elif isinstance(event, ProgressUpdated):
            self._show_progress(event)
        else:
            if isinstance(event, TrialSkipped):
                self._missing -= 1  # it takes no time
            elif isinstance(event, AttemptEnded):
                self._running.pop(event.planned.number, None)
            elif isinstance(event, RowWritten):
                self._end(event.number, event.row)
            super().on_event(event)
            return
        self._show()

    def _enter(self, event: PhaseChanged) -> None:
        running = self._running.get(event.number)
        if running is not None:
            running.phase, running.detail = event.phase, ""

    def _show_progress(self, event: ProgressUpdated) -> None:
        """Show the current rate and how narrow its interval is."""
        running, progress = self._running.get(event.number), event.progress
        if running is None:
            return
        rate = f"{progress.items_per_s:,.0f} items/s" if progress.items_per_s else ""
        relative = progress.relative
        interval = f" ± {100 * relative:.1f} %" if relative is not None and relative < 1 else ""
        running.detail = (
            f"{progress.elapsed_s:.0f} of at most {progress.limit_s:.0f} s  {rate}{interval}"
        )
        running.nodes = node_lines(progress.workers) if len(progress.workers) > 1 else []

    def _end(self, number: int, row: Mapping[str, Any]) -> None:
        """Forget a trial that has ended; estimate the time left from the pace so far."""
        self._running.pop(number, None)
        if row["status"] != "infeasible":
            self._finished += 1
            self._missing -= 1
            self._estimated = time.monotonic()
            self._left_s = (self._estimated - self._began) / self._finished * self._missing

    def _show(self) -> None:
        self._live.update(self.shown())

    def shown(self) -> Text:
        """Return the live display: two lines for each running trial, and one for each node."""
        left = max(self._left_s - (time.monotonic() - self._estimated), 0)
        lines: list[str] = []
        running = sorted(self._running.items())  # a copy: rows come from another thread
        for number, shown in running:
            last = number == running[-1][0]
            lines += [
                shown.title,
                f"      {shown.phase} {shown.detail}"
                + (f"  (about {duration(left)} left)" if last else ""),
                *shown.nodes,
            ]
        display = lines_of(lines[-MAX_LINES:], "cyan")
        display.overflow, display.no_wrap = "ellipsis", True
        return display
