"""Finds stalls: stretches of a stream without a completion that are far longer than a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

STALL_BATCHES = 5
"""A gap of so many batches is a stall; fewer are within what a scheduler or a copy may cost."""
STALL_LEAST_NS = 20_000_000
"""A shorter gap is none. Chosen here: a few time slices of a core that has other work to do."""


@dataclass(frozen=True)
class Stall:
    """A stretch without a completion; times in ns by the clock of the completions.

    Attributes:
        start_ns: the completion before it.
        end_ns: the completion that ended it.
        batch_ns: usual time between two completions, which this stretch would have taken.
    """

    start_ns: int
    end_ns: int
    batch_ns: int

    @property
    def length_ns(self) -> int:
        """Return how long nothing was completed."""
        return self.end_ns - self.start_ns

    def within(self, begin_ns: float, end_ns: float) -> float:
        """Return how much of the stall lies between two instants, in ns."""
        return max(0.0, min(self.end_ns, end_ns) - max(self.start_ns, begin_ns))

    def lost(self, begin_ns: float, end_ns: float) -> float:
        """Return the time between two instants, in ns, that the stall took from the stream.

        The batch that ends a stall would have taken its usual time without it.
        """
        share = self.within(begin_ns, end_ns) / self.length_ns
        return (self.length_ns - self.batch_ns) * share


def find(done_ns: NDArray[np.int64], inflight: int) -> tuple[Stall, ...]:
    """Return the stalls of one worker's stream, in order of time.

    The usual time between completions is a quantile of the gaps: the median for one batch in
    flight. Several batches in flight may complete at once, and then one gap in `inflight` is as
    long as all of them together; the quantile 1 - 1 / (2 inflight) is that gap.

    Args:
        done_ns: completions, int64, shape (n,), rising.
        inflight: batches in flight.
    """
    gaps = np.diff(done_ns)
    if len(gaps) < 2:
        return ()  # nothing says how long a batch usually takes
    batch_ns = int(np.quantile(gaps, 1 - 1 / (2 * inflight)))
    stalled = np.flatnonzero(gaps >= max(STALL_BATCHES * batch_ns, STALL_LEAST_NS))
    return tuple(Stall(int(done_ns[k]), int(done_ns[k + 1]), batch_ns) for k in stalled)


def lost_ns(stalls: Sequence[Stall], begin_ns: float, end_ns: float) -> float:
    """Return the time between two instants, in ns, that stalls took from the stream."""
    return sum(stall.lost(begin_ns, end_ns) for stall in stalls)


def columns(stalls: Sequence[Sequence[Stall]], begin_ns: float, end_ns: float) -> dict[str, Any]:
    """Return the columns of the stalls that reach into a window.

    Args:
        stalls: of each worker.
        begin_ns: start of the window, by the clock of the stalls.
        end_ns: end of the window.
    """
    reach = [
        (stall, worker)
        for worker, of_worker in enumerate(stalls)
        for stall in of_worker
        if stall.within(begin_ns, end_ns)
    ]
    found = {
        "stalls": len(reach),
        "stalled_workers": len({worker for _, worker in reach}),
        "stalled_s": sum(stall.within(begin_ns, end_ns) for stall, _ in reach) / 1e9,
    }
    if not reach:
        return found
    longest, worker = max(reach, key=lambda each: each[0].length_ns)
    return {
        **found,
        "longest_stall_s": longest.length_ns / 1e9,
        "longest_stall_at_s": (longest.start_ns - begin_ns) / 1e9,
        "longest_stall_worker": worker,
    }
