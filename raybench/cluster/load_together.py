"""Opens the barrier before the engines of all workers at one instant, with the page cache set."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from raybench.cluster.ray_errors import get_all
from raybench.measure import clock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.cluster.worker_group import RayMember
    from raybench.measure.clock import Clock

POLL_S = 0.02
PINGS = 10
CALL_S = 30.0
SET_S = 600.0
"""Longest time to take the files of a node out of its page cache, or to read them into it."""
LEAD_NS = 50_000_000
"""From the order to load until the workers load; at least `LEAD_ROUND_TRIPS` round trips."""
LEAD_ROUND_TRIPS = 20


def load_together(
    members: Sequence[RayMember], calls: Sequence[Any], state: str, timeout_s: float
) -> None:
    """Wait until all workers have their graphs, set the page cache of each node, and let them load.

    When one has failed before that, nothing more is done: its call says why.

    Args:
        members: the workers, by rank.
        calls: that prepare them.
        state: of the page cache, "cold" or "warm".
        timeout_s: longest wait for the workers.
    """
    if not _all_wait(members, calls, timeout_s):
        return
    first_of = {member.node_id: rank for rank, member in reversed(list(enumerate(members)))}
    asked = [_watch(members[rank].actor.set_page_cache).remote(state) for rank in first_of.values()]
    reached = get_all(asked, SET_S, "prepare", tuple(first_of.values()))
    states = dict(zip(first_of, reached, strict=True))
    clocks = [_clock(member.actor, rank) for rank, member in enumerate(members)]
    longest_ns = max(each.round_trip_ns for each in clocks)
    at_ns = time.perf_counter_ns() + max(LEAD_NS, LEAD_ROUND_TRIPS * longest_ns)
    for member, own in zip(members, clocks, strict=True):
        _watch(member.actor.open_barrier).remote(at_ns + own.offset_ns, states[member.node_id])


def _watch(method: Any) -> Any:
    """Return a method to be called on the thread that answers while the worker prepares."""
    return method.options(concurrency_group="watch")


def _all_wait(members: Sequence[RayMember], calls: Sequence[Any], timeout_s: float) -> bool:
    """Return whether all workers have come to the barrier; False when one ends or is too late."""
    import ray

    deadline = time.monotonic() + timeout_s
    late = list(enumerate(members))
    while late and time.monotonic() < deadline:
        ended, _ = ray.wait(list(calls), timeout=POLL_S)
        if ended:
            return False
        asked = [_watch(member.actor.waiting_ns).remote() for _, member in late]
        waiting = get_all(asked, CALL_S, "prepare", tuple(rank for rank, _ in late))
        late = [each for each, ns in zip(late, waiting, strict=True) if ns is None]
    return not late


def _clock(actor: Any, rank: int) -> Clock:
    pings = []
    for _ in range(PINGS):
        sent_ns = time.perf_counter_ns()
        worker_ns = get_all([_watch(actor.waiting_ns).remote()], CALL_S, "prepare", (rank,))[0]
        pings.append((sent_ns, worker_ns, time.perf_counter_ns()))
    return clock.best(pings)
