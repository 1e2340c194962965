"""How long all workers of a trial took to load, as columns of `trials`."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.measure.prepared import Prepared


def cold_start_columns(prepared: Sequence[Prepared]) -> dict[str, Any]:
    """Return median and largest of each time over all workers; None where one is unknown.

    Args:
        prepared: result of preparing each worker, by rank.
    """
    times: dict[str, list[float | None]] = {
        "ready_s": [each.ready_s for each in prepared],
        "build_s": [each.engine.build_s for each in prepared],
        "load_s": [each.engine.load_s for each in prepared],
        "first_infer_ms": [each.first_infer_ms for each in prepared],
    }
    states = {each.begun.page_cache for each in prepared}
    columns: dict[str, Any] = {"page_cache": states.pop() if len(states) == 1 else None}
    for name, values in times.items():
        known = [value for value in values if value is not None]
        whole = len(known) == len(values)
        columns[f"{name}_p50"] = statistics.median(known) if whole else None
        columns[f"{name}_max"] = max(known) if whole else None
    late_ms = [each.begun.late_ms for each in prepared if each.begun.late_ms is not None]
    columns["load_late_ms"] = max(late_ms, default=None)
    return columns
