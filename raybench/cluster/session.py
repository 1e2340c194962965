"""Session: a Ray cluster, started on this machine or attached to, and the devices in it."""

from __future__ import annotations

import contextlib
import os
import socket
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from raybench.cluster import local, preflight, ray_internals
from raybench.cluster.nodes import SURVEY_S, Node, offers, survey
from raybench.errors import ClusterError
from raybench.machine import devices
from raybench.paths import PACKAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

NAMESPACE = "raybench"


@dataclass(frozen=True)
class Session:
    """A connected cluster.

    Attributes:
        nodes: alive ones.
        dashboard_url: with scheme; None when there is no dashboard.
        attached: it ran before, and will run on.
        asks_for_token: of whoever opens the dashboard.
    """

    nodes: tuple[Node, ...]
    dashboard_url: str | None
    attached: bool = False
    asks_for_token: bool = False

    @property
    def devices(self) -> dict[str, int]:
        """Number of devices of each kind, and of each type of GPU as "gpu/H100"."""
        found = Counter({"gpu": 0, "cpu": 0})
        for node in self.nodes:
            found.update(node.devices)
            if node.accelerator and node.devices.get("gpu", 0):
                found[f"gpu/{node.accelerator}"] += node.devices["gpu"]
        return dict(found)

    @cached_property
    def facts(self) -> list[dict[str, Any]]:
        """Facts about every node, from `survey`, gathered once."""
        return survey(self.nodes)

    def selected(self, labels: Mapping[str, str]) -> Session:
        """The cluster with only the nodes that have these labels.

        Raises:
            ClusterError: when no node has them, with the labels that there are.
        """
        kept = tuple(node for node in self.nodes if labels.items() <= node.labels.items())
        if not kept:
            own = {
                f"{name}={value}"
                for node in self.nodes
                for name, value in node.labels.items()
                if name != "ray.io/node-id"
            }
            raise ClusterError(
                f"No node has the labels of cluster.select={dict(labels)}. "
                f"There are: {', '.join(sorted(own)) or 'none'}."
            )
        return replace(self, nodes=kept)


def there_is(joined: Session | None, counted: Mapping[str, int]) -> str:
    """What there is, host by host, for a refusal; `counted` is this machine's, when not joined."""
    nodes = joined.nodes if joined else (Node("", socket.gethostname(), counted),)
    return "; ".join(f"{node.hostname} has {offers(node)}" for node in nodes)


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
def connect(
    address: str | None,
    told: Mapping[str, int],
    dashboard: bool,
    meanwhile: Callable[[], None] = lambda: None,
) -> Iterator[Session]:
    """Start Ray here, or attach to a cluster; disconnect at the end.

    Args:
        address: None starts Ray; "auto" or "host:port" attaches, after a preflight.
        told: devices that an embedded cluster is to have.
        dashboard: whether an embedded cluster runs Ray's dashboard.
        meanwhile: called once in a thread while the processes of an embedded cluster start.

    Raises:
        ClusterError: when the cluster at the address cannot be joined, within a few seconds.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # the first failure of a gang is a row; Ray would print those of its other workers
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
    if address is None:
        context = local.start(told, dashboard, NAMESPACE, meanwhile)
    else:
        context = _attach(address)
    import ray

    try:
        url = context.dashboard_url
        token = os.environ.get("RAY_AUTH_MODE", "").lower() == "token"  # Ray sets it as well
        nodes = _nodes(ray) if address is None else _answering(ray)
        yield Session(nodes, f"http://{url}" if url else None, address is not None, token)
    finally:
        if address is None:
            local.end_autoscaler()
        ray.shutdown()


def _attach(address: str) -> Any:
    """Join a cluster that runs already and return Ray's context."""
    place = preflight.check(address)
    try:
        return ray_internals.init(
            address=place.head,
            node_ip_address=place.own,
            log_to_driver=False,
            logging_level="error",
            namespace=NAMESPACE,
            # nodes that lack this package, or hold another version of it, get this one
            runtime_env={"py_modules": [str(PACKAGE)]},
        )
    except (Exception, SystemExit) as error:
        reason = " ".join(str(error).split())[:300]
        raise ClusterError(
            f"No Ray cluster could be joined at cluster.address={address!r}: {reason}. "
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
            _accelerator(node),
            dict(node.get("Labels") or {}),
        )
        for node in sorted(ray.nodes(), key=lambda node: str(node["NodeManagerHostname"]))
        if node["Alive"]
    )


def _answering(ray: Any) -> tuple[Node, ...]:
    """The nodes of a cluster that is attached to, without those that Ray does not miss yet.

    It calls a node alive for up to 14 s after its end. What is wrong with a node that is there and
    answers nothing, the survey finds out.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ping = ray.remote(num_cpus=0, max_retries=0)(lambda: None)
    calls = [
        ping.options(
            name=f"ping {node.hostname}",
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.node_id, False),
        ).remote()
        for node in _nodes(ray)
    ]
    ray.wait(calls, num_returns=len(calls), timeout=SURVEY_S)
    return _nodes(ray)


def _accelerator(node: Mapping[str, Any]) -> str | None:
    """By the label that Ray or an administrator gave, else by Ray's resource of that name."""
    label = (node.get("Labels") or {}).get("ray.io/accelerator-type")
    prefix = "accelerator_type:"
    told = (name.removeprefix(prefix) for name in node["Resources"] if name.startswith(prefix))
    return label or next(told, None)


def taken(session: Session) -> list[str]:
    """Devices that other work on the cluster holds, each kind in a line."""
    import ray

    free = ray.available_resources()
    lines = []
    for kind, name in (("gpu", "GPUs"), ("cpu", "CPU cores")):
        held = session.devices[kind] - int(free.get(kind.upper(), 0))
        if held > 0:
            lines.append(f"{held} of {session.devices[kind]} {name} are held by other work on Ray")
    return lines
