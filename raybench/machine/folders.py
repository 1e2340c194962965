"""Folders of this node that a run writes to beside its results, and what takes their place.

A home folder may be missing, read-only or full, and a temporary folder too long for a socket's path.
The first of a few folders that can be used is used; every process of a user on a node chooses the same.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from raybench.paths import make_private, unusable

CACHE_VARIABLE, RAY_VARIABLE = "RAYBENCH_CACHE", "RAY_TMPDIR"
LEAST_BYTES = 32 << 20
"""A folder with less free counts as full: Ray's logs and the graph of a small network need about that."""
LONGEST_SOCKET = 107
"""Most bytes in the path of a Unix socket (sun_path)."""
SOCKET = "ray/session_2000-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""Ray's longest socket below its temporary folder, with the highest process id."""
SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")


@dataclass(frozen=True)
class ChosenFolder:
    """A folder that a run writes to.

    Attributes:
        purpose: what it is for, as the beginning of a sentence.
        variable: environment variable that names it.
        wanted: the folder of the variable, or the usual one.
        path: the folder to use; None where none can be used.
        reason: why that is not `wanted`; None where it is.
    """

    purpose: str
    variable: str
    wanted: str
    path: Path | None
    reason: str | None

    @property
    def note(self) -> str | None:
        """What to say of a folder that cannot be used; None of one that can."""
        if self.reason is None:
            return None
        return f"{self.problem}. {self.remedy}."

    @property
    def problem(self) -> str:
        """What is wrong with the folder that was wanted, and what takes its place."""
        instead = f"; {self.path} is used" if self.path else ", nor can any in its place"
        return f"{self.purpose} {self.wanted!r} cannot be used ({self.reason}){instead}"

    @property
    def remedy(self) -> str:
        """What to do, without a full stop."""
        short = ", with a short path" if self.variable == RAY_VARIABLE else ""
        return f"Set {self.variable} to a folder of this node that can be written{short}"


def cache() -> ChosenFolder:
    """Return the folder for graphs and plans: RAYBENCH_CACHE, else ~/.cache/raybench."""
    wanted = os.environ.get(CACHE_VARIABLE) or "~/.cache/raybench"
    return _cache(os.path.expanduser(wanted), os.environ.get("TMPDIR", ""))


@lru_cache(maxsize=8)
def _cache(wanted: str, _temporary: str) -> ChosenFolder:
    def choose(path: Path | None, reason: str | None) -> ChosenFolder:
        return ChosenFolder("Cache folder", CACHE_VARIABLE, wanted, path, reason)

    reason = "the user has no home" if wanted.startswith("~") else unusable(wanted, LEAST_BYTES)
    if reason is None:
        return choose(Path(wanted), None)
    try:
        spare = Path(tempfile.gettempdir(), f"raybench-cache-{os.getuid()}")
        make_private(spare)
    except OSError:
        return choose(None, reason)
    return choose(None if unusable(spare, LEAST_BYTES) else spare, reason)


def ray() -> ChosenFolder:
    """Return the folder in which Ray makes those of its sessions, by the variables of this moment."""
    wanted = os.environ.get(RAY_VARIABLE) or os.environ.get("TMPDIR") or SHORT_FOLDERS[0]
    reason = _no_folder_for_ray(wanted)
    spares = [wanted] if reason is None else [f for f in SHORT_FOLDERS if not _no_folder_for_ray(f)]
    path = Path(spares[0]) if spares else None
    return ChosenFolder("Ray's temporary folder", RAY_VARIABLE, wanted, path, reason)


def _no_folder_for_ray(folder: str) -> str | None:
    longest = os.path.join(os.path.abspath(folder), SOCKET)
    beyond = len(os.fsencode(longest)) - LONGEST_SOCKET
    if beyond > 0:
        return f"it is {beyond} bytes too long for the paths of Ray's sockets"
    return unusable(folder, LEAST_BYTES)


def chosen() -> tuple[ChosenFolder, ...]:
    """Return every folder of this machine that a run on it writes to."""
    return cache(), ray()
