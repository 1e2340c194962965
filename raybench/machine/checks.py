"""Machine settings that bias measurements, and the command that fixes each."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raybench.machine import nvml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

LOAD = 0.5
"""Chosen here: processes that want a CPU on average; an idle machine has 0 to 0.2."""
POWER_SHARE = 0.99
"""A power limit below so much of the factory's counts as lowered."""


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
    """What is found here.

    Args:
        gpus: the driver's facts about each GPU, from `nvml.environment`.
        nice: of the workers; by default of this process.
        load: load average of the last minute; by default this machine's.
        governors: of the CPUs' frequency; by default this machine's.
        processes: with a context on the GPU of that UUID.
    """
    found = _of_host(
        os.nice(0) if nice is None else nice,
        os.getloadavg()[0] if load is None else load,
        _governors() if governors is None else governors,
    )
    return [*found, *(finding for gpu in gpus for finding in _of_gpu(gpu, processes))]


def _of_host(nice: int, load: float, governors: Sequence[str]) -> Iterator[SystemIssue]:
    if nice > 0:
        yield SystemIssue(
            f"workers have niceness {nice} and yield to everything else",
            """ray start --head --system-config='{"worker_niceness": 0}'  (or renice this shell)""",
        )
    if load > LOAD:
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
    limit, usual = gpu.get("power_limit_w"), gpu.get("power_limit_default_w")
    if limit is not None and usual is not None and limit < POWER_SHARE * usual:
        yield SystemIssue(
            f"GPU {index} may draw {limit:.0f} W of its {usual:.0f} W",
            f"sudo nvidia-smi -i {index} -pl {usual:.0f}",
        )
    clock, most = gpu.get("app_clock_sm_mhz"), gpu.get("max_clock_sm_mhz")
    if clock is not None and most is not None and clock < most:
        yield SystemIssue(
            f"GPU {index} is set to {clock:.0f} MHz of its {most:.0f} MHz",
            f"sudo nvidia-smi -i {index} -rac",
        )


def _governors() -> list[str]:
    paths = Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor")
    try:
        return [path.read_text(encoding="ascii").strip() for path in paths]
    except OSError:
        return []
