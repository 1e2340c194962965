"""Why a worker's process ended: whether a library crashed, on what, and with which signal."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from raybench.cluster.ray_errors import get_all, with_ranks
from raybench.errors import WorkerDied
from raybench.machine import crash_log
from raybench.worker import FIRST_BATCHES, LOADING, MAKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from raybench.cluster.worker_group import RayMember
    from raybench.experiment import Point
    from raybench.machine.crash_log import Crash

READ_S = 15.0
"""Longest wait for what another process of the node reads."""


@contextlib.contextmanager
def named(members: Sequence[RayMember], point: Point) -> Iterator[None]:
    """Let an error of a worker that a library has crashed say so.

    Raises:
        WorkerDied: what was raised inside, with the signal and what the worker had begun. A graph
            that crashed a library before it was streamed would crash it again, so there is no other
            attempt; fp32 outputs that did are left out of the next.
    """
    try:
        yield
    except WorkerDied as error:
        for rank in error.ranks:
            crash = _read(members[rank])
            if crash is not None:
                raise with_ranks(_crashed(crash, point), (rank,)) from error
        raise


def _crashed(crash: Crash, point: Point) -> WorkerDied:
    while_doing = f" while {crash.doing}" if crash.doing else ""
    died = WorkerDied(
        f"A library crashed with {crash.signal}{while_doing} (engine={point.engine}, "
        f"precision={point.precision}, batch_size={point.batch_size}). The system did not end the "
        "process for its memory. Use another engine, precision or version of the library."
    )
    died.retried = not crash.doing.startswith((MAKING, LOADING, FIRST_BATCHES))
    return died


def _read(member: RayMember) -> Crash | None:
    """Return the crash of a worker, read on its node; None if there was none, or no answer."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    read = ray.remote(num_cpus=0, max_retries=0)(crash_log.read).options(
        name="raybench/read crash log",
        scheduling_strategy=NodeAffinitySchedulingStrategy(member.node_id, False),
    )
    with contextlib.suppress(Exception):  # the node may be gone as well
        call = read.remote(member.host.pid)
        crash: Crash | None = get_all([call], READ_S, "read", nodes=[member.node_id])[0]
        return crash
    return None
