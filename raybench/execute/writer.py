"""The writer: stores rows and delivers events in a thread of its own.

So no device waits for the disk or the display, and a listener sees the row of a trial before the
start of the next, although that has started meanwhile.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from raybench.execute.events import IntervalEnded, RowWritten, Ticked

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from typing_extensions import Self

    from raybench.execute.events import Event, Listener
    from raybench.execute.rows import Tables
    from raybench.execute.stop_request import StopRequest
    from raybench.planning.plan import PlannedTrial
    from raybench.results.store import RunWriter


class _Rows(NamedTuple):
    """The rows of a trial; `row` is that of `trials`."""

    planned: PlannedTrial
    row: Mapping[str, Any]
    tables: Tables


TICK_S = 1.0
"""A listener hears so long after the last event that time has passed."""


class Writer:
    """Writes rows and passes events on, in the order in which they come; leaving the context waits.

    A row is counted and announced once it is on the disk. A row that cannot be written stops the
    run; those after it are still given to the store, which saves them elsewhere.

    Args:
        run: of the store.
        on_event: receives every event and every written row, all from the writer's thread.
        stop: asked to stop the run when a row cannot be written.
        environment_id: of rows that are written before those of their trial.

    Attributes:
        tally: number of rows written, by status.
    """

    def __init__(
        self, run: RunWriter, on_event: Listener, stop: StopRequest, environment_id: str = ""
    ) -> None:
        self.tally: Counter[str] = Counter()
        self._run = run
        self._environment_id = environment_id
        self._on_event = on_event
        self._stop = stop
        self._queue: queue.SimpleQueue[_Rows | Event | None] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._queue.put(None)  # the last item
        with self._stop.held():
            self._thread.join()
        if self._error is not None and error is not self._error:
            raise self._error
        if error is None:
            self._stop.check()

    def put(self, planned: PlannedTrial, row: Mapping[str, Any], tables: Tables) -> None:
        """Queue the rows of a trial; `row` is that of `trials`."""
        self._queue.put(_Rows(planned, row, tables))

    def announce(self, event: Event) -> None:
        """Queue an event behind the rows that were put before it; returns at once."""
        self._queue.put(event)

    def _work(self) -> None:
        while (item := self._next()) is not None:
            self._handle(item)

    def _handle(self, item: _Rows | Event) -> None:
        try:
            if isinstance(item, _Rows):
                self._write(*item)
                return
            if isinstance(item, IntervalEnded):
                self._write_interval(item)
            self._on_event(item)
        except BaseException as error:  # noqa: BLE001 - raised in the run's own thread
            self._error = self._error or error
            self._stop.request(error)

    def _next(self) -> _Rows | Event | None:
        try:
            return self._queue.get(timeout=TICK_S)
        except queue.Empty:
            return Ticked()

    def _write(self, planned: PlannedTrial, row: Mapping[str, Any], tables: Tables) -> None:
        self._run.write_point(
            planned.point.id,
            planned.trial,
            trials=row,
            workers=tables.workers,
            blocks=tables.blocks,
            samples=tables.samples,
            layers=tables.layers,
        )
        self.tally[row["status"]] += 1
        self._on_event(RowWritten(planned, row))

    def _write_interval(self, ended: IntervalEnded) -> None:
        point_id, trial = ended.planned.key
        fixed = {
            "point_id": point_id,
            "trial": trial,
            "environment_id": self._environment_id,
        }
        name = f"{point_id}-t{trial}-i{ended.interval}"
        self._run.write_interval(name, fixed, {"soak": ended.rows, "events": ended.events})
