"""How long the workers of a point take from loading to their first batch, by their number."""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raybench.analysis.selection import newest_rows
from raybench.analysis.series import SERIES, Series, sort_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

_TIMES = (
    *("ready_s_p50", "ready_s_max", "build_s_p50", "build_s_max"),
    *("load_s_p50", "load_s_max", "first_infer_ms_p50", "first_infer_ms_max"),
)
_OF_START = (*_TIMES, "page_cache", "load_late_ms")
_COLUMNS = (
    *(*SERIES, *_OF_START, "build_cache_hit"),
    *("run_id", "started_at", "point_id", "trial", "workers", "status"),
)


@dataclass(frozen=True)
class ColdStart:
    """The start of so many workers at one instant, over all trials.

    Attributes:
        series: of the point.
        page_cache: "cold" or "warm", as it was found to be; None if unknown.
        workers: that loaded at once.
        trials: number of trials.
        from_cache: whether every plan came from the cache, so that its building is no part of the start.
        times: of the columns with median or largest over the workers, by name: the median over the
            trials, or of the largest the largest.
    """

    series: Series
    page_cache: str | None
    workers: int
    trials: int
    from_cache: bool
    times: dict[str, float | None]


def cold_starts(rows: pa.Table) -> list[ColdStart]:
    """Return the starts behind a barrier, those of one series by their number of workers.

    Args:
        rows: of `trials`.
    """
    if not set(rows.schema.names) >= set(_OF_START):
        return []
    groups: dict[tuple[Series, str | None, int], list[dict[str, Any]]] = defaultdict(list)
    for row in newest_rows(rows, _COLUMNS)[0].to_pylist():
        if row["status"] == "ok" and row["load_late_ms"] is not None:
            series = Series(*(row[name] for name in SERIES))
            groups[series, row["page_cache"], row["workers"]].append(row)
    starts = [
        ColdStart(
            *key,
            trials=len(group),
            from_cache=all(row["build_cache_hit"] for row in group),
            times={name: _over_trials(name, group) for name in _TIMES},
        )
        for key, group in groups.items()
    ]
    return sorted(starts, key=lambda s: (sort_key(s.series), s.page_cache or "", s.workers))


def _over_trials(name: str, group: Sequence[dict[str, Any]]) -> float | None:
    values: list[float] = [row[name] for row in group if row[name] is not None]
    if not values:
        return None
    return max(values) if name.endswith("_max") else statistics.median(values)
