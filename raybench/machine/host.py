"""Host: what the kernel tells of a worker's own CPUs and of its node. Unknown is None.

Nothing here raises or needs more rights than reading `/proc` and `/sys`; in a virtual machine most
sensors are missing, and energy counters are often root's alone.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
from typing_extensions import override

from raybench.machine import telemetry
from raybench.machine.telemetry import PERIOD_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

DEAREST = 1 / 1000
"""Of a core, for sampling: `/proc/stat` of a machine with hundreds of CPUs takes milliseconds."""

_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "x86_pkg_temp", "cpu-thermal")
"""Names of processors' temperature sensors, in hwmon and among the thermal zones."""


@dataclass(frozen=True)
class HostSample:
    """What the kernel told at one time. Times of CPUs are cumulative, in seconds since boot.

    Attributes:
        t_ns: this process's monotonic clock (`time.perf_counter_ns`).
        cpus: CPUs that the worker may use.
        busy_s: of the worker's cores, siblings included, by whomever.
        steal_s: of the worker's CPUs, given to other virtual machines.
        node_cpus: CPUs of the node.
        node_busy_s: of all of them.
        own_s: CPU time of this process.
        mhz: mean clock of the worker's CPUs at this moment.
        max_mhz: their highest clock.
        temp_c: hottest sensor of the processors, degrees Celsius.
        energy_j: counter of the processors' packages, all of the node.
        throttles: how often heat has slowed the worker's CPUs.
        rss_bytes: memory of this process.
        available_bytes: memory of the node that is free for use.
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


class HostTelemetry(telemetry.Telemetry[HostSample]):
    """Samples the host of this process.

    Args:
        period_s: between two samples; more where reading is dear, never above `DEAREST` of a core.
        root: of the file system, for tests.
    """

    def __init__(self, period_s: float = PERIOD_S, root: Path = Path("/")) -> None:
        super().__init__(period_s)
        self._root = root

    @override
    def _open(self) -> bool:
        self._files: list[_File] = []
        self._cpus = tuple(sorted(os.sched_getaffinity(0)))
        system = self._root / "sys/devices/system/cpu"
        self._cores = set(self._cpus).union(*(_siblings(system, cpu) for cpu in self._cpus))
        folders = [system / f"cpu{cpu}" for cpu in self._cpus]
        self._stat = self._kept(self._root / "proc/stat")
        self._memory = self._kept(self._root / "proc/meminfo")
        self._clocks = self._there(folder / "cpufreq/scaling_cur_freq" for folder in folders)
        self._throttles = self._there(
            folder / "thermal_throttle/core_throttle_count" for folder in folders
        )
        self._max_mhz = _mean(
            self._there(folder / "cpufreq/cpuinfo_max_freq" for folder in folders)
        )
        self._sensors = self._there(_sensors(self._root / "sys/class"))
        self._packages = [
            _Package(self._kept(zone / "energy_uj"), zone)
            for zone in _packages(self._root / "sys/class/powercap")
        ]
        self._process = psutil.Process()
        self._ticks = os.sysconf("SC_CLK_TCK")
        self._period_s = max(self._period_s, min(self._cost_s() for _ in range(3)) / DEAREST)
        return True

    def _kept(self, path: Path) -> _File:
        self._files.append(_File(path))
        return self._files[-1]

    def _there(self, paths: Iterable[Path]) -> list[_File]:
        """Those with a number in them."""
        return [file for path in paths if (file := self._kept(path)).number() is not None]

    @override
    def _close(self) -> None:
        for file in self._files:
            file.close()

    def _cost_s(self) -> float:
        began = time.thread_time()
        self._read(edge=False)
        return time.thread_time() - began

    @override
    def _read(self, edge: bool) -> HostSample:
        t_ns = time.perf_counter_ns()
        own_s = time.process_time()
        times = _cpu_times(self._stat.text(), self._ticks)
        clock = _mean(self._clocks)
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
            available_bytes=_available_bytes(self._memory.text()),
        )


class _File:
    """A file of the kernel's, kept open: to read it again takes a fifth of opening it anew."""

    def __init__(self, path: Path) -> None:
        self._file: FileIO | None = None
        with contextlib.suppress(OSError):
            self._file = FileIO(path)

    def text(self) -> str:
        """What it says now; empty when it cannot be read."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.seek(0)
                return self._file.readall().decode("ascii", errors="replace")
        return ""

    def number(self) -> int | None:
        try:
            return int(self.text())
        except ValueError:
            return None

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class _Package:
    """A processor's energy counter, which begins again at its end."""

    def __init__(self, counter: _File, folder: Path) -> None:
        self._counter = counter
        self._range = (_number(folder / "max_energy_range_uj") or 0) + 1
        self._last = counter.number()
        self._turns = 0

    def joules(self) -> float | None:
        now = self._counter.number()
        if now is None or self._last is None:
            return None
        if now < self._last:
            self._turns += 1
        self._last = now
        return (now + self._turns * self._range) / 1e6


def _energy_j(packages: list[_Package]) -> float | None:
    told = [package.joules() for package in packages]
    known = [joules for joules in told if joules is not None]
    return sum(known) if known and len(known) == len(told) else None


def _packages(powercap: Path) -> list[Path]:
    """Whole processors: the zones `intel-rapl:0`, not their parts `intel-rapl:0:0`."""
    zones = sorted(powercap.glob("intel-rapl:*"))
    return [zone for zone in zones if zone.name.count(":") == 1]


def _sensors(classes: Path) -> list[Path]:
    for folders, name, values in (
        ("hwmon/hwmon*", "name", "temp*_input"),
        ("thermal/thermal_zone*", "type", "temp"),
    ):
        found = [
            path
            for folder in sorted(classes.glob(folders))
            if _text(folder / name).strip() in _SENSORS
            for path in folder.glob(values)
        ]
        if found:
            return found
    return []


def _cpu_times(stat: str, ticks: int) -> Mapping[int, tuple[float, float]]:
    """Seconds busy and stolen of each CPU since boot; guests are in user's time already."""
    times = {}
    for line in stat.splitlines()[1:]:
        if not line.startswith("cpu"):
            break
        name, *counts = line.split()
        user, nice, system, _, _, irq, softirq, steal = (int(count) for count in counts[:8])
        times[int(name[3:])] = (user + nice + system + irq + softirq) / ticks, steal / ticks
    return times


def _total(
    times: Mapping[int, tuple[float, float]], cpus: Iterable[int], which: int
) -> float | None:
    told = [times[cpu][which] for cpu in cpus if cpu in times]
    return sum(told) if told else None


def _available_bytes(meminfo: str) -> int | None:
    for line in meminfo.splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _siblings(system: Path, cpu: int) -> set[int]:
    """CPUs of the same core, itself among them, e.g. of "0,64" or "0-1"."""
    found = {cpu}
    text = _text(system / f"cpu{cpu}/topology/thread_siblings_list").strip()
    for part in text.split(",") if text else ():
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def _numbers(files: Iterable[_File]) -> list[int]:
    return [number for file in files if (number := file.number()) is not None]


def _mean(files: Iterable[_File]) -> float | None:
    told = _numbers(files)
    return sum(told) / len(told) if told else None


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def columns(samples: Sequence[HostSample], start_ns: int, end_ns: int) -> dict[str, float | None]:
    """The columns of one worker's host over a window; None where its samples do not tell.

    Args:
        samples: oldest first.
        start_ns: start of the window, by the worker's clock.
        end_ns: its end.
    """
    inside = [sample for sample in samples if start_ns <= sample.t_ns <= end_ns]
    window_s = (end_ns - start_ns) / 1e9
    clocks, memory = _told(inside, "mhz"), _told(inside, "rss_bytes")
    free = _told(inside, "available_bytes")
    found = {name: _rise(samples, name, start_ns, end_ns) for name in _COUNTERS}
    own_s = found["own_s"]
    cpus_s = samples[0].cpus * window_s if samples else 0.0
    node_s = (samples[0].node_cpus or 0) * window_s if samples else 0.0
    return {
        "foreign_load_frac": _others(found["busy_s"], own_s, cpus_s),
        "node_load_frac": _others(found["node_busy_s"], own_s, node_s),
        "steal_frac": _others(found["steal_s"], 0.0, cpus_s),
        "cpu_busy_frac": _others(own_s, 0.0, cpus_s),
        "cpu_mhz_mean": float(np.mean(clocks)) if clocks else None,
        "cpu_mhz_min": min(clocks, default=None),
        "cpu_energy_j": found["energy_j"],
        "rss_peak_mib": max(memory) / 2**20 if memory else None,
        "node_available_min_mib": min(free) / 2**20 if free else None,
    }


_COUNTERS = ("busy_s", "steal_s", "node_busy_s", "own_s", "energy_j")


def _told(samples: Sequence[HostSample], name: str) -> list[float]:
    return [value for sample in samples if (value := getattr(sample, name)) is not None]


def _rise(samples: Sequence[HostSample], name: str, start_ns: int, end_ns: int) -> float | None:
    """How much a counter rose over a window that its samples cover."""
    told = [(s.t_ns, value) for s in samples if (value := getattr(s, name)) is not None]
    if len(told) < 2 or told[0][0] > start_ns or told[-1][0] < end_ns:
        return None
    times, values = (np.array(column, np.float64) for column in zip(*told, strict=True))
    first, last = np.interp([start_ns, end_ns], times, values)
    return float(last - first)


def _others(busy_s: float | None, own_s: float | None, whole_s: float) -> float | None:
    if busy_s is None or own_s is None or whole_s <= 0:
        return None
    return max(busy_s - own_s, 0.0) / whole_s  # ticks can be fewer than the time that was used
