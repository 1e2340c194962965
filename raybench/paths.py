"""Paths of the package and of its data files, and replacing a file as a whole."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
import tempfile
from pathlib import Path

PACKAGE = Path(__file__).parent
_PACKED = PACKAGE / "_data"
DATA = _PACKED if _PACKED.is_dir() else PACKAGE.parent
"""Folder that holds conf/ and experiments/: inside an installed wheel, or in the checkout."""


def unusable(folder: str | os.PathLike[str], least_bytes: int = 0) -> str | None:
    """Return why files cannot be written to a folder, or to where it would be made; None if they can.

    Args:
        folder: need not exist.
        least_bytes: so much must be free there.
    """
    nearest = Path(folder).absolute()
    try:
        while not nearest.exists():
            nearest = nearest.parent
        if not nearest.is_dir():
            return os.strerror(errno.ENOTDIR)
        with tempfile.TemporaryFile(dir=nearest, prefix=".raybench-") as probe:
            probe.write(bytes(4096))
            probe.flush()
        free = shutil.disk_usage(nearest).free
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    return f"only {free / 2**20:.0f} MiB are free" if free < least_bytes else None


def make_private(folder: Path) -> None:
    """Make a folder that only this user may enter, or accept one that this user has made.

    Raises:
        OSError: it cannot be made, or another user's folder or a link has its name.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise OSError(errno.EPERM, "another user's folder, or a link", str(folder))


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
            sync_folder(target.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise


def sync_folder(folder: Path) -> None:
    """Return when the disk has the names in a folder; raises OSError."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network disks lack it
            raise
    finally:
        os.close(handle)
