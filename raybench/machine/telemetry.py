"""Telemetry: readings of one machine or device, taken beside a stream in a thread of their own."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import Generic, TypeVar

S = TypeVar("S")

PERIOD_S = 0.2
"""Between two samples: 5 Hz. Polling above 10 Hz may show in the measurement."""


class Telemetry(ABC, Generic[S]):
    """Samples one thing from `start` to `end`; never raises and never delays the caller.

    Everything that asks the machine runs in the thread: opening, sampling, closing. The first and
    the last sample are edges: they may ask what is too dear to ask often.

    Args:
        period_s: between two samples.
    """

    def __init__(self, period_s: float = PERIOD_S) -> None:
        self._period_s = period_s
        self._thread: threading.Thread | None = None
        self._halt = threading.Event()
        self._samples: list[S] = []

    @abstractmethod
    def _open(self) -> bool:
        """Whether there is anything to read."""

    @abstractmethod
    def _read(self, edge: bool) -> S:
        """One sample; what cannot be read is None in it."""

    def _close(self) -> None:
        """Give back what `_open` took."""

    @property
    def samples(self) -> tuple[S, ...]:
        """What was sampled so far, oldest first."""
        return tuple(self._samples)

    def start(self) -> None:
        """Begin to sample beside the caller."""
        if self._thread is not None:
            return
        self._halt.clear()
        self._samples = []
        self._thread = threading.Thread(target=self._run, name="raybench-telemetry", daemon=True)
        self._thread.start()

    def end(self) -> tuple[S, ...]:
        """Take a last sample, end the thread, and give all samples."""
        if self._thread is not None:
            self._halt.set()
            self._thread.join()
            self._thread = None
        return self.samples

    def _run(self) -> None:
        if not self._open():
            return
        try:
            self._samples.append(self._read(edge=True))
            while not self._halt.wait(self._period_s):
                self._samples.append(self._read(edge=False))
            self._samples.append(self._read(edge=True))
        finally:
            self._close()
