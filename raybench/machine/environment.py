"""environment: what this machine and its software are, and when two of them count as the same.

`snapshot` looks at the host; what only a device can tell (driver, GPU, power limit) is added by
the caller. Nothing here raises: what cannot be known is None.
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
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import psutil

from raybench.experiment import ENVIRONMENT
from raybench.paths import PACKAGE
from raybench.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")

SAME = ("devices", *ENVIRONMENT)
"""Facts that must be equal for two measurements to come from the same environment."""

DRIVER = ("driver_version", "cuda_driver_version")
"""Facts of `SAME` that a GPU's driver tells; all GPUs of a machine have one driver."""

_LIBRARIES = {
    "tensorrt": tuple(
        f"tensorrt{kind}{cuda}"
        for kind in ("", "-lean", "-dispatch")
        for cuda in ("", "-cu13", "-cu12")
    ),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "openvino": ("openvino",),
    "onnx": ("onnx",),
    "ray": ("ray",),
    "numpy": ("numpy",),
}
"""Column without `_version` -> distributions that may hold the library."""
_ALLOWED = re.compile(
    r"CUDA_\w+|NCCL_\w+|OMP_\w+|KMP_\w+|(MKL|OPENBLAS)_NUM_THREADS"
    r"|NVIDIA_(VISIBLE_DEVICES|DRIVER_CAPABILITIES|TF32_OVERRIDE)"
)
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL")
_CLOUDS = {"Amazon EC2": "aws", "Google": "gcp", "Microsoft Corporation": "azure"}
_TROUBLE = (
    OSError, ValueError, LookupError, TypeError, AttributeError, ImportError, RuntimeError,
    subprocess.SubprocessError, psutil.Error,
)  # fmt: skip


def snapshot() -> dict[str, Any]:
    """The host's part of a row of the `environment` table, by column name."""
    facts: dict[str, Any] = {name: _known(probe) for name, probe in _PROBES.items()}
    facts |= software()
    facts |= _known(_checkout) or {"raybench_git_sha": None, "git_dirty": None}
    return facts


def environment_id(*nodes: Mapping[str, Any]) -> str:
    """20 hex digits over the facts of `SAME`; all others may differ, and missing ones are None.

    Kinds of nodes count, not how many there are of a kind: a cluster that lost a node, or got one
    more, goes on with the same rows. `devices` is the caller's: how many of each product name the
    node offers, as `{"NVIDIA H200": 8}`.
    """
    kinds = sorted(
        {
            json.dumps(
                {name: facts.get(name) for name in SAME},
                sort_keys=True,
                separators=(",", ":"),
                default=str,
            )
            for facts in nodes
        }
    )
    text = kinds[0] if len(kinds) == 1 else f"[{','.join(kinds)}]"
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def kind(facts: Mapping[str, Any]) -> str:
    """What of a machine decides what an engine builds on it, as text: `SAME` but for the CPU.

    `devices` counts by their names only.
    """
    cpu = facts.get("cpu_model")
    names = sorted(name for name in facts.get("devices", ()) if name != cpu)
    same = {name: facts.get(name) for name in SAME if name not in ("devices", "cpu_model")}
    return json.dumps({**same, "devices": names}, sort_keys=True, default=str)


def software() -> dict[str, str | None]:
    """Versions that bear on a number, by column of the `environment` table."""
    facts = {f"{name}_version": _known(partial(_version, d)) for name, d in _LIBRARIES.items()}
    return facts | {name: _known(_PROBES[name]) for name in ("python_version", "raybench_version")}


def _known(probe: Callable[[], T]) -> T | None:
    try:
        return probe()
    except _TROUBLE:
        return None


def _read(path: str) -> str | None:
    return Path(path).read_text(encoding="utf-8", errors="replace").strip() or None


def _os() -> str | None:
    return platform.freedesktop_os_release().get("PRETTY_NAME")


def _cpu_model() -> str | None:
    found = re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo") or "", re.MULTILINE)
    return found.group(1).strip() if found else platform.processor() or None


def _cpu_sockets() -> int | None:
    text = _read("/proc/cpuinfo") or ""
    return len(set(re.findall(r"^physical id\s*:\s*(\d+)", text, re.MULTILINE))) or None


def _cpu_governor() -> str | None:
    found = Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor")
    return ",".join(sorted({path.read_text().strip() for path in found})) or None


def _numa_nodes() -> int | None:
    return len(list(Path("/sys/devices/system/node").glob("node[0-9]*"))) or None


def _in_container() -> bool:
    if any(name in os.environ for name in ("container", "APPTAINER_NAME", "SINGULARITY_NAME")):
        return True
    if any(Path(name).exists() for name in ("/.dockerenv", "/run/.containerenv")):
        return True
    return bool(re.search("docker|containerd|kubepods|lxc", _read("/proc/1/cgroup") or ""))


def _container_image() -> str | None:
    return os.environ.get("APPTAINER_CONTAINER") or os.environ.get("SINGULARITY_CONTAINER")


def _cloud_provider() -> str | None:
    return _CLOUDS.get(_read("/sys/class/dmi/id/sys_vendor") or "")


def _instance_type() -> str | None:
    """Amazon alone writes it into the firmware."""
    return _read("/sys/class/dmi/id/product_name") if _cloud_provider() == "aws" else None


def _version(distributions: tuple[str, ...]) -> str | None:
    """Of the first that is installed; nothing is imported."""
    for name in distributions:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return None


def _pip_freeze_sha256() -> str:
    """Names and versions stand in the folders' names; reading each one's metadata takes a second."""
    found = (path.stem for folder in sys.path for path in Path(folder).glob("*.dist-info"))
    return hashlib.sha256("\n".join(sorted(map(str.lower, found))).encode()).hexdigest()


def _checkout() -> dict[str, Any]:
    """Commit and state of the checkout that this package runs from, if it does."""
    root = PACKAGE.resolve().parent
    if not (root / ".git").exists():
        return {"raybench_git_sha": None, "git_dirty": None}
    changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    return {"raybench_git_sha": _git(root, "rev-parse", "HEAD"), "git_dirty": bool(changes)}


def _git(root: Path, *words: str) -> str:
    command = ["git", "-C", str(root), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()


def variables() -> dict[str, str]:
    """This process's environment variables, by allow-list: the others may hold secrets."""
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
    "cpu_sockets": _cpu_sockets,
    "cpu_cores": lambda: psutil.cpu_count(logical=False),
    "cpu_threads": lambda: psutil.cpu_count(logical=True),
    "cpu_usable": lambda: len(os.sched_getaffinity(0)),
    "cpu_governor": _cpu_governor,
    "smt": lambda: _read("/sys/devices/system/cpu/smt/active") == "1",
    "ram_gib": lambda: round(psutil.virtual_memory().total / 2**30, 2),
    "numa_nodes": _numa_nodes,
    "python_version": platform.python_version,
    "raybench_version": lambda: __version__,
    "pip_freeze_sha256": _pip_freeze_sha256,
    "cloud_provider": _cloud_provider,
    "instance_type": _instance_type,
    "slurm_job_id": lambda: os.environ.get("SLURM_JOB_ID"),
    "env_allowlist": variables,
}
