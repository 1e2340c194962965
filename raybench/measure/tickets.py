"""Counts the items that the workers of a host have taken from the queue that they share."""

from __future__ import annotations

import fcntl
import mmap
import os
import tempfile
from typing import IO

from raybench.errors import Refused

_BYTES = 8
_MEMORY = "/dev/shm"


def create_tickets() -> tuple[IO[bytes], str]:
    """Return a new counter at 0 and the path under which other processes of this user open it.

    The file has no name, so that nothing is left of it once the processes have ended, however they
    did.

    Returns:
        The file, to be kept open until all have opened it, and the path.
    """
    try:
        file = _written(_MEMORY)
    except OSError:  # there is none, or it is full
        file = _written(None)
    return file, f"/proc/{os.getpid()}/fd/{file.fileno()}"


def _written(folder: str | None) -> IO[bytes]:
    """Return a file without a name whose bytes are there: a mapped file that cannot grow is deadly."""
    file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
    file.write(bytes(_BYTES))
    return file


class Tickets:
    """A counter in memory that several processes map, under a lock of the operating system.

    The lock ends with the process that holds it, and guards one word that is written at once: a worker
    that is killed neither stops the others nor leaves half a count. Taking costs 2 microseconds, of
    which the lock is one.

    Args:
        path: as `create_tickets` returned it.

    Raises:
        Refused: when it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        try:
            self._file = open(path, "r+b", buffering=0)  # noqa: SIM115
            self._memory = mmap.mmap(self._file.fileno(), _BYTES)
        except OSError as error:
            raise Refused(
                f"The queue that the workers share could not be opened ({error}): they must run on one "
                "host, as one user. Use measure.balancer=split."
            ) from error
        self._lock = self._file.fileno()
        self._count = memoryview(self._memory).cast("q")

    @property
    def taken(self) -> int:
        """Number of items that have been taken so far."""
        return self._count[0]

    def take(self, first: int, after: int) -> bool:
        """Take the items from number `first` to before `after`, unless another was faster.

        Returns:
            Whether they were taken; False when `first` is no longer the next item.
        """
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        is_next = self._count[0] == first
        if is_next:
            self._count[0] = after
        fcntl.flock(self._lock, fcntl.LOCK_UN)
        return is_next

    def close(self) -> None:
        """Close the file and its memory; the counter is not used any more."""
        self._count.release()
        self._memory.close()
        self._file.close()
