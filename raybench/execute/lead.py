"""Leads a request from its words to its rows: the command line and Python do the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from raybench import gc_control
from raybench.config.compose import read
from raybench.execute.discovery import discover
from raybench.execute.finished_run import close_run
from raybench.execute.progress_lines import describe_run
from raybench.execute.run import execute, open_run, start_run
from raybench.execute.time_spent import TimeSpent

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from raybench.cluster.session import Session
    from raybench.config.layers import Given
    from raybench.config.settings import Request
    from raybench.execute.discovery import DiscoveredCluster
    from raybench.execute.events import Event, Listener
    from raybench.execute.finished_run import Run
    from raybench.execute.stop_request import StopRequest
    from raybench.planning.plan import Plan


class Display(Protocol):
    """Where a run shows what it does."""

    def line(self, text: str) -> None:
        """Show a line."""

    def progress(self, plan: Plan) -> AbstractContextManager[Listener]:
        """Show the events of a run of this plan, while entered."""


def lead(
    given: Sequence[Given], command: Sequence[str], display: Display, stop: StopRequest
) -> Run:
    """Plan a request, start Ray where needed, measure what has no row, and return the rows.

    Args:
        given: settings.
        command: words of a command line that says the same, kept in the run's manifest.
        display: shows what happens.
        stop: asks the run to stop.

    Raises:
        UsageError: the request cannot be carried out.
        KeyboardInterrupt: when the run was asked to stop; its rows are kept.
    """
    draft = read(given)
    with discover(draft.cluster) as cluster:
        request = draft.resolve(cluster.devices, cluster.unavailable)
        return measure(request, cluster, command, display, stop)


def measure(
    request: Request,
    cluster: DiscoveredCluster,
    command: Sequence[str],
    display: Display,
    stop: StopRequest,
) -> Run:
    """Do the same on devices that have been found; raises as `lead`."""
    spent = TimeSpent()
    with open_run(request, cluster) as context:
        for line in describe_run(context):
            display.line(line)
        spent.starting_ray()
        with start_run(context, command, stop) as started, gc_control.frozen():
            if (dashboard := _dashboard(started.session, request.cluster.dashboard)) is not None:
                display.line(dashboard)
            with display.progress(context.plan) as on_event:

                def listen(event: Event) -> None:
                    spent.on_event(event)
                    on_event(event)

                failed = execute(context, started, listen, stop)
        if context.missing:
            display.line(spent.line())
        return close_run(context, failed)


def _dashboard(session: Session | None, wanted: bool) -> str | None:
    """Return a line with the address of the dashboard, or why there is none though it was asked for."""
    if session is None or (not session.dashboard_url and (session.attached or not wanted)):
        return None
    if not session.dashboard_url:
        return "Dashboard  none: Ray lacks the packages for it (pip install 'ray[default]')."
    token = "  asks for the token that `ray get-auth-token` prints" * session.asks_for_token
    return f"Dashboard  {session.dashboard_url}{token}"
