"""Threads that decode images into the batches of a stream, ahead of it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from raybench.errors import Refused
from raybench.machine import devices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from raybench.models.items.jpegs import JpegDecoder, Jpegs

Array = np.ndarray[Any, Any]

TICK_S = 0.1
"""How often a stream that waits for images looks whether it was halted."""


@dataclass(frozen=True)
class FeedingTrace:
    """What the threads of a feeder did for each batch of a stream; times by this host's clock.

    Attributes:
        filled_ns: int64, shape (n,): when the last image of a batch was written.
        busy_ns: int64, shape (n,): time of all threads spent on its images.
        waited_ns: int64, shape (n,): time of all threads spent waiting until its buffer was free.
        threads: number of threads, one a core.
        library: that decodes, with its version.
        image_bytes: mean size of an image.
    """

    filled_ns: NDArray[np.int64]
    busy_ns: NDArray[np.int64]
    waited_ns: NDArray[np.int64]
    threads: int
    library: str
    image_bytes: float


class FeedingPlan(NamedTuple):
    """What is decoded, by what, and on which CPUs.

    Attributes:
        jpegs: the images; image i of the stream is number i modulo their number.
        decoder: of the images.
        cpus: one for each thread.
        first: number of the image that the stream begins with.
    """

    jpegs: Jpegs
    decoder: JpegDecoder
    cpus: Sequence[int]
    first: int = 0


class _Batch:
    """How far a batch is: images that are still to be written, and the threads' time for the others."""

    __slots__ = ("busy_ns", "filled_ns", "left", "waited_ns")

    def __init__(self, images: int) -> None:
        self.left = images
        self.filled_ns = self.busy_ns = self.waited_ns = 0


class Feeder:
    """Fills the buffers of batches in turn: batch i of the stream is in buffer i modulo their number.

    Each thread takes the next image of the next batch, so that all work on one batch and the first
    batch is ready as soon as it can be. `is_filled`, `wait` and `release` belong to the stream's thread.

    Args:
        plan: what to decode.
        buffers: arrays that the engine reads batches from, each of shape (images, *item shape).
    """

    def __init__(self, plan: FeedingPlan, buffers: Sequence[Array]) -> None:
        self._plan = plan
        self._buffers = buffers
        self._images = len(buffers[0])
        self._lock = threading.Lock()
        self._filled = threading.Condition(self._lock)
        self._freed = threading.Condition(self._lock)
        self._threads: list[threading.Thread] = []
        self._reset()

    def _reset(self) -> None:
        self._next = 0
        """Number of the next image that a thread takes, from the start of the stream."""
        self._batches: list[_Batch] = []
        self._free = len(self._buffers)
        """Batches below this number have a buffer that the engine is done with."""
        self._stopped = False
        self._error: Exception | None = None

    # ------------------------------------------------------------ the stream's side

    def start(self) -> None:
        """Start the threads, which begin with the first batch at once."""
        self._first_batch = self._buffers[0].copy()
        self._reset()
        self._threads = [
            threading.Thread(target=self._work, args=(cpu,), name=f"decoder {cpu}", daemon=True)
            for cpu in self._plan.cpus
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the threads, and put back what the first buffer held."""
        with self._lock:
            self._stopped = True
            self._freed.notify_all()
        for thread in self._threads:
            thread.join()
        self._buffers[0][...] = self._first_batch

    def is_filled(self, sequence: int) -> bool:
        """Return whether a batch is ready to be submitted."""
        batches = self._batches  # only ever grows
        return sequence < len(batches) and batches[sequence].left == 0

    def wait(self, sequence: int) -> bool:
        """Wait until a batch is filled, for `TICK_S` at most; return whether it is.

        Raises:
            Refused: an image cannot be decoded.
        """
        with self._filled:
            if self._error is None and not self.is_filled(sequence):
                self._filled.wait(TICK_S)
            if self._error is not None:
                raise self._error
        return self.is_filled(sequence)

    def release(self, sequence: int) -> None:
        """Let the buffer of a batch be filled again: the engine is done with it."""
        with self._freed:
            self._free = sequence + len(self._buffers) + 1
            self._freed.notify_all()

    def trace(self, first: int, last: int) -> FeedingTrace:
        """Return what was done for the batches of the stream from one number to below another."""
        done = self._batches[first:last]
        plan = self._plan
        return FeedingTrace(
            filled_ns=np.array([batch.filled_ns for batch in done], np.int64),
            busy_ns=np.array([batch.busy_ns for batch in done], np.int64),
            waited_ns=np.array([batch.waited_ns for batch in done], np.int64),
            threads=len(plan.cpus),
            library=plan.decoder.library,
            image_bytes=plan.jpegs.mean_bytes,
        )

    def image_s(self) -> float:
        """Return the time that an image takes a core, from one that is decoded twice. Untimed."""
        item = np.empty_like(self._buffers[0][0])
        began = 0.0
        for _ in range(2):  # the first also loads the library
            began = time.perf_counter()
            self._decode(0, item)
        return time.perf_counter() - began

    # ------------------------------------------------------------ the threads

    def _work(self, cpu: int) -> None:
        devices.pin_thread(cpu)
        clock = time.perf_counter_ns
        try:
            began = clock()
            number, waited_ns = self._take()
            while number is not None:
                sequence, place = divmod(number, self._images)
                self._decode(number, self._buffers[sequence % len(self._buffers)][place])
                ended = clock()
                busy_ns, began = ended - began - waited_ns, ended
                number, waited_ns = self._take(sequence, busy_ns, waited_ns)
        except Exception as error:  # noqa: BLE001 - whatever it is, the stream must not wait for ever
            with self._lock:
                self._error = error
                self._filled.notify_all()

    def _take(
        self, sequence: int | None = None, busy_ns: int = 0, waited_ns: int = 0
    ) -> tuple[int | None, int]:
        """Note an image as written, and take the next as soon as there is a buffer for it.

        Args:
            sequence: batch of the image that was written; None for a thread's first call.
            busy_ns: time spent on it.
            waited_ns: time spent waiting for its buffer.

        Returns:
            Number of the image, None at the end of the stream; and the time spent waiting, in ns.
        """
        with self._lock:
            if sequence is not None:
                self._note(self._batches[sequence], busy_ns, waited_ns)
            waited_ns = 0
            while not self._stopped:
                number = self._next
                batch = number // self._images
                if batch < self._free:
                    self._next += 1
                    if batch == len(self._batches):
                        self._batches.append(_Batch(self._images))
                    return number, waited_ns
                began = time.perf_counter_ns()
                self._freed.wait()
                waited_ns += time.perf_counter_ns() - began
            return None, 0

    def _note(self, batch: _Batch, busy_ns: int, waited_ns: int) -> None:
        batch.busy_ns += busy_ns
        batch.waited_ns += waited_ns
        batch.left -= 1
        if batch.left == 0:
            batch.filled_ns = time.perf_counter_ns()
            self._filled.notify_all()

    def _decode(self, number: int, item: Array) -> None:
        jpegs, place = self._plan.jpegs, (self._plan.first + number) % len(self._plan.jpegs.images)
        try:
            self._plan.decoder.decode(jpegs.images[place], item)
        except Exception as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise Refused(
                f"{jpegs.names[place]!r} cannot be decoded by {self._plan.decoder.library}: {reason}. "
                "Replace or remove it."
            ) from error
