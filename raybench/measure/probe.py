"""The probe: how long a batch takes, measured before the stream, which only sizes blocks."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from raybench.engines import plugins
from raybench.engines.base import KeepsState

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


def restart(engine: EngineBase) -> None:
    """Put the state back with which batch 0 begins, if the engine keeps any."""
    if isinstance(engine, KeepsState):
        with plugins.blamed_on(engine.traits.name, "restart"):
            engine.restart()


def run_first_again(engine: EngineBase) -> None:
    """Run batch 0 once more, from the same state.

    Raises:
        PointError: what the engine raised.
    """
    restart(engine)
    time_batch(engine, 0)


def probe_batch_s(engine: EngineBase) -> float:
    """Return the median time of a batch, from batches 1, 2, ... over `PROBE_S`.

    The stream after it begins as if there had been none.
    """
    times = [time_batch(engine, 1)]
    while sum(times) < PROBE_S and len(times) < 1000:
        times.append(time_batch(engine, 1 + len(times)))
    restart(engine)
    return statistics.median(times)
