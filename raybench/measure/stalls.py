"""Finds stalls: stretches of a stream without a completion that are far longer than a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

STALL_BATCHES = 5
"""A gap of so many batches is a stall; fewer are within what a scheduler or a copy may cost."""
STALL_LEAST_NS = 20_000_000
"""A shorter gap is none. Chosen here: a few time slices of a core that has other work to do."""
TOGETHER = 1.5
"""Batches in flight complete at once when the longest gap among them is over so many usual ones."""
RECURRING_COST = 0.01
"""Chosen here: the least share of the time for which long batches are named, as other flags have it."""
RARE = 100
SINGLE = 3
"""The longest gap of 100, and the three longest of any stream, say nothing of how long batches are: they
may be stalls."""
ENOUGH = 20
"""Gaps from which the length of the longer batches is estimated."""


@dataclass(frozen=True)
class Stall:
    """A stretch without a completion; times in ns by the clock of the completions.

    Attributes:
        start_ns: the completion before it.
        end_ns: the completion that ended it.
        lost_ns: time that it took from the stream.
    """

    start_ns: int
    end_ns: int
    lost_ns: float

    @property
    def length_ns(self) -> int:
        """Return how long nothing was completed."""
        return self.end_ns - self.start_ns

    def within(self, begin_ns: float, end_ns: float) -> float:
        """Return how much of the stall lies between two instants, in ns."""
        return max(0.0, min(self.end_ns, end_ns) - max(self.start_ns, begin_ns))

    def lost(self, begin_ns: float, end_ns: float) -> float:
        """Return the time between two instants, in ns, that the stall took from the stream."""
        return self.lost_ns * self.within(begin_ns, end_ns) / self.length_ns


def find(done_ns: NDArray[np.int64], inflight: int) -> tuple[Stall, ...]:
    """Return the stalls of one worker's stream, in order of time.

    Lost is the time from the last completion before the stall until as many batches are completed as
    were in flight, less the time that these usually take. A device that worked on while its host was
    stopped hands over its finished batches at once, and these are not lost.

    Args:
        done_ns: completions, int64, shape (n,), rising.
        inflight: batches in flight.
    """
    gaps = np.diff(done_ns)
    if len(gaps) < 2:
        return ()  # nothing says how long a batch usually takes
    stalled = np.flatnonzero(gaps >= threshold_ns(gaps, inflight)).tolist()
    if not stalled:
        return ()
    ahead = min(inflight, len(gaps))
    usual_ns = float(np.median(done_ns[ahead:] - done_ns[:-ahead])) / ahead
    found = []
    for k in stalled:
        after = min(k + ahead, len(gaps))
        lost_ns = float(done_ns[after] - done_ns[k]) - (after - k) * usual_ns
        most_ns = max(float(gaps[k]) - usual_ns, 0.0)  # the batch that ends a stall takes its time
        found.append(Stall(int(done_ns[k]), int(done_ns[k + 1]), min(max(lost_ns, 0.0), most_ns)))
    return tuple(found)


def find_busy(
    done_ns: NDArray[np.int64], service_ns: NDArray[np.int64], computed: NDArray[np.int64]
) -> tuple[Stall, ...]:
    """Return the stalls of an open loop, whose engine is idle when nothing has arrived.

    A batch that kept the engine for as long as a stall is one; what it took beyond the usual time of a
    batch of its size is lost.

    Args:
        done_ns: completions, int64, shape (n,), rising.
        service_ns: how long each batch kept the engine, int64, shape (n,).
        computed: items that were computed in each batch, int64, shape (n,).
    """
    if len(service_ns) < 2:
        return ()
    usual_ns = _usual_ns(service_ns, computed)
    median = float(np.median(service_ns))
    as_median = service_ns * (median / usual_ns)  # as if all batches were of one size
    stalled = (as_median >= threshold_ns(as_median, 1)) & (service_ns >= STALL_LEAST_NS)
    ends, took, usual = (each[stalled].tolist() for each in (done_ns, service_ns, usual_ns))
    return tuple(
        Stall(end - took, end, took - usual)
        for end, took, usual in zip(ends, took, usual, strict=True)
    )


def _usual_ns(service_ns: NDArray[np.int64], computed: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the usual time of a batch of each one's size, shape (n,).

    It is the median of its size. One that is too rare for that takes at most as many times as long as
    the next smaller one as it has times its items.
    """
    usual_ns = np.empty(len(service_ns))
    size_before, usual_before = 0, 0.0
    for size in np.unique(computed).tolist():
        alike = computed == size
        enough = not size_before or alike.sum() >= ENOUGH
        usual = float(np.median(service_ns[alike])) if enough else usual_before * size / size_before
        usual_ns[alike] = max(usual, 1.0)
        size_before, usual_before = size, usual
    return usual_ns


def threshold_ns(gaps: NDArray[np.int64] | NDArray[np.float64], inflight: int) -> float:
    """Return the shortest gap between completions that is a stall in this stream, in ns.

    It is `STALL_BATCHES` batches and at least `STALL_LEAST_NS`. The length of a batch is the median
    gap. Several batches in flight may complete at once, and then one gap in `inflight` is as long as
    all of them together; the quantile 1 - 1 / (2 inflight), if far above the median, is that gap.

    Where batches differ, as those of a detector or a loop do, a gap of five usual ones may be a long
    batch. The threshold then lies above the reach of the stream's own tail: from the 90 % to the 99 %
    quantile it grows by a factor, and three times more by that factor up to the longest batch of a
    window, but by no more than to `STALL_BATCHES` times the 99 % quantile.

    Args:
        gaps: between completions in ns, int64, shape (n,), n >= 1.
        inflight: batches in flight.
    """
    median = float(np.median(gaps))
    # no value between the two longest gaps: of few batches the longest may be the stall
    together = float(np.quantile(gaps, 1 - 1 / (2 * inflight), method="lower"))
    batch_ns = together if together > TOGETHER * median else median
    least = max(STALL_BATCHES * batch_ns, STALL_LEAST_NS)
    kept = len(gaps) - max(SINGLE, len(gaps) // RARE)
    if kept < ENOUGH:
        return least
    regular = np.partition(gaps, kept)[:kept]
    long = float(regular.max())
    growth = long / max(float(np.quantile(regular, 0.9)), 1.0)
    return max(least, long * min(growth**3, STALL_BATCHES))


def long_batches_recur(columns: Mapping[str, Any]) -> bool:
    """Return whether batches as long as a stall cost time and are none: they are over 1 % of all.

    Args:
        columns: of a trial, with the latencies and stalls of its window.
    """
    names = (f"latency_{name}_ms" for name in ("p50", "mean", "max"))
    usual, mean, longest = map(columns.get, names)
    if usual is None or mean is None or longest is None or columns.get("stalls"):
        return False
    if columns.get("latency_basis") == "request":
        return False  # an item of an open loop may have queued
    is_long = longest >= STALL_BATCHES * usual and longest - usual >= STALL_LEAST_NS / 1e6
    return bool(is_long and mean > (1 + RECURRING_COST) * usual)


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
