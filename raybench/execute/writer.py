"""Writer: rows on their way to the disk, in a thread of its own, so that no device waits for it."""

from __future__ import annotations

import queue
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from typing_extensions import Self

    from raybench.execute.events import View
    from raybench.execute.rows import Tables
    from raybench.planning.plan import PlannedTrial
    from raybench.results.store import Run


class Writer:
    """Writes the rows of one run in the order in which they are given; as a context, waits for all.

    A row is announced and counted when it is on the disk, and not before.

    Attributes:
        tally: how many rows there are of each status.
        failed: called in the writer's thread when a row cannot be written.
    """

    def __init__(self, run: Run, view: View) -> None:
        self.tally: Counter[str] = Counter()
        self.failed: Callable[[], None] = lambda: None
        self._run = run
        self._view = view
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
        self._queue.put(None)
        self._thread.join()
        if error is not self._error:
            self.check()

    def put(self, step: PlannedTrial, row: Mapping[str, Any], tables: Tables) -> None:
        """Write a trial's rows soon; `row` is that of `trials`."""
        self._queue.put((step, row, tables))

    def check(self) -> None:
        """Raise what kept the first row that could not be written from it; see `Run.write_point`."""
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while (given := self._queue.get()) is not None:
            self._write(*given)

    def _write(self, step: PlannedTrial, row: Mapping[str, Any], tables: Tables) -> None:
        try:
            self._run.write_point(
                step.point.id,
                step.trial,
                trials=row,
                workers=tables.workers,
                blocks=tables.blocks,
                samples=tables.samples,
                layers=tables.layers,
            )
            self.tally[row["status"]] += 1
            self._view.row(step.number, row)
        except BaseException as error:  # noqa: BLE001 - the run's own thread raises it
            self._error = self._error or error
            self.failed()
