"""Limits of control groups, of invented machines in every arrangement that is in use."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import pytest
from helpers.control_groups import NO_LIMIT, V1_MOUNTS, V2_MOUNT, machine_with, write_files

from raybench.machine import checks, devices, sysfs
from raybench.machine.cgroup import CpuStatistics, CpuTimes, GroupLimits, limits

if TYPE_CHECKING:
    from pathlib import Path

GIB = 1 << 30


def times(root: Path) -> CpuTimes:
    with contextlib.closing(CpuStatistics(root)) as statistics:
        return statistics.read()


def test_version_2_the_own_group_s_limits_count(tmp_path: Path) -> None:
    files = {"job/cpu.max": "150000 100000\n", "job/memory.max": f"{2 * GIB}\n"}
    assert limits(machine_with(tmp_path, "0::/job\n", V2_MOUNT, files)) == GroupLimits(1.5, 2 * GIB)


def test_version_1_the_own_group_s_limits_count(tmp_path: Path) -> None:
    own = "5:memory:/job\n4:freezer:/\n3:cpu,cpuacct:/job\n"
    files = {
        "cpu,cpuacct/job/cpu.cfs_quota_us": "50000\n",
        "cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
        "memory/job/memory.limit_in_bytes": f"{GIB}\n",
        "memory/memory.limit_in_bytes": NO_LIMIT,
    }
    assert limits(machine_with(tmp_path, own, V1_MOUNTS, files)) == GroupLimits(0.5, GIB)


@pytest.mark.parametrize(("pod", "container"), [("200000", "400000"), ("400000", "200000")])
def test_the_tightest_of_nested_groups_counts(tmp_path: Path, pod: str, container: str) -> None:
    files = {
        "kubepods/cpu.max": "max 100000",
        "kubepods/pod1/cpu.max": f"{pod} 100000",
        "kubepods/pod1/c/cpu.max": f"{container} 100000",
        "kubepods/memory.max": f"{3 * GIB}",
        "kubepods/pod1/c/memory.max": "max",
        "kubepods/pod1/c/memory.high": f"{2 * GIB}",
        "kubepods/other/cpu.max": "1000 100000",
    }
    root = machine_with(tmp_path, "0::/kubepods/pod1/c\n", V2_MOUNT, files)
    assert limits(root) == GroupLimits(2.0, 2 * GIB)


def test_a_machine_with_both_versions_has_the_limits_of_both(tmp_path: Path) -> None:
    own = "3:cpu,cpuacct:/slice\n2:memory:/\n1:name=systemd:/slice\n0::/slice/unit\n"
    mounts = V1_MOUNTS + "41 30 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    files = {
        "cpu,cpuacct/slice/cpu.cfs_quota_us": "300000",
        "cpu,cpuacct/slice/cpu.cfs_period_us": "100000",
        "memory/memory.limit_in_bytes": NO_LIMIT,
        "unified/slice/unit/memory.max": f"{GIB}",
    }
    assert limits(machine_with(tmp_path, own, mounts, files)) == GroupLimits(3.0, GIB)


DOCKER_V1 = (
    "40 30 0:30 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n"
    "41 30 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
)


@pytest.mark.parametrize(
    ("own", "mounts"),
    [
        ("3:cpu,cpuacct:/docker/abc\n2:memory:/docker/abc\n", DOCKER_V1),
        ("3:cpu,cpuacct:/docker/abc\n2:memory:/docker/abc\n", V1_MOUNTS),
        ("3:cpu,cpuacct:/other/place\n2:memory:/../../x\n", DOCKER_V1),
        ("3:cpu,cpuacct:/\n2:memory:/\n", DOCKER_V1.replace("/docker/abc", "/", 1)),
        ("", ""),
    ],
    ids=["own group mounted", "named as on the host", "outside", "namespace", "nothing in proc"],
)
def test_a_container_finds_its_limits_at_the_mount(tmp_path: Path, own: str, mounts: str) -> None:
    files = {
        "cpu,cpuacct/cpu.cfs_quota_us": "150000",
        "cpu,cpuacct/cpu.cfs_period_us": "100000",
        "memory/memory.limit_in_bytes": f"{GIB}",
    }
    assert limits(machine_with(tmp_path, own, mounts, files)) == GroupLimits(1.5, GIB)


@pytest.mark.parametrize("own", ["0::/\n", "0::/../../outside\n", "0::/system.slice/a.scope\n"])
def test_a_container_of_version_2_finds_its_limits_at_the_mount(tmp_path: Path, own: str) -> None:
    files = {"cpu.max": "50000 100000", "memory.max": f"{GIB}"}
    assert limits(machine_with(tmp_path, own, V2_MOUNT, files)) == GroupLimits(0.5, GIB)


def test_a_group_outside_of_the_mount_is_not_the_one_of_that_name_inside(
    tmp_path: Path,
) -> None:
    files = {"cpu.max": "150000 100000", "other/cpu.max": "1000 100000"}
    root = machine_with(tmp_path, "0::/../other\n", V2_MOUNT, files)
    assert limits(root) == GroupLimits(1.5)


def test_a_limit_above_what_a_container_sees_is_read_from_its_own_statistics(
    tmp_path: Path,
) -> None:
    files = {
        "memory/memory.limit_in_bytes": NO_LIMIT,
        "memory/memory.stat": f"cache 0\nhierarchical_memory_limit {GIB}\nrss 5\n",
    }
    assert limits(machine_with(tmp_path, "2:memory:/\n", V1_MOUNTS, files)).memory_bytes == GIB


def test_a_mount_with_blanks_in_its_name_is_found(tmp_path: Path) -> None:
    mounts = "31 23 0:28 / /my\\040groups rw - cgroup2 cgroup2 rw\n"
    root = machine_with(tmp_path, "0::/a:b c\n", mounts, {})
    write_files(root, {"my groups/a:b c/cpu.max": "50000 100000"})
    assert limits(root).cores == 0.5


@pytest.mark.parametrize(
    "cpu",
    ["max 100000", "max", "", "50000", "-1 100000", "0 0", "5 0", "a b c", "²³ 7", "9" * 5000],
)
@pytest.mark.parametrize("memory", ["max", "", "-1", "0", "lots", "9" * 5000, NO_LIMIT])
def test_words_that_are_no_limit_limit_nothing(tmp_path: Path, cpu: str, memory: str) -> None:
    files = {
        "cpu.max": cpu, "cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000",
        "memory.max": memory, "memory.stat": memory, "cpu.stat": cpu,
    }  # fmt: skip
    root = machine_with(tmp_path, "0::/\n", V2_MOUNT, files)
    assert limits(root) == GroupLimits(None, None)
    assert times(root).throttled_s is None


@pytest.mark.parametrize("own", ["", "garbage", "::", "0::", "0::\0", "1:cpu", "0::/" + "x" * 9999])
@pytest.mark.parametrize(
    "mounts",
    ["", "- - -", " - cgroup2", "1 2 3 / - cgroup2 x rw", "\0", "1 2 3 \\999 /\\1 - cgroup2"],
)
def test_garbage_in_proc_is_no_error(tmp_path: Path, own: str, mounts: str) -> None:
    root = machine_with(tmp_path, own, mounts, {})
    assert limits(root) == GroupLimits()
    assert times(root) == CpuTimes()


def test_a_machine_without_proc_and_sys_has_no_limits(tmp_path: Path) -> None:
    assert limits(tmp_path) == GroupLimits()
    assert times(tmp_path) == CpuTimes()


@pytest.mark.parametrize(("own", "mounts"), [("0::/job\n", V2_MOUNT), ("", "")])
def test_threads_that_the_groups_have_left(tmp_path: Path, own: str, mounts: str) -> None:
    files = {
        "pids.max": "500",
        "pids.current": "100",
        "job/pids.max": "max",
        "job/pids.current": "9",
    }
    root = machine_with(tmp_path, own, mounts, files)
    assert limits(root).threads_left == 400
    write_files(root, {"sys/fs/cgroup/pids.current": "600"})
    assert limits(root).threads_left == 0


# --- throttled time -------------------------------------------------------------------------------


def test_throttled_time_of_version_2(tmp_path: Path) -> None:
    stat = "usage_usec 3000000\nnr_periods 20\nnr_throttled 10\nthrottled_usec 1500000\n"
    files = {"cpu.stat": "usage_usec 9\n", "job/cpu.stat": stat, "job/cpu.max": "50000 100000"}
    root = machine_with(tmp_path, "0::/job\n", V2_MOUNT, files)
    with contextlib.closing(CpuStatistics(root)) as statistics:
        assert statistics.read() == CpuTimes(1.5, 3.0)
        (root / "sys/fs/cgroup/job/cpu.stat").write_text(stat.replace("1500000", "2000000"))
        assert statistics.read().throttled_s == 2.0


def test_throttled_time_of_version_1(tmp_path: Path) -> None:
    stat = "nr_periods 20\nnr_throttled 10\nthrottled_time 1500000000\n"
    files = {
        "cpu,cpuacct/job/cpu.stat": stat,
        "cpu,cpuacct/job/cpuacct.usage": "3000000000\n",
        "cpu,cpuacct/job/cpu.cfs_quota_us": "50000",
        "cpu,cpuacct/job/cpu.cfs_period_us": "100000",
    }
    root = machine_with(tmp_path, "3:cpu,cpuacct:/job\n", V1_MOUNTS, files)
    assert times(root) == CpuTimes(1.5, 3.0)


def test_the_quota_of_a_group_above_is_throttled_time_of_this_process(tmp_path: Path) -> None:
    files = {
        "pod/cpu.max": "50000 100000",
        "pod/cpu.stat": "usage_usec 8000000\nthrottled_usec 4000000\n",
        "pod/c/cpu.max": "max 100000",
        "pod/c/cpu.stat": "usage_usec 2000000\nthrottled_usec 0\n",
    }
    root = machine_with(tmp_path, "0::/pod/c\n", V2_MOUNT, files)
    assert times(root) == CpuTimes(4.0, 2.0)
    write_files(root, {"sys/fs/cgroup/pod/c/cpu.stat.local": "throttled_usec 3000000\n"})
    assert times(root) == CpuTimes(3.0, 2.0)


# --- what follows from the limits -----------------------------------------------------------------


@pytest.fixture
def four_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sysfs, "ROOT", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    monkeypatch.setattr("psutil.cpu_count", lambda logical=True: 4)
    return tmp_path


@pytest.mark.parametrize(
    ("quota", "cores", "phrase"),
    [
        ("max 100000", 4, "4 cores to measure on"),
        ("800000 100000", 4, "4 cores to measure on"),
        ("250000 100000", 2, "2 cores to measure on; a CPU quota of 2.5 allows no more"),
        ("150000 100000", 1, "1 core to measure on; a CPU quota of 1.5 allows no more"),
        (
            "50000 100000", 1,
            "1 core to measure on; a CPU quota of 0.5 allows no more, and only 50% of its time",
        ),
    ],
)  # fmt: skip
def test_a_quota_decides_how_many_cores_are_offered(
    four_cores: Path, quota: str, cores: int, phrase: str
) -> None:
    machine_with(four_cores, "0::/job\n", V2_MOUNT, {"job/cpu.max": quota})
    assert devices.cores() == (3, 2, 1, 0)[:cores]
    assert devices.describe_cores() == phrase


def test_doctor_warns_of_a_quota_that_binds(four_cores: Path) -> None:
    def warnings(quota: str) -> list[str]:
        machine_with(four_cores, "0::/job\n", V2_MOUNT, {"job/cpu.max": quota})
        found = checks.system_issues((), nice=0, load=0.0, governors=())
        return [issue.what for issue in found if "quota" in issue.what]

    assert "quota of 1.5 cores" in warnings("150000 100000")[0]
    assert warnings("400000 100000") == []


def test_the_memory_of_the_machine_is_what_its_groups_allow(
    four_cores: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = devices.memory_bytes()
    machine_with(four_cores, "0::/job\n", V2_MOUNT, {"job/memory.max": f"{whole // 2}"})
    assert devices.memory_bytes() == whole // 2
    assert devices.core(0).memory_bytes == whole // 2
    machine_with(four_cores, "0::/job\n", V2_MOUNT, {"job/memory.max": f"{2 * whole}"})
    assert devices.memory_bytes() == whole
