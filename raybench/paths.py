"""Paths of the package and of its data files, and replacing a file as a whole."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from pathlib import Path

PACKAGE = Path(__file__).parent
_PACKED = PACKAGE / "_data"
DATA = _PACKED if _PACKED.is_dir() else PACKAGE.parent
"""Folder that holds conf/ and experiments/: inside an installed wheel, or in the checkout."""


def write_atomically(
    path: str | os.PathLike[str],
    data: bytes | memoryview,
    durable: bool = False,
    *,
    temporary_dir: str | os.PathLike[str] | None = None,
) -> None:
    """Replace a file as a whole: readers see the old content or the new, never a part.

    Args:
        path: the file; its folder must exist.
        data: the whole new content.
        durable: return only when the disk has it, so that it also survives a power cut.
        temporary_dir: folder of the same file system for the unfinished file; None for the
            folder of `path`.

    Raises:
        OSError: the file cannot be written; the old one is still there and nothing else is left.
    """
    target = Path(path)
    folder = target.parent if temporary_dir is None else Path(temporary_dir)
    unfinished = folder / f".tmp-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        with unfinished.open("wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        unfinished.replace(target)
        if durable:
            _sync_folder(target.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network disks lack it
            raise
    finally:
        os.close(handle)
