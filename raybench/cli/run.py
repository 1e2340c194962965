"""`raybench run`: measures an experiment and prints its table."""

from __future__ import annotations

import contextlib
import sys
from functools import partial
from typing import TYPE_CHECKING

from raybench import gc_control
from raybench.cli.progress import LiveProgress
from raybench.execute.lead import lead
from raybench.execute.progress_lines import ProgressLines
from raybench.execute.signals import Signals
from raybench.report.terminal.console import open_console, print_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from raybench.execute.events import Listener
    from raybench.execute.finished_run import Run
    from raybench.planning.plan import Plan


def command(words: list[str]) -> int:
    """Measure every point without a final row and print the table.

    Returns:
        0 when every point has a row and none is a failure, else 1.
    """
    with gc_control.paused():  # until points are measured; what is loaded does not become garbage
        stop = Signals.stop_of_command()
        run = lead(words, words, TerminalDisplay(), stop)
        stop.check()
        return show_results(run)


class TerminalDisplay:
    """Shows a run on the standard output, live in a terminal and else in lines."""

    def __init__(self) -> None:
        self._console = open_console()

    def line(self, text: str) -> None:
        """Print a line."""
        print_line(self._console, text)

    @contextlib.contextmanager
    def progress(self, plan: Plan) -> Iterator[Listener]:
        """Show events as a live display in a terminal that can move its cursor, else as lines."""
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            with LiveProgress(plan, self._console) as live:
                yield live.on_event
        else:
            yield ProgressLines(plan, partial(print_line, self._console)).on_event


def show_results(run: Run) -> int:
    """Print the table of a run and return the exit code."""
    sys.stdout.write("\n")
    run.print_table()
    for sentence in run.elsewhere:
        print_line(open_console(), sentence)
    return 1 if run.failed else 0
