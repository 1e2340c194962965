"""Cause faults from outside: signals to workers, raylets and the driver of a run."""

from __future__ import annotations

import contextlib
import signal
import time
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    import random
    import subprocess
    from collections.abc import Mapping, Sequence

MARK = "RAYBENCH_CHAOS"
"""Variable that every process of a run inherits, to find the processes that are left."""
WORKERS = ("ray::scaling/", "ray::BenchWorker")
"""Prefixes of workers' process titles; a busy worker is named after its point."""
WORKERS_S = 60.0
"""How long workers and raylets may outlive the last driver."""
AGENTS_S = 120.0
"""How long Ray's agents may outlive a killed raylet; they hold no device."""


class Faults:
    """The faults of a run: each waits until it is due, and then until there is a victim.

    Args:
        waiting: number of points that have a row when a fault is due, and the fault, in order.
        env: variables of every process of the run.
        mark: value of `MARK` among them.
        chance: decides between victims.
    """

    def __init__(
        self,
        waiting: Sequence[tuple[float, str]],
        env: Mapping[str, str],
        mark: str,
        chance: random.Random,
    ) -> None:
        self.waiting = list(waiting)
        self.env = env
        self._mark = mark
        self._chance = chance
        self._of_earlier_drivers: set[int] = set()

    def do_next(self, driver: subprocess.Popen[str], finished: int) -> tuple[str, str] | None:
        """Cause the next fault if it is due and has a victim; return it and who that was."""
        if not self.waiting or finished < self.waiting[0][0]:
            return None
        fault = self.waiting[0][1]
        victim = self._do(fault, driver)
        if victim is None:
            return None
        del self.waiting[0]
        return fault, victim

    def _do(self, fault: str, driver: subprocess.Popen[str]) -> str | None:
        if fault == "driver":
            self._of_earlier_drivers |= {process.pid for process in marked(self._mark)}
            driver.kill()
            driver.wait()
            return "driver"
        with contextlib.suppress(psutil.Error, IndexError):
            victim = self._chance.choice(self._victims(fault))
            words = described(victim)
            victim.send_signal(signal.SIGSTOP if fault == "hang" else signal.SIGKILL)
            return words
        return None

    def _victims(self, fault: str) -> list[psutil.Process]:
        """Return a node's raylet, or workers; one that hangs can be killed but not hang again."""
        running = marked(self._mark)
        if fault == "node":
            return [p for p in running if p.name() == "raylet" and _gpus(p) == 2]
        workers = [p for p in running if title(p).startswith(WORKERS) and _in_hand(p)]
        if fault == "hang":
            workers = [p for p in workers if p.status() != psutil.STATUS_STOPPED]
        return [p for p in workers if p.pid not in self._of_earlier_drivers]


def _in_hand(worker: psutil.Process) -> bool:
    """Return whether the worker runs under a living raylet, which could still end it."""
    with contextlib.suppress(psutil.Error):
        return _parent(worker).startswith("raylet")
    return False


def _gpus(raylet: psutil.Process) -> int:
    resources = [word for word in raylet.cmdline() if word.startswith("--static_resource_list")]
    parts = resources[0].partition("=")[2].split(",") if resources else []
    return int(float(parts[parts.index("GPU") + 1])) if "GPU" in parts else 0


def title(process: psutil.Process) -> str:
    """Return the command line of a process, which Ray rewrites; "" of one that has ended."""
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def marked(mark: str) -> list[psutil.Process]:
    """Return the living processes that have inherited the mark."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def end_left(mark: str) -> list[str]:
    """Return the processes that outlive their limit, and kill them."""
    began = time.monotonic()
    while left := marked(mark):
        agents = all("agent" in title(process).lower() for process in left)
        if time.monotonic() - began > (AGENTS_S if agents else WORKERS_S):
            break
        time.sleep(0.5)
    descriptions = list(map(described, left))
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    return descriptions


def described(process: psutil.Process) -> str:
    """Return a process's title, state and parent."""
    with contextlib.suppress(psutil.Error):
        return f"{title(process)[:60]} ({process.status()}, of {_parent(process)})"
    return "already gone"


def _parent(process: psutil.Process) -> str:
    parent = process.parent()
    return f"{parent.name()} {parent.pid}" if parent else "nobody"
