"""What the driver reports of GPUs, before any library is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.machine import nvml

if TYPE_CHECKING:
    from raybench.machine.devices import Device


def capability(device: Device) -> tuple[int, int] | None:
    """Return the compute capability of a GPU by the driver, e.g. (9, 0)."""
    gpu = _gpu(device)
    return None if gpu is None else _capability(gpu)


def capabilities() -> dict[str, tuple[int, int] | None]:
    """Return the compute capability of each kind of GPU in this machine, by name."""
    return {gpu.name: _capability(gpu) for gpu in nvml.inventory()}


def driver(device: Device) -> str | None:
    """Return the driver's version."""
    gpu = _gpu(device)
    return None if gpu is None else gpu.driver_version


def _gpu(device: Device) -> nvml.Gpu | None:
    return next((gpu for gpu in nvml.inventory() if gpu.uuid == device.uuid), None)


def _capability(gpu: nvml.Gpu) -> tuple[int, int] | None:
    if gpu.compute_capability is None:
        return None
    major, minor = gpu.compute_capability.split(".")
    return int(major), int(minor)
