"""The kernel's files: everything raybench reads from /proc and /sys.

Nothing here raises: a file that is missing, unreadable or malformed gives None or an empty value.
Functions take the root of the file system for tests.
"""

from __future__ import annotations

import contextlib
import re
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path("/")
CPUS = "sys/devices/system/cpu"
SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "x86_pkg_temp", "cpu-thermal")
"""Names of processors' temperature sensors, in hwmon and among the thermal zones."""
FALLBACK_CACHE_BYTES = 32 << 20
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


class KernelFile:
    """A file of the kernel kept open: reading it again takes a fifth of opening it anew."""

    def __init__(self, path: Path) -> None:
        self._file: FileIO | None = None
        with contextlib.suppress(OSError):
            self._file = FileIO(path)

    def text(self) -> str:
        """Return the current content; empty if it cannot be read."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.seek(0)
                return self._file.readall().decode("ascii", errors="replace")
        return ""

    def number(self) -> int | None:
        """Return the current content as a whole number."""
        return whole_number(self.text())

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def text(path: Path) -> str | None:
    """Return the stripped content of a file."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except (OSError, ValueError):  # a name that no file can have
        return None


def number(path: Path) -> int | None:
    """Return the content of a file as a whole number."""
    return whole_number(text(path) or "")


def whole_number(word: str) -> int | None:
    """Return a word as a whole number; None if it is none, such as "max"."""
    try:
        return int(word)
    except ValueError:
        return None


# --- CPUs -----------------------------------------------------------------------------------------


def cpu_model() -> str | None:
    """Return the product name of the first CPU."""
    match = re.search(r"^model name\s*:\s*(.+)$", text(ROOT / "proc/cpuinfo") or "", re.MULTILINE)
    return match.group(1).strip() if match else None


def cpu_sockets() -> int | None:
    """Return the number of processor packages."""
    cpuinfo = text(ROOT / "proc/cpuinfo") or ""
    return len(set(re.findall(r"^physical id\s*:\s*(\d+)", cpuinfo, re.MULTILINE))) or None


def cpu_flags() -> frozenset[str]:
    """Return the instruction sets of the first CPU, as an x86 kernel names them."""
    match = re.search(r"^flags\s*:(.*)$", text(ROOT / "proc/cpuinfo") or "", re.MULTILINE)
    return frozenset(match.group(1).split()) if match else frozenset()


def core_siblings(cpu: int, root: Path = ROOT) -> frozenset[int]:
    """Return the logical CPUs of the same core, this one included."""
    siblings = {cpu}
    listed = text(root / CPUS / f"cpu{cpu}/topology/thread_siblings_list")  # "0,64" or "0-1"
    with contextlib.suppress(ValueError):
        for part in listed.split(",") if listed else ():
            first, _, last = part.partition("-")
            siblings |= set(range(int(first), int(last or first) + 1))
    return frozenset(siblings)


def governors() -> list[str]:
    """Return the frequency governor of each CPU; empty if one of them cannot be read."""
    paths = (ROOT / CPUS).glob("cpu[0-9]*/cpufreq/scaling_governor")
    governors = [text(path) for path in paths]
    return [] if None in governors else [name for name in governors if name is not None]


def smt_active() -> bool | None:
    """Return whether cores run several hardware threads."""
    active = text(ROOT / CPUS / "smt/active")
    return None if active is None else active == "1"


def last_level_cache_bytes(caches: Path = ROOT / CPUS / "cpu0/cache") -> int:
    """Return the size of the largest cache of a core; 32 MiB if the kernel does not report it."""
    sizes = [_size_bytes(text(path) or "") for path in caches.glob("index*/size")]
    return max(sizes, default=0) or FALLBACK_CACHE_BYTES


def _size_bytes(size: str) -> int:
    try:
        return int(size.rstrip("KMG")) * _UNITS.get(size[-1:], 1)
    except ValueError:
        return 0


def cpu_times(stat: str, ticks_per_s: int) -> Mapping[int, tuple[float, float]]:
    """Return each CPU's busy and stolen seconds since boot, from the content of /proc/stat.

    Time of guests is part of the user's time already.
    """
    times = {}
    for line in stat.splitlines()[1:]:
        if not line.startswith("cpu"):
            break
        name, *counts = line.split()
        user, nice, system, _, _, irq, softirq, steal = (int(count) for count in counts[:8])
        busy = user + nice + system + irq + softirq
        times[int(name[3:])] = busy / ticks_per_s, steal / ticks_per_s
    return times


def temperature_files(root: Path = ROOT) -> list[Path]:
    """Return the files of the processors' temperatures, in thousandths of a degree Celsius."""
    for folders, name, values in (
        ("hwmon/hwmon*", "name", "temp*_input"),
        ("thermal/thermal_zone*", "type", "temp"),
    ):
        paths = [
            path
            for folder in sorted((root / "sys/class").glob(folders))
            if text(folder / name) in SENSORS
            for path in folder.glob(values)
        ]
        if paths:
            return paths
    return []


def energy_zones(root: Path = ROOT) -> list[Path]:
    """Return the folders of the packages' energy counters.

    These are the zones `intel-rapl:0`, not their parts `intel-rapl:0:0`.
    """
    zones = sorted((root / "sys/class/powercap").glob("intel-rapl:*"))
    return [zone for zone in zones if zone.name.count(":") == 1]


# --- NUMA nodes -----------------------------------------------------------------------------------


def numa_nodes() -> int | None:
    """Return the number of NUMA nodes."""
    return len(list((ROOT / "sys/devices/system/node").glob("node[0-9]*"))) or None


def numa_node_of_cpu(cpu: int) -> int | None:
    """Return the NUMA node of a CPU, by the link `node0` in its folder."""
    links = (ROOT / CPUS / f"cpu{cpu}").glob("node[0-9]*")
    return next((int(link.name[4:]) for link in links), None)


def numa_node_of_pci(bus_id: str | None) -> int | None:
    """Return the NUMA node of a PCI device, e.g. "00000000:17:00.0"."""
    if bus_id is None:
        return None
    domain, _, rest = bus_id.lower().partition(":")
    node = number(ROOT / "sys/bus/pci/devices" / f"{domain[-4:]}:{rest}" / "numa_node")
    return node if node is not None and node >= 0 else None


# --- memory ---------------------------------------------------------------------------------------


def available_bytes(meminfo: str) -> int | None:
    """Return the node's available memory, from the content of /proc/meminfo."""
    for line in meminfo.splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


# --- the machine ----------------------------------------------------------------------------------


def firmware(field: str) -> str | None:
    """Return a field of the firmware's description of the machine, e.g. "sys_vendor"."""
    return text(ROOT / "sys/class/dmi/id" / field) or None


def init_cgroup() -> str | None:
    """Return the control groups of process 1, which name a container's runtime."""
    return text(ROOT / "proc/1/cgroup")
