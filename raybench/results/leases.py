"""Leases: what each driver at work on a results folder measures, so that others leave it out.

    <root>/.leases/<run_id>.json

A driver writes its lease before it starts, renews it every few seconds from a thread, and removes it
at its end. That of a driver that was killed does not count: on the same machine because its process
is gone, seen from others because it is no longer renewed. Ages are differences of the storage's own
change times, so that the clocks of the machines do not matter.

In a folder the choice is made under a lock of the file system, which a killed process cannot leave
behind; where there are no such locks, two drivers that start in the same milliseconds may take the
same trials. An object store has none: there a driver looks again `SETTLE_S` later, and of two that
started together the earlier run keeps the trials.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from dataclasses import dataclass, fields, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import psutil
import pyarrow as pa
import pyarrow.fs as pafs
from typing_extensions import override

from raybench.errors import ResultsError
from raybench.results.storage import FORMAT_FILE, Files, Folder

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from typing_extensions import Self

TrialKey: TypeAlias = tuple[str, int]
"""(point_id, trial) of one environment."""

FOLDER = ".leases"
"""Readers of the tables skip names that begin with a dot."""
RENEWAL_S = 10.0
EXPIRY_S = 45.0
"""Without renewal for so long, a lease of another machine no longer counts."""
SETTLE_S = 2.0
"""When to look again in an object store."""
LOCK_S = 5.0
"""Longest wait for a driver that is choosing; it takes milliseconds unless it is stopped."""


@dataclass(frozen=True)
class Lease:
    """What one driver measures.

    Attributes:
        run_id: of its run.
        host: its machine, for people.
        pid: its process.
        process: identifies the process on its machine: boot, process namespace and start.
        since: when it began, in UTC.
        environment_id: of the rows.
        trials: that it measures.
    """

    run_id: str
    host: str
    pid: int
    process: tuple[str, str]
    since: str
    environment_id: str
    trials: frozenset[TrialKey]

    @override
    def __str__(self) -> str:
        return (
            f"run {self.run_id} (process {self.pid} on {self.host}, at work since "
            f"{self.since[11:16]} UTC)"
        )


def at_work(files: Files) -> list[Lease]:
    """Return the leases of drivers that are at work, the earliest run first."""
    return [lease for lease, alive in _all(files) if alive]


def dead(files: Files) -> list[Lease]:
    """Return the leases of drivers that are not at work any more."""
    return [lease for lease, alive in _all(files) if not alive]


def remove_dead(files: Files) -> list[Lease]:
    """Remove the leases of drivers that are not at work any more, and return them."""
    removed = dead(files)
    for lease in removed:
        _remove(files, lease.run_id)
    return removed


class HeldLease:
    """The trials that this driver may measure; renewed while entered, and then removed.

    Args:
        files: the results folder.
        lease: of this driver, as it is stored.
        others: trials of other drivers that this one would have measured.

    Attributes:
        lease: of this driver.
        others: who measures which of the wanted trials instead.
        on_lost: called, in a thread, when another driver has taken trials of this one, because it
            stood still for longer than `EXPIRY_S`.
    """

    def __init__(self, files: Files, lease: Lease, others: Mapping[TrialKey, Lease]) -> None:
        self.lease = lease
        self.others = others
        self.on_lost: Callable[[ResultsError], object] = lambda error: None
        self._files = files
        self._settled_s = time.monotonic() + (0 if isinstance(files, Folder) else SETTLE_S)
        self._ended = threading.Event()
        self._renewing = threading.Thread(target=self._renew, daemon=True)

    def keep(self, trials: Collection[TrialKey]) -> None:
        """Give up all trials but these; in an object store, and those of a run that was first."""
        wanted = replace(self.lease, trials=self.lease.trials & frozenset(trials))
        wait_s = self._settled_s - time.monotonic()
        if wanted.trials and wait_s > 0:
            time.sleep(wait_s)
            leases = at_work(self._files)
            earlier = [lease for lease in leases if lease.run_id < wanted.run_id]
            self.others = {**self.others, **_taken(earlier, wanted)}
        self.lease = replace(wanted, trials=wanted.trials - self.others.keys())
        _write(self._files, self.lease)

    def __enter__(self) -> Self:
        self._renewing.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._renewing.join(LOCK_S)  # it may wait for a disk
        _remove(self._files, self.lease.run_id)

    def _renew(self) -> None:
        while not self._ended.wait(RENEWAL_S):
            with contextlib.suppress(ResultsError, OSError):  # tried again
                self._renew_once()

    def _renew_once(self) -> None:
        if _touch(self._files, self.lease):
            return
        taken = _taken(at_work(self._files), self.lease)
        if taken:
            who = next(iter(taken.values()))
            self.on_lost(
                ResultsError(
                    f"This run stood still for more than {EXPIRY_S:.0f} s, and {who} measures its "
                    "trials now. Finished rows are kept."
                )
            )
        elif not self._ended.is_set():
            _write(self._files, self.lease)


def claim(
    files: Files, run_id: str, environment_id: str, trials: Collection[TrialKey]
) -> HeldLease:
    """Take the trials that no other driver at work measures.

    Args:
        files: the results folder.
        run_id: of this driver.
        environment_id: of the rows; others are other measurements.
        trials: that are wanted.

    Raises:
        ResultsError: the folder cannot be read or written.
    """
    own = Lease(
        run_id, socket.gethostname(), os.getpid(), (_machine(), _start(os.getpid())),
        datetime.now(timezone.utc).isoformat(timespec="seconds"), environment_id, frozenset(trials),
    )  # fmt: skip
    with _alone(files):
        remove_dead(files)
        others = _taken(at_work(files), own)
        own = replace(own, trials=own.trials - others.keys())
        _write(files, own)
    return HeldLease(files, own, others)


def _taken(leases: Collection[Lease], own: Lease) -> dict[TrialKey, Lease]:
    """Return which of the trials of a lease others measure."""
    return {
        key: lease
        for lease in leases
        if lease.environment_id == own.environment_id and lease.run_id != own.run_id
        for key in lease.trials & own.trials
    }


@contextlib.contextmanager
def _alone(files: Files) -> Iterator[None]:
    """Hold the lock of a folder while choosing, where its file system has locks."""
    with contextlib.ExitStack() as stack:
        if isinstance(files, Folder):
            with contextlib.suppress(OSError):
                # for writing: some network disks refuse the lock otherwise
                file = stack.enter_context(open(f"{files.base}/{FORMAT_FILE}", "r+b"))
                _lock(file.fileno())
        yield


def _lock(handle: int) -> None:
    deadline = time.monotonic() + LOCK_S
    while not _has_lock(handle) and time.monotonic() < deadline:
        time.sleep(0.01)


def _has_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


# ---------------------------------------------------------------- storage


def _all(files: Files) -> list[tuple[Lease, bool]]:
    """Return every lease, and whether its driver is at work."""
    changed = _changed(files)
    leases = [lease for name in changed if (lease := _read(files, name)) is not None]
    here = _machine()
    now_s = None
    found = []
    for lease in sorted(leases, key=lambda lease: lease.run_id):
        if lease.process[0] == here:
            alive = _start(lease.pid) == lease.process[1]
        else:
            now_s = _storage_time_s(files) if now_s is None else now_s
            alive = now_s - changed[lease.run_id] < EXPIRY_S
        found.append((lease, alive))
    return found


def _changed(files: Files) -> dict[str, float]:
    """Return the leases by the id of their run, each with its change time in s."""
    wanted = pafs.FileSelector(f"{files.base}/{FOLDER}", allow_not_found=True)
    with _storage(files):
        entries = files.filesystem.get_file_info(wanted)
    return {
        entry.base_name.removesuffix(".json"): (entry.mtime_ns or 0) / 1e9
        for entry in entries
        if entry.base_name.endswith(".json")
    }


def _read(files: Files, run_id: str) -> Lease | None:
    """Return a lease; None if it was removed meanwhile or cannot be read."""
    try:
        facts = json.loads(files.read(_name(run_id)))
        trials = frozenset(
            (point, n) for point, numbers in facts.pop("trials").items() for n in numbers
        )
        facts |= {"process": tuple(facts["process"]), "trials": trials}
        return Lease(**{field.name: facts[field.name] for field in fields(Lease)})
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _write(files: Files, lease: Lease) -> None:
    trials: dict[str, list[int]] = {}
    for point_id, trial in sorted(lease.trials):
        trials.setdefault(point_id, []).append(trial)
    facts: dict[str, Any] = {**vars(lease), "trials": trials}
    content = json.dumps(facts, indent=1).encode()
    try:
        files.write(_name(lease.run_id), content)
    except ResultsError:  # the last other driver may just have removed the folder
        files.write(_name(lease.run_id), content)


def _touch(files: Files, lease: Lease) -> bool:
    """Renew a lease, and return whether it was still there."""
    if lease.run_id not in _changed(files):
        return False
    if isinstance(files, Folder):
        os.utime(f"{files.base}/{_name(lease.run_id)}")  # by the clock of the disk
    else:
        _write(files, lease)
    return True


def _remove(files: Files, run_id: str) -> None:
    with contextlib.suppress(OSError, pa.ArrowException):
        files.filesystem.delete_file(f"{files.base}/{_name(run_id)}")
    if isinstance(files, Folder):
        with contextlib.suppress(OSError):  # others are at work
            os.rmdir(f"{files.base}/{FOLDER}")


def _storage_time_s(files: Files) -> float:
    """Return the time by the clock that dates the files."""
    name = f"now-{os.getpid()}-{threading.get_ident()}"
    files.write(f"{FOLDER}/{name}", b"")
    path = f"{files.base}/{FOLDER}/{name}"
    with _storage(files):
        now_s = (files.filesystem.get_file_info(path).mtime_ns or 0) / 1e9
        files.filesystem.delete_file(path)
    return now_s


@contextlib.contextmanager
def _storage(files: Files) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise ResultsError(
            f"Results folder {files.root!r}: who is at work on it cannot be read: {reason}."
        ) from error


def _name(run_id: str) -> str:
    return f"{FOLDER}/{run_id}.json"


# ---------------------------------------------------------------- processes


def _machine() -> str:
    """Return what identifies this machine since its start, and the processes that are seen here."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    return socket.gethostname()


def _start(pid: int) -> str:
    """Return when a process started, in words that no later one has; "" if it is gone."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if words[0] in ("Z", "X") else words[19]
    except (OSError, IndexError):
        pass
    if Path("/proc/self/stat").exists():
        return ""
    try:
        return f"{psutil.Process(pid).create_time():.0f}"
    except psutil.Error:
        return ""
