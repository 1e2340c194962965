"""`raybench run`: measures an experiment and prints its table."""

from __future__ import annotations

import contextlib
import sys
from functools import partial
from typing import TYPE_CHECKING

from raybench import gc_control
from raybench.cli.progress import LiveProgress
from raybench.config.compose import read
from raybench.execute.discovery import discover
from raybench.execute.progress_lines import ProgressLines, describe_run
from raybench.execute.run import close_run, execute, open_run, start_run
from raybench.execute.signals import Signals
from raybench.execute.stop_request import StopRequest
from raybench.report.terminal.console import open_console, print_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from raybench.cluster.session import Session
    from raybench.config.settings import Request
    from raybench.execute.discovery import DiscoveredCluster
    from raybench.execute.events import Listener
    from raybench.execute.run import Run, RunContext


def command(words: list[str]) -> int:
    """Measure every point without a final row and print the table.

    Returns:
        0 when no row is a failure and no point lost its devices, else 1.
    """
    with gc_control.paused():  # until points are measured; what is loaded does not become garbage
        draft = read(words)
        with discover(draft.cluster) as cluster:
            request = draft.resolve(cluster.devices, cluster.unavailable)
            run = measure(request, cluster, words)
        return show_results(run)


def measure(request: Request, cluster: DiscoveredCluster, words: list[str]) -> Run:
    """Plan the request, start Ray where needed, execute the plan, and return the rows.

    Args:
        request: what to measure.
        cluster: the devices.
        words: of the command, kept in the run's manifest.
    """
    console = open_console()
    context = open_run(request, cluster)
    for line in describe_run(context):
        print_line(console, line)
    stop = StopRequest()
    with start_run(context, words) as started, gc_control.frozen():
        _print_dashboard(console, started.session)
        with Signals(stop), _progress(context, console) as on_event:  # after Ray's handlers
            failed = execute(context, started, on_event, stop)
    return close_run(context, failed)


def show_results(run: Run) -> int:
    """Print the table of a run and return the exit code."""
    sys.stdout.write("\n")
    run.print_table()
    return 1 if run.failed else 0


@contextlib.contextmanager
def _progress(context: RunContext, console: Console) -> Iterator[Listener]:
    """Show events as a live display in a terminal that can move its cursor, else as lines."""
    if console.is_terminal and not console.is_dumb_terminal:
        with LiveProgress(context.plan, console) as live:
            yield live.on_event
    else:
        yield ProgressLines(context.plan, partial(print_line, console)).on_event


def _print_dashboard(console: Console, session: Session | None) -> None:
    if session is not None and session.dashboard_url:
        token = "  asks for the token that `ray get-auth-token` prints" * session.asks_for_token
        print_line(console, f"Dashboard  {session.dashboard_url}{token}")
