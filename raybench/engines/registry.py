"""The registry: which engines there are, by name, and which one `auto` means."""

from __future__ import annotations

import importlib
from functools import lru_cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, cast

from raybench.errors import ConfigError, EngineUnavailable, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from raybench.engines.base import Engine

BUILT_IN = {
    "tensorrt": "raybench.engines.tensorrt.engine:TensorRTEngine",
    "openvino": "raybench.engines.openvino:OpenVINOEngine",
    "onnxruntime": "raybench.engines.onnxruntime:OnnxRuntimeEngine",
    "simulated": "raybench.engines.simulated:SimulatedEngine",
}
GROUP = "raybench.engines"
"""Entry points of this group add engines: name = "module:Class"."""


@lru_cache(maxsize=1)
def _known() -> dict[str, str]:
    known = dict(BUILT_IN)
    for entry in entry_points(group=GROUP):
        if entry.name in known:
            raise ConfigError(
                f"Two engines are named {entry.name!r}: {known[entry.name]} and {entry.value}. "
                "Uninstall or rename one of them."
            )
        known[entry.name] = entry.value
    return known


def names() -> list[str]:
    """Every engine that is known here, whether its library is installed or not."""
    return sorted(_known())


def get(name: str) -> type[Engine]:
    """The engine's class; its library is not loaded by this.

    Raises:
        ConfigError: for an unknown name, offering the nearest.
        EngineUnavailable: when a foreign engine's module cannot be imported.
    """
    known = _known()
    if name not in known:
        raise ConfigError(f"Unknown engine {name!r}. {nearest(name, [*known, 'auto'])}")
    module, _, attribute = known[name].partition(":")
    try:
        return cast("type[Engine]", getattr(importlib.import_module(module), attribute))
    except (ImportError, AttributeError) as error:
        raise EngineUnavailable(
            f"Engine {name!r} cannot be imported from {known[name]}: {error}. Mend or remove it."
        ) from error


def unavailable_here(name: str, kind: str) -> str | None:
    """Why an engine cannot run in this process's environment, or None."""
    return get(name).unavailable()


def best(
    kind: str,
    devices: Mapping[str, int],
    unavailable: Callable[[str, str], str | None] = unavailable_here,
) -> tuple[str, str]:
    """What `engine: auto` means: TensorRT on a GPU, else OpenVINO, else ONNX Runtime on cores.

    Args:
        kind: "auto", or the kind of device that was asked for.
        devices: number of devices of each kind.
        unavailable: told an engine and a kind, why it cannot run on those devices, or None.

    Returns:
        Name and kind of device.

    Raises:
        EngineUnavailable: when there is none, or `unavailable` cannot decide.
    """
    if kind == "gpu" or (kind == "auto" and devices.get("gpu", 0)):
        reason = unavailable("tensorrt", "gpu")
        if reason is None:
            return "tensorrt", "gpu"
        if kind == "gpu":
            raise EngineUnavailable(reason)
    for name in ("openvino", "onnxruntime"):
        if unavailable(name, "cpu") is None:
            return name, "cpu"
    raise EngineUnavailable(
        "Neither OpenVINO nor ONNX Runtime is installed. Reinstall raybench, or name an engine."
    )
