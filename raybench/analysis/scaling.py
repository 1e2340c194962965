"""scaling: how throughput grows with the number of workers, series by series."""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.analysis.frame import as_table
from raybench.analysis.points import SERIES, Series
from raybench.results.schema import FINAL, VERDICTS
from raybench.statistics import Span, ratio_ci, trial_interval

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

WITHIN, BETWEEN = "within_trial", "between_trials"
BOUNDS = ("host", "copies", "power", "heat", "hardware", "slow_device")
"""What can hold a point back, as far as flags and telemetry tell."""


@dataclass(frozen=True)
class Entry:
    """One number of workers in one series: what its trials say together.

    Trials that ended otherwise than ok make an entry of their own beside it, without numbers.

    Attributes:
        trials: how many ended with this status.
        reason: of the newest of them.
        items_per_s: mean over trials.
        items_per_s_lo: 95 % bound, see `interval`.
        items_per_s_hi: 95 % bound, see `interval`.
        interval: between_trials from 2 trials on, within_trial for a single one; None without.
        base_workers: the smallest number of workers with a number, to which speedup refers.
        speedup: items_per_s over that of the base; bounds from 2 trials on either side on.
        efficiency: speedup over the ratio of the numbers of workers.
        latency_p50_ms: median over trials, as are the other latencies.
        over_fp32: items_per_s over that of fp32 with all else equal; None for fp32.
        verdict: of the worst trial.
        flags: of any trial.
        marks: what a reader must be told of the figure, see `points.MARKS`.
        mode: weak (every worker keeps its batch) or strong (the batch of all workers together
            stays; `series.batch_size` is then that whole batch).
        imbalance: fastest worker over slowest, minus 1; median over trials.
        slowest_worker: the worker that was slowest in most trials, in words; None without a
            `workers` table or with one worker.
        slowest_share: its rate over the mean of all workers, median over trials.
        solo_devices: how many of its devices were also measured alone.
        solo_items_per_s: their rates alone, summed; only when all of its devices have one.
        solo_speedup: items_per_s over the mean of the same devices each alone.
        interference_loss: 1 - items_per_s / solo_items_per_s.
        bound_by: what holds it back, of `BOUNDS`; empty when nothing tells.
    """

    series: Series
    workers: int | None
    point_id: str | None
    status: str
    reason: str | None
    trials: int
    items_per_s: float | None = None
    items_per_s_lo: float | None = None
    items_per_s_hi: float | None = None
    interval: str | None = None
    base_workers: int | None = None
    speedup: float | None = None
    speedup_lo: float | None = None
    speedup_hi: float | None = None
    efficiency: float | None = None
    efficiency_lo: float | None = None
    efficiency_hi: float | None = None
    latency_p50_ms: float | None = None
    latency_p90_ms: float | None = None
    latency_p99_ms: float | None = None
    over_fp32: float | None = None
    over_fp32_lo: float | None = None
    over_fp32_hi: float | None = None
    fidelity_sqnr_db: float | None = None
    verdict: str | None = None
    flags: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    mode: str = "weak"
    imbalance: float | None = None
    slowest_worker: str | None = None
    slowest_share: float | None = None
    solo_devices: int | None = None
    solo_items_per_s: float | None = None
    solo_speedup: float | None = None
    solo_speedup_lo: float | None = None
    solo_speedup_hi: float | None = None
    interference_loss: float | None = None
    interference_loss_lo: float | None = None
    interference_loss_hi: float | None = None
    bound_by: tuple[str, ...] = ()


_USED = {"run_id", "trial", "started_at", *SERIES, *(field.name for field in fields(Entry))}
"""Columns of `trials` that are looked at, among others."""


@dataclass(frozen=True)
class Prediction:
    """Throughput that the law gives at a number of workers, with its 95 % interval."""

    workers: int
    items_per_s: float
    items_per_s_lo: float | None
    items_per_s_hi: float | None


@dataclass(frozen=True)
class Law:
    """The universal scalability law fitted to a curve (`statistics.usl`), with 95 % intervals.

    Attributes:
        gamma: throughput of one worker in the fit, items/s.
        sigma: contention.
        kappa: coherency.
        peak_workers: where throughput would be largest; None when kappa's interval includes 0.
        predictions: from 1 to twice the largest number of workers measured, no further; for a
            line with its band. Those beyond what was measured are extrapolation.
    """

    gamma: float
    sigma: float
    sigma_lo: float | None
    sigma_hi: float | None
    kappa: float
    kappa_lo: float | None
    kappa_hi: float | None
    peak_workers: float | None
    predictions: tuple[Prediction, ...]


@dataclass(frozen=True)
class Bound:
    """Something that holds a point back, and what tells so.

    Attributes:
        what: of `BOUNDS`.
        evidence: one sentence with the figures.
    """

    what: str
    workers: int
    evidence: str


@dataclass(frozen=True)
class Curve:
    """One series with more than one number of workers, as a whole.

    Attributes:
        mode: weak or strong, see `Entry`.
        workers: numbers of workers with a figure, rising.
        law: from four numbers of workers on; else None.
        finding: what the curve says, in one sentence with figures.
        bounds: what holds its points back.
        missing: what could not be said and why, a sentence each.
        marks: of any of its points, see `points.MARKS`.
    """

    series: Series
    mode: str
    workers: tuple[int, ...]
    law: Law | None
    finding: str
    bounds: tuple[Bound, ...]
    missing: tuple[str, ...]
    marks: tuple[str, ...]


@dataclass(frozen=True)
class Scaling:
    """Entries of all series: by series, then workers, those with numbers first.

    Attributes:
        curves: one for each series with a figure for two or more numbers of workers.
        missing: what could not be said of the whole table, a sentence each.
    """

    entries: tuple[Entry, ...]
    curves: tuple[Curve, ...] = ()
    missing: tuple[str, ...] = ()

    def as_table(self) -> pa.Table:
        """A row an entry; the columns of the series first."""
        return as_table(Entry, self.entries)


def scaling(trials: pa.Table, workers: pa.Table | None = None, *, mode: str = "weak") -> Scaling:
    """Throughput, speedup and efficiency of every series in a `trials` table.

    Args:
        trials: as `raybench.load` gives it.
        workers: the `workers` table of the same folder; tells of slowest workers and of devices
            that were measured alone.
        mode: weak compares points of the same batch a worker, strong points of the same batch of
            all workers together.

    Of several rows of the same trial the newest final one counts. Where two points differ in
    nothing that makes a series (the same preset with another measuring time), the newer stands.
    """
    cells: dict[tuple[Series, Any], list[dict[str, Any]]] = defaultdict(list)
    for row, series in _with_series(_newest(trials)):
        cells[series, row.get("workers")].append(row)
    numbers = {cell: good for cell, rows in cells.items() if (good := _good(rows))}
    entries = []
    for (series, workers), rows in cells.items():
        if (series, workers) in numbers:
            entries.append(_entry(series, workers, numbers))
        entries.extend(_failed(series, workers, rows))
    return Scaling(tuple(sorted(entries, key=_order)))


def _newest(trials: pa.Table) -> list[dict[str, Any]]:
    """The newest final row of every trial, or its newest row if none is final; oldest first."""
    used = [name for name in trials.column_names if name in _USED]
    rows = sorted(trials.select(used).to_pylist(), key=_age)
    newest: dict[Any, dict[str, Any]] = {}
    for row in rows:
        key = (row["point_id"], row["trial"], row["environment_id"])
        if key not in newest or row["status"] in FINAL or newest[key]["status"] not in FINAL:
            newest.pop(key, None)
            newest[key] = row
    return list(newest.values())


def _age(row: dict[str, Any]) -> tuple[str, str]:
    started = row.get("started_at")
    return (row.get("run_id") or "", started.isoformat() if started else "")


def _with_series(rows: list[dict[str, Any]]) -> list[tuple[dict[str, Any], Series]]:
    """Each row with its series.

    A trial that ended early may not know its device or library: it belongs to the one series that
    agrees in all that it knows, and stands alone if there are none or several.
    """
    known = [(row, Series(**{name: row.get(name) for name in SERIES})) for row in rows]
    measured = list(dict.fromkeys(series for row, series in known if row["status"] == "ok"))
    return [(row, s if row["status"] == "ok" else _home(s, measured)) for row, s in known]


def _home(series: Series, measured: list[Series]) -> Series:
    told = {name: value for name, value in asdict(series).items() if value is not None}
    homes = [s for s in measured if all(getattr(s, name) == v for name, v in told.items())]
    return homes[0] if len(homes) == 1 else series


def _good(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Trials with a number, of the newest point among them."""
    good = [row for row in rows if row["status"] == "ok" and row["items_per_s"] is not None]
    return [row for row in good if row["point_id"] == good[-1]["point_id"]]


def _entry(
    series: Series, workers: Any, numbers: dict[tuple[Series, Any], list[dict[str, Any]]]
) -> Entry:
    rows = numbers[series, workers]
    mean, lo, hi, interval = _rate(rows)
    base = min(n for s, n in numbers if s == series)
    growth = Span(1.0, None, None) if base == workers else _ratio(rows, numbers[series, base])
    ideal = workers / base
    fp32 = numbers.get((Series(**{**asdict(series), "precision": "fp32"}), workers))
    gain = _ratio(rows, fp32) if fp32 and series.precision != "fp32" else None
    return Entry(
        series=series,
        workers=workers,
        point_id=rows[-1]["point_id"],
        status="ok",
        reason=None,
        trials=len(rows),
        items_per_s=mean,
        items_per_s_lo=lo,
        items_per_s_hi=hi,
        interval=interval,
        base_workers=base,
        speedup=growth.value,
        speedup_lo=growth.lo,
        speedup_hi=growth.hi,
        efficiency=growth.value / ideal,
        efficiency_lo=None if growth.lo is None else growth.lo / ideal,
        efficiency_hi=None if growth.hi is None else growth.hi / ideal,
        latency_p50_ms=_median(rows, "latency_p50_ms"),
        latency_p90_ms=_median(rows, "latency_p90_ms"),
        latency_p99_ms=_median(rows, "latency_p99_ms"),
        over_fp32=gain.value if gain else None,
        over_fp32_lo=gain.lo if gain else None,
        over_fp32_hi=gain.hi if gain else None,
        fidelity_sqnr_db=_median(rows, "fidelity_sqnr_db"),
        verdict=_worst(row.get("verdict") for row in rows),
        flags=tuple(sorted({flag for row in rows for flag in row.get("flags") or ()})),
    )


def _failed(series: Series, workers: Any, rows: list[dict[str, Any]]) -> list[Entry]:
    by_status: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["status"] != "ok" or row["items_per_s"] is None:
            by_status[row["status"]].append(row)
    return [
        Entry(series, workers, some[-1]["point_id"], status, some[-1].get("reason"), len(some))
        for status, some in by_status.items()
    ]


def _rate(rows: list[dict[str, Any]]) -> tuple[float, float | None, float | None, str | None]:
    """Mean, bounds and kind of interval of the throughput."""
    if len(rows) == 1:
        row = rows[0]
        lo, hi = row.get("items_per_s_lo"), row.get("items_per_s_hi")
        return row["items_per_s"], lo, hi, None if lo is None or hi is None else WITHIN
    together = trial_interval(_rates(rows))
    return together.mean, together.lo, together.hi, BETWEEN


def _ratio(rows: list[dict[str, Any]], base: list[dict[str, Any]]) -> Span:
    """Ratio of the mean throughputs, with an interval from 2 trials on either side on."""
    a, b = _rates(rows), _rates(base)
    value = float(a.mean() / b.mean())
    if min(len(a), len(b)) < 2 or min(a.min(), b.min()) <= 0:
        return Span(value, None, None)
    span = ratio_ci(a, b)
    return Span(value, span.lo, span.hi)


def _rates(rows: list[dict[str, Any]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([row["items_per_s"] for row in rows], dtype=np.float64)


def _median(rows: list[dict[str, Any]], column: str) -> float | None:
    values = [row[column] for row in rows if row.get(column) is not None]
    return statistics.median(values) if values else None


def _worst(verdicts: Iterable[str | None]) -> str | None:
    told = [VERDICTS.index(verdict) for verdict in verdicts if verdict is not None]
    return VERDICTS[max(told)] if told else None


def _order(entry: Entry) -> tuple[Any, ...]:
    """By series, precisions from the widest on, numbers as numbers; None last."""
    key = asdict(entry.series)
    key["precision"] = {"fp32": "0", "tf32": "1", "bf16": "2", "fp16": "3"}.get(
        entry.series.precision or "", entry.series.precision
    )
    parts = [*key.values(), entry.workers]
    return (
        *((part is None, part if part is not None else 0) for part in parts),
        entry.status != "ok",
    )


__all__ = [
    "BETWEEN",
    "BOUNDS",
    "SERIES",
    "WITHIN",
    "Bound",
    "Curve",
    "Entry",
    "Law",
    "Prediction",
    "Scaling",
    "Series",
    "scaling",
]
