"""Doctor: what this machine can do, engine by engine, and what is missing."""

from __future__ import annotations

import os

from rich.console import Console

from raybench.engines import registry
from raybench.errors import ConfigError
from raybench.machine import devices, environment, nvml


def examine(words: list[str]) -> int:
    """Print the findings; 0 when at least one engine that measures hardware can run.

    Raises:
        ConfigError: when given words it does not know.
    """
    if words:
        raise ConfigError(f"doctor takes no words, not {words[0]!r}. Write: raybench doctor")
    console = Console(highlight=False)

    def line(name: str, text: str) -> None:
        console.print(f"{name:<14} {text}", markup=False, soft_wrap=True)

    facts = environment.snapshot()
    cores = devices.cores()
    line("machine", f"{facts['hostname']}, {facts['os']}, kernel {facts['kernel']}")
    line("CPU", f"{devices.cpu_name()}, {len(cores)} cores to measure on")
    gpus = nvml.inventory()
    line("GPUs", ", ".join(gpu.name for gpu in gpus) or "none that a driver tells of")
    for column in ("python", "ray", "numpy", "onnxruntime", "openvino", "tensorrt"):
        line(column, facts.get(f"{column}_version") or "not installed")
    able = False
    for name in registry.names():
        engine = registry.get(name)
        reason = engine.unavailable()
        if reason is None and name == "tensorrt" and not gpus:
            reason = "needs an NVIDIA GPU and its driver, and there is none here."
        able = able or (reason is None and name != "simulated")
        line(f"engine {name}", reason or f"ready, on {' or '.join(engine.device_kinds)}")
    for finding in _hindrances(len(cores)):
        line("mind", finding)
    return 0 if able else 1


def _hindrances(cores: int) -> list[str]:
    """What would make a measurement here less fair."""
    found = []
    if os.nice(0) > 0:
        found.append(f"this shell runs at niceness {os.nice(0)}: measurements yield to others.")
    load = os.getloadavg()[0]
    if load > 0.5:
        found.append(f"the load average is {load:.1f}: something else is running. Wait for it.")
    if cores < 2:
        found.append("with one core, Ray and the driver share it with the worker.")
    return found
