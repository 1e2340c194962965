"""What the driver reports of the GPU that a worker owns, before any library is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.machine import nvml

if TYPE_CHECKING:
    from raybench.machine.devices import Device


def capability(device: Device) -> tuple[int, int] | None:
    """Return the compute capability of a GPU by the driver, e.g. (9, 0)."""
    gpu = _gpu(device)
    if gpu is None or gpu.compute_capability is None:
        return None
    major, minor = gpu.compute_capability.split(".")
    return int(major), int(minor)


def driver(device: Device) -> str | None:
    """Return the driver's version."""
    gpu = _gpu(device)
    return None if gpu is None else gpu.driver_version


def _gpu(device: Device) -> nvml.Gpu | None:
    return next((gpu for gpu in nvml.inventory() if gpu.uuid == device.uuid), None)
