"""Converts the telemetry taken during a trial's streams to columns of its rows."""

from __future__ import annotations

import itertools
import math
import statistics
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.machine import gpm, gpu_health, gpu_telemetry, host, nvml
from raybench.measure import siblings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from raybench.measure.stream import StreamTrace
    from raybench.measure.summary import Summary

Columns = dict[str, Any]
BLOCK_ACTIVITY = ("gpu_sm_frac", "gpu_tensor_frac", "gpu_dram_frac")
"""Columns of GPM that every block has as well."""


@dataclass(frozen=True)
class Readings:
    """Telemetry taken during one worker's stream, by its own clock.

    Attributes:
        kind: of the worker's device: "gpu" or "cpu".
        hostname: of its node.
        pid: of its process.
        gpu: samples of the GPU; empty for a core and for a GPU without a driver.
        host: samples of the host.
        failures: why samples ended early, a sentence each.
        cpus: that the process is pinned to.
        mps: ids of processes of CUDA's Multi-Process Service on the node.
        siblings: ids of the other workers on the device.
    """

    kind: str
    hostname: str
    pid: int
    gpu: tuple[gpu_telemetry.GpuSample, ...] = ()
    host: tuple[host.HostSample, ...] = ()
    failures: tuple[str, ...] = ()
    cpus: tuple[int, ...] = ()
    mps: frozenset[int] = frozenset()
    siblings: frozenset[int] = frozenset()

    @cached_property
    def activities(self) -> tuple[gpm.Activity, ...]:
        """What the counters of the GPU say, oldest first."""
        return gpu_telemetry.activities(self.gpu)


def with_hardware(
    summary: Summary,
    traces: Sequence[StreamTrace],
    readings: Sequence[Readings],
    instances: int = 1,
) -> Summary:
    """Return the summary with columns of hardware and host, null where there are no readings.

    Args:
        summary: of the traces.
        traces: one per worker; their `start_ns` places the window on each worker's clock.
        readings: one per worker, in the same order.
        instances: workers that share a device, which follow one another. Each row of `workers` has
            the readings of the device; the trial counts them once.
    """
    starts = [trace.start_ns for trace in traces]
    begin, end = summary.window_ns
    items = siblings.summed([columns["items"] for columns in summary.workers], instances)
    others = siblings.known(readings, instances)
    hardware = [
        worker_columns(worker, start + begin, start + end, count)
        for worker, start, count in zip(others, starts, items, strict=True)
    ]
    hardware = siblings.without_their_load(hardware, readings, instances)
    workers = [{**columns, **read} for columns, read in zip(summary.workers, hardware, strict=True)]
    return replace(
        summary,
        trial={
            **summary.trial,
            **trial_columns(workers, readings, summary.trial["items"], instances),
        },
        workers=tuple(workers),
        blocks=tuple(
            {**row, **_block(readings[row["worker"]], row, starts[row["worker"]])}
            for row in summary.blocks
        ),
    )


# --- one worker -----------------------------------------------------------------------------------


def worker_columns(readings: Readings, begin: int, end: int, items: int) -> Columns:
    """Return the columns of one worker's device and host over a window.

    Args:
        readings: of the worker.
        begin: of the window in ns, by its clock.
        end: of the window.
        items: completed in it.
    """
    device = (
        _gpu(readings, begin, end, items) if readings.kind == "gpu" else _core(readings, begin, end)
    )
    return {**device, **host.columns(readings.host, begin, end)}


def _gpu(readings: Readings, begin: int, end: int, items: int) -> Columns:
    samples = readings.gpu
    columns = gpu_telemetry.columns(samples, begin, end, items)
    others = [
        nvml.foreign_processes(sample.processes, readings.pid, readings.siblings, readings.mps)
        for sample in samples
    ]
    healths = _without_none([sample.health for sample in samples])
    highest = max(_without_none([sample.sm_max_mhz for sample in samples]), default=None)
    return {
        **columns,
        **_clock([(s.t_ns, s.sm_mhz) for s in samples], begin, end, highest),
        "foreign_processes": max(_without_none(others), default=None),
        **gpu_health.columns(healths),
        "telemetry_gap_s": _gap_s([sample.t_ns for sample in samples], begin, end),
    }


def _core(readings: Readings, begin: int, end: int) -> Columns:
    samples = readings.host
    temperatures = _without_none([s.temp_c for s in samples if begin <= s.t_ns <= end])
    counts = _without_none([s.throttles for s in samples if begin <= s.t_ns <= end])
    highest = max(_without_none([sample.max_mhz for sample in samples]), default=None)
    return {
        **_clock([(s.t_ns, s.mhz) for s in samples], begin, end, highest),
        "temp_c_start": temperatures[0] if temperatures else None,
        "temp_c_end": temperatures[-1] if temperatures else None,
        "temp_c_max": max(temperatures, default=None),
        "throttle_thermal_frac": float(np.mean(np.diff(counts) > 0)) if len(counts) > 1 else None,
        "telemetry_gap_s": _gap_s([sample.t_ns for sample in samples], begin, end),
    }


def _clock(
    samples: Sequence[tuple[int, float | None]], begin: int, end: int, highest: float | None
) -> Columns:
    """Return how high and how even the device's clock was in the window."""
    clocks = _without_none([mhz for t_ns, mhz in samples if begin <= t_ns <= end])
    mean = statistics.fmean(clocks) if clocks else None
    return {
        "clock_frac": mean / highest if mean and highest else None,
        "clock_cv": statistics.stdev(clocks) / mean if mean and len(clocks) > 1 else None,
    }


def _gap_s(stamps: Sequence[int], begin: int, end: int) -> float | None:
    """Return the longest time without a sample in the window; None without any sample."""
    if not stamps:
        return None
    marks = [begin, *(stamp for stamp in stamps if begin < stamp < end), end]
    return float(np.diff(marks).max()) / 1e9


def _without_none(values: Sequence[Any]) -> list[Any]:
    return [value for value in values if value is not None]


# --- all workers ----------------------------------------------------------------------------------

_COMBINE: dict[str, Callable[[list[Any]], Any]] = {
    "energy_check_rel": lambda checks: max(checks, key=abs),
    "sm_clock_mhz_mean": statistics.fmean,
    "sm_clock_mhz_min": min,
    "mem_clock_mhz_mean": statistics.fmean,
    "temp_c_start": max,
    "temp_c_end": max,
    "temp_c_max": max,
    "gpu_util_mean": statistics.fmean,
    "throttle_power_frac": max,
    "throttle_thermal_frac": max,
    "throttle_hw_frac": max,
    "gpu_mem_peak_mib": max,
    "clock_frac": min,
    "clock_cv": max,
    "foreign_processes": max,
    "ecc_errors": sum,
    "ecc_corrected": sum,
    "remapped_rows": sum,
    "remapped_rows_total": sum,
    "row_remap_pending": any,
    "xid_errors": sum,
    "xid_codes": lambda lists: sorted(set(itertools.chain(*lists))),
    **dict.fromkeys(gpm.COLUMNS, statistics.fmean),
    "pcie_gen": min,
    "pcie_width": min,
    "dram_peak_bytes_per_s": min,
    "telemetry_gap_s": max,
    "foreign_load_frac": max,
    "steal_frac": max,
    "cpu_busy_frac": statistics.fmean,
    "cpu_mhz_mean": statistics.fmean,
    "cpu_mhz_min": min,
    "rss_peak_mib": max,
    "node_available_min_mib": min,
    "cpu_throttled_frac": max,
    "cpu_quota_cores": min,
}
"""How a column of all workers is combined into one of the trial, leaving out unknown values."""


def trial_columns(
    workers: Sequence[Columns], readings: Sequence[Readings], items: int, instances: int
) -> Columns:
    """Return the columns of the hardware of a trial from those of its workers."""
    devices = workers[::instances]  # each with all that its board did
    summed = {name for name, fold in _COMBINE.items() if fold is sum}
    values = {
        name: _without_none([w.get(name) for w in (devices if name in summed else workers)])
        for name in _COMBINE
    }
    return {
        **{name: fold(values[name]) if values[name] else None for name, fold in _COMBINE.items()},
        **_energy(devices, items),
        **_nodes(workers, readings),
    }


_SUMMED = (
    *("energy_j", "energy_j_lo", "energy_j_hi"),
    *("avg_power_w", "avg_power_w_lo", "avg_power_w_hi"),
)


def _energy(workers: Sequence[Columns], items: int) -> Columns:
    """Return sums over all boards, unknown when any board's value is.

    Bounds are summed too: nothing says that the counters of several boards err independently.
    """
    sources = {worker.get("energy_source") for worker in workers}
    source: str | None = "none"
    if sources == {None}:
        source = None
    elif sources <= {"counter", "integral"}:
        source = "counter" if sources == {"counter"} else "integral"
    sums = {name: _sum_if_known([worker.get(name) for worker in workers]) for name in _SUMMED}
    joules = sums["energy_j"]
    return {
        **sums,
        "items_per_j": items / joules if joules else None,
        "j_per_item": joules / items if joules and items else None,
        "energy_source": source,
    }


def _nodes(workers: Sequence[Columns], readings: Sequence[Readings]) -> Columns:
    """Return the columns that belong to nodes: each node counts once, for all of its workers."""
    loads, firsts = [], []
    pairs = list(zip(workers, readings, strict=True))
    for hostname in dict.fromkeys(reading.hostname for reading in readings):
        on_node = [(columns, reading) for columns, reading in pairs if reading.hostname == hostname]
        loads.append(_node_load(on_node))
        firsts.append(on_node[0][0])
    return {
        "node_load_frac": max(_without_none(loads), default=None),
        **{name: _sum_if_known([first[name] for first in firsts]) for name in _PER_NODE},
    }


_PER_NODE = ("cpu_energy_j", "cpu_energy_j_lo", "cpu_energy_j_hi")


def _sum_if_known(values: Sequence[float | None]) -> float | None:
    known = _without_none(values)
    return sum(known) if len(known) == len(values) else None


def _node_load(on_node: Sequence[tuple[Columns, Readings]]) -> float | None:
    """Return the load by others on one node, as its first worker saw it.

    The first worker counts the other workers of the node as others; their own load is subtracted.
    """
    (first, first_readings), *rest = on_node
    load = first["node_load_frac"]
    if load is None:
        return None
    node_cpus = first_readings.host[0].node_cpus
    own = [(w["cpu_busy_frac"] or 0.0) * r.host[0].cpus for w, r in rest if r.host]
    return max(load - sum(own) / node_cpus, 0.0) if node_cpus else None


# --- one block ------------------------------------------------------------------------------------


def _block(readings: Readings, row: Columns, start: int) -> Columns:
    begin, end = start + row["t_start_ns"], start + row["t_end_ns"]
    if readings.kind == "cpu":
        return {"temp_c": _mean([s.temp_c for s in readings.host if begin < s.t_ns <= end])}
    inside = [sample for sample in readings.gpu if begin < sample.t_ns <= end]
    reasons = _without_none([sample.reasons for sample in inside])
    joules = gpu_telemetry.counter_energy_j(readings.gpu, begin, end)
    activity = gpm.means(readings.activities, begin, end)
    return {
        **{name: activity[name] for name in BLOCK_ACTIVITY},
        "sm_clock_mhz": _mean([sample.sm_mhz for sample in inside]),
        "temp_c": _mean([sample.temp_c for sample in inside]),
        "power_w": _mean([sample.power_w for sample in inside]),
        "energy_mj": None if joules is None else round(joules * 1e3),
        "throttle_mask": int(np.bitwise_or.reduce(reasons)) if reasons else None,
    }


def _mean(values: Sequence[float | None]) -> float | None:
    readings = _without_none(values)
    return statistics.fmean(readings) if readings else None


def simulated_energy(watts: Sequence[float | None], trial: Columns) -> Columns:
    """Return the energy columns of simulated devices; none unless all say what they draw.

    Args:
        watts: what each device draws at work.
        trial: columns of the trial's window.
    """
    known = _without_none(watts)
    if not known or len(known) < len(watts) or not trial["items"]:
        return {}
    power_w, items = math.fsum(known), trial["items"]
    energy_j = power_w * trial["window_s"]
    return {
        "energy_j": energy_j,
        "avg_power_w": power_w,
        "items_per_j": items / energy_j,
        "j_per_item": energy_j / items,
        "energy_source": "simulated",
    }
