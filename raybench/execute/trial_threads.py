"""TrialThreads: the gangs that are at work, a thread each, and what they report at their end."""

from __future__ import annotations

import logging
import queue
import threading
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from raybench.cluster import ray_errors
from raybench.errors import NodeDied, PhaseTimeout, PointError, Refused, UsageError, WorkerDied
from raybench.execute.rows import Tables
from raybench.execute.trial import TrialRunner

if TYPE_CHECKING:
    from raybench.config.compose import Request
    from raybench.execute.events import View
    from raybench.execute.workers import Reservation
    from raybench.planning.attempts import Attempt

NODE_VERDICT_S = 18.0
"""Longest wait for Ray to say whether a lost worker's node is lost; its own default takes 14 s."""
SUDDEN_VERDICT_S = 0.5
"""The same for a worker that Ray told the end of at once, or that hung: where its node is gone, Ray
knows already."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FinishedAttempt:
    """What came of a start: rows, or an error."""

    start: Attempt
    tables: Tables
    error: PointError | None
    began: datetime


class TrialThreads:
    """Gangs at work on the seats of a run."""

    def __init__(self, request: Request, view: View, reservation: Reservation) -> None:
        self._request = request
        self._view = view
        self._reservation = reservation
        self._inbox: queue.SimpleQueue[FinishedAttempt | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def begin(self, start: Attempt) -> None:
        """Let a gang work in a thread of its own."""
        thread = threading.Thread(target=self._live, args=(start,), daemon=True)
        self._threads = [other for other in self._threads if other.is_alive()] + [thread]
        thread.start()

    def wait(self) -> FinishedAttempt | None:
        """The next end of a gang; None when `stop` was called."""
        return self._inbox.get()

    def stop(self) -> None:
        """Wake `wait`; may be called by a signal's handler."""
        self._inbox.put(None)

    def end(self, patience_s: float) -> list[FinishedAttempt]:
        """End all gangs; returns what they report within so many seconds."""
        self._reservation.close()
        deadline = time.monotonic() + patience_s
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0.0))
        found = []
        while not self._inbox.empty():
            found.append(self._inbox.get())
        return [ended for ended in found if ended is not None]

    def _live(self, start: Attempt) -> None:
        began = datetime.now(timezone.utc)
        tables, error = Tables({}), None
        try:
            tables = TrialRunner(self._request, self._view, self._reservation, start).measure()
        except BaseException as caught:  # noqa: BLE001 - a point's trouble must not end the grid
            error = _told(caught, start)
        self._inbox.put(FinishedAttempt(start, tables, error, began))


def _told(caught: BaseException, start: Attempt) -> PointError:
    """What the row is to say of whatever ended a gang."""
    if isinstance(caught, PointError):
        return _with_lost_nodes(caught, start)
    if isinstance(caught, UsageError):
        return Refused(str(caught))
    logger.error("A point ended in an error of raybench's own", exc_info=caught)
    return Refused(
        f"raybench itself broke off with {type(caught).__name__}: {caught}. "
        "Please report it with the traceback on the terminal."
    )


def _with_lost_nodes(error: PointError, start: Attempt) -> PointError:
    """What befell workers because their node was lost as NodeDied, struck on its ranks."""
    if not isinstance(error, (WorkerDied, NodeDied, PhaseTimeout)):
        return error
    nodes = [start.slots[rank].node for rank in error.ranks] or [s.node for s in start.slots]
    vague = isinstance(error, NodeDied) or (isinstance(error, WorkerDied) and error.vague)
    lost = ray_errors.lost_nodes(nodes, NODE_VERDICT_S if vague else SUDDEN_VERDICT_S)
    if not lost:
        return error
    hosts = dict.fromkeys(seat.host or seat.node for seat in start.slots if seat.node in lost)
    gone = NodeDied(f"Node {', '.join(hosts)} went away. Look at that machine.")
    gone.ranks = tuple(rank for rank, seat in enumerate(start.slots) if seat.node in lost)
    return gone
