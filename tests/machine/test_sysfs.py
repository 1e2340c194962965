"""A fake of the root of the kernel's file system for machine.sysfs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from raybench.machine import devices, sysfs

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sysfs, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("listed", "siblings"), [("0,64\n", {0, 64}), ("0-3\n", {0, 1, 2, 3}), ("?", {0}), ("", {0})]
)
def test_siblings_of_a_core(root: Path, listed: str, siblings: set[int]) -> None:
    write(root / sysfs.CPUS / "cpu0/topology/thread_siblings_list", listed)
    assert sysfs.core_siblings(0, root) == siblings


def test_the_cpu_is_named_by_its_first_model_name(root: Path) -> None:
    assert sysfs.cpu_model() is None
    write(root / "proc/cpuinfo", "processor : 0\nmodel name\t: Xeon 1\n\nmodel name : Xeon 2\n")
    assert sysfs.cpu_model() == "Xeon 1"


@pytest.mark.parametrize(
    ("cpuinfo", "saturates"),
    [
        ("flags\t\t: fpu avx2 fma avx512f\n", True),
        ("flags\t\t: fpu sse4_1\n", True),
        ("flags\t\t: fpu avx2 avx_vnni\n", False),
        ("processor : 0\nflags\t\t: fpu avx2 avx512f avx512_vnni\n", False),
        ("Features\t: fp asimd asimddp\n", False),  # ARM
        ("", False),
    ],
)
def test_int8_kernels_saturate_on_x86_without_vnni(
    root: Path, cpuinfo: str, saturates: bool
) -> None:
    write(root / "proc/cpuinfo", cpuinfo)
    assert devices.saturates_int8() is saturates


def test_a_graph_that_may_saturate_is_named_with_the_cause(root: Path) -> None:
    write(root / "proc/cpuinfo", "flags\t\t: fpu avx2\n")
    (note,) = devices.saturation_notes(("Conv:int8", "Gemm:fp16"), None)
    assert "no VNNI" in note
    assert not devices.saturation_notes(("Conv:int8",), "u8s7")
    assert not devices.saturation_notes(("Conv:fp16",), None)
    assert not devices.saturation_notes(None, None)
    write(root / "proc/cpuinfo", "flags\t\t: fpu avx2 avx_vnni\n")
    assert not devices.saturation_notes(("Conv:int8",), None)


def test_governors_are_unknown_when_one_cannot_be_read(root: Path) -> None:
    write(root / sysfs.CPUS / "cpu0/cpufreq/scaling_governor", "powersave\n")
    assert sysfs.governors() == ["powersave"]
    (root / sysfs.CPUS / "cpu1/cpufreq/scaling_governor").mkdir(parents=True)
    assert sysfs.governors() == []


def test_numa_nodes_of_cpus_and_boards(root: Path) -> None:
    (root / sysfs.CPUS / "cpu3/node1").mkdir(parents=True)
    write(root / "sys/bus/pci/devices/0000:17:00.0/numa_node", "1\n")
    write(root / "sys/bus/pci/devices/0000:18:00.0/numa_node", "-1\n")
    assert sysfs.numa_node_of_cpu(3) == 1
    assert sysfs.numa_node_of_cpu(4) is None
    assert sysfs.numa_node_of_pci("00000000:17:00.0") == 1
    assert sysfs.numa_node_of_pci("00000000:18:00.0") is None
    assert sysfs.numa_node_of_pci(None) is None


def test_the_last_level_cache_is_the_largest(tmp_path: Path) -> None:
    for index, size in enumerate(("32K", "1024K", "32M", "odd")):
        write(tmp_path / f"index{index}" / "size", size + "\n")
    assert sysfs.last_level_cache_bytes(tmp_path) == 32 << 20
    assert sysfs.last_level_cache_bytes(tmp_path / "none") == 32 << 20
