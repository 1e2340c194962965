"""What a process was doing when a signal ended it, in a small file of its node.

A library that crashes takes its process along, and whoever waits for that process learns only that it
is gone. So a worker notes each thing it begins, Python's fault handler adds the signal, and another
process of the node reads both afterwards. A process that is killed from outside (SIGKILL, by the
kernel for memory too) leaves no signal here.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from raybench.paths import make_private

_SIGNALS = {
    "Segmentation fault": "SIGSEGV",
    "Aborted": "SIGABRT",
    "Bus error": "SIGBUS",
    "Illegal instruction": "SIGILL",
    "Floating-point exception": "SIGFPE",
    "Floating point exception": "SIGFPE",
}
"""Signals by the words of Python's fault handler."""
_CRASH = re.compile(
    r"(?P<before>.*?)^Fatal Python error: (?P<signal>[^\n]*)", re.DOTALL | re.MULTILINE
)
_KEPT_S = 24 * 3600.0
"""So long a crash counts as one that would come again."""


@dataclass(frozen=True)
class Crash:
    """A signal that ended a process.

    Attributes:
        signal: its name, e.g. "SIGSEGV".
        doing: what the process had begun last; empty if it had noted nothing.
    """

    signal: str
    doing: str


class CrashLog:
    """The file of this process, written by `note` and by Python's fault handler.

    Args:
        path: of the file; None writes nothing.

    Attributes:
        doing: what was noted last.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.doing = ""
        self._file = None if path is None else path.open("w", encoding="utf-8", errors="replace")
        if self._file is not None:
            faulthandler.enable(self._file, all_threads=False)

    def note(self, doing: str) -> None:
        """Write down what this process begins now; "" once that has ended."""
        self.doing = doing
        if self._file is not None:
            with contextlib.suppress(OSError):  # a full disk costs the note only
                print(doing, file=self._file, flush=True)


def open_log() -> CrashLog:
    """Return the log of this process, which writes nothing where its file cannot be written."""
    try:
        folder = _folder()
        make_private(folder)
        for path in old_logs():
            path.unlink(missing_ok=True)
        return CrashLog(folder / str(os.getpid()))
    except OSError:
        return CrashLog()


def read(pid: int) -> Crash | None:
    """Return the signal that ended a process of this node; None if there was none that it saw."""
    with contextlib.suppress(OSError):  # no temporary folder can be written
        return _crash(_folder() / str(pid))
    return None


def crashed_before(doing: str) -> bool:
    """Return whether a signal ended a process of this node that had begun just this."""
    return any(crash is not None and crash.doing == doing for crash in map(_crash, _logs()))


def _crash(path: Path) -> Crash | None:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    crash = _CRASH.search(text)
    if crash is None:
        return None
    doing = crash["before"].splitlines()
    return Crash(_SIGNALS.get(crash["signal"], crash["signal"]), doing[-1] if doing else "")


def _folder() -> Path:
    return Path(tempfile.gettempdir()) / f"raybench-{os.getuid()}"


def old_logs() -> list[Path]:
    """Return the logs of processes that have ended otherwise, and those of old crashes."""
    oldest = time.time() - _KEPT_S
    old = []
    for path in _logs():
        with contextlib.suppress(OSError):  # another process may remove it at the same time
            ended = not Path("/proc", path.name).exists()
            if path.stat().st_mtime < oldest or (ended and _crash(path) is None):
                old.append(path)
    return old


def tidy() -> None:
    """Remove `old_logs`, and the folder with the last of all."""
    for path in old_logs():
        with contextlib.suppress(OSError):
            path.unlink()
    with contextlib.suppress(OSError):
        _folder().rmdir()  # only if it is empty


def _logs() -> list[Path]:
    try:
        return sorted(_folder().iterdir())
    except OSError:  # nothing was noted, or no temporary folder can be written
        return []
