"""An engine that builds plans, and a cluster of three nodes that can share them.

As a program: measures one point on all three nodes and writes rows and builds into a folder.
"""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import replace
from pathlib import Path

from raybench.engines.base import BuildsAhead
from raybench.engines.simulated import SimulatedEngine

FOLDER = "RAYBENCH_TEST_FOLDER"
NODES = (("one", "A100"), ("two", "A100"), ("other", "H100"))
ENTRY_POINTS = "[raybench.engines]\nplanned = plan_nodes:PlannedEngine\n"


class PlannedEngine(SimulatedEngine, BuildsAhead):
    """A simulated engine with a plan of random bytes, so that no two builds are the same."""

    traits = replace(SimulatedEngine.traits, name="planned", reads_graph=True)

    @classmethod
    def plan_batch(cls, options, batch_size):
        """Return the batch size: there is a plan for each."""
        return batch_size

    @classmethod
    def prebuild(cls, load):
        """Return the plan's file; a build writes the name of its node's cache into the test's folder."""
        name = f"planned/{load.batches.batch_size}.plan"
        path = load.cache_dir / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.urandom(2_000_000))
            with Path(os.environ[FOLDER], "builds").open("a") as builds:
                builds.write(f"{load.cache_dir.name}\n")
        return (name,)

    @classmethod
    def load(cls, load):
        """Return an engine whose info says which plan it uses."""
        existing = set(load.cache_dir.glob("planned/*"))
        (name,) = cls.prebuild(load)
        loaded = super().load(load)
        path = load.cache_dir / name
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        loaded.info = replace(loaded.info, build_cache_hit=path in existing, engine_sha256=sha256)
        return loaded


def main(arguments: list[str]) -> int:
    """Run raybench with these arguments on the three nodes."""
    from ray.cluster_utils import Cluster

    from raybench.cli import run
    from raybench.cluster import session as sessions
    from raybench.config.compose import read
    from raybench.execute import lead
    from raybench.execute.discovery import DiscoveredCluster
    from raybench.execute.stop_request import StopRequest

    folder = Path(os.environ[FOLDER])
    small = {"num_cpus": 0, "object_store_memory": 80_000_000}
    cluster = Cluster(
        initialize_head=True, head_node_args={**small, "include_dashboard": False, "num_gpus": 0}
    )
    try:
        for name, accelerator in NODES:
            cluster.add_node(
                **small,
                num_gpus=1,
                labels={"ray.io/accelerator-type": accelerator},
                env_vars={"RAYBENCH_CACHE": str(folder / name)},
            )
        with sessions.connect(cluster.address, {}, False) as session:
            request = read(arguments).resolve(session.devices)
            found = DiscoveredCluster(session, session.devices)
            results = lead.measure(request, found, arguments, run.TerminalDisplay(), StopRequest())
        return run.show_results(results)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
