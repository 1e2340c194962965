"""NVML: the only access to the GPU driver's own figures.

Nothing here raises. pynvml is imported when the driver is first queried. The driver may refuse any
single query (in a container, on a MIG slice, on an older board): that figure is None, the others
are not affected.
"""

from __future__ import annotations

import importlib
import json
import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from raybench.machine import sysfs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

SM_CLOCK, MEMORY_CLOCK = 1, 2
"""NVML_CLOCK_SM and NVML_CLOCK_MEM."""


@dataclass(frozen=True)
class Gpu:
    """A GPU or MIG slice, as the driver reports it.

    Attributes:
        index: the driver's number of the board; a slice has that of its board.
        uuid: "GPU-..." or "MIG-...".
        name: product name.
        memory_bytes: memory of the board or the slice.
        pci_bus_id: as NVML writes it, e.g. "00000000:17:00.0".
        numa_node: NUMA node of the host, as the kernel reports it.
        near_cpus: logical CPUs near the GPU; empty where unknown.
        driver_version: e.g. "580.65.06".
        compute_capability: e.g. "9.0".
        mig: whether this is a slice.
    """

    index: int
    uuid: str
    name: str
    memory_bytes: int | None = None
    pci_bus_id: str | None = None
    numa_node: int | None = None
    near_cpus: tuple[int, ...] = ()
    driver_version: str | None = None
    compute_capability: str | None = None
    mig: bool = False


class Nvml:
    """The opened library; every query goes through `ask`, which returns None on refusal."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self._refusals = (
            library.NVMLError,
            AttributeError,
            LookupError,
            OSError,
            TypeError,
            ValueError,
        )

    def ask(self, name: str, *arguments: Any) -> Any:
        """Return the result of `nvml<name>`, or None; also where a handle among the arguments is."""
        if None in arguments:
            return None
        return self._or_none(lambda: getattr(self._library, f"nvml{name}")(*arguments))

    def _or_none(self, query: Callable[[], T]) -> T | None:
        try:
            return query()
        except self._refusals:
            return None

    def do(self, name: str, *arguments: Any) -> bool:
        """Return whether `nvml<name>`, which returns nothing, was carried out."""
        return None not in arguments and bool(
            self._or_none(lambda: (getattr(self._library, f"nvml{name}")(*arguments), True)[1])
        )

    def refusal(self, name: str, *arguments: Any) -> str | None:
        """Carry out `nvml<name>`; return what the driver says against it, or None when it was done."""
        try:
            getattr(self._library, f"nvml{name}")(*arguments)
        except self._refusals as error:
            return str(error) or type(error).__name__
        return None

    def gpm_metrics(self, older: Any, newer: Any, numbers: Sequence[int]) -> dict[int, float]:
        """Return GPM metrics between two samples by number, without those that are refused."""
        return self._or_none(lambda: _gpm_metrics(self._library, older, newer, numbers)) or {}

    def open(self) -> bool:
        """Return whether the driver answered; balanced by `close`."""
        return bool(self._or_none(lambda: (self._library.nvmlInit(), True)[1]))

    def close(self) -> None:
        """Release the library."""
        self.ask("Shutdown")

    def device(self, uuid: str) -> Any:
        """Return the handle of a GPU or slice."""
        handle = self.ask("DeviceGetHandleByUUID", uuid)
        return self.ask("DeviceGetHandleByUUID", uuid.encode()) if handle is None else handle


def _gpm_metrics(library: Any, older: Any, newer: Any, numbers: Sequence[int]) -> dict[int, float]:
    request = library.c_nvmlGpmMetricsGet_t()
    request.version = library.NVML_GPM_METRICS_GET_VERSION
    request.numMetrics = len(numbers)
    request.sample1, request.sample2 = older, newer
    for place, number in enumerate(numbers):
        request.metrics[place].metricId = number
    library.nvmlGpmMetricsGet(request)
    given = request.metrics[: len(numbers)]
    return {
        int(metric.metricId): float(metric.value)
        for metric in given
        if metric.nvmlReturn == _OK and math.isfinite(metric.value)
    }


def open_library() -> Nvml | None:
    """Return pynvml, opened; None without pynvml or without a driver."""
    try:
        nvml = Nvml(importlib.import_module("pynvml"))
    except (ImportError, AttributeError, OSError):
        return None
    return nvml if nvml.open() else None


# --- GPUs of this machine -------------------------------------------------------------------------


def inventory() -> tuple[Gpu, ...]:
    """Return every GPU of this machine by index; MIG slices take the place of their board.

    Empty without a driver, without pynvml, or without permission. Creates no CUDA context.
    """
    nvml = open_library()
    if nvml is None:
        return ()
    try:
        driver = _text(nvml.ask("SystemGetDriverVersion"))
        count = nvml.ask("DeviceGetCount") or 0
        gpus: list[Gpu] = []
        for index in range(count):
            handle = nvml.ask("DeviceGetHandleByIndex", index)
            if handle is not None:
                gpus += _board(nvml, handle, index, driver)
        return tuple(gpus)
    finally:
        nvml.close()


def _board(nvml: Nvml, handle: Any, index: int, driver: str | None) -> list[Gpu]:
    """Return the board, or its slices if it has any."""
    slices = _slices(nvml, handle)
    pci = nvml.ask("DeviceGetPciInfo", handle)
    bus_id = _text(getattr(pci, "busId", None))
    gpus = []
    for part in slices or [handle]:
        uuid = _text(nvml.ask("DeviceGetUUID", part))
        if uuid is None:
            continue
        name = nvml.ask("DeviceGetName", part) or nvml.ask("DeviceGetName", handle)
        gpus.append(
            Gpu(
                index=index,
                uuid=uuid,
                name=_text(name) or "unknown GPU",
                memory_bytes=memory_bytes(nvml, part, "total"),
                pci_bus_id=bus_id,
                # NVML's own query covers only boards whose memory is a NUMA node
                numa_node=sysfs.numa_node_of_pci(bus_id),
                near_cpus=_near_cpus(nvml, handle),
                driver_version=driver,
                compute_capability=_capability(nvml, handle),
                mig=bool(slices),
            )
        )
    return gpus


def _slices(nvml: Nvml, handle: Any) -> list[Any]:
    mode = nvml.ask("DeviceGetMigMode", handle)
    if not mode or not mode[0]:
        return []
    limit = nvml.ask("DeviceGetMaxMigDeviceCount", handle) or 0
    slices = [nvml.ask("DeviceGetMigDeviceHandleByIndex", handle, i) for i in range(limit)]
    return [handle for handle in slices if handle is not None]


def _near_cpus(nvml: Nvml, handle: Any) -> tuple[int, ...]:
    mask_count = -(-os.sysconf("SC_NPROCESSORS_CONF") // 64)
    masks = nvml.ask("DeviceGetCpuAffinity", handle, mask_count) or ()
    return tuple(
        64 * i + bit for i, mask in enumerate(masks) for bit in range(64) if mask >> bit & 1
    )


# --- processes ------------------------------------------------------------------------------------


def compute_processes(uuid: str) -> tuple[int, ...] | None:
    """Return the ids of processes with a CUDA context on a GPU; None if the driver refuses.

    In a container the driver may report the host's ids, or none.
    """
    nvml = open_library()
    if nvml is None:
        return None
    try:
        handle = nvml.device(uuid)
        return None if handle is None else processes_on(nvml, handle)
    finally:
        nvml.close()


def processes_on(nvml: Nvml, handle: Any) -> tuple[int, ...] | None:
    """Return the ids of processes with a CUDA context on an opened device."""
    processes = nvml.ask("DeviceGetComputeRunningProcesses", handle)
    return None if processes is None else tuple(int(process.pid) for process in processes)


def foreign_processes(
    processes: tuple[int, ...] | None,
    pid: int,
    siblings: frozenset[int] = frozenset(),
    service: frozenset[int] = frozenset(),
) -> int | None:
    """Return how many processes on a device are not ours; None if the driver hides them.

    In a container the driver may report the host's ids, so that ours is not among them: then as many
    as are ours are taken for ours.

    Args:
        processes: ids of processes with a context on the device.
        pid: id of the calling process, which has a context there itself.
        siblings: ids of the other workers on the device.
        service: ids of processes of CUDA's Multi-Process Service.
    """
    if not processes:
        return None
    others = set(processes) - service
    if pid in processes:
        return len(others - siblings - {pid})
    return max(len(others) - len(siblings) - 1, 0)


# --- state of one GPU -----------------------------------------------------------------------------


def environment(uuid: str) -> dict[str, Any]:
    """Return the state of a GPU by column of the `environment` table; empty for an unknown GPU."""
    nvml = open_library()
    if nvml is None:
        return {}
    try:
        handle = nvml.device(uuid)
        if handle is None:
            return {}
        total = memory_bytes(nvml, handle, "total")
        cuda = nvml.ask("SystemGetCudaDriverVersion_v2")
        ask = nvml.ask
        return {
            "gpu_uuid": uuid,
            "gpu_name": _text(ask("DeviceGetName", handle)),
            "gpu_vbios": _text(ask("DeviceGetVbiosVersion", handle)),
            "compute_capability": _capability(nvml, handle),
            "gpu_mem_mib": None if total is None else total / 2**20,
            "mig_mode": _on_off(ask("DeviceGetMigMode", handle)),
            "ecc_mode": _on_off(ask("DeviceGetEccMode", handle)),
            "persistence_mode": _on_off(ask("DeviceGetPersistenceMode", handle)),
            "power_limit_w": watts(ask("DeviceGetEnforcedPowerLimit", handle)),
            "power_limit_default_w": watts(ask("DeviceGetPowerManagementDefaultLimit", handle)),
            "app_clock_sm_mhz": as_float(ask("DeviceGetApplicationsClock", handle, SM_CLOCK)),
            "max_clock_sm_mhz": as_float(ask("DeviceGetMaxClockInfo", handle, SM_CLOCK)),
            "pcie_gen": ask("DeviceGetCurrPcieLinkGeneration", handle),
            "pcie_width": ask("DeviceGetCurrPcieLinkWidth", handle),
            "pcie_gen_max": ask("DeviceGetMaxPcieLinkGeneration", handle),
            "topology_json": _topology(nvml, handle),
            "driver_version": _text(ask("SystemGetDriverVersion")),
            "cuda_driver_version": f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else None,
        }
    finally:
        nvml.close()


_PATHS = {0: "INT", 10: "PIX", 20: "PXB", 30: "PHB", 40: "NODE", 50: "SYS"}
"""The connection of two boards in the notation of `nvidia-smi topo`: on one board, through one PCIe
switch, several switches, a host bridge, within a NUMA node, across NUMA nodes."""
_NVLINK, _OK = 2, 0
_MAX_LINKS = 36


def _topology(nvml: Nvml, handle: Any) -> str | None:
    """Return how a GPU is connected to each other one, as JSON by UUID: "NV18", "PIX" ... "SYS".

    None where it is the only one, or the driver refuses.
    """
    connections: dict[str, str | None] = {}
    for index in range(nvml.ask("DeviceGetCount") or 0):
        other = nvml.ask("DeviceGetHandleByIndex", index)
        uuid = _text(nvml.ask("DeviceGetUUID", other))
        if uuid is None or uuid == _text(nvml.ask("DeviceGetUUID", handle)):
            continue
        if nvml.ask("DeviceGetP2PStatus", handle, other, _NVLINK) == _OK:
            links = (nvml.ask("DeviceGetNvLinkState", handle, k) for k in range(_MAX_LINKS))
            connections[uuid] = f"NV{sum(state == 1 for state in links)}"
        else:
            path = nvml.ask("DeviceGetTopologyCommonAncestor", handle, other)
            connections[uuid] = _PATHS.get(path)
    return json.dumps(connections, sort_keys=True) if any(connections.values()) else None


# --- conversions ----------------------------------------------------------------------------------


def memory_bytes(nvml: Nvml, handle: Any, field: str) -> int | None:
    """Return the "total" or "used" memory of a device."""
    value = getattr(nvml.ask("DeviceGetMemoryInfo", handle), field, None)
    return None if value is None else int(value)


def watts(milliwatts: float | None) -> float | None:
    """Convert the driver's unit of power."""
    return None if milliwatts is None else milliwatts / 1e3


def as_float(value: Any) -> float | None:
    """Convert a reading that may be None."""
    return None if value is None else float(value)


def _capability(nvml: Nvml, handle: Any) -> str | None:
    version = nvml.ask("DeviceGetCudaComputeCapability", handle)
    return f"{version[0]}.{version[1]}" if version else None


def _text(value: Any) -> str | None:
    """Convert a string, which older bindings return as bytes."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").rstrip("\0") or None
    return str(value) if value else None


def _on_off(value: Any) -> str | None:
    """Convert a feature's state, or the current one of a pair (current, pending)."""
    state = value[0] if isinstance(value, (tuple, list)) else value
    return None if state is None else ("on" if state else "off")
