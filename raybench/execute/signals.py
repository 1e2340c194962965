"""Signals: the first Ctrl-C, SIGTERM or SIGHUP ends a command cleanly, the second ends it at once.

Imports next to nothing, since it is at work from the first line of a command.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import TYPE_CHECKING

from raybench.execute.stop_request import StopRequest

if TYPE_CHECKING:
    from types import FrameType

    from typing_extensions import Self

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INTERRUPTED = 130
"""Exit code of an interrupted command."""
_STOPPING = (
    b"\nraybench: stopping; finished rows are kept. Press Ctrl-C again to quit immediately.\n"
)


class Signals:
    """While entered, the first ending signal asks the command to stop, the second exits at once.

    As long as nothing listens to `stop`, the first signal raises KeyboardInterrupt in the main
    thread. A signal that is ignored stays ignored (nohup), and a terminal that goes away counts
    once, however often it says so. Outside the main thread this does nothing.

    Attributes:
        stop: receives the first signal.
        received: whether there was a signal.
        ended: whether the command has its exit code; a signal then exits at once.
    """

    _of_process: Signals | None = None

    def __init__(self, stop: StopRequest | None = None) -> None:
        self.stop = StopRequest() if stop is None else stop
        self.received = False
        self.ended = False
        self._previous: dict[signal.Signals, object] = {}

    @classmethod
    def of_process(cls) -> Signals:
        """Return the one that is at work from now to the end of this process, which is a command."""
        if cls._of_process is None:
            cls._of_process = cls().__enter__()
        return cls._of_process

    @classmethod
    def stop_of_command(cls) -> StopRequest:
        """Return what the signals of this command fill; one for itself where it is a mere call."""
        return StopRequest() if cls._of_process is None else cls._of_process.stop

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
        if self.received and number == signal.SIGHUP:
            return
        if self.received or self.ended:
            _exit_at_once()
        self.received = True
        self.stop.request(KeyboardInterrupt())
        if self.stop.has_listener:
            with contextlib.suppress(OSError):  # sys.stderr may be at work on another line
                os.write(2, _STOPPING)
            return
        raise KeyboardInterrupt


def _exit_at_once() -> None:
    """Kill all child processes, an embedded cluster with its workers too, and exit."""
    with contextlib.suppress(Exception):  # psutil may be half imported
        import psutil

        from raybench.cluster import session_folders

        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()
        session_folders.remove_current()
    os._exit(INTERRUPTED)
