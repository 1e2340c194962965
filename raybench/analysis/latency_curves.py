"""Latency over the rate of arrivals, and the knee from which it grows faster than the rate."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raybench.analysis.cells import cells
from raybench.analysis.estimate import UNKNOWN, Estimate
from raybench.analysis.series import Series, without
from raybench.analysis.tables import as_table
from raybench.experiment import CLOSED

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from raybench.analysis.cells import Cell

LEAST = 3
"""Rates from which there is a curve."""


@dataclass(frozen=True)
class LatencyPoint:
    """One rate of arrivals.

    Attributes:
        offered_items_per_s: rate of all workers together.
        items_per_s: served, mean over trials.
        latency_p50_ms: from the arrival of an item to its result, median over trials, as are the others;
            unknown under overload.
        overloaded: whether the backlog grew.
    """

    offered_items_per_s: float
    items_per_s: Estimate
    latency_p50_ms: float | None
    latency_p90_ms: float | None
    latency_p99_ms: float | None
    overloaded: bool
    trials: int
    interval: str | None
    verdict: str | None
    marks: tuple[str, ...]
    status: str = "ok"


@dataclass(frozen=True)
class LatencyCurve:
    """The rates that were offered to so many workers of a series, from low to high.

    Attributes:
        series: without the load.
        closed_items_per_s: rate in closed loop; None where it was not measured.
        knee_items_per_s: the rate with the most items/s for a millisecond of p99; None without one, and
            where that is the lowest or the highest rate: the knee may be beyond it.
        bounds: latency bounds that the points were measured under, each a percentile and milliseconds.
    """

    series: Series
    workers: int | None
    closed_items_per_s: float | None
    knee_items_per_s: float | None
    points: tuple[LatencyPoint, ...]
    bounds: tuple[tuple[float, float], ...] = ()

    @property
    def knee(self) -> LatencyPoint | None:
        """The point at the knee."""
        found = (p for p in self.points if p.offered_items_per_s == self.knee_items_per_s)
        return next(found, None)

    def as_table(self) -> pa.Table:
        """Return a row for each rate."""
        return as_table(LatencyPoint, self.points)


def latency_curves(trials: pa.Table) -> tuple[LatencyCurve, ...]:
    """Return a curve for each series and number of workers with at least three rates of arrivals."""
    closed: dict[tuple[Series, int | None], float | None] = {}
    groups: dict[tuple[Series, int | None], dict[float, Cell]] = defaultdict(dict)
    for cell in cells(trials):
        key = (without(cell.series, "load"), cell.workers)
        capacity_key = (without(cell.series, "load", "balancer"), cell.workers)
        rate = cell.get("offered_items_per_s")
        if cell.series.load == CLOSED and cell.ok:
            closed[capacity_key] = cell.mean
        elif cell.ok and rate is not None:
            groups[key][rate] = cell
    return tuple(
        _curve(series, workers, closed.get((without(series, "balancer"), workers)), members)
        for (series, workers), members in groups.items()
        if len(members) >= LEAST
    )


def _curve(
    series: Series, workers: int | None, closed: float | None, members: dict[float, Cell]
) -> LatencyCurve:
    points = tuple(_point(rate, members[rate]) for rate in sorted(members))
    bounds = {
        (cell.get("slo_percentile") or 99.0, bound)
        for cell in members.values()
        if (bound := cell.get("slo_ms")) is not None
    }
    return LatencyCurve(series, workers, closed, _knee(points), points, tuple(sorted(bounds)))


def _knee(points: Sequence[LatencyPoint]) -> float | None:
    powers = {
        point.offered_items_per_s / point.latency_p99_ms: point.offered_items_per_s
        for point in points
        if point.latency_p99_ms
    }
    if len(powers) < LEAST:
        return None
    knee = powers[max(powers)]
    ends = (points[0].offered_items_per_s, points[-1].offered_items_per_s)
    return None if knee in ends else knee


def _point(rate: float, cell: Cell) -> LatencyPoint:
    overloaded = "overloaded" in cell.flags
    p50, p90, p99 = (
        None if overloaded else cell.get(f"latency_{name}_ms") for name in ("p50", "p90", "p99")
    )
    served = cell.estimate if cell.ok else UNKNOWN
    return LatencyPoint(rate, served, p50, p90, p99, overloaded, cell.trials, cell.interval,
                        cell.verdict, cell.marks)  # fmt: skip
