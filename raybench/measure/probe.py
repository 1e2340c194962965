"""The probe: how long a batch takes, measured before the stream, which only sizes blocks."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raybench.engines.base import EngineBase

PROBE_S = 0.03
"""Length of the probe: one batch of a slow model is enough."""


def time_batch(engine: EngineBase, sequence: int) -> float:
    """Run one batch and return its time in seconds."""
    began = time.perf_counter()
    engine.submit(sequence)
    engine.collect(sequence)
    return time.perf_counter() - began


def probe_batch_s(engine: EngineBase) -> float:
    """Return the median time of a batch, from batches 1, 2, ... over `PROBE_S`."""
    times = [time_batch(engine, 1)]
    while sum(times) < PROBE_S and len(times) < 1000:
        times.append(time_batch(engine, 1 + len(times)))
    return statistics.median(times)
