"""Events: what a run announces while it works, and to whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from raybench.measure.progress import Glance
    from raybench.planning.plan import PlannedTrial


class View(Protocol):
    """What the driver tells while it works."""

    def skipped(self, number: int, step: PlannedTrial, status: str) -> None:
        """PlannedTrial `number` of the plan has its row already."""
        ...

    def step(self, number: int, step: PlannedTrial) -> None:
        """PlannedTrial `number` of the plan begins."""
        ...

    def phase(self, number: int, name: str) -> None:
        """PlannedTrial `number` enters a phase: start, prepare, warm-up, measure."""
        ...

    def look(self, number: int, glance: Glance) -> None:
        """The driver has looked at it."""
        ...

    def row(self, number: int, row: Mapping[str, Any]) -> None:
        """A row was written."""
        ...

    def note(self, text: str) -> None:
        """Something that the user should know: a retry, a device that is used no more."""
        ...


class Several:
    """Tells many views what it is told."""

    def __init__(self, *views: View) -> None:
        self._views = views

    def skipped(self, number: int, step: PlannedTrial, status: str) -> None:
        """To all."""
        for view in self._views:
            view.skipped(number, step, status)

    def step(self, number: int, step: PlannedTrial) -> None:
        """To all."""
        for view in self._views:
            view.step(number, step)

    def phase(self, number: int, name: str) -> None:
        """To all."""
        for view in self._views:
            view.phase(number, name)

    def look(self, number: int, glance: Glance) -> None:
        """To all."""
        for view in self._views:
            view.look(number, glance)

    def row(self, number: int, row: Mapping[str, Any]) -> None:
        """To all."""
        for view in self._views:
            view.row(number, row)

    def note(self, text: str) -> None:
        """To all."""
        for view in self._views:
            view.note(text)
