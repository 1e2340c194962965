"""Telemetry of the host: of an invented machine, figure by figure, and of this one."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from helpers.control_groups import V2_MOUNT, machine_with

from raybench.machine import host
from raybench.results.schema import SCHEMAS

S = 10**9


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four CPUs on two cores; this process may use CPU 1, whose sibling is 3."""
    monkeypatch.setattr(host.os, "sched_getaffinity", lambda _: {1})
    files = {
        "proc/stat": (
            "cpu  9 9 9 9 9 9 9 9 0 0\n"
            "cpu0 100 0 0 5 0 0 0 0 0 0\n"
            "cpu1 100 10 20 900 50 3 7 40 60 0\n"
            "cpu2 0 0 0 5 0 0 0 0 0 0\n"
            "cpu3 60 0 0 5 0 0 0 9 0 0\n"
            "intr 77 0 0\n"
        ),
        "proc/meminfo": "MemTotal: 4096 kB\nMemAvailable: 2048 kB\n",
        "sys/devices/system/cpu/cpu1/topology/thread_siblings_list": "1,3\n",
        "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "2400000\n",
        "sys/devices/system/cpu/cpu1/cpufreq/cpuinfo_max_freq": "3600000\n",
        "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": "5\n",
        "sys/class/hwmon/hwmon0/name": "nvme\n",
        "sys/class/hwmon/hwmon0/temp1_input": "99000\n",
        "sys/class/hwmon/hwmon1/name": "k10temp\n",
        "sys/class/hwmon/hwmon1/temp1_input": "51500\n",
        "sys/class/hwmon/hwmon1/temp2_input": "48000\n",
        "sys/class/powercap/intel-rapl:0/energy_uj": "900000\n",
        "sys/class/powercap/intel-rapl:0/max_energy_range_uj": "999999\n",
        "sys/class/powercap/intel-rapl:0:0/energy_uj": "5\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def taken(root: Path, meanwhile: object = None) -> tuple[host.HostSample, ...]:
    telemetry = host.HostTelemetry(3600, root)
    telemetry.start()
    while not telemetry.samples and telemetry.failure is None:
        time.sleep(0.001)
    if callable(meanwhile):
        meanwhile()
    return telemetry.end()


def test_every_figure_is_read(machine: Path) -> None:
    sample = taken(machine)[0]
    ticks = os.sysconf("SC_CLK_TCK")
    assert sample.cpus == 1
    # guests are in user's time; the sibling's work is on the same core
    assert sample.busy_s == pytest.approx((100 + 10 + 20 + 3 + 7 + 60) / ticks)
    assert sample.steal_s == pytest.approx(40 / ticks)
    assert sample.node_cpus == 4
    assert sample.node_busy_s == pytest.approx((100 + 140 + 60) / ticks)
    assert (sample.mhz, sample.max_mhz) == (2400, 3600)
    assert sample.temp_c == 51.5
    assert sample.energy_j == pytest.approx(0.9)
    assert sample.throttles == 5
    assert sample.available_bytes == 2048 * 1024
    assert sample.rss_bytes


def test_no_file_stays_open_after_the_end(machine: Path) -> None:
    telemetry = host.HostTelemetry(3600, machine)
    telemetry.start()
    telemetry.end()
    still_open = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
    assert not [path for path in still_open if path.startswith(str(machine))]


def test_an_energy_counter_that_begins_again_goes_on(machine: Path) -> None:
    counter = machine / "sys/class/powercap/intel-rapl:0/energy_uj"
    first, last = taken(machine, lambda: counter.write_text("100000\n"))
    assert last.energy_j - first.energy_j == pytest.approx(0.2)


def test_readings_that_fail_end_early_and_say_why(machine: Path, monkeypatch) -> None:
    telemetry = host.HostTelemetry(0.001, machine)
    monkeypatch.setattr(telemetry, "_read", lambda edge: 1 / 0)
    telemetry.start()
    deadline = time.monotonic() + 300
    while telemetry.failure is None and time.monotonic() < deadline:
        time.sleep(0.001)
    assert telemetry.end() == ()
    assert "Readings of the host ended early: ZeroDivisionError" in telemetry.failure


def test_a_machine_without_sensors_gives_none(tmp_path: Path) -> None:
    sample = taken(tmp_path)[-1]
    names = ("busy_s", "steal_s", "node_cpus", "mhz", "temp_c", "energy_j", "throttles")
    assert {getattr(sample, name) for name in names} == {None}
    columns = host.columns([sample], 0, S)
    assert columns["foreign_load_frac"] is None
    assert columns["cpu_mhz_mean"] is None


def test_expensive_readings_are_taken_less_often(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host.HostTelemetry, "_cost_s", lambda self: 0.01)
    telemetry = host.HostTelemetry(0.2, machine)
    telemetry._open()
    telemetry._close()
    assert telemetry._period_s == pytest.approx(10)


def _at(second: float, **fields: float) -> host.HostSample:
    fields = {"cpus": 2, "node_cpus": 8, **fields}
    return host.HostSample(int(second * S), **fields)  # type: ignore[arg-type]


def test_load_of_others_is_what_is_left_of_the_busy_time() -> None:
    samples = [
        _at(t, busy_s=100 + 1.5 * t, node_busy_s=50 + 5.0 * t, own_s=1.0 * t, steal_s=0.1 * t)
        for t in range(0, 21, 2)
    ]
    columns = host.columns(samples, 5 * S, 15 * S)
    assert set(columns) <= set(SCHEMAS["workers"].names)
    assert columns["foreign_load_frac"] == pytest.approx(0.5 / 2)
    assert columns["node_load_frac"] == pytest.approx(4 / 8)
    assert columns["steal_frac"] == pytest.approx(0.1 / 2)
    assert columns["cpu_busy_frac"] == pytest.approx(1 / 2)


def test_a_window_that_the_samples_do_not_cover_is_unknown() -> None:
    samples = [_at(t, busy_s=1.0 * t, own_s=0.0) for t in range(10)]
    assert host.columns(samples, 5 * S, 15 * S)["foreign_load_frac"] is None


def test_clocks_and_memory_are_those_of_the_window() -> None:
    samples = [_at(t, mhz=1000.0 + t, rss_bytes=t << 20) for t in range(10)]
    columns = host.columns(samples, 2 * S, 4 * S)
    assert (columns["cpu_mhz_mean"], columns["cpu_mhz_min"], columns["rss_peak_mib"]) == (
        1003,
        1002,
        4,
    )


def test_this_machine_reports_its_busy_time() -> None:
    first, last = taken(Path("/"))
    assert last.own_s >= first.own_s
    assert last.node_busy_s >= first.node_busy_s > 0
    assert last.available_bytes > 0


@pytest.mark.parametrize(
    ("throttled", "used", "share"),
    [
        (0.5, 0.5, 0.5),  # one CPU that half a core was left of
        (0.5, None, 0.5),
        (0.8, 7.2, 0.1),  # eight busy CPUs
        (0.1, 0.1, 0.1),  # a process that mostly waits
        (4.0, None, 1.0),
        (0.0, 1.0, 0.0),
        (None, 1.0, None),
    ],
)
def test_throttled_time_is_a_share_of_the_window(
    throttled: float | None, used: float | None, share: float | None
) -> None:
    def grown(rate: float | None, t: int) -> float | None:
        return None if rate is None else 7 + rate * t

    samples = [
        _at(t, throttled_s=grown(throttled, t), group_s=grown(used, t))  # type: ignore[arg-type]
        for t in range(0, 21, 2)
    ]
    frac = host.columns(samples, 5 * S, 15 * S)["cpu_throttled_frac"]
    assert frac == (None if share is None else pytest.approx(share))


def test_the_quota_of_a_group_is_a_column(machine: Path) -> None:
    assert host.columns(taken(machine), 0, S)["cpu_quota_cores"] is None
    machine_with(machine, "0::/job\n", V2_MOUNT, {"job/cpu.max": "150000 100000"})
    assert host.columns(taken(machine), 0, S)["cpu_quota_cores"] == 1.5
