"""Signals: Ctrl-C, and the batch system's way to say it, end a run cleanly once and at once twice."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from typing_extensions import Self

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INTERRUPTED = 130
"""Exit code of a run that was ended by hand."""


class Signals:
    """While entered, the first signal that asks for an end calls `first`, the second leaves at once.

    A signal that is ignored stays ignored (nohup). Outside the main thread it does nothing.

    Attributes:
        first: called in the main thread, between two of its instructions; by default it raises
            KeyboardInterrupt there.
    """

    def __init__(self) -> None:
        self.first: Callable[[], None] = _interrupt
        self._asked = False
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.getsignal(number) for number in ENDING}
            for number, handler in self._before.items():
                if handler is not signal.SIG_IGN:
                    signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            _leave()
        self._asked = True
        sys.stderr.write(
            "\nraybench: ending; rows that were written are kept. Once more: leave at once.\n"
        )
        self.first()


def _leave() -> None:
    """End this process and all that it started: an embedded cluster with its workers."""
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.kill()
    os._exit(INTERRUPTED)


def _interrupt() -> None:
    raise KeyboardInterrupt
