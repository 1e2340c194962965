"""Control groups: how much CPU time and memory the kernel lets this process have.

A container, a batch system's job or a systemd slice is a control group; its limits, and those of every
group above it, hold for this process. Version 1 has a hierarchy for each controller, version 2 one for
all, and a machine may have both. Nothing here raises: what cannot be read limits nothing.
"""

from __future__ import annotations

import os
import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raybench.machine import sysfs
from raybench.machine.sysfs import KernelFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTROLLERS = ("cpu", "memory", "pids")
"""Controllers whose limits count; the kernel itself applies a cpuset to a process's affinity."""
UNIFIED = ""
"""Stands for the one hierarchy of version 2 among the controllers."""
DEFAULT_MOUNTS = tuple(
    f"sys/fs/cgroup{folder}"
    for folder in ("", "/cpu", "/cpu,cpuacct", "/memory", "/pids", "/unified")
)
"""Where control groups are usually mounted, for a process that cannot read its mounts."""
NO_LIMIT_BYTES = 1 << 60
"""Memory limits from here on mean none: version 1 writes the largest number of whole pages."""
_ESCAPED = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class GroupLimits:
    """The limits that control groups put on this process.

    Attributes:
        cores: CPU quota: CPU time per time, e.g. 1.5; None without one.
        memory_bytes: most memory of all processes of a group together; None without a limit.
        threads_left: how many more threads the groups may have; None without a limit.
    """

    cores: float | None = None
    memory_bytes: int | None = None
    threads_left: int | None = None


def limits(root: Path | None = None) -> GroupLimits:
    """Return the tightest limits of this process's groups and of all groups above them.

    Args:
        root: of the file system; None for this machine's.
    """
    folders = _folders(root or sysfs.ROOT)
    quotas = [quota for quota in map(_quota, folders) if quota is not None]
    memory = [limit for limit in map(_memory_bytes, folders) if limit is not None]
    threads = [left for left in map(_threads_left, folders) if left is not None]
    return GroupLimits(
        min(quotas, default=None), min(memory, default=None), min(threads, default=None)
    )


# --- throttled time -------------------------------------------------------------------------------


@dataclass(frozen=True)
class CpuTimes:
    """What this process's groups did with CPU time since they were made, summed over CPUs.

    Attributes:
        throttled_s: time for which a quota held CPUs back; None if unknown.
        used_s: CPU time of all processes of the own group; None if unknown.
    """

    throttled_s: float | None = None
    used_s: float | None = None


class CpuStatistics:
    """Reads the CPU times of this process's groups, again and again.

    Newer kernels count in the own group how long any group above held it back (`cpu.stat.local`);
    otherwise the own group and those above count together.

    Args:
        root: of the file system; None for this machine's.

    Attributes:
        group: folder of this process's group of the CPU controller; None if it cannot be seen.
    """

    def __init__(self, root: Path | None = None) -> None:
        folders = _folders(root or sysfs.ROOT)
        throttled = [f for f in folders if _throttled_s(sysfs.text(f / "cpu.stat")) is not None]
        self.group = next(iter(throttled), None)
        paths = [folder / "cpu.stat" for folder in throttled]
        self._used: list[KernelFile] = []
        if self.group is not None:
            local = self.group / "cpu.stat.local"
            if _throttled_s(sysfs.text(local)) is not None:
                paths = [local]
            # the second is of version 1, where both controllers have one hierarchy
            names = ("cpu.stat", "cpuacct.usage")
            self._used = [KernelFile(self.group / name) for name in names]
        self._throttled = [KernelFile(path) for path in paths]

    def read(self) -> CpuTimes:
        """Return the times of this moment."""
        times = [_throttled_s(file.text()) for file in self._throttled]
        throttled = [seconds for seconds in times if seconds is not None]
        return CpuTimes(sum(throttled) if throttled else None, self._used_s())

    def _used_s(self) -> float | None:
        for file in self._used:
            text = file.text()
            used_us, used_ns = _entries(text).get("usage_usec"), sysfs.whole_number(text)
            if used_us is not None:
                return used_us / 1e6
            if used_ns is not None:
                return used_ns / 1e9
        return None

    def close(self) -> None:
        """Close the files."""
        for file in (*self._throttled, *self._used):
            file.close()


def _throttled_s(stat: str | None) -> float | None:
    """Return the throttled time in the content of a `cpu.stat` of either version."""
    entries = _entries(stat)
    for name, per_s in (("throttled_usec", 1e6), ("throttled_time", 1e9)):
        if name in entries:
            return entries[name] / per_s
    return None


def _entries(text: str | None) -> dict[str, int]:
    """Return the numbers of a file that has a name and a number in each line."""
    pairs = (line.split() for line in (text or "").splitlines())
    numbers = {pair[0]: sysfs.whole_number(pair[1]) for pair in pairs if len(pair) == 2}
    return {name: number for name, number in numbers.items() if number is not None}


# --- the limits of one group ----------------------------------------------------------------------


def _quota(folder: Path) -> float | None:
    """Return the CPU quota of a group in cores."""
    words = (sysfs.text(folder / "cpu.max") or "").split()  # "50000 100000" or "max 100000"
    if not words:
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")  # a quota of -1 is none
        words = [sysfs.text(folder / name) or "" for name in names]
    numbers = [sysfs.whole_number(word) for word in words]
    if len(numbers) != 2 or any(number is None or number <= 0 for number in numbers):
        return None
    quota, period = numbers
    return quota / period  # type: ignore[operator]


def _memory_bytes(folder: Path) -> int | None:
    """Return the memory limit of a group; beyond `memory.high` the kernel slows it down."""
    names = ("memory.max", "memory.high", "memory.limit_in_bytes")  # "max" where there is none
    found = [sysfs.number(folder / name) for name in names]
    # version 1 counts the groups above here, also those that a container does not see
    found.append(_entries(sysfs.text(folder / "memory.stat")).get("hierarchical_memory_limit"))
    real = [limit for limit in found if limit is not None and 0 < limit < NO_LIMIT_BYTES]
    return min(real, default=None)


def _threads_left(folder: Path) -> int | None:
    """Return how many more threads a group may have."""
    most = sysfs.number(folder / "pids.max")  # "max" where there is no limit
    current = sysfs.number(folder / "pids.current")
    return None if most is None or current is None else max(most - current, 0)


# --- which groups ---------------------------------------------------------------------------------


def _folders(root: Path) -> list[Path]:
    """Return the folders of this process's groups, each followed by those above it."""
    groups = _groups(sysfs.text(root / "proc/self/cgroup") or "")
    mounts = _mounts(sysfs.text(root / "proc/self/mountinfo") or "")
    folders = [
        folder
        for controller, top, mount in mounts
        for folder in _own_and_above(root / mount, top, groups.get(controller, "/"))
    ]
    folders = folders or [root / mount for mount in DEFAULT_MOUNTS]
    return [
        folder for folder in dict.fromkeys(folders) if os.path.isdir(folder)
    ]  # Path's may raise


def _groups(cgroup: str) -> dict[str, str]:
    """Return this process's group by controller, from /proc/self/cgroup ("4:cpu,cpuacct:/a/b")."""
    groups: dict[str, str] = {}
    for line in cgroup.splitlines():
        _, _, rest = line.partition(":")
        controllers, colon, group = rest.partition(":")
        if colon:
            groups |= dict.fromkeys(controllers.split(","), group)
    return groups


def _mounts(mountinfo: str) -> Iterator[tuple[str, str, str]]:
    """Yield controller, topmost group and place of the mounted hierarchies that hold limits.

    Args:
        mountinfo: content of /proc/self/mountinfo: "31 23 0:28 TOP PLACE rw - cgroup NAME rw,cpu".
    """
    for line in mountinfo.splitlines():
        before, dash, after = line.partition(" - ")
        place, kind = before.split(), after.split()
        if not dash or len(place) < 5 or not kind:
            continue
        options = kind[-1].split(",")
        found = {"cgroup2": [UNIFIED], "cgroup": [c for c in CONTROLLERS if c in options]}
        for controller in found.get(kind[0], ()):
            yield controller, _unescaped(place[3]), _unescaped(place[4]).lstrip("/")


def _own_and_above(mount: Path, top: str, group: str) -> Iterator[Path]:
    """Yield the folder of a group and of those above it, as far up as they are mounted.

    A container may see only part of the hierarchy: then its group is named as the host sees it, or
    lies outside of what is mounted, and the mounted group is the nearest that can be read.

    Args:
        mount: where the hierarchy is mounted.
        top: the group that is mounted there.
        group: of this process.
    """
    below = posixpath.relpath("/" + group.lstrip("/"), "/" + top.lstrip("/"))
    folder = mount / below
    outside = ".." in group.split("/") or ".." in below.split("/")
    if outside or not os.path.isdir(folder):
        folder = mount
    while folder != mount:
        yield folder
        folder = folder.parent
    yield mount


def _unescaped(path: str) -> str:
    """Return a path of /proc/self/mountinfo with its blanks, which are octal there."""
    return _ESCAPED.sub(lambda match: chr(int(match.group(1), 8)), path)
