"""How many workers can one driver lead? Measured with simulated workers on one machine.

Starts a Ray cluster of its own and measures two points on all of its declared GPUs: the first starts
all processes (on 2 cores the CPU limits that), the second reuses them (cluster.processes=kept).
Prints how long each group took to start, how far apart its workers began, and what a snapshot costs
the driver. Promise: start under 30 s with running processes, 5 ms of the driver's CPU for a worker
and snapshot, one window common to all.

    python benchmarks/worker_group.py [workers] [nodes]
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import tempfile
import time
from typing import Any

from _cluster import ray_nodes

import raybench
from raybench.cluster import session as sessions
from raybench.cluster import worker_group
from raybench.cluster.reservation import RayReservation
from raybench.cluster.worker_group import RayWorkerGroup, RayWorkerStream
from raybench.config.compose import read
from raybench.execute.discovery import DiscoveredCluster
from raybench.execute.finished_run import close_run
from raybench.execute.run import execute, open_run, start_run
from raybench.execute.stop_request import StopRequest

WORDS = (
    "experiment=scaling", "engine=simulated", "engine.profile=p40", "model=googlenet",
    "preset=quick", "measure.block_s=1", "measure.min_s=10", "measure.max_s=20", "order=grid",
    "batch_size=[64,128]", "cluster.processes=kept", "cluster.start_timeout_s=300",
)  # fmt: skip
START_S, SNAPSHOT_MS = 30.0, 5.0


@contextlib.contextmanager
def cluster(nodes: int, gpus: int) -> Any:
    """Start a cluster of several nodes on this machine and yield a session with it."""
    os.environ.update(RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED="0")
    with (
        ray_nodes(nodes=nodes, gpus=gpus) as address,
        sessions.connect(address, {}, False) as session,
    ):
        yield session


class TimedCalls:
    """Wall and CPU time that the driver spends in each call of a function."""

    def __init__(self, owner: Any, name: str) -> None:
        self.wall_s: list[float] = []
        self.cpu_s: list[float] = []
        function = getattr(owner, name)

        def timed(*arguments: Any, **named: Any) -> Any:
            wall, cpu = time.perf_counter(), _cpu_s()
            try:
                return function(*arguments, **named)
            finally:
                self.wall_s.append(time.perf_counter() - wall)
                self.cpu_s.append(_cpu_s() - cpu)

        setattr(owner, name, timed)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> int:
    """Return 0 when the promises hold."""
    workers = int(sys.argv[1]) if len(sys.argv) > 1 else 64
    nodes = int(sys.argv[2]) if len(sys.argv) > 2 else 4
    started = TimedCalls(RayReservation, "start_workers")
    prepared, clocks = (
        TimedCalls(RayWorkerGroup, "prepare"),
        TimedCalls(worker_group, "measure_clocks"),
    )
    snapshots, finished = (
        TimedCalls(RayWorkerStream, "snapshot"),
        TimedCalls(RayWorkerStream, "finish"),
    )
    with tempfile.TemporaryDirectory() as folder, cluster(nodes, -(-workers // nodes)) as session:
        request = read(
            [*WORDS, f"grid.workers={workers}", f"results.dir={folder}/results"]
        ).resolve(session.devices)
        stop = StopRequest()
        with open_run(request, DiscoveredCluster(session, session.devices)) as context:
            with start_run(context, [], stop) as run:
                failed = execute(context, run, print, stop)
            close_run(context, failed).print_table()
        rows = raybench.load(f"{folder}/results").sort_by("started_at").to_pylist()
        blocks = raybench.load(f"{folder}/results", "blocks").to_pylist()
    row = rows[-1]
    last = [block for block in blocks if block["point_id"] == row["point_id"]]
    first: dict[int, int] = {}
    for block in last:
        first[block["worker"]] = min(
            block["t_start_ns"], first.get(block["worker"], block["t_start_ns"])
        )
    skew_ms = (max(first.values()) - min(first.values())) / 1e6
    start_s = started.wall_s[-1] + prepared.wall_s[-1] + clocks.wall_s[-2]
    half = len(snapshots.cpu_s) // 2
    snapshot_ms = 1e3 * sum(snapshots.cpu_s[half:]) / len(snapshots.cpu_s[half:]) / workers
    wall_ms = 1e3 * max(snapshots.wall_s[half:])
    print(f"{workers} workers on {row['n_nodes']} nodes: {row['status']}, {row['verdict']}")
    print(f"start      {start_s:.1f} s warm, {started.wall_s[0] + prepared.wall_s[0]:.1f} s cold")
    print(
        f"           of it processes {started.wall_s[-1]:.1f} s, clocks {clocks.wall_s[-2]:.1f} s"
    )
    print(f"begin      first blocks {skew_ms:.1f} ms apart, {len(first)} workers in one window of")
    print(f"           {row['window_s']:.1f} s; clock bound {row['clock_bound_us']:.0f} us")
    print(
        f"snapshot   {snapshot_ms:.2f} ms CPU of the driver a worker, the longest {wall_ms:.0f} ms"
    )
    print(f"finish     {finished.wall_s[-1]:.1f} s")
    expected = 128 / (1.52 + 128 * 0.1437) * 1e3 * workers
    print(
        f"rate       {row['items_per_s']:.0f} items/s, {row['items_per_s'] / expected:.3f} of the expected"
    )
    holds = row["status"] == "ok" and start_s < START_S and snapshot_ms < SNAPSHOT_MS
    return 0 if holds and len(first) == workers else 1


if __name__ == "__main__":
    sys.exit(main())
