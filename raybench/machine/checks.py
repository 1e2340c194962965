"""Machine settings that bias measurements, and the command that fixes each."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raybench.machine import cgroup, devices, folders, nvml, room, sysfs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

MAX_LOAD = 0.5
"""Chosen here: mean number of processes that want a CPU; an idle machine has 0 to 0.2."""
MORE_THREADS = "docker run --pids-limit=4096, or ulimit -u, or TasksMax= of the service"
MIN_POWER_SHARE = 0.99
"""A power limit below this share of the factory's counts as lowered."""


@dataclass(frozen=True)
class SystemIssue:
    """A machine setting that biases measurements.

    Attributes:
        what: a clause that does not name the machine.
        fix: a command to run on that machine.
    """

    what: str
    fix: str


def system_issues(
    gpus: Sequence[Mapping[str, Any]],
    *,
    nice: int | None = None,
    load: float | None = None,
    governors: Sequence[str] | None = None,
    processes: Callable[[str], tuple[int, ...] | None] = nvml.compute_processes,
) -> list[SystemIssue]:
    """Return the issues of this machine.

    Args:
        gpus: the driver's facts about each GPU, from `nvml.environment`.
        nice: niceness of the workers; by default of this process.
        load: load average of the last minute; by default this machine's.
        governors: frequency governors of the CPUs; by default this machine's.
        processes: returns the ids of processes with a context on the GPU of a UUID.
    """
    issues = [*_of_groups(cgroup.limits()), *_of_folders([folders.cache()])]
    issues += _of_host(
        os.nice(0) if nice is None else nice,
        os.getloadavg()[0] if load is None else load,
        sysfs.governors() if governors is None else governors,
    )
    return [*issues, *(issue for gpu in gpus for issue in _of_gpu(gpu, processes))]


def _of_host(nice: int, load: float, governors: Sequence[str]) -> Iterator[SystemIssue]:
    if nice > 0:
        yield SystemIssue(
            f"workers have niceness {nice} and yield to everything else",
            """ray start --head --system-config='{"worker_niceness": 0}'  (or renice this shell)""",
        )
    if load > MAX_LOAD:
        yield SystemIssue(
            f"something else is running (load average {load:.1f})",
            "ps -eo pid,user,pcpu,etime,comm --sort=-pcpu | head",
        )
    slow = sorted(set(governors) - {"performance"})
    if slow:
        yield SystemIssue(
            f"CPU clocks follow the governor {', '.join(slow)}",
            "sudo cpupower frequency-set -g performance",
        )


def start_issues(device_count: int) -> list[SystemIssue]:
    """Return what would hinder Ray from starting on this machine, or from running well.

    Args:
        device_count: number of devices that a cluster here offers.
    """
    issues = [*_of_folders([folders.ray()])]
    threads, needed = room.threads_left(), room.threads_needed(device_count)
    if threads is not None and threads < needed:
        issues.append(SystemIssue(too_few_threads(threads, needed), MORE_THREADS))
    files = room.files_allowed()
    if files is not None and files < room.LEAST_FILES:
        issues.append(SystemIssue(f"a process may open only {files} files", "ulimit -n 65536"))
    shared = room.shared_memory_bytes()
    if shared is not None and shared < room.LEAST_SHARED_BYTES:
        issues.append(
            SystemIssue(
                f"{room.SHARED_MEMORY} has {shared / 2**20:.0f} MiB; Ray uses its temporary folder "
                "for objects, which changes no measurement",
                "docker run --shm-size=512m",
            )
        )
    return issues


def too_few_threads(left: int, needed: int) -> str:
    """Return a clause that a limit on threads leaves too few for Ray."""
    return f"Ray needs about {needed} more threads and {left} are left"


def _of_folders(chosen: Sequence[folders.ChosenFolder]) -> Iterator[SystemIssue]:
    for folder in chosen:
        if folder.reason is not None:
            yield SystemIssue(folder.problem, folder.remedy)


def _of_groups(limits: cgroup.GroupLimits) -> Iterator[SystemIssue]:
    quota, cores = limits.cores, len(devices.physical_cores())
    if quota is not None and quota < cores:
        yield SystemIssue(
            f"a CPU quota of {quota:g} cores holds back whatever uses more (control groups)",
            f"docker run --cpus={cores}, or limits.cpu of the pod, or CPUQuota={cores}00% of the service",
        )


def _of_gpu(
    gpu: Mapping[str, Any], processes: Callable[[str], tuple[int, ...] | None]
) -> Iterator[SystemIssue]:
    index, uuid = gpu.get("device_index"), str(gpu.get("gpu_uuid"))
    others = processes(uuid)
    if others:
        yield SystemIssue(
            f"GPU {index} is used by process {', '.join(map(str, others))}",
            "nvidia-smi --query-compute-apps=gpu_uuid,pid,name --format=csv",
        )
    if gpu.get("persistence_mode") == "off":
        yield SystemIssue(
            f"GPU {index} sleeps between uses (persistence mode off)",
            f"sudo nvidia-smi -i {index} -pm 1",
        )
    limit, default = gpu.get("power_limit_w"), gpu.get("power_limit_default_w")
    if limit is not None and default is not None and limit < MIN_POWER_SHARE * default:
        yield SystemIssue(
            f"GPU {index} may draw {limit:.0f} W of its {default:.0f} W",
            f"sudo nvidia-smi -i {index} -pl {default:.0f}",
        )
    clock, highest = gpu.get("app_clock_sm_mhz"), gpu.get("max_clock_sm_mhz")
    if clock is not None and highest is not None and clock < highest:
        yield SystemIssue(
            f"GPU {index} is set to {clock:.0f} MHz of its {highest:.0f} MHz",
            f"sudo nvidia-smi -i {index} -rac",
        )
