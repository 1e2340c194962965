"""Tells a load that the workers cannot bear from one that they can: by a backlog that grows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from raybench.stats.intervals import mean_ci

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.measure.running_stream import StreamSnapshot
    from raybench.measure.worker_blocks import WorkerBlocks

RISES = 5
"""Snapshots in a row in which a backlog that grows has risen. A stall makes it rise in one."""
SIGNIFICANT = 6.0
"""Growth counts from so many standard deviations on of what random arrivals and times cause."""
LEAST_BATCHES = 50
"""Batches behind a decision."""


class BacklogWatch:
    """Watches the backlog of all workers while they run, to end an overloaded stream early.

    A backlog that random arrivals and random service times move by b batches' worth walks by about
    sqrt(2 b) batches. It is overload when the wait of a worker, in batches, has risen in each of the
    last `RISES` snapshots, by far more than that without the largest rise, and the worker was never
    idle. At twice the capacity this takes 100 batches, at 1.1 times 8,000; an overload by less is
    found when the window has ended. Of a shared queue every worker sees the same wait, and chance moves
    it by less.

    Args:
        workers: number of workers.
    """

    def __init__(self, workers: int) -> None:
        self._seen: list[list[tuple[int, float]]] = [[] for _ in range(workers)]

    def overloaded(self, snapshots: Sequence[StreamSnapshot]) -> bool:
        """Note the latest snapshots, by rank; return whether the backlog of a worker grows."""
        for seen, new in zip(self._seen, snapshots, strict=True):
            if seen and new.waited_at >= seen[-1][0]:
                seen.clear()
            if not seen or new.done > seen[-1][0]:
                seen.append((new.done, new.wait_batches))
        return any(_grows(seen[-RISES - 1 :]) for seen in self._seen)


def _grows(seen: Sequence[tuple[int, float]]) -> bool:
    if len(seen) <= RISES:
        return False
    batches, waits = np.diff(np.array(seen), axis=0).T
    if (waits <= 0).any() or batches.sum() < LEAST_BATCHES:
        return False
    steady = np.arange(RISES) != int(waits.argmax())
    walk = math.sqrt(2 * float(batches[steady].sum()))
    return bool(waits[steady].sum() > SIGNIFICANT * walk)


def grew(workers: Sequence[WorkerBlocks]) -> bool:
    """Return whether the backlog of a queue grew over the window.

    No worker was idle in the second half of the window, and the mean growth of the wait from one grid
    cell to the next is above 0 with 95 % confidence; or items of the window were never served.

    Args:
        workers: those that serve the queue; one, or all of a shared queue.
    """
    traces = [worker.arrivals for worker in workers]
    begin = max(worker.begin_ns for worker in workers)
    end = min(worker.end_ns for worker in workers)
    if any(len(t.unserved_ns) and t.unserved_ns[0] - t.start_ns <= end for t in traces):
        return True
    submit_ns = np.concatenate([trace.submit_ns - trace.start_ns for trace in traces])
    order = np.argsort(submit_ns, kind="stable")
    submit_ns = submit_ns[order]
    waited = np.concatenate([trace.waited for trace in traces])[order]
    wait_ns = np.concatenate([trace.submit_ns - trace.first_ns for trace in traces])[order]
    second_half = (submit_ns > (begin + end) / 2) & (submit_ns <= end)
    if not second_half.any() or waited[second_half].any():
        return False
    grid = np.arange(begin, end + 1, workers[0].block_ns, dtype=np.float64)
    waits_ns = np.interp(grid, submit_ns, wait_ns.astype(np.float64))
    if len(waits_ns) < 3:
        return False
    growth = mean_ci(np.diff(waits_ns))
    return growth.mean - growth.half_width > 0
