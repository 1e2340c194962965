"""Control groups of an invented machine, and real ones where this user may make them."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

from raybench.machine import cgroup

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

V2_MOUNT = "31 23 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1_MOUNTS = (
    "30 23 0:27 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755\n"
    "33 30 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "35 30 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "36 30 0:33 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n"
)
NO_LIMIT = "9223372036854771712"
"""What version 1 writes where there is no memory limit."""


def write_files(root: Path, files: Mapping[str, str]) -> Path:
    """Write files below a root by their paths."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def machine_with(root: Path, own: str, mounts: str, groups: Mapping[str, str]) -> Path:
    """Write a process's groups, its mounts and the files below /sys/fs/cgroup."""
    files = {f"sys/fs/cgroup/{name}": text for name, text in groups.items()}
    proc = {"proc/self/cgroup": own, "proc/self/mountinfo": mounts}
    return write_files(root, {**proc, **files})


def quota_missing() -> str | None:
    """Return why no group with a CPU quota can be made here; None if one can."""
    try:
        with real_quota(1.0):
            return None
    except OSError as error:
        return f"no control group with a CPU quota can be made here: {error}"


@contextlib.contextmanager
def real_quota(cores: float) -> Iterator[Path]:
    """Make a group with a CPU quota below the one of this process; yield its folder.

    Raises:
        OSError: where that is not possible.
    """
    with contextlib.closing(cgroup.CpuStatistics()) as statistics:
        own = statistics.group
    if own is None:
        raise OSError("this process has no group of the CPU controller")
    folder = own / f"raybench-test-{os.getpid()}"
    folder.mkdir()
    try:
        if (folder / "cpu.cfs_quota_us").exists():
            (folder / "cpu.cfs_period_us").write_text("100000")
            (folder / "cpu.cfs_quota_us").write_text(str(int(cores * 100_000)))
        else:
            (folder / "cpu.max").write_text(f"{int(cores * 100_000)} 100000")
        for name, most in (("cpu.weight", "10000"), ("cpu.shares", "262144")):
            if (folder / name).exists():  # or a busy machine would leave it less than its quota
                (folder / name).write_text(most)
        yield folder
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    """Move whatever still runs in a group to the one above, and remove the group."""
    for _ in range(100):
        for pid in (folder / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                (folder.parent / "cgroup.procs").write_text(pid)
        try:
            folder.rmdir()
        except OSError:
            time.sleep(0.05)
        else:
            return
    folder.rmdir()
