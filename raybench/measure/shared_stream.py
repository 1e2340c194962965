"""Serves items of a queue that several workers of a host share: the central queue, M/M/c."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from typing_extensions import override

from raybench.measure.open_stream import (
    NAP_NS,
    NULL_ARRIVALS,
    BatchRecord,
    OpenStream,
    null_cost_us,
    submitter,
)
from raybench.measure.stream import PIECE, NullEngine, wait_until
from raybench.measure.tickets import Tickets, create_tickets

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from raybench.measure.arrivals import ArrivalTimes
    from raybench.measure.open_stream import OpenTrace


class _Taken(NamedTuple):
    """A batch that belongs to this worker; times in ns."""

    ticket: int
    items: int
    first_ns: int
    ready_ns: int


class SharedStream(OpenStream):
    """Serves the arrivals of a shared queue that no other worker has taken.

    Every worker draws the same arrivals, and only their numbers are shared. A worker that is free
    takes the next batch at once, also one that is still to arrive, and submits it when it is ready:
    the worker that has been idle for longest gets the next batch, and no two wake up for the same. With
    a batch in flight it takes no more than what is ready. What was taken is served, whether the stream
    is halted meanwhile or not, unless it would arrive after the end.

    Args:
        more: as of an `OpenStream`; the arrivals name the tickets of the queue.

    Raises:
        Refused: when the tickets cannot be opened.
    """

    def __init__(self, *more: Any, **named: Any) -> None:
        super().__init__(*more, **named)
        self._tickets = Tickets(self._arrivals.tickets)
        self._ahead: list[int] = []
        """Arrivals from number `_base` on, as far as they are drawn."""
        self._base = 0
        self._wait_ns = round(self._arrivals.max_wait_ms * 1e6)

    @override
    def run(self, start_ns: int, deadline_ns: int) -> OpenTrace:
        """Serve what nobody else takes until halted or past the deadline; see `OpenStream.run`."""
        try:
            return super().run(start_ns, deadline_ns)
        finally:
            self._tickets.close()

    @override
    def _loop(self, times: ArrivalTimes, deadline_ns: int) -> None:
        collect, clock, depth = self._engine.collect, self._clock, self._inflight
        submit = submitter(self._engine)
        drain_ns = round(self._arrivals.drain_ms * 1e6)
        flying: deque[tuple[int, int, int, int, int, int, int]] = deque()
        head = tail = 0
        end_ns, free_ns = deadline_ns, self._start_ns
        own: _Taken | None = None
        while True:
            now = clock()
            if self._halted and now < end_ns:
                end_ns = now
            if own is None and len(flying) < depth and now <= end_ns + drain_ns:
                own = self._take(times, now, end_ns, not flying)
            if own is not None and own.ready_ns <= now and own.first_ns <= end_ns:
                submit(head, own.items)
                enqueued_ns = clock()
                ticket, items, first_ns, ready_ns = own
                due_ns = max(ready_ns, free_ns)
                flying.append((now, enqueued_ns, items, first_ns, ready_ns, due_ns, ticket))
                own, head, free_ns = None, head + 1, enqueued_ns
            elif flying:
                device = collect(tail)
                free_ns = clock()
                if tail % PIECE == 0 and tail:
                    self._pieces.append([])
                began = flying.popleft()
                self._pieces[-1].append(BatchRecord(free_ns, device, *began))
                tail += 1
            elif own is None or own.first_ns > end_ns:
                break
            elif own.ready_ns - now > 2 * NAP_NS:
                self._sleep(NAP_NS / 1e9)
            else:
                wait_until(own.ready_ns, clock, self._sleep)
        self._end_ns = min(end_ns, clock())

    def _take(self, times: ArrivalTimes, now: int, end_ns: int, idle: bool) -> _Taken | None:
        """Take the next batch of the queue; None if there is none before the end, or not yet.

        Args:
            times: draws the arrivals.
            now: time in ns.
            end_ns: what arrives later is not served.
            idle: whether a batch may be taken that is not ready.
        """
        most, tickets = self._batch_size, self._tickets
        while True:
            first = tickets.taken
            while first - self._base + most > len(self._ahead):
                passed = min(first - self._base, len(self._ahead))
                self._ahead = self._more(times, self._ahead, passed)
                self._base += passed
            queue, place = self._ahead, first - self._base
            first_ns = queue[place]
            ready_ns = min(queue[place + most - 1], first_ns + self._wait_ns)
            if first_ns > end_ns or not (idle or ready_ns <= now):
                return None
            items = bisect_right(queue, max(now, ready_ns), place, place + most) - place
            if tickets.take(first, first + items):
                return _Taken(first, items, first_ns, ready_ns)

    @override
    def _served(
        self, drawn: NDArray[np.int64], tickets: NDArray[np.int64], items: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], int]:
        """Return the arrivals that were served here, and how many of all were taken by anyone."""
        before = np.cumsum(items) - items
        numbers = np.arange(int(items.sum())) + np.repeat(tickets - before, items)
        return drawn[numbers], self._tickets.taken


@lru_cache(maxsize=16)
def shared_loop_cost_us(inflight: int, device_clock: bool) -> float:
    """Return the time in us that the loop takes for a batch of a queue that nobody else serves.

    Args:
        inflight: most batches submitted and not yet collected.
        device_clock: whether device spans are recorded as well.
    """
    file, path = create_tickets()
    with file:
        arrivals = replace(NULL_ARRIVALS, tickets=path)
        return null_cost_us(SharedStream(NullEngine(device_clock), 1, inflight, arrivals))
