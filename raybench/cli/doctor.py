"""Doctor: what this machine or this cluster can do, engine by engine, and what is in the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from raybench.cluster import nodes, preflight
from raybench.cluster import session as sessions
from raybench.config.settings import ClusterSettings
from raybench.engines import registry
from raybench.errors import ConfigError
from raybench.machine import devices, nvml
from raybench.report.labels import device_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.machine.node_facts import NodeFacts

VERSIONS = ("raybench", "python", "ray", "openvino", "onnxruntime", "tensorrt", "driver")
"""Columns of the table; what stands nowhere has none."""


def examine(words: list[str]) -> int:
    """Print the findings; 0 when at least one engine that measures hardware can run.

    Args:
        words: none, or cluster.address=ADDRESS for a cluster; RAY_ADDRESS counts as well.

    Raises:
        ConfigError: when given words it does not know.
        ClusterError: when the cluster cannot be joined.
    """
    address = preflight.requested_address(_address(words))
    console = Console(highlight=False)
    if address is None:
        return _of_machine(console)
    with sessions.connect(address, {}, False) as session:
        return of_cluster(console, session, session.facts)


def _address(words: list[str]) -> str | None:
    address = ClusterSettings().address
    for word in words:
        key, equals, value = word.partition("=")
        if key != "cluster.address" or not equals:
            raise ConfigError(
                f"doctor takes no words but cluster.address=ADDRESS, not {word!r}. "
                "Write: raybench doctor"
            )
        address = value
    return address


# ---------------------------------------------------------------- this machine


def _of_machine(console: Console) -> int:
    def line(name: str, text: str) -> None:
        console.print(f"{name:<14} {text}", markup=False, soft_wrap=True)

    cores = devices.cores()
    gpus = nvml.inventory()
    facts = nodes.local_facts({"gpu": len(gpus), "cpu": len(cores)})
    host = facts.environment
    line("machine", f"{facts.hostname}, {host['os']}, kernel {host['kernel']}")
    line("CPU", f"{devices.cpu_name()}, {len(cores)} cores to measure on")
    line("GPUs", ", ".join(gpu.name for gpu in gpus) or "none that a driver tells of")
    for column in ("python", "ray", "numpy", "onnxruntime", "openvino", "tensorrt"):
        # unpacked by hand, a library has no metadata that tells its version
        unknown = "version unknown" if facts.missing.get(column, "") is None else "not installed"
        line(column, host.get(f"{column}_version") or unknown)
    able = False
    for name, missing in facts.missing.items():
        reason = missing
        if reason is None and name == "tensorrt" and not gpus:
            reason = "needs an NVIDIA GPU and its driver, and there is none here."
        able = able or (reason is None and name != "simulated")
        kinds = " or ".join(registry.get(name).traits.device_kinds)
        line(f"engine {name}", reason or f"ready, on {kinds}")
    for finding in facts.system_issues:
        line("mind", f"{finding.what}. Look: {finding.fix}")
    if len(cores) < 2:
        line("mind", "with one core, Ray and the driver share it with the worker.")
    return 0 if able else 1


# ---------------------------------------------------------------- a cluster


def of_cluster(console: Console, session: sessions.Session, facts: Sequence[NodeFacts]) -> int:
    """Print what the facts say of a cluster's nodes; 0 when one can measure."""
    console.print(_table(session, facts))
    for line in nodes.differences(facts):
        console.print(f"differ   {line}", markup=False, soft_wrap=True)
    for node in facts:
        for finding in node.system_issues:
            console.print(f"mind     {node.hostname}: {finding.what}", markup=False)
            console.print(f"         {finding.fix}", markup=False, soft_wrap=True)
    for line in sessions.busy_devices(session):
        console.print(f"mind     {line}", markup=False)
        console.print("         ray list actors --filter state=ALIVE --detail", markup=False)
    return 0 if any(_ready(node) for node in facts) else 1


def _table(session: sessions.Session, facts: Sequence[NodeFacts]) -> Table:
    told = [v for v in VERSIONS if any(node.environment.get(f"{v}_version") for node in facts)]
    table = Table(box=SIMPLE_HEAD, header_style="bold")
    for name in ("node", "devices", "engines", *told):
        table.add_column(name, overflow="fold")
    for node, known in zip(session.nodes, facts, strict=True):
        versions = [str(known.environment.get(f"{name}_version") or "-") for name in told]
        table.add_row(node.hostname, _devices(known), ", ".join(_ready(known)) or "none", *versions)
    return table


def _devices(facts: NodeFacts) -> str:
    names = [f"{count} x {device_name(name)}" for name, count in facts.products.items() if count]
    return "\n".join(names) or "none"


def _ready(facts: NodeFacts) -> list[str]:
    """Engines that can measure hardware on a node."""
    return [
        name
        for name, missing in facts.missing.items()
        if missing is None
        and name != "simulated"
        and any(facts.devices.get(kind, 0) for kind in registry.get(name).traits.device_kinds)
        and (name != "tensorrt" or facts.gpus)
    ]
