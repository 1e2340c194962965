"""Standard output and error that nobody has to read.

Once an output cannot be written, what follows is dropped and the command goes on: a reader that has
enough (`| head`), a full disk or a terminal that went away do not end a measurement.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from typing import IO, TYPE_CHECKING, cast

from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer

_STANDARD = (0, 1, 2)


class _OpenOutput(io.FileIO):
    """An output that takes everything, and drops it from the first error on.

    Attributes:
        error: the first error; None while all has been written.
    """

    error: OSError | None = None

    @override
    def write(self, data: Buffer) -> int:
        """Write what the system takes; everything counts as written after an error.

        Where another program has made the output non-blocking, this waits for room as if it were not.
        """
        size = memoryview(data).nbytes
        try:
            while (written := super().write(data)) is None:
                select.select((), (self,), ())
            return written
        except OSError as error:
            self.error = self.error or error
            drop = os.open(os.devnull, os.O_WRONLY)
            os.dup2(drop, self.fileno())  # libraries and child processes write there, too
            os.close(drop)
            return size


class Outputs:
    """The standard output and error of this process, replaced by those that nobody has to read."""

    def __init__(self) -> None:
        _open_closed()
        self._out = _OpenOutput(1, "w", closefd=False)
        self._replaced = sys.stdout, sys.stderr  # kept: their ends would close the files
        sys.stdout = _text(self._out, sys.stdout)
        sys.stderr = _text(_OpenOutput(2, "w", closefd=False), sys.stderr)

    def problem(self) -> str | None:
        """Return why part of the standard output was dropped; None for a reader that had enough."""
        sys.stdout.flush()
        error = self._out.error
        if error is None or error.errno == errno.EPIPE:
            return None
        return error.strerror or str(error)


def _open_closed(numbers: Sequence[int] = _STANDARD) -> None:
    """Open what the caller has closed (`>&-`), before another file gets its number."""
    for number in numbers:
        if _is_closed(number):
            os.dup2(handle := os.open(os.devnull, os.O_RDWR), number)
            if handle not in numbers:
                os.close(handle)


def _is_closed(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return True
    return False


def _text(raw: _OpenOutput, like: IO[str] | None) -> IO[str]:
    """Return a text file on an output, of the encoding and buffering of another."""
    known = cast("io.TextIOWrapper | None", like)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(known, "encoding", "utf-8"),
        errors=getattr(known, "errors", "backslashreplace"),
        line_buffering=getattr(known, "line_buffering", True),
        write_through=getattr(known, "write_through", False),
    )
