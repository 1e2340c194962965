"""A process that sets the power limit of a board, and restores it when its worker ends, however it does.

`python -m raybench.machine.power_guard UUID WATTS FOLDER` is started by a worker with a pipe as standard
input, which the kernel closes when the worker ends, even by SIGKILL. It writes lines of JSON: "limit_w",
which was read back, or "error"; and at its end "restored_w" or "error". Until an earlier guard of the
board has restored its limit it waits. Not yet run on a GPU.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from typing import Any

from raybench.machine import nvml
from raybench.machine.board_power import TOLERANCE_W, BoardLock, in_force_w

WAIT_S = 60.0
"""Longest wait for an earlier guard."""
SETTLE_S = 1.0
"""Longest time from setting a limit until the driver reports it."""
POLL_S = 0.05


class Ending:
    """Tells when the guard is to end: its worker has ended, or a signal asks for it.

    Signals do nothing else, so that none comes between setting a limit and noting that it was set.
    """

    def __init__(self, worker: int = 0) -> None:
        self._worker = worker
        self._signals, written = os.pipe()
        os.set_blocking(written, False)
        signal.set_wakeup_fd(written)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: None)

    def within(self, seconds: float | None) -> bool:
        """Wait for the end for so long, or without limit; return whether it has come."""
        return bool(select.select([self._worker, self._signals], [], [], seconds)[0])


def main(arguments: list[str]) -> None:
    """Set, report, wait and restore."""
    uuid, watts, folder = arguments
    ending = Ending()
    with BoardLock(uuid, folder) as lock:
        deadline = time.monotonic() + WAIT_S
        while not lock.taken and not lock.take():
            if ending.within(POLL_S):
                return
            if time.monotonic() > deadline:
                _report(
                    error=f"another process has held the power limit of {uuid} for {WAIT_S:g} s"
                )
                return
        library = nvml.open_library()
        handle = None if library is None else library.device(uuid)
        if library is None or handle is None:
            _report(error=f"the driver does not know {uuid}")
            return
        _guard(Board(library, handle), lock, round(float(watts) * 1e3), ending)


class Board:
    """The board whose limit is set.

    Args:
        library: opened.
        handle: of the board.
    """

    def __init__(self, library: nvml.Nvml, handle: Any) -> None:
        self._library, self._handle = library, handle

    def limit_mw(self) -> int | None:
        """Return the limit that is set."""
        milliwatts = self._library.ask("DeviceGetPowerManagementLimit", self._handle)
        return None if milliwatts is None else int(milliwatts)

    def set(self, milliwatts: int) -> str | None:
        """Set the limit; return what the driver says against it."""
        return self._library.refusal("DeviceSetPowerManagementLimit", self._handle, milliwatts)

    def in_force_w(self, wanted_w: float) -> float | None:
        """Return the limit in force once it is the one that was set, or when that takes too long."""
        deadline = time.monotonic() + SETTLE_S
        while True:
            read = in_force_w(self._library, self._handle)
            near = read is not None and abs(read - wanted_w) <= TOLERANCE_W
            if near or time.monotonic() > deadline:
                return read
            time.sleep(POLL_S)


def _guard(board: Board, lock: BoardLock, wanted_mw: int, ending: Ending) -> None:
    former_mw = board.limit_mw()
    if former_mw is None:
        _report(
            error="the driver does not say which power limit is set, so it could not be restored"
        )
        return
    noted = lock.noted()
    if noted.get("set") == former_mw:  # a guard was killed, and nobody has set another limit since
        former_mw = noted.get("former", former_mw)
    lock.note(former_mw, wanted_mw)
    refusal = board.set(wanted_mw)
    if refusal is not None:
        lock.forget()
        _report(error=f"the driver refuses {wanted_mw / 1e3:g} W: {refusal}")
        return
    try:
        _report(limit_w=board.in_force_w(wanted_mw / 1e3))
        ending.within(None)
    finally:
        _restore(board, lock, former_mw)


def _restore(board: Board, lock: BoardLock, former_mw: int) -> None:
    refusal = board.set(former_mw)
    if refusal is not None:  # the note stays, so that the next guard restores it
        _report(error=f"{former_mw / 1e3:g} W could not be restored: {refusal}")
        return
    lock.forget()
    _report(restored_w=board.in_force_w(former_mw / 1e3))


def _report(**facts: Any) -> None:
    """Write a line for the worker, if it is still there."""
    with contextlib.suppress(OSError):
        os.write(1, (json.dumps(facts) + "\n").encode())


if __name__ == "__main__":
    if os.fork():
        os._exit(0)  # Ray ends the children of a worker that ends, and this process is none of them
    main(sys.argv[1:])
