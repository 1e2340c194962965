"""The nodes of a cluster: their devices, the facts about each, and how they differ."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from raybench.cluster.node_facts import NodeFacts
from raybench.cluster.ray_errors import last_line
from raybench.engines import registry
from raybench.errors import ClusterError, EngineUnavailable
from raybench.machine import checks, devices, environment, mps, nvml
from raybench.text import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

REPLY_S = 60.0
"""Longest wait for a node's reply; the first time it unpacks raybench's code."""


@dataclass(frozen=True)
class Node:
    """One machine of the cluster and its devices, as Ray counts them.

    Attributes:
        node_id: in the cluster.
        hostname: of the machine.
        devices: number of devices by kind ("gpu", "cpu").
        accelerator: type of its GPUs by its labels or resources; None where it has neither.
        labels: of the node, Ray's own among them.
    """

    node_id: str
    hostname: str
    devices: Mapping[str, int]
    accelerator: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    def describe_devices(self) -> str:
        """Return a phrase with the number of its devices, for messages."""
        of = f" of type {self.accelerator}" if self.accelerator else ""
        gpus = counted(self.devices.get("gpu", 0), "GPU")
        return f"{gpus}{of} and {counted(self.devices.get('cpu', 0), 'CPU core')}"

    def has(self, wants: str) -> bool:
        """Return whether it has a device such as `Point.wants` asks for."""
        kind, _, accelerator = wants.partition("/")
        return bool(self.devices.get(kind, 0)) and accelerator in ("", self.accelerator)

    def with_cores(self, cores: int | None) -> Node:
        """Return the node with no more CPU cores than this; None knows no limit."""
        if cores is None:
            return self
        return replace(self, devices={**self.devices, "cpu": min(self.devices["cpu"], cores)})


def alive_nodes() -> tuple[Node, ...]:
    """Return the nodes that Ray reports alive, by host name."""
    import ray

    return tuple(
        Node(
            node["NodeID"],
            node["NodeManagerHostname"],
            {
                "gpu": int(node["Resources"].get("GPU", 0)),
                "cpu": int(node["Resources"].get("CPU", 0)),
            },
            _accelerator(node),
            dict(node.get("Labels") or {}),
        )
        for node in sorted(ray.nodes(), key=lambda node: str(node["NodeManagerHostname"]))
        if node["Alive"]
    )


def _accelerator(node: Mapping[str, Any]) -> str | None:
    """Return a node's type of GPU from its label, else from Ray's resource of that name."""
    label = (node.get("Labels") or {}).get("ray.io/accelerator-type")
    prefix = "accelerator_type:"
    types = (name.removeprefix(prefix) for name in node["Resources"] if name.startswith(prefix))
    return label or next(types, None)


def responding_nodes() -> tuple[Node, ...]:
    """Return the nodes of a joined cluster, without those that are dead but still listed alive.

    Ray lists a node as alive for up to 14 s after its end, and a call to the node makes it notice.
    A node that is alive and does not reply is left to `collect_facts`, which names it. Ray counts
    every logical CPU of a machine; each node says how many cores a worker can be pinned to.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    count = ray.remote(num_cpus=0, max_retries=0)(local_cores)
    calls = {
        node.node_id: count.options(
            name=f"ping {node.hostname}",
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.node_id, False),
        ).remote()
        for node in alive_nodes()
    }
    ready, _ = ray.wait(list(calls.values()), num_returns=len(calls), timeout=REPLY_S)
    cores: dict[str, int] = {}
    for node_id, call in calls.items():
        with contextlib.suppress(Exception):  # a node that cannot run raybench is named later
            cores |= {node_id: ray.get(call)} if call in ready else {}
    return tuple(node.with_cores(cores.get(node.node_id)) for node in alive_nodes())


def local_cores() -> int:
    """Return the number of cores of this machine that a worker can be pinned to."""
    return len(devices.cores())


# ---------------------------------------------------------------- facts about nodes


def collect_facts(nodes: Sequence[Node]) -> list[NodeFacts]:
    """Return the facts about every node, gathered there by `local_facts`.

    Raises:
        ClusterError: naming a node that cannot run raybench, and why.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0)(local_facts)
    calls = [
        task.options(
            name=f"survey {node.hostname}",
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.node_id, False),
        ).remote(dict(node.devices), node.accelerator)
        for node in nodes
    ]
    return [_reply(node, call) for node, call in zip(nodes, calls, strict=True)]


def _reply(node: Node, call: Any) -> NodeFacts:
    import ray

    try:
        facts: NodeFacts = ray.get(call, timeout=REPLY_S)
    except Exception as error:
        raise ClusterError(
            f"Node {node.hostname} cannot run raybench: {last_line(error)}. "
            "Install raybench's requirements there (pip install raybench), or leave the node out "
            "with cluster.select."
        ) from error
    return replace(facts, node_id=node.node_id)


def local_facts(device_counts: Mapping[str, int], accelerator: str | None = None) -> NodeFacts:
    """Return the facts about this machine.

    Args:
        device_counts: number of devices by kind that the cluster has here.
        accelerator: type of its GPUs as the cluster declares it, for GPUs without a driver.
    """
    products = {devices.cpu_name(): device_counts.get("cpu", 0)}
    inventory = nvml.inventory()
    if device_counts.get("gpu", 0):
        shown = devices.shown_gpus() or inventory
        product = shown[0].name if shown else devices.declared_gpu(accelerator)
        products[product] = device_counts["gpu"]
    gpus = [{**nvml.environment(gpu.uuid), "device_index": gpu.index} for gpu in inventory]
    driver = {name: gpus[0].get(name) for name in environment.DRIVER} if gpus else {}
    return NodeFacts(
        environment={**environment.snapshot(), **driver},
        products=products,
        devices=dict(device_counts),
        gpus=gpus,
        missing=registry.missing(),
        system_issues=checks.system_issues(gpus),
        mps=mps.is_on() if device_counts.get("gpu", 0) else None,
    )


def with_devices(facts: Sequence[NodeFacts]) -> list[NodeFacts]:
    """Return the facts about nodes that have devices; about all nodes where none has."""
    return [node for node in facts if any(node.devices.values())] or list(facts)


def unavailable(facts: Sequence[NodeFacts], engine: str, kind: str) -> str | None:
    """Return why an engine cannot run on the nodes with such devices; None where it can on all.

    Args:
        facts: about each node.
        engine: name of the engine.
        kind: of device, "gpu" or "cpu".

    Raises:
        EngineUnavailable: naming the nodes, when it can run on only part of them.
    """
    candidates = [node for node in facts if node.devices.get(kind, 0)]
    lacking = [node for node in candidates if node.missing.get(engine) is not None]
    if not lacking:
        return None
    reason = lacking[0].missing[engine]
    if len(lacking) == len(candidates):
        return f"On node {lacking[0].hostname}: {reason}"
    able = ", ".join(node.hostname for node in candidates if node not in lacking)
    raise EngineUnavailable(
        f"engine=auto cannot be decided: {engine} runs on {able}, but not on "
        f"{', '.join(node.hostname for node in lacking)}: {reason} Or name "
        "an engine that all have, or leave nodes out with cluster.select."
    )


def environment_id(facts: Sequence[NodeFacts]) -> str:
    """Return the id of the environment that the nodes with devices form together."""
    return environment.environment_id(*(node.identity for node in with_devices(facts)))


def machine_kinds(facts: Sequence[NodeFacts]) -> dict[str, str]:
    """Return the kind of machine of each node, by node id: nodes of one kind can share plans.

    Nodes of one kind have the same GPUs, however many, and the same driver and libraries. Facts
    without a node id, gathered before Ray started, are left out.
    """
    return {
        node.node_id: environment.kind(node.identity) for node in facts if node.node_id is not None
    }


def differences(facts: Sequence[NodeFacts]) -> list[str]:
    """Return a line for each version in which the nodes with devices differ."""
    lines = []
    for name in (*environment.software(), *environment.DRIVER, "kernel"):
        hosts_by_value: dict[str, list[str]] = {}
        for node in with_devices(facts):
            value = str(node.environment.get(name) or "none")
            hosts_by_value.setdefault(value, []).append(node.hostname)
        if len(hosts_by_value) > 1:
            values = sorted(hosts_by_value.items())
            phrases = (f"{value} on {', '.join(hosts)}" for value, hosts in values)
            lines.append(f"{name.removesuffix('_version')}: {'; '.join(phrases)}")
    return lines
