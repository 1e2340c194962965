"""The request to stop a run, from a signal or from a disk that is full."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class StopRequest:
    """The first reason to stop a run, raised in the run's own thread at the next safe moment.

    `request` may be called by a signal handler or from any thread.

    Attributes:
        reason: the exception to raise; None while the run may go on.
    """

    def __init__(self) -> None:
        self.reason: BaseException | None = None
        self._wake: Callable[[], None] | None = None

    @property
    def has_listener(self) -> bool:
        """Whether a request wakes the run, which then stops by itself."""
        return self._wake is not None

    def listen(self, wake: Callable[[], None]) -> None:
        """Call `wake` when the run is to stop; it must be safe in a signal handler."""
        self._wake = wake

    def request(self, reason: BaseException) -> None:
        """Ask the run to stop and wake it; later reasons are ignored."""
        if self.reason is None:
            self.reason = reason
        if self._wake is not None:
            self._wake()

    def check(self) -> None:
        """Raise the reason if the run is to stop."""
        if self.reason is not None:
            raise self.reason
