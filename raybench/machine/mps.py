"""CUDA's Multi-Process Service: whether processes on one GPU compute side by side or in turns."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

PIPES = "/tmp/nvidia-mps"
"""Where CUDA looks unless CUDA_MPS_PIPE_DIRECTORY names another place."""
CONTROL, SERVER = "nvidia-cuda-mps-control", "nvidia-cuda-mps-server"


def is_on() -> bool | None:
    """Return whether CUDA programs that this process starts or is use the service.

    They do where they find the pipe of a control daemon, in CUDA_MPS_PIPE_DIRECTORY or the usual
    folder. A pipe without a daemon may be left over, or its daemon may run outside this container.

    Returns:
        None where the pipe is there and no daemon is seen.
    """
    folder = Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY") or PIPES)
    if not (folder / "control").exists():
        return False
    return True if _running(CONTROL) else None


def servers() -> frozenset[int]:
    """Return the ids of the service's own processes, which the driver counts among those of a GPU."""
    return frozenset(pid for pid, name in _names() if _same(name, SERVER))


def _running(name: str) -> bool:
    return any(_same(found, name) for _, found in _names())


def _names() -> list[tuple[int, str]]:
    return [(each.pid, each.info["name"] or "") for each in psutil.process_iter(["name"])]


def _same(found: str, name: str) -> bool:
    """Return whether a process has a name, of which the kernel keeps 15 characters."""
    return found in (name, name[:15])
