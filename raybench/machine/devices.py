"""Device: one GPU or CPU core that a worker owns, and what this machine has of them."""

from __future__ import annotations

import contextlib
import os
import resource
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Device:
    """What a worker runs on.

    Attributes:
        kind: "gpu" or "cpu".
        name: the product's name, e.g. "NVIDIA H200" or the CPU's model name.
        index: as the process sees it: a CUDA ordinal (always 0 behind CUDA_VISIBLE_DEVICES), or
            the number of the CPU core.
        uuid: the GPU's own UUID; None for a core, or where nothing tells (a told GPU).
        visible: the entry of CUDA_VISIBLE_DEVICES that Ray gave, or the core number as text.
        told: True for a GPU that the cluster was told to have and no driver confirms.
        memory_bytes: of the device (GPU) or the node (CPU); None when unknown.
    """

    kind: str
    name: str
    index: int
    uuid: str | None
    visible: str
    told: bool = False
    memory_bytes: int | None = None


TOLD_GPU = "told GPU"
"""The name of a GPU that nothing but the cluster's word stands for."""


def cores() -> tuple[int, ...]:
    """One logical CPU for each physical core that this process may use, highest number first.

    The highest come first because interrupts and the driver favour the lowest.
    """
    allowed = sorted(os.sched_getaffinity(0), reverse=True)
    taken: dict[str, int] = {}
    for cpu in reversed(allowed):
        taken.setdefault(_siblings(cpu), cpu)
    return tuple(cpu for cpu in allowed if cpu in taken.values())


def _siblings(cpu: int) -> str:
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return str(cpu)


def cpu_name() -> str:
    """The CPU's model name as the kernel tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return "unknown CPU"


def core(number: int) -> Device:
    """The CPU core of that number as a device."""
    memory = int(psutil.virtual_memory().total)
    return Device("cpu", cpu_name(), number, None, str(number), memory_bytes=memory)


def pin(cpus: list[int]) -> None:
    """Move every thread of this process to these CPUs; threads started later inherit it."""
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(ProcessLookupError):  # it may have ended while we looked
            os.sched_setaffinity(int(thread), cpus)


def gpu_count() -> int:
    """GPUs that the driver of this machine knows; 0 without one."""
    from raybench.machine import nvml

    return len(nvml.inventory())


def gpu(visible: str) -> Device:
    """The GPU that this process sees as CUDA ordinal 0, told apart by its UUID where possible.

    Args:
        visible: the first entry of CUDA_VISIBLE_DEVICES: an index or a UUID.
    """
    from raybench.machine import nvml

    for entry in nvml.inventory():
        if visible in (entry.uuid, str(entry.index)):
            return Device(
                "gpu", entry.name, 0, entry.uuid, visible, memory_bytes=entry.memory_bytes
            )
    return Device("gpu", TOLD_GPU, 0, None, visible, told=True)


def limit_memory(limit_bytes: int) -> None:
    """Let this process map no more than so many bytes beyond what it holds now (RLIMIT_AS)."""
    held = int(psutil.Process().memory_info().vms)
    resource.setrlimit(resource.RLIMIT_AS, (held + limit_bytes, resource.RLIM_INFINITY))
