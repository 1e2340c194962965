"""Stream: batches through one engine without pause, every completion stamped."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from raybench.engines.base import Engine

CHUNK = 1 << 16
"""Records to a chunk: allocated and touched ahead, so that the loop meets no page fault."""

MOST_CHUNKS = 64
"""Allocated ahead at most: 4 million batches, 100 MB."""

SPIN_NS = 1_000_000
"""The last stretch before the common start is spent spinning; longer spins steal from neighbours
when there are fewer cores than workers."""


NULL_NS = 20_000_000
"""How long the loop is run around nothing to learn its own price."""


@dataclass(frozen=True)
class Trace:
    """What one worker saw, raw.

    Attributes:
        submit_ns: int64, shape (n,): `submit` was called, this host's CLOCK_MONOTONIC.
        enqueued_ns: int64, shape (n,): `submit` had returned.
        done_ns: int64, shape (n,): `collect` had returned; rises strictly in order.
        spans_ns: int64, shape (n, 3): copy in, compute, copy out by the device's clock; None
            without one.
        start_ns: when the stream was to start.
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


class Stream:
    """Keeps an engine fed, and lets others look on while it does.

    `run` is the timed path: it belongs to one thread. `halt` and `done_since` may be called from
    another; they cost the loop nothing but the interpreter's lock.

    Args:
        engine: loaded, with nothing in flight.
        batch_size: items of a batch.
        inflight: batches kept submitted and not yet collected.
        expected: batches to come, for which records are allocated ahead; more are no error.
        clock: nanoseconds, monotonic.
        sleep: seconds.
    """

    def __init__(
        self,
        engine: Engine,
        batch_size: int,
        inflight: int,
        expected: int = 0,
        clock: Callable[[], int] = time.perf_counter_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._engine = engine
        self._batch_size = batch_size
        self._inflight = inflight
        self._clock = clock
        self._sleep = sleep
        self._chunks: list[NDArray[np.int64]] = [
            _chunk() for _ in range(min(1 + expected // CHUNK, MOST_CHUNKS))
        ]
        self._spans: list[tuple[int, int, int]] = []
        self._halted = False
        self._start_ns = 0
        self._late_ns = 0
        self.done = 0
        """Batches collected so far."""

    def halt(self) -> None:
        """End the stream after the batch that completes next."""
        self._halted = True

    def run(self, start_ns: int, deadline_ns: int) -> Trace:
        """Wait for the common start, then stream until halted or past the deadline.

        Args:
            start_ns: common start in this process's clock.
            deadline_ns: no batch is submitted after a completion past this; a backstop.
        """
        self._wait_for(start_ns)
        submit, collect, clock = self._engine.submit, self._engine.collect, self._clock
        inflight, spans = self._inflight, self._spans
        with_spans = self._engine.info.device_clock
        self._start_ns = start_ns
        now = clock()
        self._late_ns = now - start_ns
        submits, enqueued, _ = self._cells(0)
        for sequence in range(inflight):
            submits[sequence] = clock()
            submit(sequence)
            enqueued[sequence] = clock()
        done = done_slot = 0
        head, head_slot = inflight, inflight
        done_cells = self._cells(0)[2]
        submit_cells, enqueued_cells, _ = self._cells(0)
        while True:
            device = collect(done)
            now = clock()
            done_cells[done_slot] = now
            if with_spans:
                spans.append(device)  # type: ignore[arg-type]
            self.done = done = done + 1
            if self._halted or now >= deadline_ns:
                break
            if head_slot == CHUNK:
                head_slot = 0
                submit_cells, enqueued_cells, _ = self._cells(head)
            submit_cells[head_slot] = now
            submit(head)
            enqueued_cells[head_slot] = clock()
            head += 1
            head_slot += 1
            done_slot += 1
            if done_slot == CHUNK:
                done_slot = 0
                done_cells = self._cells(done)[2]
        for sequence in range(done, done + inflight - 1):
            collect(sequence)
        return self._trace()

    def _wait_for(self, start_ns: int) -> None:
        left_ns = start_ns - self._clock() - SPIN_NS
        if left_ns > 0:
            self._sleep(left_ns / 1e9)
        while self._clock() < start_ns:
            pass

    def _cells(self, sequence: int) -> tuple[Any, Any, Any]:
        """Writable views of the chunk that holds a sequence number: submit, enqueued, done."""
        index = sequence // CHUNK
        while index >= len(self._chunks):
            self._chunks.append(_chunk())
        return tuple(memoryview(row) for row in self._chunks[index])  # type: ignore[return-value]

    def done_since(self, first: int) -> NDArray[np.int64]:
        """Completion stamps of batches `first`, `first`+1, ... that are in; int64, shape (m,)."""
        return self._column(2, first, self.done)

    def latencies_since(self, first: int) -> NDArray[np.int64]:
        """Submission to completion of the same batches, in ns; int64, shape (m,)."""
        last = self.done
        return self._column(2, first, last) - self._column(0, first, last)

    def _column(self, row: int, first: int, last: int) -> NDArray[np.int64]:
        pieces = []
        for index in range(first // CHUNK, -(-last // CHUNK)):
            base = index * CHUNK
            pieces.append(self._chunks[index][row, max(first - base, 0) : min(last - base, CHUNK)])
        return np.concatenate(pieces) if pieces else np.empty(0, np.int64)

    def _trace(self) -> Trace:
        n = self.done
        return Trace(
            submit_ns=self._column(0, 0, n),
            enqueued_ns=self._column(1, 0, n),
            done_ns=self._column(2, 0, n),
            spans_ns=np.array(self._spans, np.int64).reshape(-1, 3) if self._spans else None,
            start_ns=self._start_ns,
            late_ns=self._late_ns,
            batch_size=self._batch_size,
        )


class _Nothing:
    """An engine that does nothing: what is left is the price of the loop."""

    def __init__(self, device_clock: bool) -> None:
        self.info = SimpleNamespace(device_clock=device_clock)
        self._spans = (0, 0, 0) if device_clock else None

    def submit(self, sequence: int) -> None:
        pass

    def collect(self, sequence: int) -> tuple[int, int, int] | None:
        return self._spans


@lru_cache(maxsize=16)
def own_cost_us(inflight: int, device_clock: bool) -> float:
    """Time that the loop itself takes for a batch in this process: the median around nothing.

    Taken once for a process, which may stay for several points.

    The median, because a batch during which the process was set aside tells of others.

    Args:
        inflight: batches kept submitted and not yet collected.
        device_clock: whether device spans are kept as well.
    """
    stream = Stream(_Nothing(device_clock), 1, inflight)  # type: ignore[arg-type]
    now = time.perf_counter_ns()
    done_ns = stream.run(now, now + NULL_NS).done_ns
    return float(np.median(np.diff(done_ns))) / 1e3 if len(done_ns) > 1 else NULL_NS / 1e3


def _chunk() -> NDArray[np.int64]:
    return np.full((3, CHUNK), -1, np.int64)
