"""The power limit of a worker's device: set by a guard, read back, kept, restored."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from raybench.errors import PointError
from raybench.machine import board_power, power_guard
from raybench.machine.board_power import TOLERANCE_W, BoardLock
from raybench.paths import PACKAGE

if TYPE_CHECKING:
    from raybench.machine.devices import Device

START_S = power_guard.WAIT_S + 30.0
"""Longest time until a guard has set the limit."""
END_S = 15.0
"""Longest time until a guard has restored it."""


@dataclass
class PowerLimit:
    """The limit that a worker's device keeps to.

    Attributes:
        uuid: of the GPU; None for a device without a driver.
        watts: as it was read back; None where the driver does not say.
        asked_w: what it was set to for the point; None where it was left as it is.
    """

    uuid: str | None
    watts: float | None
    asked_w: float | None = None
    _guard: Guard | None = field(default=None, repr=False)

    def check(self) -> None:
        """Read the limit again.

        Raises:
            PointError: it is no longer the one that was asked for.
        """
        if self.asked_w is not None:
            _agreed(self.asked_w, board_power.read_w(self.uuid), "now", self.uuid)

    def release(self) -> tuple[str, ...]:
        """Let the former limit be restored; return what went wrong, a sentence each."""
        guard, self._guard = self._guard, None
        if guard is None:
            return ()
        said = guard.end()
        if "restored_w" in said:
            return ()
        why = said.get("error", "its guard did not answer")
        return (
            f"The power limit of {self.uuid} is not what it was before: {why}. Set it with "
            "nvidia-smi -i UUID -pl WATTS.",
        )


def limit(asked_w: float | None, device: Device, first: bool) -> PowerLimit:
    """Return the limit of a device, set to what a point asks for.

    Args:
        asked_w: the limit; None leaves it as it is.
        device: that this process owns.
        first: whether this worker is the first on the device, which sets the limit; the others wait
            until it is set.

    Raises:
        PointError: it could not be set, or another one is read back.
    """
    uuid = device.uuid
    if asked_w is None:
        return PowerLimit(uuid, board_power.read_w(uuid))
    if uuid is None:
        raise PointError(f"{device.name} has no driver that sets a power limit of {asked_w:g} W.")
    if not first:
        return PowerLimit(uuid, _wait_for(uuid, asked_w), asked_w)
    guard = Guard(uuid, asked_w)
    said = guard.answer(START_S)
    if "limit_w" not in said:
        guard.end()
        why = said.get("error", "its guard did not start")
        raise PointError(f"The power limit of {uuid} could not be set to {asked_w:g} W: {why}.")
    try:
        return PowerLimit(uuid, _agreed(asked_w, said["limit_w"], "set", uuid), asked_w, guard)
    except PointError:
        guard.end()
        raise


def _agreed(asked_w: float, read_w: float | None, when: str, uuid: str | None) -> float:
    if read_w is None or abs(read_w - asked_w) > TOLERANCE_W:
        read = "none" if read_w is None else f"{read_w:g} W"
        why = (
            "another limit of the board is lower, or something else sets it"
            if when == "set"
            else "something else has set it while the point was measured"
        )
        raise PointError(
            f"The power limit of {uuid} was set to {asked_w:g} W and {read} is read back: {why}."
        )
    return read_w


def _wait_for(uuid: str, asked_w: float) -> float:
    """Wait until the first worker of the device has set the limit; return what is read back."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        with BoardLock(uuid) as lock:
            is_set = not lock.taken and lock.noted().get("set") == round(asked_w * 1e3)
        read_w = board_power.read_w(uuid) if is_set else None
        if read_w is not None and abs(read_w - asked_w) <= TOLERANCE_W:
            return read_w
        time.sleep(power_guard.POLL_S)
    raise PointError(
        f"The first worker on {uuid} has not set its power limit to {asked_w:g} W in {START_S:g} s."
    )


class Guard:
    """The guard's process, as its worker sees it: alive for as long as the pipe to it is open.

    It holds nothing of Ray's open, not even a log, since what does is ended with Ray.
    """

    def __init__(self, uuid: str, watts: float) -> None:
        path = os.pathsep.join(filter(None, [str(PACKAGE.parent), os.environ.get("PYTHONPATH")]))
        words = [uuid, f"{watts:.15g}", board_power.lock_folder()]
        self._process = subprocess.Popen(
            [sys.executable, "-m", power_guard.__name__, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,
        )
        self._unread = b""

    def answer(self, seconds: float) -> dict[str, Any]:
        """Return the next line that it writes; empty when none comes in time."""
        assert self._process.stdout is not None
        descriptor, deadline = self._process.stdout.fileno(), time.monotonic() + seconds
        while b"\n" not in self._unread:
            left = max(deadline - time.monotonic(), 0.0)
            ready = select.select([descriptor], [], [], left)[0]
            read = os.read(descriptor, 4096) if ready else b""
            if not read:
                return {}
            self._unread += read
        line, _, self._unread = self._unread.partition(b"\n")
        facts: dict[str, Any] = json.loads(line)
        return facts

    def end(self) -> dict[str, Any]:
        """Let it restore the limit; return what it says of that."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        said = self.answer(END_S)
        self._process.stdout.close()
        self._process.wait()
        return said
