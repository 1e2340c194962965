"""The registry of engines: built-in ones and plug-ins by name, and which one `auto` means."""

from __future__ import annotations

import importlib
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from raybench.engines import plugins
from raybench.engines.base import LimitsPower
from raybench.errors import ConfigError, EngineFailure, EngineUnavailable, Unsupported, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from raybench.engines.base import EngineBase, EngineInfo
    from raybench.engines.plugins import Plugin
    from raybench.experiment import Point
    from raybench.machine.devices import Device

BUILT_IN = {
    "tensorrt": "raybench.engines.tensorrt.engine:TensorRTEngine",
    "tensorrt_rtx": "raybench.engines.tensorrt.engine:TensorRTRtxEngine",
    "openvino": "raybench.engines.openvino:OpenVINOEngine",
    "onnxruntime": "raybench.engines.onnxruntime:OnnxRuntimeEngine",
    "torch": "raybench.engines.torch.engine:TorchEngine",
    "simulated": "raybench.engines.simulated:SimulatedEngine",
}


@lru_cache(maxsize=1)
def _plugins() -> dict[str, Plugin]:
    """Return the engines of other packages by name; a built-in one keeps its name."""
    return {name: plugin for name, plugin in plugins.found().items() if name not in BUILT_IN}


def names() -> list[str]:
    """Return the name of every engine, whether its library is installed or not."""
    return sorted([*BUILT_IN, *_plugins()])


def clashes() -> list[str]:
    """Return a sentence for each plug-in that has the name of a built-in engine."""
    return [
        f"Engine {name!r} ({plugin.origin}) has the name of an engine of raybench and is not used. "
        "Rename its entry point."
        for name, plugin in plugins.found().items()
        if name in BUILT_IN
    ]


def get(name: str) -> type[EngineBase]:
    """Return an engine's class without loading its library.

    Raises:
        ConfigError: the name is unknown; the message offers the nearest one.
        EngineUnavailable: a plug-in's module cannot be imported, or its class is no engine.
    """
    if name in _plugins():
        return plugins.load_class(_plugins()[name])
    if name not in BUILT_IN:
        raise ConfigError(f"Unknown engine {name!r}. {nearest(name, [*names(), 'auto'])}")
    module, _, attribute = BUILT_IN[name].partition(":")
    try:
        engine: type[EngineBase] = getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise EngineUnavailable(
            f"Engine {name!r} cannot be imported: {error}. Reinstall raybench."
        ) from error
    return engine


def report(name: str, engine: EngineBase) -> EngineInfo:
    """Return what a loaded engine reports, with the version of its package if it gives none."""
    version = _plugins()[name].version if name in _plugins() else None
    return engine.info if engine.info.version else replace(engine.info, version=version)


def unavailable_here(name: str, kind: str) -> str | None:
    """Return why an engine cannot run in this process's environment, or None where it can.

    Raises:
        EngineUnavailable: for a plug-in that cannot be loaded or asked.
    """
    engine = get(name)
    try:
        with plugins.blamed_on(name, "unavailable"):
            reason = engine.unavailable()
    except EngineFailure as error:
        raise EngineUnavailable(f"{error} Fix or uninstall it.") from error
    return None if reason is None else str(reason)


def limits_power(name: str) -> bool:
    """Return whether an engine limits the power of devices of its own, which have no driver."""
    return issubclass(get(name), LimitsPower)


def refuse(point: Point, device: Device) -> None:
    """Refuse what the engine of a point cannot run on a device.

    Raises:
        Unsupported: saying why.
    """
    reason = unavailable_here(point.engine, device.kind)
    if reason is None:
        with plugins.blamed_on(point.engine, "unsupported"):
            reason = get(point.engine).unsupported(point.precision, device, point.transfers)
    if reason is not None:
        raise Unsupported(reason)


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

    TensorRT for RTX counts as TensorRT where that is not installed.

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
        reasons = []
        for name in ("tensorrt", "tensorrt_rtx"):
            reasons.append(unavailable(name, "gpu"))
            if reasons[-1] is None:
                return name, "gpu"
        if kind == "gpu":
            raise EngineUnavailable(str(reasons[0]))
    for name in ("openvino", "onnxruntime"):
        if unavailable(name, "cpu") is None:
            return name, "cpu"
    raise EngineUnavailable(
        "Neither OpenVINO nor ONNX Runtime is installed. Reinstall raybench, or name an engine."
    )
