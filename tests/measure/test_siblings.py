"""Rows of workers that share a device: its readings count once, and no sibling is a stranger."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from raybench.machine import gpu_telemetry, host, nvml
from raybench.measure.stream import StreamTrace
from raybench.measure.summary import summarise_cut
from raybench.measure.telemetry_columns import Readings, with_hardware
from raybench.measure.worker_blocks import cut_traces

S, MS = 10**9, 10**6


def trace(batch_ms: int) -> StreamTrace:
    done = np.arange(0, 24 * S + 1, batch_ms * MS, dtype=np.int64)
    spans = np.tile([0, 40 * MS, 0], (len(done), 1))
    return StreamTrace(done - 50 * MS, done - 49 * MS, done, spans, 0, 0, 8)


def reading(pid: int, processes: tuple[int, ...], **changes: object) -> Readings:
    samples = tuple(
        gpu_telemetry.GpuSample(
            t * S // 2, 500.0, 10**12 + t * 250_000, util=1.0, processes=processes
        )
        for t in range(-2, 52)
    )
    return replace(Readings("gpu", "a", pid, samples), **changes)


def summarised(batch_ms: list[int], readings: list[Readings], instances: int):
    traces = [trace(each) for each in batch_ms]
    cut = summarise_cut(cut_traces(traces, 2, 20, S, 4), S, instances)
    return with_hardware(cut, traces, readings, instances)


def test_the_energy_of_a_device_counts_once_and_its_rate_is_that_of_all_its_instances():
    first, second = (1, 2), (3, 4)
    readings = [reading(1, first), reading(2, first), reading(3, second), reading(4, second)]
    summary = summarised([100, 100, 100, 100], readings, 2)
    trial = summary.trial
    assert trial["energy_j"] == pytest.approx(2 * 10_000)
    assert trial["avg_power_w"] == pytest.approx(1000)
    assert trial["items_per_s"] == pytest.approx(320)
    assert trial["items_per_s_per_worker"] == pytest.approx(160)
    assert trial["foreign_processes"] == 0
    assert trial["items_per_j"] == pytest.approx(320 * 20 / 20_000)
    assert summary.workers[0]["items_per_j"] == pytest.approx(160 * 20 / 10_000)


def test_imbalance_is_between_devices_and_unfairness_between_instances():
    readings = [reading(pid, (1, 2, 3, 4)) for pid in (1, 2, 3, 4)]
    trial = summarised([100, 200, 200, 100], readings, 2).trial
    assert trial["imbalance"] == pytest.approx(0, abs=1e-9)
    assert trial["instance_min_max_ratio"] == pytest.approx(0.5)
    assert trial["host_idle_frac"] is None
    assert trial["device_items_per_s"] is None
    alone = summarised([100, 200], readings[:2], 1).trial
    assert alone["imbalance"] == pytest.approx(1)
    assert "instance_min_max_ratio" not in alone
    assert alone["host_idle_frac"] == pytest.approx(0.7, abs=0.01)


@pytest.mark.parametrize(
    ("processes", "pid", "siblings", "service", "foreign"),
    [
        ((1, 2), 1, {2}, set(), 0),
        ((1, 2, 9), 1, {2}, set(), 1),
        ((1, 2, 7), 1, {2}, {7}, 0),
        ((101, 102), 1, {2}, set(), 0),
        ((101, 102, 103), 1, {2}, set(), 1),
        ((101,), 1, {2}, set(), 0),
        ((), 1, {2}, set(), None),
    ],
)
def test_siblings_and_the_service_between_them_are_not_foreign(
    processes, pid, siblings, service, foreign
):
    found = nvml.foreign_processes(processes, pid, frozenset(siblings), frozenset(service))
    assert found == foreign


def cores(pid: int, cpus: tuple[int, ...], own: float, busy: float) -> Readings:
    """A process that uses a share of its CPU, which is busy for another."""
    samples = tuple(
        host.HostSample(
            t * S, 1, busy_s=busy * t, node_cpus=2, node_busy_s=busy * t, own_s=own * t, steal_s=0.0
        )
        for t in range(-1, 26)
    )
    return Readings("cpu", "a", pid, (), samples, cpus=cpus)


def test_siblings_on_a_core_are_no_foreign_load_and_others_are():
    def load(busy: float, *cpus: tuple[int, ...]) -> float:
        readings = [cores(1, cpus[0], 0.4, busy), cores(2, cpus[1], 0.5, busy)]
        return summarised([100, 100], readings, 2).trial["foreign_load_frac"]

    assert load(0.9, (3,), (3,)) == pytest.approx(0, abs=1e-6)
    assert load(1.0, (3,), (3,)) == pytest.approx(0.1)
    assert load(0.5, (2,), (3,)) == pytest.approx(0.1)
