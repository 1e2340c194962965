"""How long the workers of a point take from loading to their first batch, by their number."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

_SERIES = ("model", "precision", "engine", "batch_size", "device", "page_cache")
_TIMES = (
    *("ready_s_p50", "ready_s_max", "build_s_p50", "build_s_max"),
    *("load_s_p50", "load_s_max", "first_infer_ms_p50", "first_infer_ms_max"),
)
COLUMNS = (*_SERIES, *_TIMES, "workers", "status", "load_late_ms", "simulated")


@dataclass(frozen=True)
class ColdStart:
    """The start of so many workers at one instant, over all trials.

    Attributes:
        series: what identifies the point but for its workers, by column.
        workers: that loaded at once.
        trials: number of trials.
        times: of the columns with median or largest over the workers, by name: the median over the
            trials, or of the largest the largest.
        simulated: whether the times come from a model.
    """

    series: dict[str, Any]
    workers: int
    trials: int
    times: dict[str, float | None]
    simulated: bool


def cold_starts(rows: pa.Table) -> list[ColdStart]:
    """Return the starts behind a barrier, those of one series by their number of workers.

    Args:
        rows: of `trials`.
    """
    known = set(rows.schema.names)
    if not known >= set(COLUMNS):
        return []
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows.select(list(COLUMNS)).to_pylist():
        if row["status"] == "ok" and row["load_late_ms"] is not None:
            key = (*(row[name] for name in _SERIES), row["workers"])
            groups.setdefault(key, []).append(row)
    return [
        ColdStart(
            series=dict(zip(_SERIES, key, strict=False)),
            workers=key[-1],
            trials=len(group),
            times={name: _over_trials(name, group) for name in _TIMES},
            simulated=any(row["simulated"] for row in group),
        )
        for key, group in sorted(groups.items(), key=lambda each: tuple(map(_sortable, each[0])))
    ]


def _sortable(value: Any) -> tuple[bool, str, float]:
    if isinstance(value, (int, float)):
        return True, "", float(value)
    return value is not None, str(value), 0.0


def _over_trials(name: str, group: Sequence[dict[str, Any]]) -> float | None:
    values: list[float] = [row[name] for row in group if row[name] is not None]
    if not values:
        return None
    return max(values) if name.endswith("_max") else statistics.median(values)
