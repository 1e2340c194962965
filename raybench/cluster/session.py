"""A session with a Ray cluster that is started on this machine or joined."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from raybench.cluster import local, preflight, ray_internals, session_folders
from raybench.cluster.nodes import Node, alive_nodes, collect_facts, responding_nodes
from raybench.errors import ClusterError
from raybench.machine import crash_log, devices
from raybench.paths import PACKAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from raybench.cluster.node_facts import NodeFacts

NAMESPACE = "raybench"


@dataclass(frozen=True)
class Session:
    """A connected cluster.

    Attributes:
        nodes: that are alive.
        dashboard_url: with scheme; None when there is no dashboard.
        attached: whether the cluster ran before, and goes on after the session.
        asks_for_token: whether the dashboard asks its visitors for a token.
        head: host:port of the head node; empty when unknown.
    """

    nodes: tuple[Node, ...]
    dashboard_url: str | None
    attached: bool = False
    asks_for_token: bool = False
    head: str = ""

    @property
    def devices(self) -> dict[str, int]:
        """Return the number of devices by kind, and by type of GPU as "gpu/H100"."""
        counts = Counter({"gpu": 0, "cpu": 0})
        for node in self.nodes:
            counts.update(node.devices)
            if node.accelerator and node.devices.get("gpu", 0):
                counts[f"gpu/{node.accelerator}"] += node.devices["gpu"]
        return dict(counts)

    @cached_property
    def facts(self) -> list[NodeFacts]:
        """Return the facts about every node; they are gathered once."""
        return collect_facts(self.nodes)

    def selected(self, labels: Mapping[str, str]) -> Session:
        """Return the session with only the nodes that have these labels.

        Raises:
            ClusterError: when no node has them, with the labels that exist.
        """
        selected = tuple(node for node in self.nodes if labels.items() <= node.labels.items())
        if not selected:
            existing = {
                f"{name}={value}"
                for node in self.nodes
                for name, value in node.labels.items()
                if name != "ray.io/node-id"
            }
            raise ClusterError(
                f"No node has the labels of cluster.select={dict(labels)}. "
                f"There are: {', '.join(sorted(existing)) or 'none'}."
            )
        return replace(self, nodes=selected)


def describe_devices(session: Session | None, local_counts: Mapping[str, int]) -> str:
    """Return the devices of each host, for an error message.

    Args:
        session: the cluster; None when Ray is to start on this machine.
        local_counts: devices of this machine by kind, for that case.
    """
    nodes = session.nodes if session else (Node("", socket.gethostname(), local_counts),)
    return "; ".join(f"{node.hostname} has {node.describe_devices()}" for node in nodes)


def busy_devices(session: Session) -> list[str]:
    """Return a line for each kind of device that other work on the cluster holds."""
    import ray

    free = ray.available_resources()
    lines = []
    for kind, name in (("gpu", "GPUs"), ("cpu", "CPU cores")):
        count = session.devices[kind] - int(free.get(kind.upper(), 0))
        if count > 0:
            lines.append(f"{count} of {session.devices[kind]} {name} are held by other work on Ray")
    return lines


def local_devices(gpus: int | None, cpus: int | None) -> dict[str, int]:
    """Return the devices that a cluster on this machine will have, by kind.

    Args:
        gpus: number to offer; None offers those that the driver lists.
        cpus: number of cores to offer; None offers all.

    Raises:
        ClusterError: when asked to offer more CPU cores than there are.
    """
    cores = len(devices.cores())
    if cpus is not None and cpus > cores:
        raise ClusterError(
            f"cluster.cpus={cpus} offers more cores than this machine has: "
            f"{devices.describe_cores()}. "
            f"Use cluster.cpus={cores}."
        )
    return {"gpu": devices.gpu_count() if gpus is None else gpus, "cpu": cpus or cores}


def check_unconnected() -> None:
    """Refuse to start Ray in a process that is connected to Ray already.

    Raises:
        ClusterError: with what to do.
    """
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        raise ClusterError(
            "This process is connected to Ray already, and raybench connects by itself. Call "
            "ray.shutdown() first; cluster.address=HOST:PORT then measures that cluster."
        )


@contextlib.contextmanager
def connect(
    address: str | None,
    device_counts: Mapping[str, int],
    dashboard: bool,
    work_during_start: Callable[[], None] = lambda: None,
) -> Iterator[Session]:
    """Start Ray here, or join a cluster; disconnect at the end.

    Args:
        address: None starts Ray; "auto" or "host:port" joins a cluster, after a preflight.
        device_counts: devices that a started cluster offers, by kind.
        dashboard: whether a started cluster serves Ray's dashboard.
        work_during_start: called once, in a thread, while the processes of a started cluster start.

    Raises:
        ClusterError: when the cluster at the address cannot be joined, within a few seconds.
    """
    with (
        _restored_variables(),
        _connected(address, device_counts, dashboard, work_during_start) as session,
    ):
        yield session


@contextlib.contextmanager
def _restored_variables() -> Iterator[None]:
    """Restore Ray's environment variables at the end, and its token mode with them.

    Otherwise what was decided for one cluster would apply to the next one of this process: a token
    would go to it unasked, or its dashboard would have no metrics.
    """
    before = _ray_variables()
    try:
        yield
    finally:
        after = _ray_variables()
        for name in after.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
        if after.get("RAY_AUTH_MODE") != before.get("RAY_AUTH_MODE"):
            ray_internals.reload_auth_mode()


def _ray_variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("RAY_")}


@contextlib.contextmanager
def _connected(
    address: str | None,
    device_counts: Mapping[str, int],
    dashboard: bool,
    work_during_start: Callable[[], None],
) -> Iterator[Session]:
    """Set Ray's variables and connect; disconnect at the end."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # the first failure of a trial's workers is stored in its row; Ray would print all others
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
    os.environ.setdefault("RAY_SCHEDULER_EVENTS", "0")  # of Ray's autoscaler
    with contextlib.ExitStack() as stack:
        stack.enter_context(ray_internals.without_messages())
        stack.enter_context(ray_internals.without_automatic_start())
        if address is None:
            local.name_folders()
            session_folders.remove_abandoned()
            stack.callback(crash_log.tidy)  # Ray has ended the workers by then
            folder = stack.enter_context(session_folders.SessionFolder())
            stack.callback(_leave)
            context = local.start(device_counts, dashboard, NAMESPACE, work_during_start, folder)
            stack.callback(local.end_autoscaler)
        else:
            stack.callback(_leave)
            context = _join(address)
        url = context.dashboard_url
        token = os.environ.get("RAY_AUTH_MODE", "").lower() == "token"  # Ray sets it as well
        nodes = alive_nodes() if address is None else responding_nodes()
        head = context.address_info.get("gcs_address") or ""
        yield Session(nodes, f"http://{url}" if url else None, address is not None, token, head)


def _leave() -> None:
    """Disconnect from Ray, also after a start or a join that failed half-way."""
    import ray

    from raybench.cluster import actor  # imports NumPy, which commands without Ray do not need

    actor.forget_point_files()  # the next cluster may give its job the same id
    ray.shutdown()
    if threading.current_thread() is threading.main_thread():
        # Ray gives SIGTERM back to the system, behind the back of Python
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))


def _join(address: str) -> Any:
    """Join a running cluster and return Ray's context."""
    checked = preflight.check(address)
    try:
        return ray_internals.init(
            address=checked.head,
            node_ip_address=checked.own,
            log_to_driver=False,
            logging_level="error",
            namespace=NAMESPACE,
            # nodes that lack this package, or have another version of it, get this one
            runtime_env={"py_modules": [str(PACKAGE)]},
        )
    except (Exception, SystemExit) as error:
        reason = " ".join(str(error).split())[:300]
        raise ClusterError(
            f"No Ray cluster could be joined at cluster.address={address!r}: {reason}. "
            "Look into the head node's log, /tmp/ray/session_latest/logs/gcs_server.out."
        ) from error
