"""Telemetry: readings of a machine or device, taken in a thread beside the measured stream."""

from __future__ import annotations

import math
import threading
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

S = TypeVar("S")

PERIOD_S = 0.2
"""Time between two samples: 5 Hz. Polling above 10 Hz may show in the measurement."""


class Telemetry(ABC, Generic[S]):
    """Samples one machine or device from `start` to `end`; never raises or delays the caller.

    Everything that queries the machine runs in the thread: opening, sampling, closing. The first
    and the last sample are edges, which may include readings too expensive to take often.

    Args:
        period_s: time between two samples.

    Attributes:
        source: what is sampled, for messages.
        failure: a sentence on why the samples end before `end`; None if they do not.
    """

    source: ClassVar[str]

    def __init__(self, period_s: float = PERIOD_S) -> None:
        self._period_s = period_s
        self._thread: threading.Thread | None = None
        self._halt = threading.Event()
        self._samples: list[S] = []
        self._edge_every_s = math.inf
        self.failure: str | None = None

    @abstractmethod
    def _open(self) -> bool:
        """Acquire what is needed to read; return whether there is anything to read."""

    @abstractmethod
    def _read(self, edge: bool) -> S:
        """Take one sample; readings that fail are None in it."""

    def _close(self) -> None:
        """Release what `_open` acquired, also when it failed or had nothing to read."""

    @property
    def samples(self) -> tuple[S, ...]:
        """The samples so far, oldest first."""
        return tuple(self._samples)

    def start(self, edge_every_s: float = math.inf) -> None:
        """Start sampling in the background.

        Args:
            edge_every_s: time after which a sample has the expensive readings, too.
        """
        if self._thread is not None:
            return
        self._edge_every_s = edge_every_s
        self._halt.clear()
        self._samples = []
        self.failure = None
        self._thread = threading.Thread(target=self._run, name="raybench-telemetry", daemon=True)
        self._thread.start()

    def end(self) -> tuple[S, ...]:
        """Take a last sample, end the thread and return all samples."""
        if self._thread is not None:
            self._halt.set()
            self._thread.join()
            self._thread = None
        return self.samples

    def forget(self, samples: int, first: S) -> None:
        """Drop the oldest samples, and put one in their place.

        Args:
            samples: how many.
            first: the sample to keep for them.
        """
        self._samples[:samples] = [first]  # the thread only ever appends

    def _run(self) -> None:
        try:
            try:
                if self._open():
                    self._sample()
            finally:
                self._close()
        except Exception as error:  # noqa: BLE001 - readings are a by-product
            self.failure = (
                f"Readings of the {self.source} ended early: {type(error).__name__}: {error}"
            )

    def _sample(self) -> None:
        self._samples.append(self._read(edge=True))
        edge_s = time.monotonic()
        while not self._halt.wait(self._period_s):
            is_due = time.monotonic() - edge_s >= self._edge_every_s
            self._samples.append(self._read(edge=is_due))
            if is_due:
                edge_s = time.monotonic()
        self._samples.append(self._read(edge=True))


def readings(samples: Sequence[object], name: str) -> list[float]:
    """Return one reading of each sample that has it."""
    return [value for sample in samples if (value := getattr(sample, name)) is not None]


def timed_readings(samples: Sequence[object], name: str) -> list[tuple[int, float]]:
    """Return the time (`t_ns`) and one reading of each sample that has it."""
    return [
        (sample.t_ns, value)  # type: ignore[attr-defined]
        for sample in samples
        if (value := getattr(sample, name)) is not None
    ]


def cover(readings: Sequence[tuple[int, float]], start_ns: int, end_ns: int) -> bool:
    """Return whether readings span a window, so that it can be interpolated at both ends."""
    return len(readings) >= 2 and readings[0][0] <= start_ns and readings[-1][0] >= end_ns
