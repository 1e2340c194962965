"""The environment of a measurement: machine and software, and when two of them count as the same.

`snapshot` describes the host; what only a device reports (driver, GPU, power limit) is added by the
caller. Nothing here raises: what cannot be determined is None.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import psutil

from raybench.experiment import ENVIRONMENT
from raybench.machine import cgroup, nvml, sysfs
from raybench.paths import PACKAGE
from raybench.text import canonical_hash, canonical_json
from raybench.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")

SAME = ("devices", *ENVIRONMENT)
"""Facts that must be equal for two measurements to come from the same environment."""

DRIVER = ("driver_version", "cuda_driver_version")
"""Facts of `SAME` that a GPU's driver reports; all GPUs of a machine have one driver."""

_LIBRARIES = {
    "tensorrt": tuple(
        f"tensorrt{kind}{cuda}"
        for kind in ("", "-lean", "-dispatch")
        for cuda in ("", "-cu13", "-cu12")
    ),
    "tensorrt_rtx": ("tensorrt-rtx", "tensorrt-rtx-cu13-bindings", "tensorrt-rtx-cu12-bindings"),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "openvino": ("openvino",),
    "onnx": ("onnx",),
    "ray": ("ray",),
    "numpy": ("numpy",),
    "torch": ("torch",),
}
"""Column without `_version` -> distributions that may contain the library."""
_ALLOWED = re.compile(
    r"CUDA_\w+|NCCL_\w+|OMP_\w+|KMP_\w+|(MKL|OPENBLAS)_NUM_THREADS"
    r"|NVIDIA_(VISIBLE_DEVICES|DRIVER_CAPABILITIES|TF32_OVERRIDE)"
)
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL")
_CLOUDS = {"Amazon EC2": "aws", "Google": "gcp", "Microsoft Corporation": "azure"}
_PROBE_ERRORS = (
    OSError, ValueError, LookupError, TypeError, AttributeError, ImportError, RuntimeError,
    subprocess.SubprocessError, psutil.Error,
)  # fmt: skip


def snapshot() -> dict[str, Any]:
    """Return the host's part of a row of the `environment` table, by column name."""
    facts: dict[str, Any] = {name: _try(probe) for name, probe in _PROBES.items()}
    facts |= software()
    facts |= _try(_checkout) or {"raybench_git_sha": None, "git_dirty": None}
    return facts


def environment_id(*nodes: Mapping[str, Any]) -> str:
    """Return 20 hex digits over the facts of `SAME`; missing ones count as None.

    A CPU quota below the CPUs that a node may use counts as well, and CUDA's Multi-Process Service
    (`mps`) where it is on. The kinds of nodes count, not how
    many there are of each: a cluster that lost or gained a node continues with the same rows. `devices` is the caller's: how many of each product name the
    node offers, as `{"NVIDIA H200": 8}`.
    """
    kinds: dict[str, dict[str, Any]] = {}
    for facts in nodes:
        same = {name: facts.get(name) for name in SAME} | _less_usual(facts)
        kinds[canonical_json(same, default=str)] = same
    different = [kinds[text] for text in sorted(kinds)]
    return canonical_hash(different[0] if len(different) == 1 else different, 20, default=str)


def _less_usual(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return a CPU quota that binds, and MPS where it is on; a machine without them keeps its older id."""
    quota, usable = facts.get("cpu_quota_cores"), facts.get("cpu_usable")
    binds = quota is not None and (usable is None or quota < usable)
    return ({"cpu_quota_cores": quota} if binds else {}) | (
        {"mps": True} if facts.get("mps") else {}
    )


def kind(facts: Mapping[str, Any]) -> str:
    """Return the facts of a machine that decide what an engine builds on it, as text.

    These are `SAME` without the CPU; of `devices` only the names count.
    """
    cpu = facts.get("cpu_model")
    names = sorted(name for name in facts.get("devices", ()) if name != cpu)
    same = {name: facts.get(name) for name in SAME if name not in ("devices", "cpu_model")}
    return json.dumps({**same, "devices": names}, sort_keys=True, default=str)


def software() -> dict[str, str | None]:
    """Return the versions that affect results, by column of the `environment` table."""
    facts = {f"{name}_version": _try(partial(_version, d)) for name, d in _LIBRARIES.items()}
    return facts | {name: _try(_PROBES[name]) for name in ("python_version", "raybench_version")}


@lru_cache(maxsize=8)
def software_with_driver(uuid: str | None) -> dict[str, str | None]:
    """Return the same with the version of the GPU's driver; None on a core."""
    driver = nvml.environment(uuid).get("driver_version") if uuid else None
    return {**software(), "driver_version": driver}


def _try(probe: Callable[[], T]) -> T | None:
    try:
        return probe()
    except _PROBE_ERRORS:
        return None


def _os() -> str | None:
    return platform.freedesktop_os_release().get("PRETTY_NAME")


def _cpu_model() -> str | None:
    return sysfs.cpu_model() or platform.processor() or None


def _cpu_governor() -> str | None:
    return ",".join(sorted(set(sysfs.governors()))) or None


def _in_container() -> bool | None:
    if any(name in os.environ for name in ("container", "APPTAINER_NAME", "SINGULARITY_NAME")):
        return True
    if any(Path(name).exists() for name in ("/.dockerenv", "/run/.containerenv")):
        return True
    cgroup = sysfs.init_cgroup()
    return None if cgroup is None else bool(re.search("docker|containerd|kubepods|lxc", cgroup))


def _container_image() -> str | None:
    return os.environ.get("APPTAINER_CONTAINER") or os.environ.get("SINGULARITY_CONTAINER")


def _cloud_provider() -> str | None:
    return _CLOUDS.get(sysfs.firmware("sys_vendor") or "")


def _instance_type() -> str | None:
    """Return the type of a cloud instance; only Amazon writes it into the firmware."""
    return sysfs.firmware("product_name") if _cloud_provider() == "aws" else None


def _memory_limit_gib() -> float | None:
    limit = cgroup.limits().memory_bytes
    return None if limit is None else round(limit / 2**30, 2)


def _version(distributions: tuple[str, ...]) -> str | None:
    """Return the version of the first one installed, without importing it."""
    for name in distributions:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return None


def _pip_freeze_sha256() -> str:
    # the folders' names hold names and versions; reading each one's metadata takes a second
    installed = (path.stem for folder in sys.path for path in Path(folder).glob("*.dist-info"))
    return hashlib.sha256("\n".join(sorted(map(str.lower, installed))).encode()).hexdigest()


def _checkout() -> dict[str, Any]:
    """Return commit and state of the checkout this package runs from, if any."""
    root = PACKAGE.resolve().parent
    if not (root / ".git").exists():
        return {"raybench_git_sha": None, "git_dirty": None}
    changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    return {"raybench_git_sha": _git(root, "rev-parse", "HEAD"), "git_dirty": bool(changes)}


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()


def variables() -> dict[str, str]:
    """Return this process's environment variables on the allow-list; others may hold secrets."""
    return {
        name: value
        for name, value in sorted(os.environ.items())
        if _ALLOWED.fullmatch(name) and not _SECRET.search(name)
    }


_PROBES: dict[str, Callable[[], Any]] = {
    "hostname": platform.node,
    "os": _os,
    "kernel": platform.release,
    "container_image": _container_image,
    "in_container": _in_container,
    "cpu_model": _cpu_model,
    "cpu_sockets": sysfs.cpu_sockets,
    "cpu_cores": lambda: psutil.cpu_count(logical=False),
    "cpu_threads": lambda: psutil.cpu_count(logical=True),
    "cpu_usable": lambda: len(os.sched_getaffinity(0)),
    "cpu_governor": _cpu_governor,
    "smt": sysfs.smt_active,
    "ram_gib": lambda: round(psutil.virtual_memory().total / 2**30, 2),
    "numa_nodes": sysfs.numa_nodes,
    "python_version": platform.python_version,
    "raybench_version": lambda: __version__,
    "pip_freeze_sha256": _pip_freeze_sha256,
    "cloud_provider": _cloud_provider,
    "instance_type": _instance_type,
    "slurm_job_id": lambda: os.environ.get("SLURM_JOB_ID"),
    "cpu_quota_cores": lambda: cgroup.limits().cores,
    "memory_limit_gib": _memory_limit_gib,
    "env_allowlist": variables,
}
