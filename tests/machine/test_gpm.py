"""GPM and health of a GPU through a fake driver with the structures of pynvml."""

from __future__ import annotations

import ctypes
import sys

import pynvml
import pytest
from helpers.fake_nvml import XID, FakeNvml, GpmRequest

from raybench.machine import gpm, gpu_health, gpu_telemetry, nvml
from raybench.machine.gpm import Activity, ActivityCounters
from raybench.machine.gpu_health import HealthMonitor

S, MS = 10**9, 10**6


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)  # type: ignore[arg-type]
    return fake


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    now = [S]
    monkeypatch.setattr(gpm.time, "perf_counter_ns", lambda: now[0])
    return now


def opened() -> nvml.Nvml:
    library = nvml.open_library()
    assert library is not None
    return library


def value(activity: Activity | None, column: str) -> float | None:
    assert activity is not None
    return activity.values[gpm.COLUMNS.index(column)]


def test_the_fakes_structures_and_our_numbers_are_those_of_pynvml() -> None:
    assert pynvml.NVML_GPM_METRICS_GET_VERSION == FakeNvml.NVML_GPM_METRICS_GET_VERSION
    ours, theirs = GpmRequest, pynvml.c_nvmlGpmMetricsGet_t
    assert [name for name, _ in ours._fields_] == [name for name, _ in theirs._fields_]
    assert ours.metrics.offset == theirs.metrics.offset
    metric, real = ours().metrics[0], theirs().metrics[0]
    assert ctypes.sizeof(metric) == ctypes.sizeof(real)
    assert [name for name, _ in metric._fields_] == [name for name, _ in real._fields_]
    names = ("SM_UTIL", "SM_OCCUPANCY", "ANY_TENSOR_UTIL", "HMMA_TENSOR_UTIL", "IMMA_TENSOR_UTIL",
             "FP32_UTIL", "FP16_UTIL", "INTEGER_UTIL", "DRAM_BW_UTIL", "PCIE_RX_PER_SEC",
             "PCIE_TX_PER_SEC", "NVLINK_TOTAL_RX_PER_SEC", "NVLINK_TOTAL_TX_PER_SEC")  # fmt: skip
    assert [metric.number for metric in gpm.METRICS] == [
        getattr(pynvml, f"NVML_GPM_METRIC_{name}") for name in names
    ]
    assert pynvml.nvmlEventTypeXidCriticalError == XID


def test_readings_are_means_since_the_last_one_in_the_units_of_the_columns(
    driver: FakeNvml, clock: list[int]
) -> None:
    counters = ActivityCounters(opened(), "GPU-0")
    assert counters.read() is None
    clock[0] += 200 * MS
    activity = counters.read()
    assert activity is not None
    assert (activity.start_ns, activity.end_ns) == (S, S + 200 * MS)
    assert value(activity, "gpu_sm_frac") == pytest.approx(0.5)
    assert value(activity, "gpu_dram_frac") == pytest.approx(0.91)
    assert value(activity, "pcie_rx_bytes_per_s") == pytest.approx(1000 * 2**20)
    clock[0] += 200 * MS
    after = counters.read()
    assert after is not None
    assert after.start_ns == activity.end_ns
    counters.close()
    assert driver.samples == {}


def test_samples_closer_than_the_counters_move_are_not_compared(
    driver: FakeNvml, clock: list[int]
) -> None:
    counters = ActivityCounters(opened(), "GPU-0")
    counters.read()
    clock[0] += 60 * MS
    assert counters.read() is None
    clock[0] += 60 * MS
    activity = counters.read()
    assert activity is not None
    assert activity.end_ns - activity.start_ns == 120 * MS


def test_the_reading_after_a_refusal_covers_its_time(driver: FakeNvml, clock: list[int]) -> None:
    counters = ActivityCounters(opened(), "GPU-0")
    counters.read()
    for call in ("nvmlGpmSampleGet", "nvmlGpmMetricsGet"):
        driver.refused = {call}
        clock[0] += 200 * MS
        assert counters.read() is None
    driver.refused = set()
    clock[0] += 200 * MS
    activity = counters.read()
    assert activity is not None
    assert activity.start_ns == S


def test_a_metric_that_the_chip_lacks_or_that_is_no_number_is_unknown(
    driver: FakeNvml, clock: list[int]
) -> None:
    driver.gpm_status[60] = 3  # NVML_ERROR_NOT_SUPPORTED
    driver.gpm[5] = float("nan")
    counters = ActivityCounters(opened(), "GPU-0")
    counters.read()
    clock[0] += 200 * MS
    activity = counters.read()
    assert value(activity, "nvlink_rx_bytes_per_s") is None
    assert value(activity, "gpu_tensor_frac") is None
    assert value(activity, "gpu_sm_frac") == pytest.approx(0.5)


@pytest.mark.parametrize(
    "refused",
    ["nvmlGpmQueryDeviceSupport", "nvmlGpmSampleAlloc", "nvmlGpmSampleGet", "nvmlGpmMetricsGet"],
)
def test_without_permission_or_support_there_is_no_reading(
    driver: FakeNvml, clock: list[int], refused: str
) -> None:
    driver.refused.add(refused)
    counters = ActivityCounters(opened(), "GPU-0")
    for _ in range(3):
        assert counters.read() is None
        clock[0] += S
    counters.close()
    assert driver.samples == {}


def test_an_older_chip_and_an_older_pynvml_have_no_reading(
    driver: FakeNvml, clock: list[int]
) -> None:
    driver.answers["nvmlGpmQueryDeviceSupport"] = type("Support", (), {"isSupportedDevice": 0})
    assert ActivityCounters(opened(), "GPU-0").read() is None

    class Old:
        NVMLError = RuntimeError

        def nvmlInit(self) -> None: ...

    counters = ActivityCounters(nvml.Nvml(Old()), "GPU-0")
    assert counters.read() is None
    assert HealthMonitor(nvml.Nvml(Old()), "GPU-0").read() == gpu_health.Health()


def test_means_over_a_window_weigh_readings_by_their_part_of_it() -> None:
    def busy(start: int, end: int, share: float | None) -> Activity:
        return Activity(start, end, (share, *[None] * (len(gpm.COLUMNS) - 1)))

    readings = [busy(0, 10, 0.0), busy(10, 20, 0.5), busy(20, 30, 1.0)]
    assert gpm.means(readings, 15, 25)["gpu_sm_frac"] == pytest.approx(0.75)
    assert gpm.means(readings, 0, 30)["gpu_sm_frac"] == pytest.approx(0.5)
    assert gpm.means(readings, 10, 21)["gpu_dram_frac"] is None
    assert gpm.means(readings, 20, 31)["gpu_sm_frac"] == 1  # the last reading may be missing
    assert gpm.means(readings, 20, 40)["gpu_sm_frac"] is None
    assert gpm.means([], 0, 10)["gpu_sm_frac"] is None
    assert gpm.means([busy(0, 10, None), *readings[1:]], 0, 30)["gpu_sm_frac"] is None


def test_a_slice_is_read_by_its_instance_and_never_as_the_whole_board(driver: FakeNvml) -> None:
    telemetry = gpu_telemetry.GpuTelemetry("MIG-1", period_s=3600)
    seen = []
    take = driver.nvmlGpmMigSampleGet
    driver.nvmlGpmMigSampleGet = lambda *a: (seen.append(a[:2]), take(*a))[1]  # type: ignore[method-assign]
    driver.refused.add("nvmlGpmSampleGet")
    driver.xids = [(94, 8), (48, 7), (79, 0xFFFFFFFF)]
    telemetry.start()
    telemetry.end()
    assert seen
    assert set(seen) == {("GPU-1", 8)}
    assert [sample.health.xids for sample in telemetry.samples if sample.health] == [(94, 79), ()]
    assert {sample.dram_peak_bytes_per_s for sample in telemetry.samples} == {None}
    driver.refused.add("nvmlDeviceGetGpuInstanceId")
    driver.refused.discard("nvmlGpmSampleGet")
    seen.clear()
    telemetry.start()
    telemetry.end()
    assert not seen
    assert {sample.health for sample in telemetry.samples} == {gpu_health.Health()}
    assert {sample.activity for sample in telemetry.samples} == {None}
    assert driver.samples == {}


def test_telemetry_reads_use_and_health_and_frees_everything(driver: FakeNvml) -> None:
    telemetry = gpu_telemetry.GpuTelemetry("GPU-0", period_s=0.11)
    telemetry.start()
    while not any(sample.activity for sample in telemetry.samples):
        pass
    driver.xids = [(79, 0xFFFFFFFF)]
    first, *_, last = telemetry.end()
    assert first.health == gpu_health.Health(0, 7, 3, False, ())
    assert last.health.xids == (79,)
    assert (last.pcie_gen, last.pcie_width) == (5, 16)
    assert last.dram_peak_bytes_per_s == pytest.approx(4.917e12, rel=1e-3)
    assert (driver.samples, driver.event_sets, driver.opened) == ({}, 0, 0)


@pytest.mark.parametrize("call", ["nvmlEventSetCreate", "nvmlDeviceRegisterEvents"])
def test_errors_that_cannot_be_listened_to_are_unknown_and_not_none_at_all(
    driver: FakeNvml, call: str
) -> None:
    driver.refused.add(call)
    monitor = HealthMonitor(opened(), "GPU-0")
    reading = monitor.read()
    assert reading.xids is None
    assert gpu_health.columns([reading, monitor.read()])["xid_errors"] is None
    monitor.close()
    assert driver.event_sets == 0


def test_a_driver_with_no_end_of_events_does_not_hold_the_thread(driver: FakeNvml) -> None:
    driver.xids = [(13, 0xFFFFFFFF)] * 1000
    reading = HealthMonitor(opened(), "GPU-0").read()
    assert reading.xids is not None
    assert len(reading.xids) < 1000


def test_a_look_at_a_gpu_says_whether_it_has_counters_and_how_it_is(driver: FakeNvml) -> None:
    assert gpu_telemetry.look("GPU-0") == (True, gpu_health.Health(0, 7, 3, False, ()))
    driver.refused.add("nvmlGpmQueryDeviceSupport")
    driver.answers["nvmlDeviceGetRemappedRows"] = (0, 0, 1, 0)
    counted, health = gpu_telemetry.look("GPU-0") or (True, gpu_health.Health())
    assert not counted
    assert health.remap_pending
    assert gpu_telemetry.look("GPU-9") is None
    assert (driver.samples, driver.event_sets, driver.opened) == ({}, 0, 0)
