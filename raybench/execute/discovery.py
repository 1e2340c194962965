"""Finds the devices that a run can use: those of a running cluster, or of this machine."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from raybench.cluster import nodes, preflight
from raybench.cluster import session as sessions
from raybench.engines import registry
from raybench.errors import ClusterError, ConfigError, EngineUnavailable
from raybench.machine.feeding_cores import too_few
from raybench.measure.arrivals import SHARED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from raybench.cluster.node_facts import NodeFacts
    from raybench.cluster.session import Session
    from raybench.config.settings import ClusterSettings
    from raybench.experiment import Experiment, Point


@dataclass(frozen=True)
class DiscoveredCluster:
    """The devices that a run can use.

    Attributes:
        session: the joined cluster; None when Ray is to be started on this machine.
        devices: number of devices of each kind, and of each type of GPU as "gpu/H100".
    """

    session: Session | None
    devices: Mapping[str, int]

    @cached_property
    def facts(self) -> list[NodeFacts]:
        """Facts about every node; gathered on first use, which takes seconds on a cluster."""
        if self.session is not None:
            return self.session.facts
        return [nodes.local_facts(self.devices)]

    def unavailable(self, engine: str, kind: str) -> str | None:
        """Return why an engine cannot run on the devices of a kind, or None.

        Raises:
            EngineUnavailable: when it can run on part of the nodes only.
        """
        if self.session is None:
            return registry.unavailable_here(engine, kind)
        return nodes.unavailable(self.session.facts, engine, kind)

    def lacking(self, point: Point) -> str | None:
        """Return how many cores a point's pipeline lacks on every node with its devices, or None."""
        if not point.cores:
            return None
        if self.session is None:
            return too_few(point.cores, point.workers, nodes.local_cores())
        able = [node for node in self.session.nodes if node.has(point.wants)]
        each = -(-point.workers // max(len(able), 1))
        there = max((node.devices.get("cpu", 0) for node in able), default=0)
        return too_few(point.cores, each, there)

    def describe(self) -> str:
        """Return the devices of each host, for an error message."""
        return sessions.describe_devices(self.session, self.devices)


@contextlib.contextmanager
def discover(settings: ClusterSettings) -> Iterator[DiscoveredCluster]:
    """Join the cluster that the settings or RAY_ADDRESS name, or count this machine's devices.

    A joined cluster is left at the end. Ray is not started.

    Raises:
        ClusterError: when the cluster cannot be joined or offers no such devices.
        ConfigError: when nodes are selected and there is no cluster to select from.
    """
    address = preflight.requested_address(settings.address)
    if address is not None:
        with sessions.connect(address, {}, False) as session:
            selected = session.selected(settings.select)
            yield DiscoveredCluster(selected, selected.devices)
        return
    if settings.select:
        raise ConfigError(
            "cluster.select chooses among the nodes of a cluster, and Ray is started on this "
            "machine. Leave it out, or give cluster.address."
        )
    yield DiscoveredCluster(None, sessions.local_devices(settings.gpus, settings.cpus))


def check_queue(points: Sequence[Point], session: Session | None) -> None:
    """Refuse a shared queue for devices on several nodes, which share no memory.

    Args:
        points: of the plan.
        session: the cluster; None when Ray is to be started on this machine.

    Raises:
        ClusterError: naming the nodes.
    """
    several = (point for point in points if point.workers > 1)
    shared = {point.wants for point in several if point.measure.balancer == SHARED}
    for wants in sorted(shared):
        names = [node.hostname for node in (session.nodes if session else ()) if node.has(wants)]
        if len(names) > 1:
            raise ClusterError(
                "measure.balancer=shared has one queue in the memory of one node, and the devices are "
                f"on {len(names)}: {', '.join(names)}. Choose one with cluster.select, or use "
                "measure.balancer=split."
            )


def check_engines(experiment: Experiment, facts: Sequence[NodeFacts]) -> None:
    """Refuse engines that a node lacks although it would have to run them.

    Args:
        experiment: with every engine resolved.
        facts: about each node.

    Raises:
        EngineUnavailable: naming node, library and remedy.
    """
    for choice in experiment.engines.values():
        for node in facts:
            reason = node.missing.get(choice.name)
            if reason is not None and node.devices.get(choice.device, 0):
                where = f"On node {node.hostname}: " if len(facts) > 1 else ""
                raise EngineUnavailable(f"{where}{reason}")
