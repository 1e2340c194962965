"""Telemetry of one GPU, and its columns over a window: energy, clocks, temperature, use, health."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from typing_extensions import override

from raybench.machine import energy, gpm, gpu_health, telemetry
from raybench.machine import nvml as driver
from raybench.machine.telemetry import PERIOD_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from raybench.machine.gpm import Activity
    from raybench.machine.gpu_health import Health
    from raybench.machine.nvml import Nvml

MIN_CHECK_S = 10.0
"""Shortest window in which counter and sampled power are compared: the counter moves in steps."""

POWER_CAP = 0x4
THERMAL = 0x20 | 0x40
HARDWARE = 0x8 | 0x80
"""NVML's clocks-event reasons: software power cap; software and hardware thermal slowdown; hardware
slowdown and power brake."""

_TEMPERATURE_GPU = 0
_POWER_INSTANT = 186
"""NVML_FI_DEV_POWER_INSTANT; nvmlDeviceGetPowerUsage is a mean over a second on Hopper."""

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
    "energy_j_lo",
    "energy_j_hi",
    "avg_power_w_lo",
    "avg_power_w_hi",
    *gpm.COLUMNS,
    "pcie_gen",
    "pcie_width",
    "dram_peak_bytes_per_s",
)
"""The columns of a GPU, in the order of the results' schema."""
ENERGY_COLUMNS = (*COLUMNS[:6], *COLUMNS[17:21])


@dataclass(frozen=True)
class GpuSample:
    """Readings of one GPU at one time; None for what the driver did not report.

    Attributes:
        t_ns: this process's monotonic clock (`time.perf_counter_ns`).
        power_w: of the board: instantaneous where available, else the mean over the last second.
        energy_mj: energy counter since the driver was loaded.
        sm_mhz: SM clock.
        mem_mhz: memory clock.
        temp_c: temperature of the chip, degrees Celsius.
        util: share of the last period with a kernel running, 0 to 1.
        memory_bytes: memory in use on the device, by all processes.
        reasons: NVML's clocks-event reasons, or-ed.
        processes: ids of processes with a context on the device; like all but the last, read at the
            edges only.
        health: memory errors, and errors of the driver since the last such reading.
        sm_max_mhz: highest SM clock of the device.
        pcie_gen: generation of the link to the host as it is now; an idle link may be slower.
        pcie_width: its lanes.
        dram_peak_bytes_per_s: the most that the memory can, by its highest clock and its width.
        activity: what the chip did since an earlier sample.
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
    health: Health | None = None
    sm_max_mhz: float | None = None
    pcie_gen: int | None = None
    pcie_width: int | None = None
    dram_peak_bytes_per_s: float | None = None
    activity: Activity | None = None


# --- sampling -------------------------------------------------------------------------------------


class GpuTelemetry(telemetry.Telemetry[GpuSample]):
    """Samples one GPU.

    Args:
        uuid: UUID of the GPU or slice; None, or one unknown to the driver, gives no samples.
        period_s: time between two samples.
    """

    source = "GPU"

    def __init__(self, uuid: str | None, period_s: float = PERIOD_S) -> None:
        super().__init__(period_s)
        self._uuid = uuid
        self._nvml: Nvml | None = None
        self._board: _Board | None = None

    @override
    def _open(self) -> bool:
        self._nvml = driver.open_library() if self._uuid else None
        if self._nvml is None or self._uuid is None:
            return False
        handle = self._nvml.device(self._uuid)
        self._board = None if handle is None else _Board(self._nvml, handle, self._uuid)
        return self._board is not None

    @override
    def _read(self, edge: bool) -> GpuSample:
        assert self._board is not None
        return self._board.sample(edge)

    @override
    def _close(self) -> None:
        if self._board is not None:
            self._board.close()
            self._board = None
        if self._nvml is not None:
            self._nvml.close()
            self._nvml = None


class _Board:
    """Handles and counters of one GPU or slice, while it is sampled."""

    def __init__(self, nvml: Nvml, handle: Any, uuid: str) -> None:
        self._nvml, self._handle, self._parent = nvml, handle, handle
        instance = None
        if uuid.startswith("MIG-"):
            instance = nvml.ask("DeviceGetGpuInstanceId", handle)
            parent = nvml.ask("DeviceGetDeviceHandleFromMigDeviceHandle", handle)
            self._parent = None if instance is None else parent  # nothing, rather than the board's
        self._counters = gpm.ActivityCounters(nvml, self._parent, instance)
        self._health = gpu_health.HealthMonitor(nvml, self._parent, instance)

    @property
    def counted(self) -> bool:
        return self._counters.available

    def health(self) -> Health:
        return self._health.read()

    def sample(self, edge: bool) -> GpuSample:
        ask, handle = self._nvml.ask, self._handle
        t_ns = time.perf_counter_ns()
        util = getattr(ask("DeviceGetUtilizationRates", handle), "gpu", None)
        reasons = ask("DeviceGetCurrentClocksEventReasons", handle)
        if reasons is None:
            reasons = ask("DeviceGetCurrentClocksThrottleReasons", handle)  # drivers before 535
        return GpuSample(
            t_ns=t_ns,
            power_w=_power_w(self._nvml, handle),
            energy_mj=ask("DeviceGetTotalEnergyConsumption", handle),
            sm_mhz=driver.as_float(ask("DeviceGetClockInfo", handle, driver.SM_CLOCK)),
            mem_mhz=driver.as_float(ask("DeviceGetClockInfo", handle, driver.MEMORY_CLOCK)),
            temp_c=driver.as_float(ask("DeviceGetTemperature", handle, _TEMPERATURE_GPU)),
            util=None if util is None else util / 100,
            memory_bytes=driver.memory_bytes(self._nvml, handle, "used"),
            reasons=reasons,
            activity=self._counters.read(),
            **(self._edge_readings() if edge else {}),
        )

    def _edge_readings(self) -> dict[str, Any]:
        ask = self._nvml.ask
        max_clock = ask("DeviceGetMaxClockInfo", self._handle, driver.SM_CLOCK)
        return {
            "processes": driver.processes_on(self._nvml, self._handle),
            "health": self._health.read(),
            "sm_max_mhz": driver.as_float(max_clock),
            "pcie_gen": ask("DeviceGetCurrPcieLinkGeneration", self._parent),
            "pcie_width": ask("DeviceGetCurrPcieLinkWidth", self._parent),
            "dram_peak_bytes_per_s": self._dram_peak(),
        }

    def _dram_peak(self) -> float | None:
        """Return clock x 2 x width: data moves on both edges of the clock that NVML reports."""
        if self._parent is not self._handle:  # a slice has a part of the memory's channels
            return None
        mhz = self._nvml.ask("DeviceGetMaxClockInfo", self._handle, driver.MEMORY_CLOCK)
        bits = self._nvml.ask("DeviceGetMemoryBusWidth", self._handle)
        return 2e6 * mhz * bits / 8 if mhz and bits else None

    def close(self) -> None:
        self._counters.close()
        self._health.close()


def look(uuid: str) -> tuple[bool, Health] | None:
    """Return whether the counters of GPM can be read, and the health of a GPU; None if unknown."""
    nvml = driver.open_library()
    if nvml is None:
        return None
    try:
        handle = nvml.device(uuid)
        if handle is None:
            return None
        board = _Board(nvml, handle, uuid)
        try:
            return board.counted, board.health()
        finally:
            board.close()
    finally:
        nvml.close()


def _power_w(nvml: Nvml, handle: Any) -> float | None:
    fields = nvml.ask("DeviceGetFieldValues", handle, [_POWER_INSTANT])
    if fields and fields[0].nvmlReturn == 0:
        return float(fields[0].value.uiVal) / 1e3
    return driver.watts(nvml.ask("DeviceGetPowerUsage", handle))


# --- columns over a window ------------------------------------------------------------------------


def temperatures_c(samples: Sequence[GpuSample], at_ns: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the temperature at each instant, interpolated; NaN if no sample has one."""
    readings = telemetry.timed_readings(samples, "temp_c")
    if not readings:
        return np.full(len(at_ns), np.nan)
    times, degrees = (np.array(column, np.float64) for column in zip(*readings, strict=True))
    return np.interp(at_ns.astype(np.float64), times, degrees)


def columns(
    samples: Sequence[GpuSample],
    start_ns: int | None = None,
    end_ns: int | None = None,
    items: int | None = None,
) -> dict[str, Any]:
    """Return the columns of one GPU over a window; None where samples are missing.

    Args:
        samples: oldest first.
        start_ns: start of the window by `time.perf_counter_ns`; None for the first sample.
        end_ns: end of the window; None for the last sample.
        items: items in the window.
    """
    if not samples:
        return dict.fromkeys(COLUMNS)
    start = samples[0].t_ns if start_ns is None else start_ns
    end = samples[-1].t_ns if end_ns is None else end_ns
    inside = [sample for sample in samples if start <= sample.t_ns <= end]
    sm, temp = telemetry.readings(inside, "sm_mhz"), telemetry.readings(inside, "temp_c")
    memory = telemetry.readings(inside, "memory_bytes")
    limits = {name: telemetry.readings(samples, name) for name in COLUMNS[-3:]}
    values = {
        **_energy(samples, start, end, items),
        "sm_clock_mhz_mean": _mean(sm),
        "sm_clock_mhz_min": min(sm, default=None),
        "mem_clock_mhz_mean": _mean(telemetry.readings(inside, "mem_mhz")),
        "temp_c_start": temp[0] if temp else None,
        "temp_c_end": temp[-1] if temp else None,
        "temp_c_max": max(temp, default=None),
        "gpu_util_mean": _mean(telemetry.readings(inside, "util")),
        "throttle_power_frac": _throttled_share(inside, POWER_CAP),
        "throttle_thermal_frac": _throttled_share(inside, THERMAL),
        "throttle_hw_frac": _throttled_share(inside, HARDWARE),
        "gpu_mem_peak_mib": max(memory) / 2**20 if memory else None,
        **gpm.means(activities(samples), start, end),
        **{name: max(read, default=None) for name, read in limits.items()},  # less when idle
    }
    return {name: values[name] for name in COLUMNS}


def activities(samples: Sequence[GpuSample]) -> tuple[Activity, ...]:
    """Return what GPM read, oldest first."""
    return tuple(sample.activity for sample in samples if sample.activity is not None)


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _throttled_share(samples: Sequence[GpuSample], mask: int) -> float | None:
    reasons = [sample.reasons for sample in samples if sample.reasons is not None]
    return sum(bool(bits & mask) for bits in reasons) / len(reasons) if reasons else None


def _energy(
    samples: Sequence[GpuSample], start: int, end: int, items: int | None
) -> dict[str, Any]:
    """Return the energy columns: from the counter, else from the integral of sampled power."""
    seconds = (end - start) / 1e9
    counter = _counter(samples, start, end)
    integral = energy.from_power(telemetry.timed_readings(samples, "power_w"), start, end)
    best = counter if counter is not None else integral
    if best is None or not best.moved:
        return {**dict.fromkeys(ENERGY_COLUMNS), "energy_source": "none"}
    checked = counter is not None and integral is not None and seconds >= MIN_CHECK_S
    return {
        "items_per_j": items / best.joules if items and best.known else None,
        "j_per_item": best.joules / items if items and best.known else None,
        "energy_source": "integral" if counter is None else "counter",
        "energy_check_rel": integral.joules / counter.joules - 1 if checked else None,  # type: ignore[union-attr]
        **best.columns("energy_j"),
        **best.columns("avg_power_w", seconds),
    }


def counter_energy_j(samples: Sequence[GpuSample], start: int, end: int) -> float | None:
    """Return the energy of a window from the counter; None if its samples do not span it."""
    counted = _counter(samples, start, end)
    return None if counted is None else counted.joules


def _counter(samples: Sequence[GpuSample], start: int, end: int) -> energy.Energy | None:
    readings = telemetry.timed_readings(samples, "energy_mj")
    # subtract before float64: the counter of a board that has run for years has 16 digits
    joules = [(t_ns, (count - readings[0][1]) / 1e3) for t_ns, count in readings]
    inside = [sample for sample in samples if start <= sample.t_ns <= end]
    watts = telemetry.readings(inside, "power_w")
    return energy.from_counter(joules, start, end, energy.GPU_STEP_S, watts)
