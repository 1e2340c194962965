"""Folders of the Ray sessions that raybench starts on this machine: marked, and removed at the end.

Ray itself keeps the logs and sockets of every session. A driver holds a lock on a file in the folder
of its own session for as long as it lives, however it ends; so a later process can tell the folder of
a driver that was killed from one in use, and both from those of other programs, which have no mark.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, ClassVar

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self

MARK = "raybench.lock"
"""File in the folder of a session that raybench has started."""
PROGRAMS = ("/ray/core/", "/ray/dashboard/", "/ray/_private/", "/ray/autoscaler/")
"""Folders of the programs that Ray starts, inside its package."""
TITLE = "ray::"
"""With this Ray's Python processes begin what they show as their command line."""
LATE_S = 0.5
"""In this time a process that has just been started shows its command line."""
REMOVAL_S = 5.0
"""Longest wait for Ray's last processes to let go of a folder."""


class SessionFolder:
    """The folder of the session that this process starts; removed at the end.

    After a start that failed it stays, because its logs say why; the next run removes it.
    """

    current: ClassVar[SessionFolder | None] = None
    """That of the session which runs in this process."""

    def __init__(self) -> None:
        self.path: Path | None = None
        """The folder; None before Ray has made it."""
        self.keep = False
        self.started = False
        """Whether Ray has started; a start that was cut short may have processes not yet to be seen."""
        self._lock: IO[bytes] | None = None

    def mark(self, path: Path) -> None:
        """Mark the folder as this process's, if it is not yet.

        The lock is taken before the file has its name, so that no other process finds it free.
        """
        if self.path is not None:
            return
        self.path = path
        SessionFolder.current = self
        unnamed = path / f".{MARK}-{os.getpid()}"
        with contextlib.suppress(OSError):  # an unmarked folder is removed at the end all the same
            self._lock = unnamed.open("wb")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            unnamed.rename(path / MARK)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        SessionFolder.current = None
        if self.path is not None and not self.keep:
            remove(self.path)
            if not self.started:
                time.sleep(LATE_S)
                remove(self.path)
        if self._lock is not None:
            self._lock.close()


def remove_current() -> None:
    """Remove the folder of this process's session, when the process is about to leave at once."""
    if SessionFolder.current is not None and SessionFolder.current.path is not None:
        remove(SessionFolder.current.path)


def ray_folders() -> list[Path]:
    """Return the folders in which Ray makes those of its sessions, by the variables of this moment."""
    named = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR")
    return [Path(parent, "ray") for parent in dict.fromkeys((named or "/tmp", "/tmp"))]


def abandoned() -> list[Path]:
    """Return the folders of sessions that raybench started and whose driver has ended."""
    return [
        folder
        for parent in ray_folders()
        for folder in sorted(parent.glob("session_*"))
        if not folder.is_symlink() and _is_abandoned(folder)
    ]


def remove_abandoned() -> None:
    """Remove what sessions of raybench left whose driver was killed, with their last processes."""
    for folder in abandoned():
        remove(folder)


def _is_abandoned(folder: Path) -> bool:
    try:
        if folder.stat().st_uid != os.getuid():
            return False
        with (folder / MARK).open("rb") as mark:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # not ours, in use, or just removed
        return False
    return True


def remove(folder: Path) -> bool:
    """End the processes of a session that has ended, and remove its folder and links to it.

    Returns:
        Whether the folder is gone.
    """
    deadline = time.monotonic() + REMOVAL_S
    while True:
        for process in processes(folder):
            with contextlib.suppress(psutil.Error):
                process.kill()
        with contextlib.suppress(
            OSError
        ):  # the mark last: who is killed here leaves a marked folder
            for entry in folder.iterdir():
                if entry.name != MARK:
                    shutil.rmtree(entry, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists() or time.monotonic() > deadline:
            break
        time.sleep(0.05)  # a process that was ended may have written once more
    with contextlib.suppress(OSError):
        for link in folder.parent.iterdir():
            if link.is_symlink() and not link.exists() and _leads_into(link, folder):
                link.unlink()
        folder.parent.rmdir()  # only if nothing else is in it
    return not folder.exists()


def _leads_into(link: Path, folder: Path) -> bool:
    return folder in (target := link.readlink(), *target.parents)


def processes(folder: Path) -> Iterator[psutil.Process]:
    """Yield the processes of the session of a folder: those of Ray that name it, or write there."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()[:3]
            titled = words[:1] and words[0].startswith(TITLE)
            if not titled and not any(program in word for word in words for program in PROGRAMS):
                continue
            if any(folder.name in word for word in process.cmdline()) or _writes_in(
                process, folder
            ):
                yield process


def _writes_in(process: psutil.Process, folder: Path) -> bool:
    return any(folder in Path(file.path).parents for file in process.open_files())
