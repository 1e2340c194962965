"""Files in the kernel's page cache: taken out of it or read into it, and what is there checked."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

COLD_FRAC = 0.01
WARM_FRAC = 0.99
"""Most of the files that may be in the page cache for it to count as cold, and least for warm."""
_PIECE = 1 << 22
_PAGE = mmap.PAGESIZE


def drop(files: Iterable[Path]) -> None:
    """Take files out of the page cache, as far as the kernel allows; needs no privilege.

    What was written and is not on the disk yet is flushed first. Pages that a process has mapped stay.
    """
    for file in files:
        with contextlib.suppress(OSError), file.open("rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def fill(files: Iterable[Path]) -> None:
    """Read files, so that they are in the page cache."""
    for file in files:
        with contextlib.suppress(OSError), file.open("rb", buffering=0) as opened:
            while opened.read(_PIECE):
                pass


def resident_frac(files: Iterable[Path]) -> float | None:
    """Return the share of the files' pages that are in the page cache; None if it cannot be known.

    A kernel tells it of files that the user may write to or owns.
    """
    pages = resident = 0
    for file in files:
        try:
            counted = _resident_pages(file)
        except OSError:
            return None
        if counted is None:
            return None
        resident += counted
        pages += -(-file.stat().st_size // _PAGE)
    return resident / pages if pages else None


def _resident_pages(file: Path) -> int | None:
    """Return how many pages of a file are resident; None if the kernel does not say."""
    if not os.access(file, os.W_OK):
        return None
    with file.open("rb") as opened:
        size = os.fstat(opened.fileno()).st_size
        if not size:
            return 0
        with mmap.mmap(opened.fileno(), size, prot=mmap.PROT_READ | mmap.PROT_WRITE,
                       flags=mmap.MAP_PRIVATE) as mapped:  # fmt: skip
            states = (ctypes.c_ubyte * (-(-size // _PAGE)))()
            address = ctypes.c_char.from_buffer(mapped)
            try:
                failed = _libc().mincore(
                    ctypes.c_void_p(ctypes.addressof(address)), ctypes.c_size_t(size), states
                )
            finally:
                del address  # the map cannot be closed before
        return None if failed else sum(state & 1 for state in states)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
