"""What TensorRT for RTX builds for and runs on: compute capabilities instead of one GPU.

Its plans hold no kernels but what to compile them from, which happens where a plan is loaded. So a
plan is built without a GPU, and the same plan serves every GPU of its target. Source: support matrix
and "CPU-Only AOT and TensorRT-RTX Engines" in NVIDIA's documentation of TensorRT-RTX 1.7; the message
of the library on an H200.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raybench.engines.tensorrt import chip
from raybench.errors import Unsupported

if TYPE_CHECKING:
    from raybench.engines.tensorrt.settings import RtxSettings, TensorRTSettings
    from raybench.machine.devices import Device

PORTABLE = "8.0+"
"""Target of a plan for every GPU that is served, from 8.0 on."""
TURING = (7, 5)
"""Is served by plans of its own only."""
SERVED = (TURING, (8, 0), (8, 6), (8, 9), (12, 0), (12, 1))
"""Compute capabilities with a name in the library; later ones than the last are served, too."""


def refusal(name: str, capability: tuple[int, int] | None) -> str | None:
    """Return why TensorRT for RTX does not serve a GPU; None where it does or nothing is known."""
    if capability is None or capability in SERVED or capability > SERVED[-1]:
        return None
    served = ", ".join(map(_text, SERVED))
    return (
        f"{name} has compute capability {_text(capability)}, and TensorRT for RTX serves {served} "
        "and later. Use engine=tensorrt."
    )


def of(options: TensorRTSettings | RtxSettings, device: Device) -> str:
    """Return the target of a plan: one that was asked for, Turing's own on Turing, else portable.

    Raises:
        Unsupported: the GPU cannot run plans of the target that was asked for.
    """
    actual, asked = chip.capability(device), options.target
    if asked is None:
        return _text(TURING) if actual == TURING else PORTABLE
    if actual is not None and not _runs(actual, asked):
        raise Unsupported(
            f"engine.target={asked} builds plans that {device.name}, of compute capability "
            f"{_text(actual)}, cannot run. Leave engine.target out."
        )
    return asked


def choices() -> tuple[str, ...]:
    """Return what can be asked for."""
    return PORTABLE, *map(_text, SERVED)


def set_target(trt: Any, config: Any, target: str) -> None:
    """Let a builder's configuration build for a target; the portable one is its default."""
    if target == PORTABLE:
        return
    config.num_compute_capabilities = 1
    name = f"SM{target.replace('.', '')}"
    config.set_compute_capability(getattr(trt.ComputeCapability, name), 0)


def _runs(capability: tuple[int, int], target: str) -> bool:
    return capability != TURING if target == PORTABLE else _text(capability) == target


def _text(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))
