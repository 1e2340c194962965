"""The request to stop a run, from a signal or from a disk that is full."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class StopRequest:
    """The first reason to stop a run, raised in the run's own thread at the next safe moment.

    `request` may be called by a signal handler or from any thread.

    Attributes:
        reason: the exception to raise; None while the run may go on.
    """

    def __init__(self) -> None:
        self.reason: BaseException | None = None
        self._wake: Callable[[], None] | None = None
        self._held = 0

    @property
    def has_listener(self) -> bool:
        """Whether the run will notice a request by itself, so that nothing need be interrupted."""
        return self._wake is not None or self._held > 0

    def listen(self, wake: Callable[[], None] | None) -> None:
        """Call `wake` when the run is to stop; it must be safe in a signal handler. None ends it."""
        self._wake = wake

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Let what must not be cut short come to its end; `check` then raises a reason meanwhile."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1

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
