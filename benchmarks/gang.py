"""How large a gang the driver can lead: many simulated workers on the nodes of one machine.

Starts a Ray cluster of its own and measures two points on all of its declared GPUs: the first starts
all processes (on 2 cores that is bound by the CPU), the second finds them there
(cluster.processes=kept). Prints how long each gang took to start, how far apart its workers began,
and what a look costs the driver. Promise: start under 30 s warm, 5 ms of the driver's time a worker
and look, one window common to all.

    python benchmarks/gang.py [workers] [nodes]
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import tempfile
import time
from typing import Any

import raybench
from raybench.cli import run
from raybench.cluster import session as sessions
from raybench.cluster import worker_group
from raybench.cluster.reservation import RayReservation
from raybench.cluster.worker_group import RayWorkerGroup, RayWorkerStream
from raybench.config.compose import read

WORDS = (
    "experiment=scaling", "engine=simulated", "engine.profile=p40", "model=googlenet",
    "preset=quick", "measure.block_s=1", "measure.min_s=10", "measure.max_s=20", "order=grid",
    "batch_size=[64,128]", "cluster.processes=kept", "cluster.start_timeout_s=300",
)  # fmt: skip
START_S, LOOK_MS = 30.0, 5.0


@contextlib.contextmanager
def cluster(nodes: int, gpus: int) -> Any:
    """A cluster of several nodes on this machine, and a session in it."""
    os.environ.update(RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED="0")
    from ray.cluster_utils import Cluster

    made = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 0, "num_gpus": 0, "include_dashboard": False,
            "object_store_memory": 80_000_000, "_system_config": {"worker_niceness": 0},
        },
    )  # fmt: skip
    try:
        for _ in range(nodes):
            made.add_node(num_cpus=0, num_gpus=gpus, object_store_memory=80_000_000)
        with sessions.connect(made.address, {}, False) as session:
            yield session
    finally:
        made.shutdown()


class Clocked:
    """Wall and CPU time of the driver in calls of a method, one entry a call."""

    def __init__(self, owner: Any, name: str) -> None:
        self.wall_s: list[float] = []
        self.cpu_s: list[float] = []
        whole = getattr(owner, name)

        def clocked(*arguments: Any, **named: Any) -> Any:
            wall, cpu = time.perf_counter(), _cpu_s()
            try:
                return whole(*arguments, **named)
            finally:
                self.wall_s.append(time.perf_counter() - wall)
                self.cpu_s.append(_cpu_s() - cpu)

        setattr(owner, name, clocked)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> int:
    """Returns 0 when the promises hold."""
    workers = int(sys.argv[1]) if len(sys.argv) > 1 else 64
    nodes = int(sys.argv[2]) if len(sys.argv) > 2 else 4
    gathered = Clocked(RayReservation, "start_workers")
    prepared, clocks = Clocked(RayWorkerGroup, "prepare"), Clocked(worker_group, "measure_clocks")
    looked, finished = Clocked(RayWorkerStream, "snapshot"), Clocked(RayWorkerStream, "finish")
    with tempfile.TemporaryDirectory() as folder, cluster(nodes, -(-workers // nodes)) as session:
        request = read(
            [*WORDS, f"grid.workers={workers}", f"results.dir={folder}/results"]
        ).resolve(session.devices)
        run.run(request, session, contextlib.ExitStack())
        rows = raybench.load(f"{folder}/results").sort_by("started_at").to_pylist()
        blocks = raybench.load(f"{folder}/results", "blocks").to_pylist()
    row = rows[-1]
    mine = [block for block in blocks if block["point_id"] == row["point_id"]]
    first: dict[int, int] = {}
    for block in mine:
        first[block["worker"]] = min(
            block["t_start_ns"], first.get(block["worker"], block["t_start_ns"])
        )
    skew_ms = (max(first.values()) - min(first.values())) / 1e6
    start_s = gathered.wall_s[-1] + prepared.wall_s[-1] + clocks.wall_s[-2]
    half = len(looked.cpu_s) // 2
    look_ms = 1e3 * sum(looked.cpu_s[half:]) / len(looked.cpu_s[half:]) / workers
    wall_ms = 1e3 * max(looked.wall_s[half:])
    print(f"{workers} workers on {row['n_nodes']} nodes: {row['status']}, {row['verdict']}")
    print(f"start      {start_s:.1f} s warm, {gathered.wall_s[0] + prepared.wall_s[0]:.1f} s cold")
    print(
        f"           of it processes {gathered.wall_s[-1]:.1f} s, clocks {clocks.wall_s[-2]:.1f} s"
    )
    print(f"begin      first blocks {skew_ms:.1f} ms apart, {len(first)} workers in one window of")
    print(f"           {row['window_s']:.1f} s; clock bound {row['clock_bound_us']:.0f} us")
    print(
        f"look       {look_ms:.2f} ms CPU of the driver a worker, the longest look {wall_ms:.0f} ms"
    )
    print(f"finish     {finished.wall_s[-1]:.1f} s")
    expected = 128 / (1.52 + 128 * 0.1437) * 1e3 * workers
    print(
        f"rate       {row['items_per_s']:.0f} items/s, {row['items_per_s'] / expected:.3f} of the law"
    )
    holds = row["status"] == "ok" and start_s < START_S and look_ms < LOOK_MS
    return 0 if holds and len(first) == workers else 1


if __name__ == "__main__":
    sys.exit(main())
