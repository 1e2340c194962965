"""Device: one GPU or CPU core that a worker owns, and what this machine has of them."""

from __future__ import annotations

import contextlib
import os
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Sequence


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
        pci_bus_id: of a GPU; None when unknown.
        numa_node: of the host that the device is attached to or part of; None when unknown.
        cpus: logical CPUs for this device's worker: a core's own number, a GPU's share of the CPUs
            near it; empty where unknown.
    """

    kind: str
    name: str
    index: int
    uuid: str | None
    visible: str
    declared: bool = False
    memory_bytes: int | None = None
    pci_bus_id: str | None = None
    numa_node: int | None = None
    cpus: tuple[int, ...] = ()


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
    return Device(
        "cpu",
        cpu_name(),
        number,
        None,
        str(number),
        memory_bytes=int(psutil.virtual_memory().total),
        numa_node=_numa_node(number),
        cpus=(number,),
    )


def _numa_node(cpu: int) -> int | None:
    """By the kernel's link beside the CPU, `node0`."""
    links = Path(f"/sys/devices/system/cpu/cpu{cpu}").glob("node[0-9]*")
    return next((int(link.name[4:]) for link in links), None)


def pin(cpus: list[int]) -> None:
    """Move every thread of this process to these CPUs; threads started later inherit it."""
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(ProcessLookupError):  # it may have ended while we looked
            os.sched_setaffinity(int(thread), cpus)


def gpu_count() -> int:
    """GPUs that the driver of this machine knows; 0 without one."""
    from raybench.machine import nvml

    return len(nvml.inventory())


DECLARED = "\x74old"
"""First word of a declared GPU's stored name. Rows hold it and environment ids are hashes over it, so
the value never changes; what is printed says "declared" in its place."""


def declared_gpu(accelerator: str | None) -> str:
    """Return the stored name of a GPU that the cluster declares and no driver confirms.

    Args:
        accelerator: its type if the cluster declares one, else None or "any".
    """
    return f"{DECLARED} {'GPU' if accelerator in (None, 'any') else accelerator}"


def gpu(visible: str, accelerator: str | None = None) -> Device:
    """The GPU that this process sees as CUDA ordinal 0, told apart by its UUID where possible.

    Args:
        visible: the first entry of CUDA_VISIBLE_DEVICES: an index or a UUID.
        accelerator: its type by the cluster's word, for a GPU that no driver confirms.
    """
    from raybench.machine import nvml

    gpus = nvml.inventory()
    for entry in gpus:
        if visible in (entry.uuid, str(entry.index)):
            sharers = [other.uuid for other in gpus if other.near_cpus == entry.near_cpus]
            allowed = set(entry.near_cpus) & os.sched_getaffinity(0)
            return Device(
                "gpu",
                entry.name,
                0,
                entry.uuid,
                visible,
                memory_bytes=entry.memory_bytes,
                pci_bus_id=entry.pci_bus_id,
                numa_node=entry.numa_node,
                cpus=share(sorted(allowed), sharers.index(entry.uuid), len(sharers)),
            )
    return Device("gpu", declared_gpu(accelerator), 0, None, visible, declared=True)


FEWEST_CPUS = 2
"""A GPU's worker has one thread that feeds the device and others that look on."""


def share(cpus: Sequence[int], place: int, sharers: int) -> tuple[int, ...]:
    """The part of some CPUs that one of several sharers gets: whole cores, the same for each run.

    Every GPU near the CPUs counts, whether a worker uses it or not, so that the share does not
    depend on the number of workers. All share all where the parts would be too small, and nothing
    is given where even the whole is.

    Args:
        cpus: logical CPUs.
        place: of this sharer, from 0.
        sharers: how many.
    """
    by_core: dict[str, list[int]] = {}
    for cpu in cpus:
        by_core.setdefault(_siblings(cpu), []).append(cpu)
    cores = list(by_core.values())
    first, last = place * len(cores) // sharers, (place + 1) * len(cores) // sharers
    mine = [cpu for core in cores[first:last] for cpu in core]
    for part in (mine, cpus):
        if len(part) >= FEWEST_CPUS:
            return tuple(sorted(part))
    return ()


CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
"""Where the kernel tells a container's limit, version 2 and version 1."""


def memory_bytes() -> int:
    """What all processes here may use: the machine's memory, or its container's part of it."""
    held = int(psutil.virtual_memory().total)
    for path in CGROUP_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # "max" where there is no limit
            return min(held, int(path.read_text(encoding="ascii")))
    return held


def limit_memory(limit_bytes: int) -> None:
    """Let this process map no more than so many bytes beyond what it holds now (RLIMIT_AS)."""
    held = int(psutil.Process().memory_info().vms)
    resource.setrlimit(resource.RLIMIT_AS, (held + limit_bytes, resource.RLIM_INFINITY))
