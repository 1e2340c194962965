"""NVML: the one door to the GPU driver's own figures. Nothing here raises; unknown is None.

pynvml is imported when the door is opened. The driver may refuse any single question (in a
container, on a MIG slice, on an older board): that figure is None and the others stand.
"""

from __future__ import annotations

import importlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from typing_extensions import override

from raybench.machine import telemetry
from raybench.machine.telemetry import PERIOD_S

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

T = TypeVar("T")

MIN_ENERGY_S = 10.0
"""Shortest window whose energy is told: the counter moves in steps of about 100 ms."""

POWER_CAP = 0x4
THERMAL = 0x20 | 0x40
HARDWARE = 0x8 | 0x80
"""Clocks-event reasons of NVML: software power cap; software and hardware thermal slowdown;
hardware slowdown and power brake."""


@dataclass(frozen=True)
class Gpu:
    """A GPU, or a MIG slice of one, as the driver tells it.

    Attributes:
        index: the driver's number of the board; a slice has that of its board.
        uuid: "GPU-..." or "MIG-...".
        name: product name.
        memory_bytes: of the board or the slice.
        pci_bus_id: as NVML writes it, e.g. "00000000:17:00.0".
        numa_node: of the host, by the kernel; None where it does not tell.
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


@dataclass(frozen=True)
class GpuSample:
    """What the driver told of one GPU at one time; None for what it did not.

    Attributes:
        t_ns: this process's monotonic clock (`time.perf_counter_ns`).
        power_w: of the board, at once where the driver can, else its mean over the last second.
        energy_mj: counter since the driver was loaded.
        sm_mhz: SM clock.
        mem_mhz: memory clock.
        temp_c: of the chip, degrees Celsius.
        util: part of the last period with a kernel running, 0..1.
        memory_bytes: in use on the device, by all processes.
        reasons: NVML's clocks-event reasons, or-ed.
        processes: process ids with a context on the device; asked at the edges only, like the
            next two.
        ecc_errors: memory errors that could not be corrected, since the driver was loaded.
        sm_max_mhz: highest SM clock of the device.
    """

    t_ns: int
    power_w: float | None = None
    energy_mj: int | None = None
    sm_mhz: float | None = None
    mem_mhz: float | None = None
    temp_c: float | None = None
    util: float | None = None
    memory_bytes: int | None = None
    reasons: int | None = None
    processes: tuple[int, ...] | None = None
    ecc_errors: int | None = None
    sm_max_mhz: float | None = None


class _Nvml:
    """An open library; use as a context. Questions go through `ask`, which answers None."""

    def __init__(self, library: Any) -> None:
        self.lib = library
        self._trouble = (
            library.NVMLError,
            AttributeError,
            LookupError,
            OSError,
            TypeError,
            ValueError,
        )

    def ask(self, name: str, *arguments: Any) -> Any:
        """The answer of `nvml<name>`, or None."""
        return self.known(lambda: getattr(self.lib, f"nvml{name}")(*arguments))

    def known(self, probe: Callable[[], T]) -> T | None:
        """What the probe returns, or None when the driver or the library refuses."""
        try:
            return probe()
        except self._trouble:
            return None

    def open(self) -> bool:
        """Whether the driver answered; balanced by `close`."""
        return bool(self.known(lambda: (self.lib.nvmlInit(), True)[1]))

    def close(self) -> None:
        """Give the library back."""
        self.ask("Shutdown")


def _library() -> _Nvml | None:
    """Pynvml with a driver behind it, opened; None without either."""
    try:
        nvml = _Nvml(importlib.import_module("pynvml"))
    except (ImportError, AttributeError, OSError):
        return None
    return nvml if nvml.open() else None


def inventory() -> tuple[Gpu, ...]:
    """Every GPU that the driver of this machine knows, by index; slices in place of a cut one.

    Empty without a driver, without pynvml, or without permission. Makes no CUDA context.
    """
    nvml = _library()
    if nvml is None:
        return ()
    try:
        driver = _text(nvml.ask("SystemGetDriverVersion"))
        count = nvml.ask("DeviceGetCount") or 0
        found: list[Gpu] = []
        for index in range(count):
            handle = nvml.ask("DeviceGetHandleByIndex", index)
            if handle is not None:
                found += _board(nvml, handle, index, driver)
        return tuple(found)
    finally:
        nvml.close()


def _board(nvml: _Nvml, handle: Any, index: int, driver: str | None) -> list[Gpu]:
    """The board, or its slices when it is cut into some."""
    slices = _slices(nvml, handle)
    pci = nvml.ask("DeviceGetPciInfo", handle)
    bus_id = _text(getattr(pci, "busId", None))
    found = []
    for part in slices or [handle]:
        uuid = _text(nvml.ask("DeviceGetUUID", part))
        if uuid is None:
            continue
        name = nvml.ask("DeviceGetName", part) or nvml.ask("DeviceGetName", handle)
        found.append(
            Gpu(
                index=index,
                uuid=uuid,
                name=_text(name) or "unknown GPU",
                memory_bytes=_memory(nvml, part, "total"),
                pci_bus_id=bus_id,
                numa_node=_numa_node(bus_id),
                near_cpus=_near_cpus(nvml, handle),
                driver_version=driver,
                compute_capability=_capability(nvml, handle),
                mig=bool(slices),
            )
        )
    return found


def _slices(nvml: _Nvml, handle: Any) -> list[Any]:
    mode = nvml.ask("DeviceGetMigMode", handle)
    if not mode or not mode[0]:
        return []
    most = nvml.ask("DeviceGetMaxMigDeviceCount", handle) or 0
    found = [nvml.ask("DeviceGetMigDeviceHandleByIndex", handle, i) for i in range(most)]
    return [part for part in found if part is not None]


def _memory(nvml: _Nvml, handle: Any, which: str) -> int | None:
    value = getattr(nvml.ask("DeviceGetMemoryInfo", handle), which, None)
    return None if value is None else int(value)


def _capability(nvml: _Nvml, handle: Any) -> str | None:
    found = nvml.ask("DeviceGetCudaComputeCapability", handle)
    return f"{found[0]}.{found[1]}" if found else None


def _near_cpus(nvml: _Nvml, handle: Any) -> tuple[int, ...]:
    words = -(-os.sysconf("SC_NPROCESSORS_CONF") // 64)
    masks = nvml.ask("DeviceGetCpuAffinity", handle, words) or ()
    return tuple(
        64 * i + bit for i, mask in enumerate(masks) for bit in range(64) if mask >> bit & 1
    )


def _numa_node(bus_id: str | None, root: Path = Path("/sys/bus/pci/devices")) -> int | None:
    """By the kernel: NVML's own call tells of boards whose memory is a NUMA node only."""
    if bus_id is None:
        return None
    domain, _, rest = bus_id.lower().partition(":")
    try:
        node = int((root / f"{domain[-4:]}:{rest}" / "numa_node").read_text())
    except (OSError, ValueError):
        return None
    return node if node >= 0 else None


def _text(value: Any) -> str | None:
    """Older bindings give bytes."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").rstrip("\0") or None
    return str(value) if value else None


def _on_off(value: Any) -> str | None:
    """A feature state; the current one of a pair (current, pending)."""
    state = value[0] if isinstance(value, (tuple, list)) else value
    return None if state is None else ("on" if state else "off")


def _watts(milliwatts: float | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1e3


def environment(uuid: str) -> dict[str, Any]:
    """What the driver tells of a GPU's state, by column of the `environment` table.

    Empty where there is no such GPU.
    """
    nvml = _library()
    if nvml is None:
        return {}
    try:
        handle = _find(nvml, uuid)
        if handle is None:
            return {}
        total = _memory(nvml, handle, "total")
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
            "power_limit_w": _watts(ask("DeviceGetEnforcedPowerLimit", handle)),
            "power_limit_default_w": _watts(ask("DeviceGetPowerManagementDefaultLimit", handle)),
            "app_clock_sm_mhz": _number(ask("DeviceGetApplicationsClock", handle, _SM)),
            "max_clock_sm_mhz": _number(ask("DeviceGetMaxClockInfo", handle, _SM)),
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
"""How far up two boards meet, as nvidia-smi topo says it: on one board, at one PCIe switch, several
switches, a host bridge, within a NUMA node, across them."""
_NVLINK, _OK = 2, 0
_MOST_LINKS = 36


def _topology(nvml: _Nvml, handle: Any) -> str | None:
    """The way from a GPU to each other of its host, as JSON by UUID: "NV18", "PIX" ... "SYS".

    None where there is no other, or the driver won't tell.
    """
    ways: dict[str, str | None] = {}
    for index in range(nvml.ask("DeviceGetCount") or 0):
        other = nvml.ask("DeviceGetHandleByIndex", index)
        uuid = _text(nvml.ask("DeviceGetUUID", other))
        if uuid is None or uuid == _text(nvml.ask("DeviceGetUUID", handle)):
            continue
        if nvml.ask("DeviceGetP2PStatus", handle, other, _NVLINK) == _OK:
            links = (nvml.ask("DeviceGetNvLinkState", handle, k) for k in range(_MOST_LINKS))
            ways[uuid] = f"NV{sum(state == 1 for state in links)}"
        else:
            ways[uuid] = _PATHS.get(nvml.ask("DeviceGetTopologyCommonAncestor", handle, other))
    return json.dumps(ways, sort_keys=True) if any(ways.values()) else None


def compute_processes(uuid: str) -> tuple[int, ...] | None:
    """Process ids with a CUDA context on the GPU, by the driver's count; None where it won't tell.

    In a container the driver may tell the host's ids, or none.
    """
    nvml = _library()
    if nvml is None:
        return None
    try:
        handle = _find(nvml, uuid)
        return None if handle is None else _processes(nvml, handle)
    finally:
        nvml.close()


def _processes(nvml: _Nvml, handle: Any) -> tuple[int, ...] | None:
    found = nvml.ask("DeviceGetComputeRunningProcesses", handle)
    return None if found is None else tuple(int(process.pid) for process in found)


def foreign(processes: tuple[int, ...] | None, pid: int) -> int | None:
    """How many of the processes on a device are others; None where the driver hides them.

    In a container the driver may tell the host's ids, among which ours cannot be found: then one
    of them is taken for ours.

    Args:
        processes: with a context on the device.
        pid: of the caller, which has a context there itself.
    """
    if not processes:
        return None
    others = set(processes) - {pid}
    return len(others) if pid in processes else len(others) - 1


def _find(nvml: _Nvml, uuid: str) -> Any:
    handle = nvml.ask("DeviceGetHandleByUUID", uuid)
    return nvml.ask("DeviceGetHandleByUUID", uuid.encode()) if handle is None else handle


_SM, _MEM = 1, 2
"""NVML_CLOCK_SM and NVML_CLOCK_MEM."""
_TEMPERATURE_GPU = 0
_UNCORRECTED, _VOLATILE = 1, 0
"""NVML_MEMORY_ERROR_TYPE_UNCORRECTED, NVML_VOLATILE_ECC."""
_POWER_INSTANT = 186
"""NVML_FI_DEV_POWER_INSTANT: at once; nvmlDeviceGetPowerUsage is a mean over a second on Hopper."""


def temperatures_c(samples: Sequence[GpuSample], at_ns: NDArray[np.int64]) -> NDArray[np.float64]:
    """Temperature at some instants, between the samples around them; NaN where none is known."""
    told = [(sample.t_ns, sample.temp_c) for sample in samples if sample.temp_c is not None]
    if not told:
        return np.full(len(at_ns), np.nan)
    times, degrees = (np.array(column, np.float64) for column in zip(*told, strict=True))
    return np.interp(at_ns.astype(np.float64), times, degrees)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _power_w(nvml: _Nvml, handle: Any) -> float | None:
    found = nvml.ask("DeviceGetFieldValues", handle, [_POWER_INSTANT])
    if found and found[0].nvmlReturn == 0:
        return float(found[0].value.uiVal) / 1e3
    return _watts(nvml.ask("DeviceGetPowerUsage", handle))


def _take(nvml: _Nvml, handle: Any, edge: bool) -> GpuSample:
    ask = nvml.ask
    t_ns = time.perf_counter_ns()
    util = getattr(ask("DeviceGetUtilizationRates", handle), "gpu", None)
    reasons = ask("DeviceGetCurrentClocksEventReasons", handle)
    if reasons is None:
        reasons = ask("DeviceGetCurrentClocksThrottleReasons", handle)  # drivers before 535
    return GpuSample(
        t_ns=t_ns,
        power_w=_power_w(nvml, handle),
        energy_mj=ask("DeviceGetTotalEnergyConsumption", handle),
        sm_mhz=_number(ask("DeviceGetClockInfo", handle, _SM)),
        mem_mhz=_number(ask("DeviceGetClockInfo", handle, _MEM)),
        temp_c=_number(ask("DeviceGetTemperature", handle, _TEMPERATURE_GPU)),
        util=None if util is None else util / 100,
        memory_bytes=_memory(nvml, handle, "used"),
        reasons=reasons,
        **(_edge(nvml, handle) if edge else {}),
    )


def _edge(nvml: _Nvml, handle: Any) -> dict[str, Any]:
    return {
        "processes": _processes(nvml, handle),
        "ecc_errors": nvml.ask("DeviceGetTotalEccErrors", handle, _UNCORRECTED, _VOLATILE),
        "sm_max_mhz": _number(nvml.ask("DeviceGetMaxClockInfo", handle, _SM)),
    }


class GpuTelemetry(telemetry.Telemetry[GpuSample]):
    """Samples one GPU.

    Args:
        uuid: of the GPU or slice; None, or one that the driver does not know, gives no samples.
        period_s: between two samples.
    """

    def __init__(self, uuid: str | None, period_s: float = PERIOD_S) -> None:
        super().__init__(period_s)
        self._uuid = uuid
        self._nvml: _Nvml | None = None
        self._handle: Any = None

    def stop(
        self, start_ns: int | None = None, end_ns: int | None = None, items: int | None = None
    ) -> dict[str, Any]:
        """End, and tell the window.

        Args:
            start_ns: start of the window by `time.perf_counter_ns`; None for the first sample.
            end_ns: its end; None for the last sample.
            items: items in the window, for the energy of one.

        Returns:
            Every hardware column of the results, None where unknown.
        """
        return columns(self.end(), start_ns, end_ns, items)

    @override
    def _open(self) -> bool:
        self._nvml = _library() if self._uuid else None
        if self._nvml is None or self._uuid is None:
            return False
        self._handle = _find(self._nvml, self._uuid)
        if self._handle is None:
            self._close()
        return self._handle is not None

    @override
    def _read(self, edge: bool) -> GpuSample:
        assert self._nvml is not None
        return _take(self._nvml, self._handle, edge)

    @override
    def _close(self) -> None:
        if self._nvml is not None:
            self._nvml.close()
            self._nvml = None


def columns(
    samples: Sequence[GpuSample],
    start_ns: int | None = None,
    end_ns: int | None = None,
    items: int | None = None,
) -> dict[str, Any]:
    """The hardware columns of one GPU over a window; None where its samples do not tell.

    Args:
        samples: oldest first.
        start_ns: start of the window; None for the first sample.
        end_ns: its end; None for the last sample.
        items: items in the window.
    """
    if not samples:
        return dict.fromkeys(COLUMNS)
    start = samples[0].t_ns if start_ns is None else start_ns
    end = samples[-1].t_ns if end_ns is None else end_ns
    inside = [sample for sample in samples if start <= sample.t_ns <= end]
    sm, temp = _told(inside, "sm_mhz"), _told(inside, "temp_c")
    memory = _told(inside, "memory_bytes")
    found = {
        **_energy(samples, start, end, items),
        "sm_clock_mhz_mean": _mean(sm),
        "sm_clock_mhz_min": min(sm, default=None),
        "mem_clock_mhz_mean": _mean(_told(inside, "mem_mhz")),
        "temp_c_start": temp[0] if temp else None,
        "temp_c_end": temp[-1] if temp else None,
        "temp_c_max": max(temp, default=None),
        "gpu_util_mean": _mean(_told(inside, "util")),
        "throttle_power_frac": _part(inside, POWER_CAP),
        "throttle_thermal_frac": _part(inside, THERMAL),
        "throttle_hw_frac": _part(inside, HARDWARE),
        "gpu_mem_peak_mib": max(memory) / 2**20 if memory else None,
    }
    return {name: found[name] for name in COLUMNS}


COLUMNS = (
    "energy_j",
    "items_per_j",
    "j_per_item",
    "avg_power_w",
    "energy_source",
    "energy_check_rel",
    "sm_clock_mhz_mean",
    "sm_clock_mhz_min",
    "mem_clock_mhz_mean",
    "temp_c_start",
    "temp_c_end",
    "temp_c_max",
    "gpu_util_mean",
    "throttle_power_frac",
    "throttle_thermal_frac",
    "throttle_hw_frac",
    "gpu_mem_peak_mib",
)
"""Names as in the results' schema, in its order."""


def _told(samples: Sequence[GpuSample], name: str) -> list[float]:
    return [value for sample in samples if (value := getattr(sample, name)) is not None]


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _part(samples: Sequence[GpuSample], mask: int) -> float | None:
    told = [sample.reasons for sample in samples if sample.reasons is not None]
    return sum(bool(reasons & mask) for reasons in told) / len(told) if told else None


def _energy(
    samples: Sequence[GpuSample], start: int, end: int, items: int | None
) -> dict[str, Any]:
    """Energy over the window: of the counter, else the integral of the sampled power."""
    seconds = (end - start) / 1e9
    counter = counted_j(samples, start, end)
    integral = _integral_j(samples, start, end)
    found = counter if counter is not None else integral
    if found is None or found <= 0 or seconds < MIN_ENERGY_S:
        return {**dict.fromkeys(COLUMNS[:6]), "energy_source": "none"}
    check = None if counter is None or integral is None else integral / counter - 1
    return {
        "energy_j": found,
        "items_per_j": items / found if items else None,
        "j_per_item": found / items if items else None,
        "avg_power_w": found / seconds,
        "energy_source": "integral" if counter is None else "counter",
        "energy_check_rel": check,
    }


def counted_j(samples: Sequence[GpuSample], start: int, end: int) -> float | None:
    """Energy from `start` to `end` by the counter; None where it is not told for all of it."""
    told = [(s.t_ns, s.energy_mj) for s in samples if s.energy_mj is not None]
    if len(told) < 2 or told[0][0] > start or told[-1][0] < end:
        return None
    times, counts = zip(*told, strict=True)
    # subtract before float64: the counter of a board that has run for years has 16 digits
    first, last = np.interp([start, end], times, [count - counts[0] for count in counts])
    return float(last - first) / 1e3


def _integral_j(samples: Sequence[GpuSample], start: int, end: int) -> float | None:
    told = [(s.t_ns, s.power_w) for s in samples if s.power_w is not None]
    if len(told) < 2 or told[0][0] > start or told[-1][0] < end:
        return None
    stamps, watts = (np.array(column, np.float64) for column in zip(*told, strict=True))
    inner = stamps[(stamps > start) & (stamps < end)]
    times = np.concatenate([[start], inner, [end]])
    power = np.interp(times, stamps, watts)
    return float(np.sum((power[1:] + power[:-1]) / 2 * np.diff(times)) / 1e9)
