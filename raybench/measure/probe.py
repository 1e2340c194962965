"""The probe: how long a batch takes, measured before the stream, which only sizes blocks."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from raybench.engines import plugins

if TYPE_CHECKING:
    from raybench.engines.base import EngineBase

PROBE_S = 0.03
"""Length of the probe: one batch of a slow model is enough."""


def time_batch(engine: EngineBase, sequence: int) -> float:
    """Run one batch and return its time in seconds.

    Raises:
        PointError: what the engine raised, or device times that are none.
    """
    with plugins.blamed_on(engine.traits.name, "submit or collect"):
        began = time.perf_counter()
        engine.submit(sequence)
        spans = engine.collect(sequence)
        taken_s = time.perf_counter() - began
    plugins.check_spans(engine, spans)
    return taken_s


def probe_batch_s(engine: EngineBase) -> float:
    """Return the median time of a batch, from batches 1, 2, ... over `PROBE_S`."""
    times = [time_batch(engine, 1)]
    while sum(times) < PROBE_S and len(times) < 1000:
        times.append(time_batch(engine, 1 + len(times)))
    return statistics.median(times)
