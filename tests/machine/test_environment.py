"""The facts about a machine, and when two machines count as the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from raybench.analysis.series import device_name
from raybench.machine import devices, environment
from raybench.machine.environment import SAME, environment_id, snapshot
from raybench.results.schema import SCHEMAS
from raybench.results.store import build

FACTS = {
    "devices": {"NVIDIA H200": 8},
    "driver_version": "570.1",
    "cuda_driver_version": "12.8",
    "tensorrt_version": "10.9",
    "cpu_model": "Xeon",
    "hostname": "a",
}


@pytest.fixture(scope="module")
def facts():
    return snapshot()


def test_a_snapshot_is_a_row_of_the_environment_table(facts):
    assert set(facts) <= set(SCHEMAS["environment"].names)
    assert build("environment", [facts], {}).num_rows == 1
    assert facts["cpu_threads"] >= facts["cpu_usable"] >= 1
    assert facts["ram_gib"] > 0
    assert facts["python_version"] == ".".join(map(str, sys.version_info[:3]))
    assert facts["numpy_version"] == __import__("numpy").__version__


def test_a_snapshot_imports_no_library():
    code = (
        "import sys; from raybench.machine.environment import snapshot; snapshot(); "
        "print({'ray', 'onnxruntime', 'openvino', 'tensorrt', 'onnx', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_secrets_stay_where_they_are(monkeypatch):
    for name in ("CUDA_API_KEY", "NCCL_TOKEN", "AWS_SECRET_ACCESS_KEY", "HOME_OF_MINE"):
        monkeypatch.setenv(name, "hidden")
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    allowed = snapshot()["env_allowlist"]
    assert (allowed["OMP_NUM_THREADS"], allowed["CUDA_VISIBLE_DEVICES"]) == ("4", "1")
    assert "hidden" not in allowed.values()


@pytest.mark.parametrize(
    "error",
    [
        OSError("gone"), PermissionError(13, "no"), ValueError("odd"), KeyError("x"),
        AttributeError("y"), TypeError("z"), RuntimeError("loop"), NotImplementedError("os"),
        subprocess.TimeoutExpired("git", 10), psutil.AccessDenied(),
        UnicodeDecodeError("utf-8", b"", 0, 1, "bad"),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_a_snapshot_never_raises(monkeypatch, facts, error):
    def fail(*args, **keywords):
        raise error

    monkeypatch.setattr(environment, "_PROBES", dict.fromkeys(environment._PROBES, fail))
    monkeypatch.setattr(environment.importlib.metadata, "version", fail)
    monkeypatch.setattr(environment.subprocess, "run", fail)
    dark = snapshot()
    assert dark.keys() == facts.keys()
    assert set(dark.values()) == {None}


# importlib.metadata of Python 3.12 and newer, for packages whose metadata this test hides
@pytest.mark.filterwarnings("ignore:Implicit None on return values:DeprecationWarning")
def test_a_machine_without_proc_sys_and_git_is_no_error(monkeypatch, facts):
    def fail(self, *args, **keywords):
        raise FileNotFoundError(2, "No such file or directory", str(self))

    monkeypatch.setattr(Path, "read_text", fail)
    monkeypatch.setenv("PATH", "")
    dark = snapshot()
    assert dark.keys() == facts.keys()
    assert (dark["smt"], dark["cpu_sockets"], dark["raybench_git_sha"]) == (None, None, None)
    assert dark["hostname"] == facts["hostname"]


# --- identity -------------------------------------------------------------------------------------


def test_an_id_is_the_same_everywhere_and_always():
    assert environment_id(FACTS) == environment_id(dict(reversed(FACTS.items())))
    code = (
        f"from raybench.machine.environment import environment_id; print(environment_id({FACTS!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )  # fmt: skip
    assert done.stdout.strip() == environment_id(FACTS) == "02176eee24e472307c6c"


def test_host_kernel_and_time_do_not_count():
    other = {"hostname": "b", "kernel": "7.0", "python_version": "3.14", "slurm_job_id": "9"}
    assert environment_id({**FACTS, **other}) == environment_id(FACTS)


@pytest.mark.parametrize("name", SAME)
def test_each_fact_that_must_be_equal_counts(name):
    value = {"NVIDIA H200": 4} if name == "devices" else "other"
    assert environment_id({**FACTS, name: value}) != environment_id(FACTS)


def test_mps_makes_another_environment_where_it_is_on():
    assert environment_id({**FACTS, "mps": True}) != environment_id(FACTS)
    assert environment_id({**FACTS, "mps": False}) == environment_id(FACTS)
    assert environment_id({**FACTS, "mps": None}) == environment_id(FACTS)


def test_kinds_of_nodes_count_and_not_their_number():
    other = {**FACTS, "devices": {"NVIDIA H200": 4}}
    assert environment_id(FACTS, FACTS) == environment_id(FACTS)
    assert environment_id(FACTS, other, FACTS) == environment_id(other, FACTS)
    assert environment_id(FACTS, other) not in (environment_id(FACTS), environment_id(other))


def test_unknown_is_missing_and_devices_have_no_order():
    assert environment_id({**FACTS, "container_digest": None}) == environment_id(FACTS)
    two = {"NVIDIA H200": 8, "NVIDIA A100": 2}
    swapped = dict(reversed(two.items()))
    assert environment_id({"devices": two}) == environment_id({"devices": swapped})


def test_a_cpu_quota_that_binds_tells_machines_apart():
    def id_with(**facts):
        return environment_id({**FACTS, "cpu_usable": 4, **facts})

    assert id_with(cpu_quota_cores=None) == environment_id(FACTS)
    assert id_with(cpu_quota_cores=4.0) == environment_id(FACTS)
    assert (
        len({environment_id(FACTS), id_with(cpu_quota_cores=1.5), id_with(cpu_quota_cores=2)}) == 3
    )


def test_a_machine_is_the_same_as_itself(facts):
    assert environment_id(snapshot()) == environment_id(facts)
    assert len(environment_id(facts)) == 20


def test_a_declared_gpu_keeps_its_stored_name_and_is_printed_as_declared():
    assert devices.declared_gpu(None) == "\x74old GPU"
    assert device_name(devices.declared_gpu("any")) == "declared GPU"
    assert device_name(devices.declared_gpu("H100")) == "declared H100"
    assert device_name("NVIDIA H200") == "NVIDIA H200"
