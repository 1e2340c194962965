"""The registry of engines: built-in ones and plug-ins by name, and which one `auto` means."""

from __future__ import annotations

import importlib
from functools import lru_cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from raybench.engines.base import EngineBase, EngineTraits
from raybench.errors import ConfigError, EngineUnavailable, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

BUILT_IN = {
    "tensorrt": "raybench.engines.tensorrt.engine:TensorRTEngine",
    "openvino": "raybench.engines.openvino:OpenVINOEngine",
    "onnxruntime": "raybench.engines.onnxruntime:OnnxRuntimeEngine",
    "simulated": "raybench.engines.simulated:SimulatedEngine",
}
GROUP = "raybench.engines"
"""Entry points of this group add engines: name = "module:Class"."""


@lru_cache(maxsize=1)
def _locations() -> dict[str, str]:
    """Return "module:Class" of every engine by name."""
    locations = dict(BUILT_IN)
    for entry in entry_points(group=GROUP):
        if entry.name in locations:
            raise ConfigError(
                f"Two engines are named {entry.name!r}: {locations[entry.name]} and {entry.value}. "
                "Uninstall or rename one of them."
            )
        locations[entry.name] = entry.value
    return locations


def names() -> list[str]:
    """Return the name of every engine, whether its library is installed or not."""
    return sorted(_locations())


def get(name: str) -> type[EngineBase]:
    """Return an engine's class without loading its library.

    Raises:
        ConfigError: the name is unknown; the message offers the nearest one.
        EngineUnavailable: a plug-in's module cannot be imported, or its class is no engine.
    """
    locations = _locations()
    if name not in locations:
        raise ConfigError(f"Unknown engine {name!r}. {nearest(name, [*locations, 'auto'])}")
    location = locations[name]
    module, _, attribute = location.partition(":")
    try:
        engine = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # a plug-in's module may raise anything
        raise EngineUnavailable(
            f"Engine {name!r} cannot be imported from {location}: "
            f"{type(error).__name__}: {error}. Fix or remove it."
        ) from error
    if not (isinstance(engine, type) and issubclass(engine, EngineBase)):
        raise EngineUnavailable(
            f"Engine {name!r} ({location}) does not derive from raybench.engines.base.EngineBase. "
            "Fix or remove it."
        )
    if not isinstance(getattr(engine, "traits", None), EngineTraits):
        raise EngineUnavailable(
            f"Engine {name!r} ({location}) has no traits, an instance of "
            "raybench.engines.base.EngineTraits. Fix or remove it."
        )
    return engine


def unavailable_here(name: str, kind: str) -> str | None:
    """Return why an engine cannot run in this process's environment, or None where it can."""
    return get(name).unavailable()


def missing() -> dict[str, str | None]:
    """Return for every engine why it cannot run here, or None where it can.

    A plug-in that cannot be loaded is such a reason, so that it hinders only those who use it.
    """
    return {name: _missing(name) for name in names()}


def _missing(name: str) -> str | None:
    try:
        return unavailable_here(name, "")
    except EngineUnavailable as error:
        return str(error)


def best(
    kind: str,
    devices: Mapping[str, int],
    unavailable: Callable[[str, str], str | None] = unavailable_here,
) -> tuple[str, str]:
    """Choose the engine for `engine=auto`: TensorRT on a GPU, else OpenVINO, else ONNX Runtime.

    Args:
        kind: "auto", or the kind of device that the user chose.
        devices: number of devices of each kind.
        unavailable: returns why an engine cannot run on the devices of a kind, or None.

    Returns:
        Name of the engine and kind of device.

    Raises:
        EngineUnavailable: there is none, or `unavailable` cannot decide.
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
