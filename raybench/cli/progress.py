"""The live display of a run in a terminal: what is running, how fast, and the time left."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from rich.live import Live
from typing_extensions import override

from raybench.execute.events import Note, RowWritten, TrialSkipped, TrialStarted
from raybench.execute.progress_lines import ProgressLines, node_lines
from raybench.execute.running_trials import span
from raybench.report.terminal.console import lines_of, print_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console
    from rich.text import Text

    from raybench.execute.events import Event
    from raybench.execute.running_trials import RunningTrial
    from raybench.planning.plan import Plan

MAX_LINES = 24
"""Most lines of the live display; running trials beyond that are not shown."""


class LiveProgress(ProgressLines):
    """Writes lines for finished trials, and below them a live display of the running ones.

    Args:
        plan: of the run.
        console: a terminal.
        clock: returns monotonic seconds.
    """

    heartbeats = False

    def __init__(
        self, plan: Plan, console: Console, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(plan, partial(print_line, console), clock)
        self._left_at = -1, ""
        self._live = Live(console=console, refresh_per_second=2, transient=True)

    def __enter__(self) -> LiveProgress:
        self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.stop()

    @override
    def on_event(self, event: Event) -> None:
        """Update the live display, and write a line for a trial that has ended."""
        if isinstance(event, TrialStarted):
            self._running.on_event(event)  # the display names it
        else:
            super().on_event(event)
        if not isinstance(event, (TrialSkipped, RowWritten, Note)):
            self._live.update(self.shown())

    def shown(self) -> Text:
        """Return the live display: two lines for each running trial, and one for each node."""
        lines: list[str] = []
        # more of them are not shown, and a thousand may run
        running = sorted(self._running.by_number.items())[-MAX_LINES:]
        for number, trial in running:
            lines += self._lines_of(trial, last=number == running[-1][0])
        display = lines_of(lines[-MAX_LINES:], "cyan")
        display.overflow, display.no_wrap = "ellipsis", True
        return display

    def _left(self) -> str:
        """Return the time that is left, computed at most once a second: plans may be long."""
        second = int(self._running.clock())
        if second != self._left_at[0]:
            self._left_at = second, span(self._running.left.left())
        return self._left_at[1]

    def _lines_of(self, trial: RunningTrial, last: bool) -> list[str]:
        left = f"  ({self._left()} left)" if last else ""
        workers = trial.progress.workers if trial.progress else ()
        return [
            self._title(trial.planned),
            f"      {trial.describe(self._running.clock())}{left}",
            *(node_lines(workers) if len(workers) > 1 else ()),
        ]
