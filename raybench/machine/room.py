"""Room for Ray's processes on this machine: threads, open files and shared memory."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil

import psutil

from raybench.machine import cgroup

THREADS, THREADS_A_DEVICE = 100, 30
"""Threads that a run starts: 166 at most with three devices on two cores, by `pids.peak`."""
LEAST_FILES = 1024
LEAST_SHARED_BYTES = 128 << 20
SHARED_MEMORY = "/dev/shm"


def threads_needed(devices: int) -> int:
    """Return about how many threads Ray, the driver and the workers of some devices have."""
    return THREADS + THREADS_A_DEVICE * devices


def threads_left() -> int | None:
    """Return how many more threads this process and those it starts may have; None without a limit."""
    left = [cgroup.limits().threads_left, _left_to_user()]
    return min((threads for threads in left if threads is not None), default=None)


def _left_to_user() -> int | None:
    limit, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if limit == resource.RLIM_INFINITY or os.getuid() == 0:  # it does not hold for root
        return None
    threads = 0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            threads += process.num_threads() if process.uids().real == os.getuid() else 0
    return max(limit - threads, 0)


def files_allowed() -> int | None:
    """Return how many files a process may have open, after raising its limit as far as it may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if hard == resource.RLIM_INFINITY else hard


def shared_memory_bytes() -> int | None:
    """Return how much shared memory is free; None if unknown."""
    try:
        return shutil.disk_usage(SHARED_MEMORY).free
    except OSError:
        return None
