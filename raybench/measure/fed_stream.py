"""A closed-loop stream whose batches are decoded from images while it runs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from typing_extensions import override

from raybench.measure.stream import NULL_NS, NullEngine, Stream, StreamTrace

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from raybench.engines.base import Engine
    from raybench.measure.feeder import Feeder, FeedingTrace


@dataclass(frozen=True)
class FedTrace(StreamTrace):
    """Times of a stream that was fed.

    Attributes:
        starved_ns: int64, shape (n,): for how long the engine had nothing to compute before a batch, because
            it was not filled yet, or came too late to be copied while another was computed.
        feeding: what the threads did that filled the batches.
    """

    starved_ns: NDArray[np.int64]
    feeding: FeedingTrace


class FedStream(Stream):
    """Submits each batch when it is filled and the engine has fewer in flight than it may have.

    While batches are in flight and the next is not filled, the oldest is collected, so that its time
    is its own. Only with nothing in flight does the engine wait for images.

    Args:
        engine: loaded, with nothing in flight.
        feeder: fills the buffers that the engine reads batches from.
        batch_size: items of a batch.
        inflight: most batches submitted and not yet collected; fewer than there are buffers.
        clock: returns monotonic ns.
        sleep: sleeps for seconds.
    """

    def __init__(
        self,
        engine: Engine,
        feeder: Feeder,
        batch_size: int,
        inflight: int,
        clock: Callable[[], int] = time.perf_counter_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(engine, batch_size, inflight, clock, sleep)
        self._feeder = feeder
        self._submit_ns: list[int] = []
        self._enqueued_ns: list[int] = []
        self._starved_ns: list[int] = []
        self._alone: set[int] = set()  # batches that found nothing in flight where another might be
        self._spans_ns: list[tuple[int, int, int]] = []
        self._done_ns: list[int] = []

    @property
    @override
    def done(self) -> int:
        """Batches collected so far."""
        return len(self._done_ns)

    @override
    def run(self, start_ns: int, deadline_ns: int) -> StreamTrace:
        """Fill the first batches, then stream from the common start; see `Stream.run`."""
        self._feeder.start()
        try:
            return super().run(start_ns, deadline_ns)
        finally:
            self._feeder.stop()

    @override
    def _loop(self, deadline_ns: int) -> None:
        clock, feeder, depth = self._clock, self._feeder, self._inflight
        head = tail = 0
        ended = False
        while not ended:
            if head == tail:
                idle_ns = clock()
                ended = not self._filled(head, deadline_ns)
                if not ended:
                    if depth > 1:
                        self._alone.add(head)
                    self._submit(head, clock() - idle_ns)
                    head += 1
            elif head - tail < depth and feeder.is_filled(head):
                self._submit(head, 0)
                head += 1
            else:
                ended = self._collect(tail) >= deadline_ns or self._halted
                feeder.release(tail)
                tail += 1
        for sequence in range(tail, head):
            self._engine.collect(sequence)

    def _filled(self, sequence: int, deadline_ns: int) -> bool:
        """Wait until a batch is filled; return whether it was before the end of the stream."""
        while not self._feeder.wait(sequence):
            if self._halted or self._clock() >= deadline_ns:
                return False
        return True

    def _submit(self, sequence: int, starved_ns: int) -> None:
        self._starved_ns.append(starved_ns)
        self._submit_ns.append(self._clock())
        self._engine.submit(sequence)
        self._enqueued_ns.append(self._clock())

    def _collect(self, sequence: int) -> int:
        """Collect a batch; return when it was done."""
        spans = self._engine.collect(sequence)
        now = self._clock()
        if spans is not None:
            self._spans_ns.append(spans)
        self._done_ns.append(now)
        return now

    @override
    def since(self, first: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return submission and completion of all completed batches from number `first` on."""
        last = self.done
        submit_ns, done_ns = self._submit_ns[first:last], self._done_ns[first:last]
        return np.array(submit_ns, np.int64), np.array(done_ns, np.int64)

    @override
    def trace(self, first: int = 0) -> FedTrace:
        """Return the times of all completed batches from number `first` on."""
        submit_ns, done_ns = self.since(first)
        last = first + len(done_ns)
        spans = np.array(self._spans_ns[first:last], np.int64).reshape(-1, 3)
        starved_ns = np.array(self._starved_ns[first:last], np.int64)
        if len(spans):
            alone = [sequence in self._alone for sequence in range(first, last)]
            starved_ns += np.where(alone, spans[:, 0], 0)
        return FedTrace(
            submit_ns=submit_ns,
            enqueued_ns=np.array(self._enqueued_ns[first:last], np.int64),
            done_ns=done_ns,
            spans_ns=spans if self._engine.info.device_clock else None,
            start_ns=self._start_ns,
            late_ns=self._late_ns,
            batch_size=self._batch_size,
            starved_ns=starved_ns,
            feeding=self._feeder.trace(first, last),
        )


class NullFeeder:
    """Feeder whose batches are always filled, so that only the cost of the loop remains."""

    def start(self) -> None:
        """Do nothing."""

    def stop(self) -> None:
        """Do nothing."""

    def is_filled(self, sequence: int) -> bool:
        """Return that it is."""
        return True

    def wait(self, sequence: int) -> bool:
        """Return that it is filled, at once."""
        return True

    def release(self, sequence: int) -> None:
        """Do nothing."""

    def trace(self, first: int, last: int) -> None:
        """Return nothing."""


@lru_cache(maxsize=16)
def fed_loop_cost_us(inflight: int, device_clock: bool) -> float:
    """Return the time in us that the loop itself takes for a batch that is filled already.

    Args:
        inflight: most batches submitted and not yet collected.
        device_clock: whether device spans are recorded as well.
    """
    stream = FedStream(NullEngine(device_clock), NullFeeder(), 1, inflight)  # type: ignore[arg-type]
    now = time.perf_counter_ns()
    done_ns = stream.run(now, now + NULL_NS).done_ns
    return float(np.median(np.diff(done_ns))) / 1e3 if len(done_ns) > 1 else NULL_NS / 1e3
