"""The nodes of a cluster: their devices, the facts about each, and in what they differ."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from raybench.engines import registry
from raybench.errors import ClusterError, EngineUnavailable
from raybench.machine import checks, devices, environment, nvml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SURVEY_S = 60.0
"""Longest wait for a node to tell of itself; the first time it unpacks raybench's code."""


@dataclass(frozen=True)
class Node:
    """One machine of the cluster and its devices, as Ray counts them.

    Attributes:
        devices: number of each kind, gpu and cpu.
        accelerator: type of its GPUs by its labels or resources; None where the cluster is silent.
        labels: of the node, Ray's own among them.
    """

    node_id: str
    hostname: str
    devices: Mapping[str, int]
    accelerator: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


def offers(node: Node) -> str:
    """A node's devices in words."""
    of = f" of type {node.accelerator}" if node.accelerator else ""
    return f"{node.devices.get('gpu', 0)} GPUs{of} and {node.devices.get('cpu', 0)} CPU cores"


def survey(nodes: Sequence[Node]) -> list[dict[str, Any]]:
    """Facts about every node, gathered there; see `here`.

    Raises:
        ClusterError: naming a node that cannot run raybench, and why.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    look = ray.remote(num_cpus=0, max_retries=0)(here)
    calls = [
        look.options(
            name=f"survey {node.hostname}",
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.node_id, False),
        ).remote(dict(node.devices), node.accelerator)
        for node in nodes
    ]
    return [
        {**_told(node, call), "node_id": node.node_id}
        for node, call in zip(nodes, calls, strict=True)
    ]


def _told(node: Node, call: Any) -> dict[str, Any]:
    import ray

    try:
        facts: dict[str, Any] = ray.get(call, timeout=SURVEY_S)
    except Exception as error:
        last = [line for line in str(error).splitlines() if line.strip()][-1:]
        raise ClusterError(
            f"Node {node.hostname} cannot run raybench: {' '.join(last).strip()[:300]}. "
            "Install raybench's requirements there (pip install raybench), or leave the node out "
            "with cluster.select."
        ) from error
    return facts


def here(counted: Mapping[str, int], accelerator: str | None = None) -> dict[str, Any]:
    """Facts about this machine, with so many devices of each kind.

    `devices` counts them by product name and `offers` by kind; `gpus` holds what the driver tells
    of each GPU; the driver's own facts are the machine's too. `missing` says why an engine cannot
    run here, None where it can; `system_issues` what is in the way of a fair measurement.
    """
    held = {devices.cpu_name(): counted.get("cpu", 0)}
    gpus = nvml.inventory()
    if counted.get("gpu", 0):
        held[gpus[0].name if gpus else devices.declared_gpu(accelerator)] = counted["gpu"]
    told = [{**nvml.environment(gpu.uuid), "device_index": gpu.index} for gpu in gpus]
    driver = {name: told[0].get(name) for name in environment.DRIVER} if told else {}
    return {
        **environment.snapshot(),
        **driver,
        "devices": held,
        "offers": dict(counted),
        "gpus": told,
        "system_issues": checks.system_issues(told),
        "missing": {name: registry.get(name).unavailable() for name in registry.names()},
    }


def measuring(facts: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The facts about nodes that offer devices; about all where none does."""
    return [node for node in facts if any(node["offers"].values())] or list(facts)


def unavailable(facts: Sequence[Mapping[str, Any]], engine: str, kind: str) -> str | None:
    """Why an engine cannot run on the nodes that offer devices of a kind; None where it can on all.

    Raises:
        EngineUnavailable: when it can run on some of them only, naming them.
    """
    asked = [node for node in facts if node["offers"].get(kind, 0)]
    lacking = [node for node in asked if node["missing"].get(engine) is not None]
    if not lacking:
        return None
    if len(lacking) == len(asked):
        return f"On node {lacking[0]['hostname']}: {lacking[0]['missing'][engine]}"
    able = ", ".join(node["hostname"] for node in asked if node not in lacking)
    raise EngineUnavailable(
        f"engine=auto cannot be decided: {engine} runs on {able}, but not on "
        f"{', '.join(node['hostname'] for node in lacking)}: {lacking[0]['missing'][engine]} Or name "
        "an engine that all have, or leave nodes out with cluster.select."
    )


def kinds(facts: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What kind of machine each node is, by its id: what one of them builds, the others can use.

    Nodes of one kind have the same GPUs, however many, and the same driver and libraries. Facts
    without an id, of a cluster of one, are left out.
    """
    return {node["node_id"]: environment.kind(node) for node in facts if "node_id" in node}


def differences(facts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Versions in which nodes that offer devices differ, each in a line."""
    lines = []
    for name in (*environment.software(), *environment.DRIVER, "kernel"):
        by_value: dict[str, list[str]] = {}
        for node in measuring(facts):
            value = str(node.get(name) or "none")
            by_value.setdefault(value, []).append(str(node.get("hostname")))
        if len(by_value) > 1:
            told = (f"{value} on {', '.join(hosts)}" for value, hosts in sorted(by_value.items()))
            lines.append(f"{name.removesuffix('_version')}: {'; '.join(told)}")
    return lines
