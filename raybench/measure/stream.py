"""Streams batches through an engine without pause and records every completion."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from types import SimpleNamespace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from raybench import gc_control

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from raybench.engines.base import Engine

SPIN_NS = 1_000_000
"""The time just before the common start is spent spinning. Longer spins take CPU time from other
workers when there are fewer cores than workers."""

PIECE = 1 << 12
"""Stamps in a list. Appending to a longer list would sometimes copy all of it, which takes
milliseconds in the end."""

NULL_NS = 20_000_000
"""How long the loop runs with an engine that does nothing, to measure its own cost."""


@dataclass(frozen=True)
class StreamTrace:
    """Times of all batches of one worker's stream, by this host's CLOCK_MONOTONIC.

    Attributes:
        submit_ns: int64, shape (n,): when `submit` was called.
        enqueued_ns: int64, shape (n,): when `submit` had returned.
        done_ns: int64, shape (n,): when `collect` had returned; strictly rising.
        spans_ns: int64, shape (n, 3): duration of copy in, compute and copy out by the device's
            clock; None without one.
        start_ns: when the stream was meant to start.
        late_ns: how long after `start_ns` it did start.
        batch_size: items of every batch.
    """

    submit_ns: NDArray[np.int64]
    enqueued_ns: NDArray[np.int64]
    done_ns: NDArray[np.int64]
    spans_ns: NDArray[np.int64] | None
    start_ns: int
    late_ns: int
    batch_size: int

    @property
    def inflight(self) -> int:
        """Return the batches in flight: those that were submitted before the first completion."""
        return max(int(np.searchsorted(self.submit_ns, self.done_ns[0])), 1)


class _Piece(NamedTuple):
    """Times of `PIECE` batches; `enqueued_ns` is ahead by the batches in flight."""

    enqueued_ns: list[int]
    done_ns: list[int]
    spans_ns: list[tuple[int, int, int]]


class Stream:
    """Keeps an engine busy with batches, and can be observed from other threads meanwhile.

    `run` is the timed path and belongs to one thread. Other threads may use `halt`, `done` and
    `since`, which cost the loop only the interpreter's lock. Stamps go into lists, 40 bytes each,
    because the interpreter itself appends to a list. Code that stores into an array must first be
    fetched again after a batch that has emptied the caches, which takes a microsecond, ten times as
    long.

    Args:
        engine: loaded, with nothing in flight.
        batch_size: items of a batch.
        inflight: number of batches kept submitted and not yet collected.
        clock: returns monotonic ns.
        sleep: sleeps for seconds.
    """

    def __init__(
        self,
        engine: Engine,
        batch_size: int,
        inflight: int,
        clock: Callable[[], int] = time.perf_counter_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._engine = engine
        self._batch_size = batch_size
        self._inflight = inflight
        self._clock = clock
        self._sleep = sleep
        self._first_ns: list[int] = []
        self._pieces = [_Piece([], [], [])]
        self._forgotten = 0
        self._halted = False
        self._start_ns = 0
        self._late_ns = 0

    @property
    def done(self) -> int:
        """Batches collected so far."""
        before = len(self._pieces) - 1
        return (self._forgotten + before) * PIECE + len(self._pieces[before].done_ns)

    def halt(self) -> None:
        """End the stream after the batch that completes next."""
        self._halted = True

    def run(self, start_ns: int, deadline_ns: int) -> StreamTrace:
        """Wait for the common start, then stream until halted or past the deadline.

        Args:
            start_ns: common start by this process's clock.
            deadline_ns: latest end, for a stream that nobody halts: no batch is submitted after a
                completion past it.
        """
        with gc_control.paused():  # a collection would visit millions of stamps during a batch
            wait_until(start_ns, self._clock, self._sleep)
            self._start_ns = start_ns
            self._late_ns = self._clock() - start_ns
            self._loop(deadline_ns)
        return self.trace(self._forgotten and self._forgotten * PIECE + PIECE + self._inflight)

    def _loop(self, deadline_ns: int) -> None:
        submit, collect, clock = self._engine.submit, self._engine.collect, self._clock
        with_spans = self._engine.info.device_clock
        enqueued_ns, done_ns, spans_ns = self._pieces[-1]
        full = PIECE
        for sequence in range(self._inflight):
            self._first_ns.append(clock())
            submit(sequence)
            enqueued_ns.append(clock())
        tail, head = 0, self._inflight
        while True:
            device = collect(tail)
            now = clock()
            done_ns.append(now)
            if with_spans:
                spans_ns.append(device)  # type: ignore[arg-type]
            tail += 1
            if self._halted or now >= deadline_ns:
                break
            if tail == full:
                full += PIECE
                self._pieces.append(_Piece([], [], []))
                enqueued_ns, done_ns, spans_ns = self._pieces[-1]
            submit(head)
            enqueued_ns.append(clock())
            head += 1
        for sequence in range(tail, head):
            collect(sequence)

    def since(self, first: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return submission and completion of all completed batches from number `first` on.

        Returns:
            Two arrays of stamps in ns, int64, shape (m,), as in `StreamTrace`.
        """
        last, depth = self.done, self._inflight
        # a batch is submitted on completion of the batch `inflight` before it
        later_ns = self._completions(max(first - depth, 0), max(last - depth, 0))
        submit_ns = self._first_ns[first:last] + later_ns
        return np.array(submit_ns, np.int64), np.array(self._completions(first, last), np.int64)

    def _completions(self, first: int, last: int) -> list[int]:
        skipped = first // PIECE
        pieces = self._pieces[skipped - self._forgotten : 1 + last // PIECE - self._forgotten]
        stamps = list(chain.from_iterable(piece.done_ns for piece in pieces))
        return stamps[first - skipped * PIECE : last - skipped * PIECE]

    def forget(self, before: int) -> None:
        """Drop the stamps of batches before a number, but for those that later ones need.

        The loop only ever appends, so that another thread may do this meanwhile.
        """
        pieces = (before - self._inflight) // PIECE - 1 - self._forgotten
        if pieces > 0:
            del self._pieces[:pieces]
            self._forgotten += pieces

    def trace(self, first: int = 0) -> StreamTrace:
        """Return the times of all completed batches from number `first` on."""
        submit_ns, done_ns = self.since(first)
        skipped = max((first - self._inflight) // PIECE - 1, self._forgotten)
        pieces = self._pieces[skipped - self._forgotten :]
        enqueued_ns = list(chain.from_iterable(piece.enqueued_ns for piece in pieces))
        spans_ns = list(chain.from_iterable(piece.spans_ns for piece in pieces))
        ahead = skipped * PIECE + self._inflight - 1 if skipped else 0
        own, place = first - ahead, first - skipped * PIECE
        spans = np.array(spans_ns[place : place + len(done_ns)], np.int64).reshape(-1, 3)
        whole = len(spans) if spans_ns else len(done_ns)  # the loop may be between both
        return StreamTrace(
            submit_ns=submit_ns[:whole],
            enqueued_ns=np.array(enqueued_ns[own : own + whole], np.int64),
            done_ns=done_ns[:whole],
            spans_ns=spans if spans_ns else None,
            start_ns=self._start_ns,
            late_ns=self._late_ns,
            batch_size=self._batch_size,
        )


def wait_until(at_ns: int, clock: Callable[[], int], sleep: Callable[[float], None]) -> None:
    """Sleep until shortly before an instant of the clock, and spin until it."""
    left_ns = at_ns - clock() - SPIN_NS
    if left_ns > 0:
        sleep(left_ns / 1e9)
    while clock() < at_ns:
        pass


class NullEngine:
    """Engine that does nothing, so that only the cost of the loop remains."""

    def __init__(self, device_clock: bool) -> None:
        self.info = SimpleNamespace(device_clock=device_clock)
        self._spans = (0, 0, 0) if device_clock else None

    def submit(self, sequence: int) -> None:
        """Do nothing."""

    def collect(self, sequence: int) -> tuple[int, int, int] | None:
        """Return at once."""
        return self._spans


@lru_cache(maxsize=16)
def loop_cost_us(inflight: int, device_clock: bool) -> float:
    """Return the time in us that the loop itself takes for a batch in this process.

    It is measured once for a process, which may measure several points. The median is used because
    a batch during which the process was descheduled measures other processes.

    Args:
        inflight: number of batches kept submitted and not yet collected.
        device_clock: whether device spans are recorded as well.
    """
    stream = Stream(NullEngine(device_clock), 1, inflight)  # type: ignore[arg-type]
    now = time.perf_counter_ns()
    done_ns = stream.run(now, now + NULL_NS).done_ns
    return float(np.median(np.diff(done_ns))) / 1e3 if len(done_ns) > 1 else NULL_NS / 1e3
