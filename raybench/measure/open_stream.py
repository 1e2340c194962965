"""Serves items that arrive at a rate of their own, and records how long each of them took.

Arrivals are numbers, not objects: no queue, thread or call stands between the schedule and the
engine, so that an item costs nanoseconds. Every latency counts from the intended arrival. Whatever
holds the loop up, an engine that hangs or a core that was taken away, is in the latency of all items
that should have arrived meanwhile.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from raybench import gc_control
from raybench.engines.base import TakesPartBatches
from raybench.measure.arrivals import PIECE_ITEMS, ArrivalTimes, WorkerArrivals
from raybench.measure.stream import NULL_NS, PIECE, NullEngine, StreamTrace, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from raybench.engines.base import DeviceSpans, Engine

NAP_NS = 50_000_000
"""A longer sleep is cut, so that the loop looks whether it was halted."""
MOST_UNSERVED = 1_000_000
"""Arrivals that are drawn after the end, beyond twice those served; of more, only the first are known."""
LATE_NS = 100_000
"""A batch that is submitted later than this after it could have been counts as late."""
NULL_ARRIVALS = WorkerArrivals("constant", 5e6, 1.0, (0,), drain_ms=0)
"""Arrivals of which there is always one, to measure the loop's own cost."""


@dataclass(frozen=True)
class OpenTrace(StreamTrace):
    """Times of all batches and of all items of one worker in open loop, by this host's clock.

    Attributes:
        items: int64, shape (n,): items of each batch that arrived; the rest of it is padding.
        arrival_ns: int64, shape (m,), m the sum of `items`: intended arrivals, in order.
        due_ns: int64, shape (n,): when the batch could have been submitted: it was full, or its first
            item had waited long enough, and the loop was free.
        waited: bool, shape (n,): whether the loop was free before the batch was ready.
        unserved_ns: int64, shape (u,): arrivals before the end that were never served.
        end_ns: until when the arrivals are known.
        sizes: numbers of items that the engine computes a batch at, rising; empty if unknown.
    """

    items: NDArray[np.int64]
    arrival_ns: NDArray[np.int64]
    due_ns: NDArray[np.int64]
    waited: NDArray[np.bool_]
    unserved_ns: NDArray[np.int64]
    end_ns: int
    sizes: tuple[int, ...] = ()

    @property
    def served(self) -> NDArray[np.int64]:
        """Return the items done after each batch, int64, shape (n,)."""
        done: NDArray[np.int64] = np.cumsum(self.items)
        return done

    @property
    def computed(self) -> NDArray[np.int64]:
        """Return the items that the engine computed in each batch, padding included, int64, shape (n,)."""
        sizes = np.array(self.sizes or (self.batch_size,), np.int64)
        computed: NDArray[np.int64] = sizes[np.searchsorted(sizes, self.items)]
        return computed

    @property
    def first_ns(self) -> NDArray[np.int64]:
        """Return the arrival of the first item of each batch, int64, shape (n,)."""
        first: NDArray[np.int64] = self.arrival_ns[self.served - self.items]
        return first

    @property
    def latency_ns(self) -> NDArray[np.int64]:
        """Return the time from each item's arrival to the end of its batch, int64, shape (m,)."""
        latency: NDArray[np.int64] = np.repeat(self.done_ns, self.items) - self.arrival_ns
        return latency

    @property
    def queue_ns(self) -> NDArray[np.int64]:
        """Return the time from each item's arrival to its submission, int64, shape (m,)."""
        queue: NDArray[np.int64] = np.repeat(self.submit_ns, self.items) - self.arrival_ns
        return queue

    @property
    def service_ns(self) -> NDArray[np.int64]:
        """Return how long each batch kept the engine: from its submission, or the end before it."""
        before = np.concatenate([self.submit_ns[:1], self.done_ns[:-1]])
        service: NDArray[np.int64] = self.done_ns - np.maximum(self.submit_ns, before)
        return service


class BatchRecord(NamedTuple):
    """One batch that is done; times in ns."""

    done_ns: int
    spans_ns: DeviceSpans | None
    submit_ns: int
    enqueued_ns: int
    items: int
    first_ns: int
    ready_ns: int
    due_ns: int
    ticket: int = 0
    """Number of its first item among those of a shared queue."""


class OpenStream:
    """Serves a worker's arrivals in batches, and can be observed from other threads meanwhile.

    A batch is ready when it is full, or when its first item has waited for `max_wait_ms`; it then
    takes what has arrived. With several batches in flight the next is submitted as soon as it is
    ready and the loop is free: while the loop waits for a result, it submits nothing.

    Args:
        engine: loaded, with nothing in flight.
        batch_size: most items of a batch; one with fewer is padded to the engine's next size.
        inflight: most batches submitted and not yet collected.
        arrivals: of this worker.
        clock: returns monotonic ns.
        sleep: sleeps for seconds.
    """

    def __init__(
        self,
        engine: Engine,
        batch_size: int,
        inflight: int,
        arrivals: WorkerArrivals,
        clock: Callable[[], int] = time.perf_counter_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._engine = engine
        self._batch_size = batch_size
        self._inflight = inflight
        self._arrivals = arrivals
        self._clock = clock
        self._sleep = sleep
        self._pieces: list[list[BatchRecord]] = [[]]
        self._drawn: list[NDArray[np.int64]] = []
        self._halted = False
        self._start_ns = self._end_ns = self._late_ns = 0

    @property
    def done(self) -> int:
        """Batches collected so far."""
        before = len(self._pieces) - 1
        return before * PIECE + len(self._pieces[before])

    def halt(self) -> None:
        """End the stream; what has arrived by now is still served."""
        self._halted = True

    def run(self, start_ns: int, deadline_ns: int) -> OpenTrace:
        """Wait for the common start, then serve arrivals until halted or past the deadline.

        Args:
            start_ns: common start by this process's clock.
            deadline_ns: latest end, for a stream that nobody halts.
        """
        times = ArrivalTimes(self._arrivals, start_ns)
        with gc_control.paused():
            wait_until(start_ns, self._clock, self._sleep)
            self._start_ns = start_ns
            self._late_ns = self._clock() - start_ns
            self._loop(times, deadline_ns)
        return self._trace(times)

    def _loop(self, times: ArrivalTimes, deadline_ns: int) -> None:
        collect, clock = self._engine.collect, self._clock
        submit = submitter(self._engine)
        most, depth = self._batch_size, self._inflight
        wait_ns, drain_ns = (
            round(limit * 1e6) for limit in (self._arrivals.max_wait_ms, self._arrivals.drain_ms)
        )
        flying: deque[tuple[int, int, int, int, int, int]] = deque()
        queue, place = self._more(times, [], 0), 0
        head = tail = 0
        end_ns, free_ns = deadline_ns, self._start_ns
        while True:
            if len(queue) - place < most:
                queue, place = self._more(times, queue, place), 0
            now = clock()
            if self._halted and now < end_ns:
                end_ns = now
            first_ns = queue[place]
            ready_ns = min(queue[place + most - 1], first_ns + wait_ns)
            over = first_ns > end_ns or now > end_ns + drain_ns
            if ready_ns <= now and len(flying) < depth and not over:
                after = bisect_right(queue, now, place, place + most)
                submit(head, after - place)
                enqueued_ns = clock()
                due_ns = max(ready_ns, free_ns)
                flying.append((now, enqueued_ns, after - place, first_ns, ready_ns, due_ns))
                place, head, free_ns = after, head + 1, enqueued_ns
            elif flying:
                device = collect(tail)
                free_ns = clock()
                if tail % PIECE == 0 and tail:
                    self._pieces.append([])
                began = flying.popleft()
                self._pieces[-1].append(BatchRecord(free_ns, device, *began))
                tail += 1
            elif over:
                break
            elif ready_ns - now > 2 * NAP_NS:
                self._sleep(NAP_NS / 1e9)
            else:
                wait_until(ready_ns, clock, self._sleep)
        self._end_ns = min(end_ns, clock())

    def _more(self, times: ArrivalTimes, queue: list[int], place: int) -> list[int]:
        """Return the arrivals that no batch has taken yet, and those that follow."""
        drawn = times.draw(max(PIECE_ITEMS, self._batch_size))
        self._drawn.append(drawn)
        later: list[int] = drawn.tolist()
        return queue[place:] + later

    def records(self, first: int) -> Sequence[BatchRecord]:
        """Return the completed batches from number `first` on."""
        last, skipped = self.done, first // PIECE
        found = list(chain.from_iterable(self._pieces[skipped : 1 + last // PIECE]))
        return found[first - skipped * PIECE : last - skipped * PIECE]

    def _draw_rest(self, times: ArrivalTimes) -> NDArray[np.int64]:
        """Return all arrivals up to the end, or as many as show that they are far too many."""
        drawn = sum(map(len, self._drawn))
        most = 2 * drawn + MOST_UNSERVED
        while self._drawn[-1][-1] <= self._end_ns and drawn < most:
            self._drawn.append(times.draw(MOST_UNSERVED // 16))
            drawn += len(self._drawn[-1])
        self._end_ns = min(self._end_ns, int(self._drawn[-1][-1]))
        return np.concatenate(self._drawn)

    def _trace(self, times: ArrivalTimes) -> OpenTrace:
        records, drawn = self.records(0), self._draw_rest(times)
        done_ns = np.array([record.done_ns for record in records], np.int64)
        columns = np.array([record[2:] for record in records], np.int64).reshape(-1, 7).T
        submit_ns, enqueued_ns, items, _, ready_ns, due_ns, tickets = columns
        served_ns, taken = self._served(drawn, tickets, items)
        last = max(int(np.searchsorted(drawn, self._end_ns, side="right")), taken)
        spans = [record.spans_ns for record in records if record.spans_ns is not None]
        return OpenTrace(
            submit_ns=submit_ns,
            enqueued_ns=enqueued_ns,
            done_ns=done_ns,
            spans_ns=np.array(spans, np.int64) if spans else None,
            start_ns=self._start_ns,
            late_ns=self._late_ns,
            batch_size=self._batch_size,
            items=items,
            arrival_ns=served_ns,
            due_ns=due_ns,
            waited=ready_ns == due_ns,
            unserved_ns=drawn[taken:last],
            end_ns=self._end_ns,
            sizes=sizes_of(self._engine, self._batch_size),
        )

    def _served(
        self, drawn: NDArray[np.int64], tickets: NDArray[np.int64], items: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], int]:
        """Return the arrivals that were served here, and how many of all were taken."""
        taken = int(items.sum())
        return drawn[:taken], taken


def sizes_of(engine: Engine, batch_size: int) -> tuple[int, ...]:
    """Return the numbers of items that an engine computes a batch at; empty if it does not say."""
    return tuple(engine.sizes) if isinstance(engine, TakesPartBatches) else (batch_size,)


def submitter(engine: Engine) -> Callable[[int, int], None]:
    """Return what starts a batch, given its number and its items."""
    if isinstance(engine, TakesPartBatches):
        return engine.submit_part
    submit = engine.submit
    return lambda sequence, items: submit(sequence)


@lru_cache(maxsize=16)
def open_loop_cost_us(inflight: int, device_clock: bool) -> float:
    """Return the time in us that the open loop itself takes for a batch in this process.

    The engine does nothing and an item is always waiting, so that all of the time is the loop's.

    Args:
        inflight: most batches submitted and not yet collected.
        device_clock: whether device spans are recorded as well.
    """
    engine = NullEngine(device_clock)
    return null_cost_us(OpenStream(engine, 1, inflight, NULL_ARRIVALS))  # type: ignore[arg-type]


def null_cost_us(stream: OpenStream) -> float:
    """Return the median time in us that a stream with an engine that does nothing takes for a batch."""
    now = time.perf_counter_ns()
    stream.run(now, now + NULL_NS)
    done_ns = [record.done_ns for record in stream.records(0)]
    return float(np.median(np.diff(done_ns))) / 1e3 if len(done_ns) > 1 else NULL_NS / 1e3
