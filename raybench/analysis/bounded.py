"""Capacity under a latency bound: the highest rate that keeps it, against the number of workers."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raybench.analysis.cells import cells
from raybench.analysis.estimate import UNKNOWN, Estimate
from raybench.analysis.series import Series, without
from raybench.analysis.tables import as_table
from raybench.experiment import CLOSED
from raybench.results.search_trials import CONFIRMING, role, that_count
from raybench.text import agreeing, counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

_DEVICES: dict[Any, str] = {"gpu": "GPU", "cpu": "CPU core"}


@dataclass(frozen=True)
class BoundedRate:
    """What one number of workers serves under the bound.

    Attributes:
        items_per_s: highest rate that was confirmed, with the highest rate below at which the bound was
            surely kept and the lowest above at which it surely was not; unknown without one.
        over: share of the items of its confirming trials that took longer than the bound.
        closed_items_per_s: rate in closed loop, without regard to latency.
        share: the one over the other.
        efficiency: rate under the bound over that of the fewest workers, in proportion.
        closed_efficiency: the same in closed loop.
        rates: different rates that were offered.
        reason: why there is no rate; None if there is one.
    """

    workers: int
    items_per_s: Estimate
    over: float | None
    closed_items_per_s: float | None
    share: float | None
    efficiency: float | None
    closed_efficiency: float | None
    rates: int
    trials: int
    reason: str | None


@dataclass(frozen=True)
class BoundedCurve:
    """The rates under one bound of a series, by number of workers.

    Attributes:
        series: every other factor.
        slo_ms: the bound.
        percentile: of the latencies that keeps it.
        device: kind of device, in words.
    """

    series: Series
    slo_ms: float
    percentile: float
    device: str
    points: tuple[BoundedRate, ...]

    @property
    def bound(self) -> str:
        """The bound in words."""
        return f"{self.slo_ms:g} ms at p{self.percentile:g}"

    def as_table(self) -> pa.Table:
        """Return a row for each number of workers."""
        return as_table(BoundedRate, self.points)

    def workers_for(self, demand: float) -> str:
        """Return how many workers serve a rate under the bound, and in closed loop, as a sentence.

        Between two measured numbers of workers the rate is interpolated, which is said.
        """
        head = f"for {demand:,.15g}/s: "
        bounded = fewest(demand, {p.workers: p.items_per_s.value for p in self.points})
        closed = fewest(demand, {p.workers: p.closed_items_per_s for p in self.points})
        if bounded is None:
            return head + self._too_few()
        number, measured = bounded
        text = head + counted(number, self.device)
        if closed is not None and closed[0] < number:
            holds = agreeing(closed[0], "holds", "hold")
            text += f" ({closed[0]} {holds} in closed loop, not under the bound)"
        text += f", within {self.bound}"
        return text + ("." if measured else "; interpolated between numbers that were measured.")

    def _too_few(self) -> str:
        most = max(self.points, key=lambda point: point.workers)
        rate = most.items_per_s.value
        if rate is None:
            return f"no rate was found that keeps {self.bound} on {counted(most.workers, self.device)}."
        serve = agreeing(most.workers, "serves", "serve")
        return (
            f"more than {counted(most.workers, self.device)}, the most that was measured, which {serve} "
            f"{rate:,.0f}/s within {self.bound}."
        )


def fewest(demand: float, rates: Mapping[int, float | None]) -> tuple[int, bool] | None:
    """Return the fewest workers that reach a rate, and whether that number was measured itself.

    Args:
        demand: in items/s.
        rates: items/s by number of workers; unknown ones are left out.

    Returns:
        None when none of them does.
    """
    known = sorted((workers, rate) for workers, rate in rates.items() if rate is not None)
    before = (0, 0.0)
    for workers, rate in known:
        if rate >= demand:
            slope = (rate - before[1]) / (workers - before[0])
            number = before[0] + max(math.ceil((demand - before[1]) / slope - 1e-9), 1)
            if before == (0, 0.0):  # fewer than the fewest that were measured may do, or not
                number = workers
            return number, number == workers
        before = (workers, rate)
    return None


def bounded(trials: pa.Table) -> tuple[BoundedCurve, ...]:
    """Return a curve for each series and bound that rows in open loop have."""
    every = [cell for cell in cells(trials) if cell.workers is not None]
    closed = {
        (_key(cell.series), cell.workers): cell.mean for cell in every if cell.series.load == CLOSED
    }
    if not {"slo_ms", "slo_met", "slo_violation_frac", "offered_items_per_s"} <= set(
        trials.column_names
    ):
        return ()
    kinds = {
        _key(cell.series): _DEVICES.get(cell.newest.get("device_kind"), "device") for cell in every
    }
    facts = _facts(trials)
    groups: dict[tuple[Series, float, float], dict[int, list[dict[str, Any]]]] = {}
    for cell in every:
        for row in (facts[number] for number in cell.rows):
            if str(cell.series.load).startswith("poisson(") and row["slo_ms"] is not None:
                key = (_key(cell.series), row["slo_ms"], row["slo_percentile"] or 99.0)
                groups.setdefault(key, defaultdict(list))[cell.workers or 0].append(row)
    return tuple(
        BoundedCurve(
            series,
            slo_ms,
            percentile,
            kinds[series],
            _points(series, by_workers, closed, percentile),
        )
        for (series, slo_ms, percentile), by_workers in groups.items()
        if any(row["confirms"] for rows in by_workers.values() for row in rows)
        or any(len(rows) > 2 for rows in by_workers.values())
    )


def _key(series: Series) -> Series:
    return without(series, "load", "preset")


def _facts(trials: pa.Table) -> list[dict[str, Any]]:
    names = ("trial", "status", "flags", "slo_ms", "slo_percentile", "slo_met", "slo_violation_frac", "load",
             "offered_items_per_s", "latency_p50_ms")  # fmt: skip
    rows = trials.select([name for name in names if name in trials.column_names]).to_pylist()
    return [
        {**dict.fromkeys(names), **row, "confirms": role(row.get("trial") or 0) > 0} for row in rows
    ]


def _points(
    series: Series,
    by_workers: Mapping[int, Sequence[dict[str, Any]]],
    closed: Mapping[tuple[Series, int | None], float | None],
    percentile: float,
) -> tuple[BoundedRate, ...]:
    found = [
        (workers, *_answer(rows, percentile), closed.get((series, workers)), rows)
        for workers, rows in sorted(by_workers.items())
    ]
    first = next(((w, e.value) for w, e, _, _, _ in found if e.value), None)
    closed_first = next(((w, c) for w, _, _, c, _ in found if c), None)
    return tuple(
        BoundedRate(
            workers=workers,
            items_per_s=rate,
            over=over,
            closed_items_per_s=capacity,
            share=rate.value / capacity if rate.value and capacity else None,
            efficiency=_efficiency(workers, rate.value, first),
            closed_efficiency=_efficiency(workers, capacity, closed_first),
            rates=len({row["offered_items_per_s"] for row in rows}),
            trials=len(rows),
            reason=None if rate.value else _reason(rows, percentile),
        )
        for workers, rate, over, capacity, rows in found
    )


def _efficiency(workers: int, rate: float | None, first: tuple[int, float] | None) -> float | None:
    if rate is None or first is None:
        return None
    return rate / workers / (first[1] / first[0])


def _answer(rows: Sequence[dict[str, Any]], percentile: float) -> tuple[Estimate, float | None]:
    """Return the highest confirmed rate, between rates at which the bound is certain, and its share over."""
    by_rate: dict[float, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["status"] == "ok" and row["offered_items_per_s"] is not None:
            by_rate[row["offered_items_per_s"]].append(row)
    by_rate = {rate: that_count(ones) for rate, ones in by_rate.items()}
    over = {rate: _confirmed_share(ones) for rate, ones in by_rate.items()}
    allowed = 1 - percentile / 100
    confirmed = {
        rate: share for rate, share in over.items() if share is not None and share <= allowed
    }
    if not confirmed:
        return UNKNOWN, None
    answer = max(confirmed)
    surely = [rate for rate, ones in by_rate.items() if all(one["slo_met"] for one in ones)]
    broken = [
        rate for rate, ones in by_rate.items() if any(one["slo_met"] is False for one in ones)
    ]
    lo = max((rate for rate in surely if rate <= answer), default=None)
    hi = min((rate for rate in broken if rate > answer), default=None)
    return Estimate(answer, lo, hi), confirmed[answer]


def _confirmed_share(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the share over the bound in the trials that confirm a rate together; None if they do not."""
    trials = [row for row in rows if row["confirms"]]
    shares = [row["slo_violation_frac"] for row in trials if row["slo_violation_frac"] is not None]
    if len(shares) < CONFIRMING or any(row["slo_met"] is False for row in trials):
        return None
    return float(sum(shares) / len(shares))


def _reason(rows: Sequence[dict[str, Any]], percentile: float) -> str:
    tried = [row for row in rows if row["status"] == "ok" and row["offered_items_per_s"]]
    if not tried:
        return "No trial in open loop gave a number."
    if any(row["slo_met"] is None and row["slo_violation_frac"] is None for row in tried):
        return "Too few items arrived for the percentile: use a longer measure.max_s."
    least = min(tried, key=lambda row: row["offered_items_per_s"])
    share = least["slo_violation_frac"]
    if share is None or share <= 1 - percentile / 100:
        return "The search has not ended. The same command goes on with it."
    shown = f"{100 * share:.3g} % of the items take longer than {least['slo_ms']:g} ms"
    median = least["latency_p50_ms"]
    text = f"Even at {least['offered_items_per_s']:,.0f} items/s {shown}"
    if median is not None and median > least["slo_ms"]:
        return f"{text}, and half of them longer than {median:.3g} ms: the bound is below the service time."
    return f"{text}: look at the flags of that row."
