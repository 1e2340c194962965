"""Session: a Ray cluster, started on this machine or attached to, and the devices in it."""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import raybench
from raybench.cluster import preflight
from raybench.errors import ClusterError
from raybench.machine import devices, environment, nvml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NAMESPACE = "raybench"
OBJECT_STORE_BYTES = 256 << 20
"""Traces and reports pass through it, never batches."""


@dataclass(frozen=True)
class Node:
    """One machine of the cluster and its devices, as Ray counts them."""

    node_id: str
    hostname: str
    devices: Mapping[str, int]


@dataclass(frozen=True)
class Session:
    """A connected cluster.

    Attributes:
        nodes: alive ones.
        dashboard_url: with scheme; None when there is no dashboard.
    """

    nodes: tuple[Node, ...]
    dashboard_url: str | None

    @property
    def devices(self) -> dict[str, int]:
        """Number of devices of each kind in the whole cluster."""
        return {kind: sum(n.devices.get(kind, 0) for n in self.nodes) for kind in ("gpu", "cpu")}


def there_is(joined: Session | None, counted: Mapping[str, int]) -> str:
    """What there is, host by host, for a refusal; `counted` is this machine's, when not joined."""
    nodes = joined.nodes if joined else (Node("", socket.gethostname(), counted),)
    return "; ".join(
        f"{node.hostname} has {node.devices.get('gpu', 0)} GPUs and "
        f"{node.devices.get('cpu', 0)} CPU cores"
        for node in nodes
    )


def local_devices(gpus: int | None, cpus: int | None) -> dict[str, int]:
    """Devices that an embedded cluster on this machine will have.

    Raises:
        ClusterError: when told to offer more CPU cores than there are.
    """
    held = len(devices.cores())
    if cpus is not None and cpus > held:
        raise ClusterError(
            f"cluster.cpus={cpus} offers more cores than this machine has: {held}. Use cluster.cpus={held}."
        )
    return {"gpu": devices.gpu_count() if gpus is None else gpus, "cpu": cpus or held}


@contextlib.contextmanager
def connect(address: str | None, told: Mapping[str, int], dashboard: bool) -> Iterator[Session]:
    """Start Ray here, or attach to a cluster; disconnect at the end.

    Args:
        address: None starts Ray; "auto" or "host:port" attaches, after a preflight.
        told: devices that an embedded cluster is to have.
        dashboard: whether an embedded cluster runs Ray's dashboard.

    Raises:
        ClusterError: when the cluster at the address cannot be joined, within a few seconds.
    """
    if address is None:
        # Ray then keeps to the loopback address, as it does on systems where it makes no clusters;
        # it turns any other way to ask for that (_node_ip_address) into the machine's own address.
        # Read when Ray is imported.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # the first failure of a gang is a row; Ray would print those of its other workers
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
    context = _embed(ray, told, dashboard) if address is None else _attach(ray, address)
    try:
        url = context.dashboard_url
        yield Session(_nodes(ray), f"http://{url}" if url else None)
    finally:
        ray.shutdown()


def _embed(ray: Any, told: Mapping[str, int], dashboard: bool) -> Any:
    if not dashboard:
        os.environ.setdefault("RAY_enable_metrics_collection", "0")
    return ray.init(
        address="local",
        num_cpus=told["cpu"],
        num_gpus=told["gpu"],
        include_dashboard=dashboard,
        object_store_memory=OBJECT_STORE_BYTES,
        log_to_driver=False,
        logging_level="error",
        namespace=NAMESPACE,
        # Ray lowers its workers' priority by 15 otherwise, which unbalances them on a busy machine
        _system_config={"worker_niceness": 0},
    )


def _attach(ray: Any, address: str) -> Any:
    gate = preflight.check(address)
    try:
        return ray.init(
            address=gate.address,
            _node_ip_address=gate.here,
            log_to_driver=False,
            logging_level="error",
            namespace=NAMESPACE,
            # nodes that lack this package, or hold another version of it, get this one
            runtime_env={"py_modules": [raybench]},
        )
    except (Exception, SystemExit) as error:
        words = " ".join(str(error).split())[:300]
        raise ClusterError(
            f"No Ray cluster could be joined at cluster.address={address!r}: {words}. "
            "Look into the head node's log, /tmp/ray/session_latest/logs/gcs_server.out."
        ) from error


def _nodes(ray: Any) -> tuple[Node, ...]:
    return tuple(
        Node(
            node["NodeID"],
            node["NodeManagerHostname"],
            {
                "gpu": int(node["Resources"].get("GPU", 0)),
                "cpu": int(node["Resources"].get("CPU", 0)),
            },
        )
        for node in ray.nodes()
        if node["Alive"]
    )


def survey(session: Session) -> list[dict[str, Any]]:
    """Facts about every node, gathered there."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    look = ray.remote(num_cpus=0)(here)
    calls = [
        look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(n.node_id, False)).remote(
            dict(n.devices)
        )
        for n in session.nodes
    ]
    found: list[dict[str, Any]] = ray.get(calls, timeout=60)
    return [
        {**facts, "node_id": node.node_id} for facts, node in zip(found, session.nodes, strict=True)
    ]


def here(counted: Mapping[str, int]) -> dict[str, Any]:
    """Facts about this machine, with so many devices of each kind, by product name.

    `gpus` holds what the driver tells of each GPU; the driver's own facts are the machine's too.
    """
    held = {devices.cpu_name(): counted.get("cpu", 0)}
    gpus = nvml.inventory()
    if counted.get("gpu", 0):
        held[gpus[0].name if gpus else devices.TOLD_GPU] = counted["gpu"]
    told = [{**nvml.environment(gpu.uuid), "device_index": gpu.index} for gpu in gpus]
    driver = {name: told[0].get(name) for name in environment.DRIVER} if told else {}
    return {**environment.snapshot(), **driver, "devices": held, "gpus": told}
