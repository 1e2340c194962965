"""Telemetry of the host: a worker's own CPUs and its node, as the kernel reports them.

Nothing here raises or needs more rights than reading `/proc` and `/sys`. Readings that are not
available are None: a virtual machine lacks most sensors, and energy counters are often root's alone.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import psutil
from typing_extensions import override

from raybench.machine import cgroup, energy, sysfs, telemetry
from raybench.machine.sysfs import KernelFile
from raybench.machine.telemetry import PERIOD_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

MAX_CORE_SHARE = 1 / 1000
"""Most of a core that sampling may take: reading `/proc/stat` of hundreds of CPUs takes milliseconds."""


@dataclass(frozen=True)
class HostSample:
    """Readings of the host at one time. CPU times are cumulative, in seconds since boot.

    Attributes:
        t_ns: this process's monotonic clock (`time.perf_counter_ns`).
        cpus: number of CPUs the worker may use.
        busy_s: busy time of the worker's cores, siblings included, by all processes.
        steal_s: time of the worker's CPUs given to other virtual machines.
        node_cpus: number of CPUs of the node.
        node_busy_s: busy time of all CPUs of the node.
        own_s: CPU time of this process.
        mhz: mean clock of the worker's CPUs at this moment.
        max_mhz: their highest clock.
        temp_c: hottest processor sensor, degrees Celsius.
        energy_j: energy counter of all processor packages of the node.
        throttles: how often heat has slowed the worker's CPUs.
        rss_bytes: memory of this process.
        available_bytes: memory of the node that is available.
        throttled_s: time for which a CPU quota held back this process's control groups, all CPUs.
        group_s: CPU time of this process's control group.
        quota_cores: its CPU quota, or that of a group above it, whichever is less.
    """

    t_ns: int
    cpus: int
    busy_s: float | None = None
    steal_s: float | None = None
    node_cpus: int | None = None
    node_busy_s: float | None = None
    own_s: float | None = None
    mhz: float | None = None
    max_mhz: float | None = None
    temp_c: float | None = None
    energy_j: float | None = None
    throttles: int | None = None
    rss_bytes: int | None = None
    available_bytes: int | None = None
    throttled_s: float | None = None
    group_s: float | None = None
    quota_cores: float | None = None


class HostTelemetry(telemetry.Telemetry[HostSample]):
    """Samples the host of this process.

    Args:
        period_s: time between two samples; longer where reading takes more than `MAX_CORE_SHARE`.
        root: root of the file system, for tests.

    Attributes:
        more_cpus: that threads of the worker are pinned to beside those of its process.
    """

    source = "host"

    def __init__(self, period_s: float = PERIOD_S, root: Path = sysfs.ROOT) -> None:
        super().__init__(period_s)
        self._root = root
        self.more_cpus: Sequence[int] = ()
        self._files: list[KernelFile] = []
        self._groups: cgroup.CpuStatistics | None = None

    @override
    def _open(self) -> bool:
        self._files = []
        self._cpus = tuple(sorted({*os.sched_getaffinity(0), *self.more_cpus}))
        self._cores = {
            sibling for cpu in self._cpus for sibling in sysfs.core_siblings(cpu, self._root)
        }
        folders = [self._root / sysfs.CPUS / f"cpu{cpu}" for cpu in self._cpus]
        self._stat = self._kept_open(self._root / "proc/stat")
        self._memory = self._kept_open(self._root / "proc/meminfo")
        self._clocks = self._readable(folder / "cpufreq/scaling_cur_freq" for folder in folders)
        self._throttles = self._readable(
            folder / "thermal_throttle/core_throttle_count" for folder in folders
        )
        self._max_mhz = _mean(
            self._readable(folder / "cpufreq/cpuinfo_max_freq" for folder in folders)
        )
        self._sensors = self._readable(sysfs.temperature_files(self._root))
        self._packages = [
            _Package(self._kept_open(zone / "energy_uj"), zone)
            for zone in sysfs.energy_zones(self._root)
        ]
        self._groups = cgroup.CpuStatistics(self._root)
        self._quota = cgroup.limits(self._root).cores
        self._process = psutil.Process()
        self._ticks = os.sysconf("SC_CLK_TCK")
        cost_s = min(self._cost_s() for _ in range(3))
        self._period_s = max(self._period_s, cost_s / MAX_CORE_SHARE)
        return True

    def _kept_open(self, path: Path) -> KernelFile:
        self._files.append(KernelFile(path))
        return self._files[-1]

    def _readable(self, paths: Iterable[Path]) -> list[KernelFile]:
        """Open files and keep those that hold a number."""
        return [file for path in paths if (file := self._kept_open(path)).number() is not None]

    @override
    def _close(self) -> None:
        for file in self._files:
            file.close()
        if self._groups is not None:
            self._groups.close()

    def _cost_s(self) -> float:
        began = time.thread_time()
        self._read(edge=False)
        return time.thread_time() - began

    @override
    def _read(self, edge: bool) -> HostSample:
        t_ns = time.perf_counter_ns()
        own_s = time.process_time()
        times = sysfs.cpu_times(self._stat.text(), self._ticks)
        clock = _mean(self._clocks)
        groups = cgroup.CpuTimes() if self._groups is None else self._groups.read()
        return HostSample(
            t_ns=t_ns,
            cpus=len(self._cpus),
            busy_s=_total(times, self._cores, 0),
            steal_s=_total(times, self._cpus, 1),
            node_cpus=len(times) or None,
            node_busy_s=_total(times, times, 0),
            own_s=own_s,
            mhz=None if clock is None else clock / 1e3,
            max_mhz=None if self._max_mhz is None else self._max_mhz / 1e3,
            temp_c=max((t / 1e3 for t in _numbers(self._sensors)), default=None),
            energy_j=_energy_j(self._packages),
            throttles=sum(_numbers(self._throttles)) if self._throttles else None,
            rss_bytes=int(self._process.memory_info().rss),
            available_bytes=sysfs.available_bytes(self._memory.text()),
            throttled_s=groups.throttled_s,
            group_s=groups.used_s,
            quota_cores=self._quota,
        )


class _Package:
    """The energy counter of a processor package, which wraps around."""

    def __init__(self, counter: KernelFile, folder: Path) -> None:
        self._counter = counter
        self._range = (sysfs.number(folder / "max_energy_range_uj") or 0) + 1
        self._last = counter.number()
        self._wraps = 0

    def joules(self) -> float | None:
        count = self._counter.number()
        if count is None or self._last is None:
            return None
        if count < self._last:
            self._wraps += 1
        self._last = count
        return (count + self._wraps * self._range) / 1e6


def _energy_j(packages: list[_Package]) -> float | None:
    """Return the energy of all packages; None if one of them cannot be read."""
    joules = [energy for package in packages if (energy := package.joules()) is not None]
    return sum(joules) if joules and len(joules) == len(packages) else None


def _total(
    times: Mapping[int, tuple[float, float]], cpus: Iterable[int], column: int
) -> float | None:
    seconds = [times[cpu][column] for cpu in cpus if cpu in times]
    return sum(seconds) if seconds else None


def _numbers(files: Iterable[KernelFile]) -> list[int]:
    return [number for file in files if (number := file.number()) is not None]


def _mean(files: Iterable[KernelFile]) -> float | None:
    numbers = _numbers(files)
    return sum(numbers) / len(numbers) if numbers else None


def columns(samples: Sequence[HostSample], start_ns: int, end_ns: int) -> dict[str, float | None]:
    """Return the host columns of one worker over a window; None where samples are missing.

    Args:
        samples: oldest first.
        start_ns: start of the window, by the worker's clock.
        end_ns: end of the window, by the same clock.
    """
    inside = [sample for sample in samples if start_ns <= sample.t_ns <= end_ns]
    window_s = (end_ns - start_ns) / 1e9
    clocks = telemetry.readings(inside, "mhz")
    memory = telemetry.readings(inside, "rss_bytes")
    free = telemetry.readings(inside, "available_bytes")
    rise = {name: _rise(samples, name, start_ns, end_ns) for name in _COUNTERS}
    own_s = rise["own_s"]
    cpus_s = samples[0].cpus * window_s if samples else 0.0
    node_s = (samples[0].node_cpus or 0) * window_s if samples else 0.0
    return {
        "foreign_load_frac": _share_beyond(own_s, rise["busy_s"], cpus_s),
        "node_load_frac": _share_beyond(own_s, rise["node_busy_s"], node_s),
        "steal_frac": _share_beyond(0.0, rise["steal_s"], cpus_s),
        "cpu_busy_frac": _share_beyond(0.0, own_s, cpus_s),
        "cpu_mhz_mean": float(np.mean(clocks)) if clocks else None,
        "cpu_mhz_min": min(clocks, default=None),
        **_processor_energy(samples, start_ns, end_ns),
        "rss_peak_mib": max(memory) / 2**20 if memory else None,
        "node_available_min_mib": min(free) / 2**20 if free else None,
        "cpu_throttled_frac": _throttled_frac(rise["throttled_s"], rise["group_s"], window_s),
        "cpu_quota_cores": min(telemetry.readings(samples, "quota_cores"), default=None),
    }


_COUNTERS = ("busy_s", "steal_s", "node_busy_s", "own_s", "throttled_s", "group_s")


def _processor_energy(
    samples: Sequence[HostSample], start_ns: int, end_ns: int
) -> dict[str, float | None]:
    """Return the energy of the node's processor packages with its bounds."""
    readings = telemetry.timed_readings(samples, "energy_j")
    used = energy.from_counter(readings, start_ns, end_ns, energy.RAPL_STEP_S)
    if used is None:
        return dict.fromkeys(("cpu_energy_j", "cpu_energy_j_lo", "cpu_energy_j_hi"))
    return used.columns("cpu_energy_j")


def _rise(samples: Sequence[HostSample], name: str, start_ns: int, end_ns: int) -> float | None:
    """Return how much a counter rose over a window; None if its samples do not span it."""
    readings = telemetry.timed_readings(samples, name)
    if not telemetry.cover(readings, start_ns, end_ns):
        return None
    times, values = (np.array(column, np.float64) for column in zip(*readings, strict=True))
    first, last = np.interp([start_ns, end_ns], times, values)
    return float(last - first)


def _share_beyond(own_s: float | None, busy_s: float | None, whole_s: float) -> float | None:
    """Return the share of `whole_s` that was busy beyond our own CPU time."""
    if busy_s is None or own_s is None or whole_s <= 0:
        return None
    return max(busy_s - own_s, 0.0) / whole_s  # ticks can be fewer than the time that was used


def _throttled_frac(
    throttled_s: float | None, used_s: float | None, window_s: float
) -> float | None:
    """Return the share of a window for which a quota held the busy CPUs of a group back.

    Throttled time is summed over CPUs. Of several CPUs each was held back for its part, so the sum
    is divided by the CPU time that they would have used, where that is more than one window.

    Args:
        throttled_s: time of the window for which CPUs were held back.
        used_s: CPU time of the group in the window; None if unknown: the group counts as one CPU.
        window_s: length of the window.
    """
    if throttled_s is None or window_s <= 0:
        return None
    return min(throttled_s / max(window_s, throttled_s + (used_s or 0.0)), 1.0)
