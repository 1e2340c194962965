"""The power limit of a board as its driver reports it, and whether this process may set it.

Reading has been run on an H200; setting a limit has not yet been run on a GPU.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raybench.machine import nvml
from raybench.paths import make_private

if TYPE_CHECKING:
    from raybench.machine.nvml import Nvml

TOLERANCE_W = 1.0
"""A limit that is read back within this of what was asked for is that limit."""
_FOLDER = "/tmp/raybench-power-{user}"
"""The same for every process of a user on a node, whatever its variables say; gone after a restart."""


@dataclass(frozen=True)
class BoardPower:
    """The power limit of one board.

    Attributes:
        index: the driver's number of the board.
        name: product name.
        limit_w: that is set now.
        lowest_w: least that it can be set to.
        highest_w: most that it can be set to.
        mig: whether the board is cut into slices, which share its limit.
        refusal: why this process may not set it, in the driver's words; None where it may.
    """

    index: int
    name: str
    limit_w: float | None
    lowest_w: float | None
    highest_w: float | None
    mig: bool = False
    refusal: str | None = None


def boards() -> tuple[BoardPower, ...]:
    """Return the power limit of every board of this machine, and whether this process may set it.

    That is tried by setting the limit that is set already, which changes nothing.
    """
    library = nvml.open_library()
    if library is None:
        return ()
    try:
        return tuple(
            _board(library, gpu.uuid, gpu.index, gpu.name, gpu.mig) for gpu in nvml.inventory()
        )
    finally:
        library.close()


def _board(library: Nvml, uuid: str, index: int, name: str, mig: bool) -> BoardPower:
    if mig:
        return BoardPower(index, name, None, None, None, mig=True)
    handle = library.device(uuid)
    span = library.ask("DeviceGetPowerManagementLimitConstraints", handle) or (None, None)
    lowest_w, highest_w = (nvml.watts(end) for end in span)
    with BoardLock(uuid) as lock:
        # who holds the lock may set it; a limit that was read may be another by the time it is set
        milliwatts = library.ask("DeviceGetPowerManagementLimit", handle)
        refusal = None
        if lock.taken and milliwatts is not None:
            refusal = library.refusal("DeviceSetPowerManagementLimit", handle, milliwatts)
    return BoardPower(index, name, nvml.watts(milliwatts), lowest_w, highest_w, refusal=refusal)


def in_force_w(library: Nvml, handle: Any) -> float | None:
    """Return the power limit that a board keeps to, which may be below the one that was set."""
    enforced = library.ask("DeviceGetEnforcedPowerLimit", handle)
    if enforced is None:
        enforced = library.ask("DeviceGetPowerManagementLimit", handle)
    return nvml.watts(enforced)


def read_w(uuid: str | None) -> float | None:
    """Return the power limit that a board keeps to now; None where the driver does not say."""
    library = None if uuid is None else nvml.open_library()
    if uuid is None or library is None:
        return None
    try:
        return in_force_w(library, library.device(uuid))
    finally:
        library.close()


class BoardLock:
    """A board's power limit, held by one process at a time, and what that process changes.

    The kernel lets go of it when the process ends. What is noted in the file of the lock stays, so
    that the next one can restore a limit that a killed process left.

    Attributes:
        taken: whether this process holds it.
    """

    def __init__(self, uuid: str, folder: str | None = None) -> None:
        self.taken = False
        self._path = Path(folder or lock_folder(), uuid)
        self._descriptor = -1

    def __enter__(self) -> BoardLock:
        try:
            make_private(self._path.parent)
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:
            return self
        self.take()
        return self

    def __exit__(self, *_error: object) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def take(self) -> bool:
        """Take the lock if nobody holds it; return whether this process does."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.taken = True
        except OSError:
            self.taken = False
        return self.taken

    def noted(self) -> dict[str, int]:
        """Return the milliwatts "former" and "set" of a limit that is not restored; empty for none."""
        try:
            return dict(json.loads(os.pread(self._descriptor, 1000, 0)))
        except (OSError, ValueError, TypeError):
            return {}

    def note(self, former_mw: int, set_mw: int) -> None:
        """Note what this process is about to change."""
        self.forget()
        os.pwrite(self._descriptor, json.dumps({"former": former_mw, "set": set_mw}).encode(), 0)

    def forget(self) -> None:
        """Note that nothing is changed any more."""
        os.ftruncate(self._descriptor, 0)


def lock_folder() -> str:
    """Return the folder of the locks of this user's boards."""
    return _FOLDER.format(user=os.getuid())
