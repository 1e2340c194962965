"""Signals: the first Ctrl-C or SIGTERM ends a run cleanly, the second ends it at once."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from types import FrameType

    from typing_extensions import Self

    from raybench.execute.stop_request import StopRequest

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INTERRUPTED = 130
"""Exit code of an interrupted run."""


class Signals:
    """While entered, the first ending signal asks the run to stop, the second exits at once.

    Before the run listens to `stop`, the first signal raises KeyboardInterrupt in the main thread.
    A signal that is ignored stays ignored (nohup). Outside the main thread this does nothing.

    Args:
        stop: receives the first signal.
    """

    def __init__(self, stop: StopRequest) -> None:
        self._stop = stop
        self._received = False
        self._previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.getsignal(number) for number in ENDING}
            for number, handler in self._previous.items():
                if handler is not signal.SIG_IGN:
                    signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._received:
            _exit_at_once()
        self._received = True
        sys.stderr.write(
            "\nraybench: stopping; finished rows are kept. Press Ctrl-C again to quit immediately.\n"
        )
        if not self._stop.has_listener:
            raise KeyboardInterrupt
        self._stop.request(KeyboardInterrupt())


def _exit_at_once() -> None:
    """Kill all child processes, an embedded cluster with its workers too, and exit."""
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.kill()
    os._exit(INTERRUPTED)
