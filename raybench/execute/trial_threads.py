"""The threads of a run: each attempt runs in one, and its end is reported in a queue."""

from __future__ import annotations

import logging
import queue
import threading
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from raybench.errors import NodeDied, PhaseTimeout, PointError, Refused, UsageError, WorkerDied
from raybench.execute.recorder import FinishedAttempt
from raybench.execute.rows import Tables
from raybench.execute.stop_request import StopRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from raybench.execute.workers import Reservation
    from raybench.planning.attempts import Attempt

UNCLEAR_DEATH_S = 18.0
"""Longest wait for Ray to say whether a lost worker's node is dead; by default it takes 14 s."""
CLEAR_DEATH_S = 0.5
"""The same for a worker that hung or whose end Ray reported at once: if its node were dead, Ray
would know already."""

logger = logging.getLogger(__name__)


class TrialThreads:
    """Runs attempts in threads.

    Args:
        run_attempt: runs one attempt and returns its rows.
        reservation: whose workers the attempts use.
        stop: wakes `wait`.
    """

    def __init__(
        self,
        run_attempt: Callable[[Attempt], Tables],
        reservation: Reservation,
        stop: StopRequest,
    ) -> None:
        self._run_attempt = run_attempt
        self._reservation = reservation
        self._inbox: queue.SimpleQueue[FinishedAttempt | StopRequest] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        stop.listen(lambda: self._inbox.put(stop))

    def start(self, attempt: Attempt) -> None:
        """Run an attempt in a thread of its own."""
        thread = threading.Thread(target=self._run, args=(attempt,), daemon=True)
        self._threads = [other for other in self._threads if other.is_alive()] + [thread]
        thread.start()

    def wait(self) -> FinishedAttempt:
        """Return the next attempt that ends.

        Raises:
            BaseException: the reason of the stop request, when there is one.
        """
        item = self._inbox.get()
        while isinstance(item, StopRequest):
            item.check()
            item = self._inbox.get()
        return item

    def shut_down(self, timeout_s: float) -> list[FinishedAttempt]:
        """Stop all workers; return the attempts that end within the timeout."""
        self._reservation.close()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0.0))
        items = []
        while not self._inbox.empty():
            items.append(self._inbox.get())
        return [item for item in items if isinstance(item, FinishedAttempt)]

    def _run(self, attempt: Attempt) -> None:
        started_at = datetime.now(timezone.utc)
        tables, error = Tables({}), None
        try:
            tables = self._run_attempt(attempt)
            if tables.ended_by is not None:
                error = self._to_point_error(tables.ended_by, attempt)
                error.retried = False  # when and how it ended is what a soak has found
        except BaseException as caught:  # noqa: BLE001 - one failing point must not end the grid
            error = self._to_point_error(caught, attempt)
        self._inbox.put(FinishedAttempt(attempt, tables, error, started_at))

    def _to_point_error(self, caught: BaseException, attempt: Attempt) -> PointError:
        """Convert any exception from an attempt into the PointError of its row."""
        if isinstance(caught, (WorkerDied, NodeDied, PhaseTimeout)):
            return self._blame_dead_nodes(caught, attempt)
        if isinstance(caught, PointError):
            return caught
        if isinstance(caught, UsageError):
            return Refused(str(caught))
        logger.error("A point ended in an error of raybench's own", exc_info=caught)
        return Refused(
            f"raybench failed with an internal error: {type(caught).__name__}: {caught}. "
            "Please report it with the traceback on the terminal."
        )

    def _blame_dead_nodes(
        self, error: WorkerDied | NodeDied | PhaseTimeout, attempt: Attempt
    ) -> PointError:
        """Return NodeDied in place of an error of workers whose node is dead."""
        slots = attempt.worker_slots
        nodes = [slots[rank].node for rank in error.ranks] or [slot.node for slot in slots]
        unclear = isinstance(error, NodeDied) or (
            isinstance(error, WorkerDied) and error.node_unclear
        )
        timeout_s = UNCLEAR_DEATH_S if unclear else CLEAR_DEATH_S
        dead = self._reservation.lost_nodes(nodes, timeout_s)
        if not dead:
            return error
        hosts = dict.fromkeys(slot.host or slot.node for slot in slots if slot.node in dead)
        died = NodeDied(f"Node {', '.join(hosts)} went away. Look at that machine.")
        died.ranks = tuple(rank for rank, slot in enumerate(slots) if slot.node in dead)
        return died
