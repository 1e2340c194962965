"""Capacity under a latency bound: the highest rate that keeps it, against the number of workers."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raybench.analysis.cells import cells
from raybench.analysis.confirmed_rate import confirmed_rate, what_disturbed, why_none
from raybench.analysis.series import Series, without
from raybench.analysis.tables import as_table
from raybench.experiment import CLOSED
from raybench.results.search_trials import role
from raybench.text import agreeing, counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from raybench.analysis.estimate import Estimate

_DEVICES: dict[Any, str] = {"gpu": "GPU", "cpu": "CPU core"}


@dataclass(frozen=True)
class BoundedRate:
    """What one number of workers serves under the bound.

    Attributes:
        items_per_s: highest rate that was confirmed, with the interval of the capacity under the bound;
            unknown without one.
        capacity_items_per_s: best estimate of that capacity; None where the ends of the interval are rates
            at which the bound was surely kept and surely not.
        over: share of the items of its confirming trials that took longer than the bound.
        closed_items_per_s: rate in closed loop, without regard to latency.
        share: the one over the other.
        efficiency: rate under the bound over that of the fewest workers, in proportion.
        closed_efficiency: the same in closed loop.
        rates: different rates that were offered.
        reason: why there is no rate; None if there is one.
        undecided: confirming trials whose sample alone does not decide whether the bound was kept.
        disturbed: trials that something else than the load disturbed.
        disturbed_by: flags of them, the most frequent first; None without one.
    """

    workers: int
    items_per_s: Estimate
    capacity_items_per_s: float | None
    over: float | None
    closed_items_per_s: float | None
    share: float | None
    efficiency: float | None
    closed_efficiency: float | None
    rates: int
    trials: int
    reason: str | None
    undecided: int
    disturbed: int
    disturbed_by: str | None

    @property
    def disturbance(self) -> str:
        """How many trials were disturbed and by what, in words; empty for none."""
        if not self.disturbed:
            return ""
        were = agreeing(self.disturbed, "was", "were")
        return f"{self.disturbed} of {counted(self.trials, 'trial')} {were} disturbed ({self.disturbed_by})"


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
        if bounded is None:
            return head + self._too_few()
        number, measured = bounded
        text = head + counted(number, self.device)
        text += f"{self._in_closed_loop(demand, number)}, within {self.bound}"
        return text + (self._doubts(demand, number) if measured else self._between(number)) + "."

    def _in_closed_loop(self, demand: float, number: int) -> str:
        closed = fewest(demand, {p.workers: p.closed_items_per_s for p in self.points})
        if closed is None or closed[0] >= number:
            return ""
        holds = agreeing(closed[0], "holds", "hold") if closed[1] else "would hold"
        return f" ({closed[0]} {holds} in closed loop, not under the bound)"

    def _doubts(self, demand: float, number: int) -> str:
        """Return what is not certain of a number that was measured."""
        point = next(point for point in self.points if point.workers == number)
        fewer = [p.workers for p in self.points if p.workers < number]
        doubts = ""
        if number > 1 and not fewer:
            doubts += "; fewer were not measured"
        unknown = [p.workers for p in self.points if p.workers < number and not p.items_per_s.value]
        if unknown:
            doubts += f"; no rate was found for {_listed(unknown)}"
        lo = point.items_per_s.lo
        if lo is None or lo < demand:
            sure = "no rate is sure" if lo is None else f"the interval begins at {lo:,.0f}/s"
            doubts += f"; not sure: {sure}"
        if point.disturbed:
            doubts += f"; {point.disturbance}"
        return doubts

    def _between(self, number: int) -> str:
        """Return what is to be known of a number that was not measured."""
        below, above = (
            max(p.workers for p in self.points if p.workers < number and p.items_per_s.value),
            min(p.workers for p in self.points if p.workers > number and p.items_per_s.value),
        )
        return f"; interpolated between {below} and {above}, which were measured"

    def _too_few(self) -> str:
        found = [point for point in self.points if point.items_per_s.value is not None]
        missing = [point.workers for point in self.points if point.items_per_s.value is None]
        if not found:
            return f"no rate was found that keeps {self.bound} on {counted(max(missing), self.device)}."
        largest = max(found, key=lambda point: point.workers)
        serve = agreeing(largest.workers, "serves", "serve")
        more = [number for number in missing if number > largest.workers]
        last = "the most that was measured"
        if more:
            last = f"the most for which a rate was found (none for {_listed(more)})"
        return (
            f"more than {counted(largest.workers, self.device)}, {last}, which {serve} "
            f"{largest.items_per_s.value:,.0f}/s within {self.bound}."
        )


def _listed(numbers: Sequence[int]) -> str:
    return " and ".join(str(number) for number in numbers)


def fewest(demand: float, rates: Mapping[int, float | None]) -> tuple[int, bool] | None:
    """Return the fewest workers that reach a rate, and whether that number was measured itself.

    Between two numbers with a rate it is interpolated, but a number without one that was measured is
    never the answer: nothing shows that it does.

    Args:
        demand: in items/s.
        rates: items/s by number of workers; None where none was found.

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
            while number in rates and rates[number] is None:
                number += 1
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
            _points(without(series, "balancer"), by_workers, closed, percentile),
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
        (workers, confirmed_rate(rows, percentile), closed.get((series, workers)), rows)
        for workers, rows in sorted(by_workers.items())
    ]
    first = next(
        ((w, rate) for w, answer, _, _ in found if (rate := answer.items_per_s.value)), None
    )
    closed_first = next(((w, c) for w, _, c, _ in found if c), None)
    return tuple(
        BoundedRate(
            workers=workers,
            items_per_s=answer.items_per_s,
            capacity_items_per_s=answer.capacity_items_per_s,
            over=answer.late,
            closed_items_per_s=capacity,
            share=rate / capacity if rate and capacity else None,
            efficiency=_efficiency(workers, rate, first),
            closed_efficiency=_efficiency(workers, capacity, closed_first),
            rates=len({row["offered_items_per_s"] for row in rows}),
            trials=len(rows),
            reason=None if rate else why_none(rows, percentile),
            undecided=answer.undecided,
            disturbed=disturbed[0],
            disturbed_by=disturbed[1],
        )
        for workers, answer, capacity, rows in found
        for rate, disturbed in [(answer.items_per_s.value, what_disturbed(rows))]
    )


def _efficiency(workers: int, rate: float | None, first: tuple[int, float] | None) -> float | None:
    if rate is None or first is None:
        return None
    return rate / workers / (first[1] / first[0])
