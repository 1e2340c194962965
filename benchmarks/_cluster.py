"""Start Ray clusters of several nodes on this machine."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

STORE_BYTES = 80_000_000
"""Size of a node's object store, near the least that Ray accepts."""


@contextlib.contextmanager
def ray_nodes(head_gpus: int = 0, nodes: int = 0, gpus: int = 0) -> Iterator[str]:
    """Run a cluster in this process and yield its address.

    Ray reads its authentication from the environment when it is imported here.

    Args:
        head_gpus: declared GPUs of the head node.
        nodes: number of further nodes.
        gpus: declared GPUs of each of them.
    """
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 0, "num_gpus": head_gpus, "include_dashboard": False,
            "object_store_memory": STORE_BYTES, "_system_config": {"worker_niceness": 0},
        },
    )  # fmt: skip
    try:
        for _ in range(nodes):
            cluster.add_node(num_cpus=0, num_gpus=gpus, object_store_memory=STORE_BYTES)
        yield cluster.address
    finally:
        cluster.shutdown()
