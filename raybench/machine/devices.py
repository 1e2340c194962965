"""Devices: the GPUs and CPU cores of this machine that a worker can own."""

from __future__ import annotations

import contextlib
import os
import resource
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import psutil

from raybench.experiment import DECLARED
from raybench.machine import cgroup, sysfs
from raybench.text import counted

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from raybench.machine.nvml import Gpu


@dataclass(frozen=True)
class Device:
    """A GPU or CPU core that a worker owns.

    Attributes:
        kind: "gpu" or "cpu".
        name: product name, e.g. "NVIDIA H200" or the CPU's model name.
        index: number within the process: a CUDA ordinal (always 0 behind CUDA_VISIBLE_DEVICES), or
            the number of the CPU core.
        uuid: UUID of a GPU; None for a core and for a declared GPU.
        visible: the entry of CUDA_VISIBLE_DEVICES that Ray gave, or the core number as text.
        declared: True for a GPU that the cluster declares and no driver confirms.
        memory_bytes: memory of the GPU, or of the node for a core; None if unknown.
        pci_bus_id: of a GPU; None if unknown.
        numa_node: NUMA node of the host that the device belongs to; None if unknown.
        cpus: logical CPUs for this device's worker: a core's own number, or a GPU's share of the
            CPUs near it; empty if unknown.
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

    @property
    def mig_profile(self) -> str | None:
        """Return the profile of a MIG slice, such as "1g.10gb", from its name; None for others."""
        _, mig, profile = self.name.partition(" MIG ")
        return profile.strip() if mig and profile.strip() else None


# --- CPU cores ------------------------------------------------------------------------------------


def cores(allowed_cpus: Sequence[int] = ()) -> tuple[int, ...]:
    """Return one logical CPU of each physical core this process may use, highest number first.

    The highest come first because interrupts and the driver favour the lowest. There are no more
    than a CPU quota keeps busy, in whole cores, and always one.

    Args:
        allowed_cpus: that count as those it may use, for a process that is pinned already.
    """
    quota = cgroup.limits().cores
    most = None if quota is None else max(1, int(quota))
    return physical_cores(allowed_cpus)[:most]


def physical_cores(allowed_cpus: Sequence[int] = ()) -> tuple[int, ...]:
    """Return the same without regard to a CPU quota."""
    allowed = sorted(allowed_cpus or os.sched_getaffinity(0), reverse=True)
    first_of_core: dict[frozenset[int], int] = {}
    for cpu in reversed(allowed):
        first_of_core.setdefault(sysfs.core_siblings(cpu), cpu)
    return tuple(cpu for cpu in allowed if cpu in first_of_core.values())


def describe_cores() -> str:
    """Return how many cores there are to measure on, and what keeps them from being more."""
    count, all_cores, quota = len(cores()), len(physical_cores()), cgroup.limits().cores
    phrase = f"{counted(count, 'core')} to measure on"
    usable, online = len(os.sched_getaffinity(0)), psutil.cpu_count() or 0
    if usable < online:
        phrase += f"; this process may use {usable} of {online} CPUs"
    if quota is not None and quota < all_cores:
        part = f", and only {quota:.0%} of its time" if quota < 1 else ""
        phrase += (
            f"; a CPU quota of {quota:g} allows {'no more' if count < all_cores else 'it'}{part}"
        )
    return phrase


def cpu_name() -> str:
    """Return the CPU's model name."""
    return sysfs.cpu_model() or "unknown CPU"


def core(number: int) -> Device:
    """Return the CPU core of this number as a device."""
    return Device(
        "cpu",
        cpu_name(),
        number,
        None,
        str(number),
        memory_bytes=memory_bytes(),
        numa_node=sysfs.numa_node_of_cpu(number),
        cpus=(number,),
    )


_INT8_DOT_PRODUCTS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})


def saturates_int8() -> bool:
    """Return whether int8 kernels add products of 8-bit numbers in 16 bits here, and saturate.

    Both CPU engines do so on x86 without VNNI (vpmaddubsw); on ARM the sums have 32 bits.
    """
    flags = sysfs.cpu_flags()
    return bool(flags) and not flags & _INT8_DOT_PRODUCTS


def saturation_notes(
    reduced_ops: Sequence[str] | None, dialect: str | None, kind: str = "cpu"
) -> tuple[str, ...]:
    """Return what is to be known of a graph on this CPU whose int8 weights may have eight bits.

    Args:
        reduced_ops: its operators with types, e.g. "Conv:int8"; None if unknown.
        dialect: in which raybench wrote its int8, if it did.
        kind: of device; there is nothing to say of another than a core.
    """
    products = [op for op in reduced_ops or () if op.endswith("int8")]
    if kind != "cpu" or not products or dialect == "u8s7" or not saturates_int8():
        return ()
    return (
        "This CPU has no VNNI: its int8 kernels add two products in 16 bits, and saturate where "
        "the weights have 8 bits. Compare the outputs with those of another CPU.",
    )


def pin(cpus: list[int]) -> None:
    """Move every thread of this process to these CPUs; threads started later inherit it."""
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(ProcessLookupError):  # the thread may have ended meanwhile
            os.sched_setaffinity(int(thread), cpus)


def pin_thread(cpu: int) -> None:
    """Move the calling thread to a CPU."""
    os.sched_setaffinity(0, {cpu})


# --- GPUs -----------------------------------------------------------------------------------------


def gpu_count() -> int:
    """Return the number of GPUs that CUDA shows this process; 0 without a driver."""
    return len(shown_gpus())


def shown_gpus() -> tuple[Gpu, ...]:
    """Return the GPUs that CUDA shows this process, in CUDA's order.

    They are those of the driver, or those of them that CUDA_VISIBLE_DEVICES names: by index, or by UUID or
    its beginning, up to the first entry that names none (CUDA Programming Guide, environment variables).
    """
    from raybench.machine import nvml

    gpus, entries = nvml.inventory(), os.environ.get("CUDA_VISIBLE_DEVICES")
    if entries is None:
        return gpus
    shown: dict[str, Gpu] = {}
    for entry in entries.split(","):
        gpu = _named(gpus, entry)
        if gpu is None:
            break
        shown[gpu.uuid] = gpu
    return tuple(shown.values())


def _named(gpus: Sequence[Gpu], entry: str) -> Gpu | None:
    """Return the GPU of the driver that an entry of CUDA_VISIBLE_DEVICES names."""
    entry = entry.strip()
    by_uuid = entry.startswith(("GPU-", "MIG-"))
    named = (
        gpu for gpu in gpus if (gpu.uuid.startswith(entry) if by_uuid else entry == str(gpu.index))
    )
    return next(named, None)


def slices_to_show() -> str | None:
    """Return what CUDA_VISIBLE_DEVICES must hold so that every MIG slice is a device of its own.

    CUDA finds a slice by its UUID only, and Ray hands out the entries of that variable. Not yet run on
    a GPU with slices.

    Returns:
        None without slices, and where the variable is set already.
    """
    from raybench.machine import nvml

    gpus = nvml.inventory()
    if "CUDA_VISIBLE_DEVICES" in os.environ or not any(gpu.mig for gpu in gpus):
        return None
    return ",".join(gpu.uuid for gpu in gpus)


def declared_gpu(accelerator: str | None) -> str:
    """Return the stored name of a GPU that the cluster declares and no driver confirms.

    Args:
        accelerator: its type if the cluster declares one, else None or "any".
    """
    return f"{DECLARED} {'GPU' if accelerator in (None, 'any') else accelerator}"


def gpu(visible: str, accelerator: str | None = None) -> Device:
    """Return the GPU that this process sees as CUDA ordinal 0.

    Args:
        visible: the first entry of CUDA_VISIBLE_DEVICES: an index or a UUID.
        accelerator: type that the cluster declares, for a GPU that no driver confirms.
    """
    from raybench.machine import nvml

    gpus = nvml.inventory()
    named = _named(gpus, visible)
    if named is None:
        return Device("gpu", declared_gpu(accelerator), 0, None, visible, declared=True)
    return Device(
        "gpu",
        named.name,
        0,
        named.uuid,
        visible,
        memory_bytes=named.memory_bytes,
        pci_bus_id=named.pci_bus_id,
        numa_node=named.numa_node,
        cpus=_own_cpus(gpus, named, os.sched_getaffinity(0)),
    )


def gpu_shares(allowed_cpus: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Return the CPUs of each GPU of this machine, whether a worker uses it or not.

    Args:
        allowed_cpus: logical CPUs that the process began with; a worker is pinned to those of its own GPU.
    """
    from raybench.machine import nvml

    gpus = nvml.inventory()
    return tuple(_own_cpus(gpus, gpu, allowed_cpus) for gpu in gpus)


def _own_cpus(gpus: Sequence[Gpu], gpu: Gpu, allowed_cpus: Collection[int]) -> tuple[int, ...]:
    """Return the share of a GPU in the CPUs near it that may be used."""
    sharers = [other.uuid for other in gpus if other.near_cpus == gpu.near_cpus]
    near = sorted(set(gpu.near_cpus).intersection(allowed_cpus))
    return share(near, sharers.index(gpu.uuid), len(sharers))


def elsewhere(kind: str) -> Device:
    """Return the device of another machine, of which nothing is known but its kind."""
    return Device(kind, f"{kind} of another machine", 0, None, "")


MIN_CPUS = 2
"""A GPU's worker has one thread that feeds the device and others that watch it."""


def share(cpus: Sequence[int], position: int, sharers: int) -> tuple[int, ...]:
    """Return one sharer's part of some CPUs: whole cores, the same ones in every run.

    Every GPU near the CPUs counts, whether a worker uses it or not, so that the share does not
    depend on the number of workers. Where the parts would be too small, each sharer gets all CPUs,
    and none where even those are too few.

    Args:
        cpus: logical CPUs.
        position: of this sharer, from 0.
        sharers: number of sharers.
    """
    by_core: dict[frozenset[int], list[int]] = {}
    for cpu in cpus:
        by_core.setdefault(sysfs.core_siblings(cpu), []).append(cpu)
    cores = list(by_core.values())
    first, last = position * len(cores) // sharers, (position + 1) * len(cores) // sharers
    own = [cpu for core in cores[first:last] for cpu in core]
    for part in (own, cpus):
        if len(part) >= MIN_CPUS:
            return tuple(sorted(part))
    return ()


def take(kind: str, slot: int, accelerator: str, allowed_cpus: list[int]) -> Device:
    """Return the device that this process was given, pinned to its core or near its GPU.

    Args:
        kind: "gpu" or "cpu".
        slot: number of the device among those of its kind on the node; picks the core.
        accelerator: type that the cluster declares, for a GPU that no driver confirms.
        allowed_cpus: that the process began with; a reused one is still pinned to its last device.
    """
    pin(allowed_cpus)
    if kind == "cpu":
        number = cores()[slot]
        pin([number])
        return core(number)
    # the driver's order, which Ray counts in, and not CUDA's own, which puts the fastest first
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    device = gpu(visible[0], accelerator)
    if device.cpus:
        pin(list(device.cpus))
    return device


def pin_instance(device: Device, part: int, parts: int) -> Device:
    """Pin this process to its part of a shared device's CPUs; return the device with that part.

    The CPUs of a device are the same for any number of instances. Those of a core share it; those of
    a GPU with too few CPUs to part share them all.

    Args:
        device: that this process was pinned near.
        part: of this process, from 0.
        parts: number of processes that share the device.
    """
    if parts == 1 or device.kind == "cpu" or not device.cpus:
        return device
    cpus = share(device.cpus, part, parts)
    if cpus:
        pin(list(cpus))
    return replace(device, cpus=cpus or device.cpus)


# --- memory ---------------------------------------------------------------------------------------


def memory_bytes() -> int:
    """Return the memory all processes here may use: the machine's, or a control group's limit."""
    total = int(psutil.virtual_memory().total)
    limit = cgroup.limits().memory_bytes
    return total if limit is None else min(total, limit)


def describe_memory() -> str:
    """Return how much memory there is, and what allows no more of it."""
    total, usable = int(psutil.virtual_memory().total), memory_bytes()
    phrase = f"{usable / 2**30:.1f} GiB"
    if usable < total:
        phrase += f"; control groups allow no more of the machine's {total / 2**30:.1f} GiB"
    return phrase


MEMORY_SHARE = 0.9
"""Of a host's memory, that all workers on it together may map."""


def memory_share(sharers: int) -> int:
    """Return the bytes that each of so many workers on this host may map."""
    return int(MEMORY_SHARE * memory_bytes() / sharers)


def limit_memory(limit_bytes: int) -> None:
    """Let this process map at most this much beyond what it holds now (RLIMIT_AS)."""
    mapped = int(psutil.Process().memory_info().vms)
    resource.setrlimit(resource.RLIMIT_AS, (mapped + limit_bytes, resource.RLIM_INFINITY))
