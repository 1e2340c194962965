"""Access to NVML, against a small fake of pynvml: reports, refusals and windows."""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
import pytest
from helpers.fake_nvml import FakeNvml

from raybench.cli.main import main
from raybench.cluster import nodes
from raybench.machine import devices, gpu_telemetry, nvml
from raybench.results.schema import SCHEMAS


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)  # type: ignore[arg-type]
    return fake


def test_inventory_lists_boards_and_slices(driver: FakeNvml) -> None:
    board, first, second = nvml.inventory()
    assert (board.index, board.uuid, board.name) == (0, "GPU-0", "NVIDIA H200")
    assert board.memory_bytes == 64 << 20
    assert board.pci_bus_id == "00000000:17:00.0"
    assert board.near_cpus == (0, 2)
    assert board.driver_version == "580.65.06"
    assert board.compute_capability == "9.0"
    assert not board.mig
    assert [(part.index, part.uuid, part.mig) for part in (first, second)] == [
        (1, "MIG-0", True),
        (1, "MIG-1", True),
    ]
    assert driver.opened == 0


@pytest.mark.parametrize(
    ("shown", "count"),
    [
        (None, 3),
        ("0", 1),
        ("GPU-0,MIG-1", 2),
        ("MIG-1, 0", 2),
        ("MIG", 0),
        ("", 0),
        ("-1", 0),
        ("0,0", 1),
        ("0,7,MIG-1", 1),  # CUDA stops at an entry that names nothing
    ],
)
def test_gpus_that_cuda_does_not_show_are_not_counted(
    shown: str | None, count: int, driver: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if shown is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    assert devices.gpu_count() == count


def test_the_first_gpu_that_cuda_shows_is_the_one_that_a_node_offers(
    driver: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1,0")
    assert [gpu.uuid for gpu in devices.shown_gpus()] == ["MIG-1", "GPU-0"]
    offered = nodes.local_facts({"gpu": 2}).products
    assert offered[nvml.inventory()[2].name] == 2


def test_the_shares_of_all_gpus_are_the_same_for_a_worker_that_is_pinned_to_its_own(
    driver: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices.os, "sched_getaffinity", lambda pid: {0})
    near = nvml.inventory()[0].near_cpus
    shares = devices.gpu_shares(range(8))
    assert len(shares) == 3
    assert set().union(*shares) == set(near)


def test_doctor_says_that_gpus_are_hidden(
    driver: FakeNvml, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    main(["doctor"])
    assert "CUDA_VISIBLE_DEVICES shows 1 of 3 GPUs: no other is used." in capsys.readouterr().out


def test_devices_find_a_gpu_by_index_and_a_slice_by_uuid(driver: FakeNvml) -> None:
    assert devices.gpu("0").uuid == "GPU-0"
    assert devices.gpu("MIG-1").uuid == "MIG-1"
    assert devices.gpu(" MIG-1").uuid == "MIG-1"  # Ray hands on what stood between commas
    assert devices.gpu("GPU-").uuid == "GPU-0"
    assert devices.gpu("7").declared


def test_slices_are_shown_to_ray_by_uuid_unless_the_user_has_chosen(
    driver: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert devices.slices_to_show() == "GPU-0,MIG-0,MIG-1"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1")
    assert devices.slices_to_show() is None


@pytest.mark.parametrize(
    ("name", "profile"),
    [("NVIDIA H200", None), ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "1g.5gb"), ("EPYC", None)],
)
def test_the_profile_of_a_slice_is_in_its_name(name: str, profile: str | None) -> None:
    assert devices.Device("gpu", name, 0, None, "0").mig_profile == profile


def test_gpus_near_the_same_cpus_share_them_fairly(
    driver: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeNvml, "nvmlDeviceGetCpuAffinity", lambda *_: [0b1111_1111])
    monkeypatch.setattr(devices.os, "sched_getaffinity", lambda _: set(range(1, 16)))
    monkeypatch.setattr(devices.sysfs, "core_siblings", lambda cpu: frozenset({cpu % 4}))
    shares = [devices.gpu(uuid).cpus for uuid in ("GPU-0", "MIG-0", "MIG-1")]
    # cores 1, 2, 3 with both their threads, and core 0 with the one that is allowed
    assert shares == [(1, 5), (2, 6), (3, 4, 7)]


def test_a_share_too_small_is_the_whole_and_a_whole_too_small_is_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(devices.sysfs, "core_siblings", lambda cpu: frozenset({cpu}))
    assert devices.share((0, 1, 2), 1, 4) == (0, 1, 2)
    assert devices.share((0,), 0, 1) == ()
    assert devices.share((), 0, 2) == ()


def test_inventory_is_empty_without_pynvml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nvml.inventory() == ()
    assert nvml.environment("GPU-0") == {}
    assert nvml.compute_processes("GPU-0") is None


@pytest.mark.parametrize("call", ["nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetUUID"])
def test_inventory_is_empty_when_the_driver_refuses(driver: FakeNvml, call: str) -> None:
    driver.refused.add(call)
    assert nvml.inventory() == ()
    assert driver.opened == 0


def test_a_refused_figure_is_none_and_the_others_are_kept(driver: FakeNvml) -> None:
    driver.refused |= {
        "nvmlDeviceGetMemoryInfo",
        "nvmlDeviceGetCpuAffinity",
        "nvmlDeviceGetPciInfo",
        "nvmlDeviceGetMigMode",
        "nvmlDeviceGetCudaComputeCapability",
        "nvmlSystemGetDriverVersion",
    }
    first, second = nvml.inventory()
    assert first == nvml.Gpu(0, "GPU-0", "NVIDIA H200")
    assert second.uuid == "GPU-1"


def test_environment_uses_columns_of_the_schema_and_none_for_the_unknown(driver: FakeNvml) -> None:
    facts = nvml.environment("GPU-0")
    assert set(facts) <= set(SCHEMAS["environment"].names)
    assert facts["power_limit_w"] == 700
    assert facts["ecc_mode"] == "on"
    assert facts["mig_mode"] == "off"
    assert facts["cuda_driver_version"] == "13.1"
    assert facts["persistence_mode"] is None
    assert nvml.environment("GPU-9") == {}
    assert nvml.compute_processes("GPU-0") == (41, 42)
    assert driver.opened == 0


def test_other_processes_on_the_device_are_counted_without_ours() -> None:
    assert nvml.foreign_processes((41, 42), 42) == 1
    assert nvml.foreign_processes((42,), 42) == 0
    assert nvml.foreign_processes((1041, 1042), 42) == 1  # ids of the host: one of them is ours
    assert nvml.foreign_processes((1042,), 42) == 0
    assert nvml.foreign_processes((), 42) is None  # ours is hidden, so others may be as well
    assert nvml.foreign_processes(None, 42) is None


def test_expensive_readings_are_taken_at_the_edges_only(driver: FakeNvml) -> None:
    telemetry = gpu_telemetry.GpuTelemetry("GPU-0", period_s=0.001)
    telemetry.start()
    while len(telemetry.samples) < 3:
        time.sleep(0.001)
    first, *between, last = telemetry.end()
    assert (first.processes, last.processes) == ((41, 42), (41, 42))
    assert {sample.processes for sample in between} == {None}


def test_temperature_between_two_samples_is_interpolated() -> None:
    samples = [_seconds(1, temp_c=50.0), _seconds(2), _seconds(3, temp_c=54.0)]
    stamps = np.array([0, 2 * 10**9, 9 * 10**9])
    assert gpu_telemetry.temperatures_c(samples, stamps).tolist() == [50, 52, 54]
    assert np.isnan(gpu_telemetry.temperatures_c([_seconds(1)], stamps)).all()


def test_telemetry_samples_both_edges_and_gives_every_column(driver: FakeNvml) -> None:
    telemetry = gpu_telemetry.GpuTelemetry("GPU-0", period_s=3600)
    telemetry.start()
    telemetry.start()
    columns = gpu_telemetry.columns(telemetry.end())
    assert len(telemetry.samples) == 2
    assert telemetry.samples[0].power_w == 500
    assert tuple(columns) == gpu_telemetry.COLUMNS
    assert set(columns) <= set(SCHEMAS["trials"].names)
    assert columns["sm_clock_mhz_mean"] == 1980
    assert columns["mem_clock_mhz_mean"] == 3201
    assert columns["gpu_util_mean"] == pytest.approx(0.9)
    assert columns["gpu_mem_peak_mib"] == 3
    assert columns["throttle_power_frac"] == 1
    assert columns["throttle_thermal_frac"] == 0
    assert columns["energy_j"] is None  # two readings of one moment
    assert driver.opened == 0


@pytest.mark.parametrize("uuid", [None, "GPU-9"])
def test_telemetry_of_an_unknown_gpu_is_none(driver: FakeNvml, uuid: str | None) -> None:
    telemetry = gpu_telemetry.GpuTelemetry(uuid)
    telemetry.start()
    assert set(gpu_telemetry.columns(telemetry.end()).values()) == {None}
    assert driver.opened == 0


def test_telemetry_survives_a_driver_that_refuses_everything(driver: FakeNvml) -> None:
    telemetry = gpu_telemetry.GpuTelemetry("GPU-0", period_s=3600)
    driver.refused |= {
        name for name in dir(FakeNvml) if "DeviceGet" in name and "Handle" not in name
    }
    telemetry.start()
    columns = gpu_telemetry.columns(telemetry.end())
    assert {value for name, value in columns.items() if name != "energy_source"} == {None}


def test_end_without_start_gives_no_samples() -> None:
    assert gpu_telemetry.GpuTelemetry("GPU-0").end() == ()


def test_power_falls_back_to_the_mean_of_a_second(driver: FakeNvml) -> None:
    driver.refused.add("nvmlDeviceGetFieldValues")
    telemetry = gpu_telemetry.GpuTelemetry("GPU-0", period_s=3600)
    telemetry.start()
    telemetry.end()
    assert telemetry.samples[0].power_w == 400


def _seconds(second: int, **fields: Any) -> gpu_telemetry.GpuSample:
    return gpu_telemetry.GpuSample(second * 10**9, **fields)


def test_energy_is_the_counter_over_the_window_not_over_the_samples() -> None:
    years = 10**13
    samples = [_seconds(s, energy_mj=years + s * 500_000, power_w=505.0) for s in range(0, 41, 2)]
    columns = gpu_telemetry.columns(samples, 5 * 10**9, 25 * 10**9, items=20_000)
    assert columns["energy_source"] == "counter"
    assert columns["energy_j"] == pytest.approx(10_000)
    assert columns["avg_power_w"] == pytest.approx(500)
    assert columns["items_per_j"] == pytest.approx(2)
    assert columns["j_per_item"] == pytest.approx(0.5)
    assert columns["energy_check_rel"] == pytest.approx(0.01)


def test_energy_is_the_integral_without_a_counter() -> None:
    samples = [_seconds(s, power_w=100.0 + s) for s in range(21)]
    columns = gpu_telemetry.columns(samples)
    assert columns["energy_source"] == "integral"
    assert columns["energy_j"] == pytest.approx(20 * 110)
    assert columns["energy_check_rel"] is None
    assert columns["items_per_j"] is None


def test_energy_of_a_window_that_the_samples_do_not_cover_is_unknown() -> None:
    samples = [_seconds(s, energy_mj=s, power_w=1.0) for s in range(21)]
    assert gpu_telemetry.columns(samples, 0, 30 * 10**9)["energy_source"] == "none"


def test_throttling_counts_samples_inside_the_window_only() -> None:
    reasons = [0x4, 0x4, 0x20, 0x80, 0x1, None]
    samples = [_seconds(s, reasons=mask, temp_c=50.0 + s) for s, mask in enumerate(reasons)]
    columns = gpu_telemetry.columns(samples, 10**9, 5 * 10**9)
    assert columns["throttle_power_frac"] == 0.25
    assert columns["throttle_thermal_frac"] == 0.25
    assert columns["throttle_hw_frac"] == 0.25
    assert (columns["temp_c_start"], columns["temp_c_end"], columns["temp_c_max"]) == (51, 55, 55)


def test_the_way_to_other_boards_has_the_names_of_nvidia_smi(driver: FakeNvml) -> None:
    assert nvml.environment("GPU-0")["topology_json"] is None
    driver.answers["nvmlDeviceGetTopologyCommonAncestor"] = 40
    assert nvml.environment("GPU-0")["topology_json"] == '{"GPU-1": "NODE"}'
    driver.answers |= {"nvmlDeviceGetP2PStatus": 0, "nvmlDeviceGetNvLinkState": 1}
    assert nvml.environment("GPU-0")["topology_json"] == '{"GPU-1": "NV36"}'
