"""The power limits of the GPUs of every node."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any

from raybench.cluster.nodes import REPLY_S
from raybench.cluster.ray_errors import last_line
from raybench.errors import ClusterError
from raybench.machine import board_power

if TYPE_CHECKING:
    from collections.abc import Mapping

    from raybench.cluster.session import Session
    from raybench.machine.board_power import BoardPower


def of_hosts(session: Session | None) -> Mapping[str, tuple[BoardPower, ...]]:
    """Return the power limits of the boards of each host with GPUs, and whether they can be set there.

    Args:
        session: the cluster; None asks this machine.

    Raises:
        ClusterError: naming a node that does not answer.
    """
    if session is None:
        return {platform.node(): board_power.boards()}
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0)(board_power.boards)
    calls = {
        node.hostname: task.options(
            name=f"power limits of {node.hostname}",
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.node_id, False),
        ).remote()
        for node in session.nodes
        if node.devices.get("gpu", 0)
    }
    return {host: _reply(host, call) for host, call in calls.items()}


def _reply(host: str, call: Any) -> tuple[BoardPower, ...]:
    import ray

    try:
        boards: tuple[BoardPower, ...] = ray.get(call, timeout=REPLY_S)
    except Exception as error:
        raise ClusterError(
            f"Node {host} does not say which power limits its GPUs have: {last_line(error)}. "
            "Look at that node, or leave it out with cluster.select."
        ) from error
    return boards
