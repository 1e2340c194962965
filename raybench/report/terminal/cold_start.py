"""Lines below the result table on cold starts."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from raybench.report.labels import Naming
from raybench.text import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from raybench.analysis.cold_start import ColdStart


def of_cold_starts(starts: Sequence[ColdStart]) -> list[str]:
    """Return a line for each series: how long until the first batch, by the number of workers."""
    naming = Naming([start.series for start in starts])
    return [
        line
        for _, group in itertools.groupby(starts, key=lambda each: (each.series, each.page_cache))
        for line in _lines(list(group), naming)
    ]


def _lines(group: Sequence[ColdStart], naming: Naming) -> Iterator[str]:
    series, state = group[0].series, group[0].page_cache
    cache = f"page cache {state}" if state else "page cache unknown"
    mark = " SIMULATED" if series.simulated else ""
    yield f"{naming.title(series)}, {cache}, first batch done after:{mark}"
    for start in group:
        yield f"  {counted(start.workers, 'worker')}: {_times(start)}"


def _times(start: ColdStart) -> str:
    """Return the time until the first batch and its parts, slowest workers in parentheses."""
    in_start = (("load", "load_s", "s"), ("first batch", "first_infer_ms", "ms"))
    build = (
        "plan from the cache, built before in" if start.from_cache else "build",
        "build_s",
        "s",
    )
    parts = [
        f"{label} {_both(start, name, unit)}"
        for label, name, unit in ((*in_start, build) if start.from_cache else (build, *in_start))
        if start.times[f"{name}_p50"] is not None
    ]
    trials = f"; {counted(start.trials, 'trial')}" if start.trials > 1 else ""
    return f"{_both(start, 'ready_s', 's')}: {', '.join(parts)}{trials}"


def _both(start: ColdStart, name: str, unit: str) -> str:
    p50, largest = start.times[f"{name}_p50"], start.times[f"{name}_max"]
    if p50 is None or largest is None:
        return "unknown"
    if start.workers == start.trials == 1:
        return f"{p50:.3g} {unit}"
    return f"{p50:.3g} {unit} (at most {largest:.3g})"
