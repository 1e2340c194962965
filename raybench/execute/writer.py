"""The writer: stores rows in a thread of its own, so that no device waits for the disk."""

from __future__ import annotations

import queue
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

from raybench.execute.events import RowWritten

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from typing_extensions import Self

    from raybench.execute.events import Listener
    from raybench.execute.rows import Tables
    from raybench.execute.stop_request import StopRequest
    from raybench.planning.plan import PlannedTrial
    from raybench.results.store import RunWriter


class Writer:
    """Writes the rows of a run in the order in which they are put; leaving the context waits.

    A row is counted and announced once it is on the disk. A row that cannot be written stops the
    run; those after it are still given to the store, which saves them elsewhere.

    Args:
        run: of the store.
        on_event: receives every written row.
        stop: asked to stop the run when a row cannot be written.

    Attributes:
        tally: number of rows written, by status.
    """

    def __init__(self, run: RunWriter, on_event: Listener, stop: StopRequest) -> None:
        self.tally: Counter[str] = Counter()
        self._run = run
        self._on_event = on_event
        self._stop = stop
        self._queue: queue.SimpleQueue[tuple[PlannedTrial, Mapping[str, Any], Tables] | None] = (
            queue.SimpleQueue()
        )
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
        self._thread.join()
        if self._error is not None and error is not self._error:
            raise self._error

    def put(self, planned: PlannedTrial, row: Mapping[str, Any], tables: Tables) -> None:
        """Queue the rows of a trial; `row` is that of `trials`."""
        self._queue.put((planned, row, tables))

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            self._write(*item)

    def _write(self, planned: PlannedTrial, row: Mapping[str, Any], tables: Tables) -> None:
        try:
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
            self._on_event(RowWritten(planned.number, row))
        except BaseException as error:  # noqa: BLE001 - raised in the run's own thread
            self._error = self._error or error
            self._stop.request(error)
