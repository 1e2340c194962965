"""Cell: one place of the grid in one environment, and what its trials say together.

Every analysis starts from cells, so that all of them agree on which rows count. The rows are
handled as columns; objects are made for cells only, since a table may hold a hundred thousand rows.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raybench.results.schema import FINAL, SCHEMAS, VERDICTS
from raybench.stats.intervals import Span, t_quantile
from raybench.stats.ratios import Logs, ratio_of, ratios_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]

MARKS = ("simulated", "capped", "unstable", "unverified")
"""What a reader must be told of a figure: it is no hardware's, the device was made smaller, the
measurement is contradicted by its own evidence, or the preset was too short to claim more."""
WITHIN, BETWEEN = "within_trial", "between_trials"
"""Where an interval comes from; only the second says what the next trial will be like."""


@dataclass(frozen=True)
class Series:
    """What stays the same while the number of workers grows. Columns of `trials`."""

    model: str | None
    precision: str | None
    batch_size: int | None
    engine: str | None
    engine_version: str | None
    engine_options: str | None
    device: str | None
    inflight: int | None
    transfers: bool | None
    memory_limit_bytes: int | None
    preset: str | None
    simulated: bool | None
    environment_id: str | None
    method_version: int | None


SERIES = tuple(field.name for field in fields(Series))

TYPICAL = (
    "latency_p50_ms",
    "latency_p90_ms",
    "latency_p99_ms",
    "imbalance",
    "fidelity_sqnr_db",
    "fidelity_cosine",
    "enqueue_ms_median",
    "h2d_ms_median",
    "compute_ms_median",
    "d2h_ms_median",
    "host_idle_frac",
    "items_per_j",
    "j_per_item",
    "avg_power_w",
    "sm_clock_mhz_mean",
    "cpu_mhz_mean",
    "temp_c_max",
    "throttle_power_frac",
    "throttle_thermal_frac",
    "throttle_hw_frac",
    "gpu_mem_peak_mib",
    "gflops_per_item",
    "peak_tflops",
    "usd_per_gpu_hour",
)
"""Columns of which a cell gives the median over its trials."""
SAID = ("run_id", "dialect", "energy_source", "ci_level", "model_identity")
"""Columns of which a cell gives the value of its newest trial."""


@dataclass(frozen=True)
class Cell:
    """One place in one environment with one status.

    Trials that ended otherwise than ok make a cell of their own, without numbers.

    Attributes:
        series: every factor but the number of workers.
        reason: of the newest trial, when it has none of the numbers.
        rows: numbers of the rows behind it in the table that it was made of, oldest first.
        values: the metric in each trial, in the same order; empty unless ok.
        logs: of the values, when all are positive.
        mean: of the values; lo and hi its 95 % bounds, see `interval`.
        interval: BETWEEN from 2 trials on, WITHIN for a single one; None without bounds.
        typical: medians over trials of the columns of `TYPICAL` that have a value.
        said: of the newest trial, the columns of `SAID` that have a value.
        verdict: of the worst trial.
        flags: of any trial.
        marks: see `MARKS`.
    """

    series: Series
    workers: int | None
    status: str
    reason: str | None
    point_id: str | None
    rows: tuple[int, ...]
    values: tuple[float, ...]
    logs: Logs | None
    mean: float | None
    lo: float | None
    hi: float | None
    interval: str | None
    typical: dict[str, float]
    said: dict[str, Any]
    verdict: str | None
    flags: tuple[str, ...]
    marks: tuple[str, ...]

    @property
    def trials(self) -> int:
        """How many trials ended so."""
        return len(self.rows)

    @property
    def ok(self) -> bool:
        """Whether it has a number."""
        return self.mean is not None

    def get(self, column: str) -> float | None:
        """The median over trials of a column of `TYPICAL`; None where it is not known."""
        return self.typical.get(column)


def cells(trials: pa.Table, *, metric: str = "items_per_s", mode: str = "weak") -> list[Cell]:
    """The cells of a `trials` table: by series, then workers, those with numbers first.

    Of several rows of the same trial the newest final one counts. Where two points differ in
    nothing that makes a cell (the same preset with another measuring time), the newer stands.

    Args:
        trials: as `raybench.load` gives it; columns that it lacks count as null.
        metric: the column that `values` and the mean are of, see `METRICS`.
        mode: strong holds points of the same batch of all workers together to be one series;
            `series.batch_size` is then that whole batch.
    """
    rows, places = _newest(trials)
    if not rows.num_rows:
        return []
    if mode == "strong":
        whole = pc.multiply(rows["batch_size"].cast(pa.int64()), rows["workers"].cast(pa.int64()))
        rows = rows.set_column(rows.column_names.index("batch_size"), "batch_size", whole)
    values = floats(rows[metric])
    good = _mask(pc.equal(rows["status"], "ok")) & ~np.isnan(values)
    series_of, series = _series(rows, good)
    cell_of = fold([series_of, codes(rows["workers"])])
    numbers = _groups(cell_of, good & _newest_point(rows, cell_of, good))
    failures = _groups(fold([cell_of, codes(rows["status"])]), ~good)
    made = [
        *_numbered(rows, places, numbers, [series[k] for k in series_of[numbers.last]], metric),
        *_failed(rows, places, failures, [series[k] for k in series_of[failures.last]]),
    ]
    different = {id(cell.series): cell.series for cell in made}
    ordered = sorted(different, key=lambda key: _order(different[key]))
    rank = {key: place for place, key in enumerate(ordered)}  # equal series are one object here
    return sorted(
        made,
        key=lambda c: (rank[id(c.series)], c.workers is None, c.workers or 0, not c.ok, c.status),
    )


def singles(trials: pa.Table) -> list[tuple[Series, int, float]]:
    """Trials of one worker, on whatever device: series, number of the row, items/s.

    Other than in `cells` several points may stand in one place: the same point on each device.
    """
    rows, places = _newest(trials)
    if not rows.num_rows:
        return []
    values = floats(rows["items_per_s"])
    good = _mask(pc.equal(rows["status"], "ok")) & ~np.isnan(values)
    series_of, series = _series(rows, good)
    one = np.flatnonzero(good & _mask(pc.equal(rows["workers"], 1)))
    return [(series[series_of[k]], int(places[k]), float(values[k])) for k in one.tolist()]


def ratio(cell: Cell, base: Cell) -> Span:
    """Mean over mean, with an interval from 2 trials on either side on (`ratio_of`)."""
    if not cell.mean or not base.mean:
        return Span(math.nan, None, None)
    value = cell.mean / base.mean
    if cell.logs is None or base.logs is None or min(cell.logs.count, base.logs.count) < 2:
        return Span(value, None, None)
    span = ratio_of(cell.logs, base.logs)
    return Span(value, span.lo, span.hi)


def ratios(pairs: Sequence[tuple[Cell, Cell]]) -> list[Span]:
    """As `ratio` for many pairs at once, each with figures on both sides."""
    several = [
        (cell.logs, base.logs)
        for cell, base in pairs
        if cell.logs is not None and base.logs is not None
        if cell.logs.count > 1 and base.logs.count > 1
    ]
    spans = iter(ratios_of(several))
    found = []
    for cell, base in pairs:
        value = (cell.mean or 0.0) / base.mean if base.mean else math.nan
        a, b = cell.logs, base.logs
        if a is not None and b is not None and a.count > 1 and b.count > 1:
            span = next(spans)
            found.append(Span(value, span.lo, span.hi))
        else:
            found.append(Span(value, None, None))
    return found


def marks_of(some: Iterable[Cell | None]) -> tuple[str, ...]:
    """The marks of any of these, in the order of `MARKS`."""
    return union(cell.marks for cell in some if cell is not None)


def union(marks: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """All that stand in any of these, in the order of `MARKS`."""
    found = {mark for some in marks for mark in some}
    return tuple(mark for mark in MARKS if mark in found) if found else ()


def kin(series: Series, *names: str) -> Series:
    """The series with these factors left open: what series that differ in them have in common."""
    return replace(series, **dict.fromkeys(names))


def number(value: float) -> str:
    """For a sentence: four digits at least, thousands apart."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def without_numbers(made: Sequence[Cell]) -> tuple[str, ...]:
    """What to say when cells have nothing to analyse; empty when there is a number."""
    if not made:
        return ("There are no rows.",)
    if any(cell.ok for cell in made):
        return ()
    statuses = ", ".join(sorted({cell.status for cell in made}))
    return (f"No row has a number: {statuses}. The reasons stand in the rows.",)


def other_methods(made: Iterable[Cell]) -> tuple[str, ...]:
    """What to say when rows were measured by different rules; empty when all are of one method."""
    methods = {cell.series.method_version for cell in made}
    if len(methods) < 2:
        return ()
    names = ", ".join(sorted(str(version) for version in methods))
    return (f"Rows of methods {names} are not held against one another.",)


# --- which rows count -----------------------------------------------------------------------------


def _newest(trials: pa.Table) -> tuple[pa.Table, Ints]:
    """The newest final row of every trial, or its newest if none is final; oldest first.

    Also where each stood in the table that was given.
    """
    rows = _with_columns(trials)
    at = pa.table(
        {
            "run": pc.fill_null(rows["run_id"], ""),
            "start": pc.fill_null(rows["started_at"].cast(pa.int64()), 0),
        }
    )
    keys = [("run", "ascending"), ("start", "ascending")]
    order = pc.sort_indices(at, sort_keys=keys).to_numpy()
    rows = rows.take(pa.array(order))
    trial = fold([codes(rows[name]) for name in ("point_id", "trial", "environment_id")])
    final = _mask(pc.is_in(rows["status"], pa.array(FINAL)))
    best_last = np.lexsort((np.arange(len(trial)), final, trial))
    kept = np.sort(best_last[np.flatnonzero(np.diff(trial[best_last], append=-1))])
    return rows.take(pa.array(kept)), order[kept].astype(np.int64)


def _with_columns(trials: pa.Table) -> pa.Table:
    """The columns that are looked at; those that are not there as nulls."""
    there = set(trials.column_names)
    wanted = dict.fromkeys((*_NEEDED, *SERIES, *TYPICAL, *SAID, *METRICS))
    return pa.table(
        {
            name: trials[name]
            if name in there
            else pa.nulls(trials.num_rows, SCHEMAS["trials"].field(name).type)
            for name in wanted
        }
    )


def _newest_point(rows: pa.Table, cell_of: Ints, good: Bools) -> Bools:
    """Which rows are of the point that the newest good row of their cell is of."""
    point = codes(rows["point_id"])
    newest = np.zeros(int(cell_of.max()) + 1, dtype=np.int64)
    where = np.flatnonzero(good)
    newest[cell_of[where]] = point[where]  # rows are oldest first: the last one to write stays
    return np.asarray(point == newest[cell_of], dtype=np.bool_)


def _series(rows: pa.Table, good: Bools) -> tuple[Ints, list[Series]]:
    """The series of every row, as a place in the list.

    A trial that ended early may not know its device or library: it belongs to the one series that
    agrees in all that it knows. If there is none, since no other trial of its batch or precision
    got further, it is told what all of its environment and engine know alike; else it stands alone.
    """
    facts = np.stack([codes(rows[name]) for name in SERIES], axis=1)
    told = np.stack([~_mask(pc.is_null(rows[name])) for name in SERIES], axis=1)
    of = fold(list(facts.T))
    first = np.zeros(int(of.max()) + 1, dtype=np.int64)
    first[of] = np.arange(len(of))
    facts, told = facts[first], told[first]
    measured = np.unique(of[good])
    home = np.arange(len(first))
    strangers = np.setdiff1d(np.arange(len(first)), measured)
    for known in {tuple(mask) for mask in told[strangers].tolist()}:
        by_facts: dict[bytes, list[int]] = defaultdict(list)
        for place in measured:
            by_facts[facts[place][list(known)].tobytes()].append(int(place))
        for place in strangers[(told[strangers] == known).all(axis=1)]:
            homes = by_facts.get(facts[place][list(known)].tobytes(), [])
            home[place] = homes[0] if len(homes) == 1 else place
    columns = [rows[name].take(pa.array(first)).to_pylist() for name in SERIES]
    series = [Series(*values) for values in zip(*columns, strict=True)]
    alone = strangers[home[strangers] == strangers].tolist()
    _tell(series, measured.tolist(), alone)
    places: dict[Series, int] = {}
    for place in [*measured.tolist(), *alone]:
        home[place] = places.setdefault(series[place], place)
    return home[of], series


LEARNT = ("device", "engine_version")
"""Columns that a trial learns only when it has come far enough."""


def _tell(series: list[Series], measured: Sequence[int], alone: Sequence[int]) -> None:
    """Fill in what strangers did not learn and all of their environment and engine agree in."""
    known: dict[tuple[Any, str], set[Any]] = defaultdict(set)
    for place in measured:
        one = series[place]
        for name in LEARNT:
            known[(one.environment_id, one.engine), name].add(getattr(one, name))
    for place in alone:
        one = series[place]
        facts = {name: known[(one.environment_id, one.engine), name] for name in LEARNT}
        told = {
            name: next(iter(values))
            for name, values in facts.items()
            if getattr(one, name) is None and len(values) == 1
        }
        series[place] = replace(one, **told)


_NEEDED = (
    "run_id",
    "point_id",
    "trial",
    "started_at",
    "workers",
    "status",
    "reason",
    "verdict",
    "flags",
    "items_per_s_lo",
    "items_per_s_hi",
)
METRICS = {
    "items_per_s": "higher",
    "latency_p50_ms": "lower",
    "latency_p90_ms": "lower",
    "latency_p99_ms": "lower",
    "j_per_item": "lower",
    "load_s": "lower",
    "first_infer_ms": "lower",
}
"""Columns that a cell can be made of, and which way is better."""


# --- what they say together -----------------------------------------------------------------------


@dataclass(frozen=True)
class _Groups:
    """Rows that belong together: numbers of rows, group after group, oldest first in each.

    Attributes:
        order: shape (rows,).
        start: where each group begins in `order`, shape (groups,).
        count: rows in each group, shape (groups,).
    """

    order: Ints
    start: Ints
    count: Ints

    @property
    def last(self) -> Ints:
        """The newest row of each group."""
        last: Ints = self.order[self.start + self.count - 1]
        return last

    def of(self) -> Ints:
        """The group of each entry of `order`."""
        return np.repeat(np.arange(len(self.start)), self.count)

    def parts(self, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Values in the order of `order`, a tuple for each group."""
        starts, ends = self.start.tolist(), (self.start + self.count).tolist()
        return [tuple(values[a:b]) for a, b in zip(starts, ends, strict=True)]


def _groups(of: Ints, mask: Bools) -> _Groups:
    rows = np.flatnonzero(mask)
    order = rows[np.argsort(of[rows], kind="stable")]
    start: Ints = np.flatnonzero(np.diff(of[order], prepend=-1))
    return _Groups(order, start, np.diff(start, append=len(order)))


def _numbered(
    rows: pa.Table, places: Ints, groups: _Groups, series: list[Series], metric: str
) -> list[Cell]:
    if not series:
        return []
    values = floats(rows[metric])[groups.order]
    means, lo, hi, intervals = _intervals(rows, groups, values, metric)
    newest = rows.take(pa.array(groups.last))
    verdicts = _worst(rows["verdict"], groups)
    columns = zip(
        series,
        newest["workers"].to_pylist(),
        newest["point_id"].to_pylist(),
        groups.parts(places[groups.order].tolist()),
        groups.parts(values.tolist()),
        _logs(values, groups),
        means.tolist(),
        lo,
        hi,
        intervals,
        _typical(rows, groups),
        _said(newest),
        verdicts,
        _flags(rows["flags"], groups),
        strict=True,
    )
    return [
        Cell(
            series=home,
            workers=workers,
            status="ok",
            reason=None,
            point_id=point_id,
            rows=numbers,
            values=some,
            logs=logs,
            mean=mean,
            lo=low,
            hi=high,
            interval=interval,
            typical=typical,
            said=said,
            verdict=verdict,
            flags=flags,
            marks=_marks(home, verdict),
        )
        for (home, workers, point_id, numbers, some, logs, mean, low, high, interval, typical, said,
             verdict, flags) in columns
    ]  # fmt: skip


def _failed(rows: pa.Table, places: Ints, groups: _Groups, series: list[Series]) -> list[Cell]:
    newest = rows.take(pa.array(groups.last))
    columns = zip(
        series,
        newest["workers"].to_pylist(),
        newest["status"].to_pylist(),
        newest["reason"].to_pylist(),
        newest["point_id"].to_pylist(),
        groups.parts(places[groups.order].tolist()),
        strict=True,
    )
    nothing: dict[str, Any] = {
        "values": (), "logs": None, "mean": None, "lo": None, "hi": None, "interval": None,
        "typical": {}, "said": {}, "verdict": None, "flags": (),
    }  # fmt: skip
    return [
        Cell(home, workers, status, reason, point_id, numbers, marks=_marks(home, None), **nothing)
        for home, workers, status, reason, point_id, numbers in columns
    ]


def _marks(series: Series, verdict: str | None) -> tuple[str, ...]:
    return _told_marks(bool(series.simulated), series.memory_limit_bytes is not None, verdict)


@lru_cache
def _told_marks(simulated: bool, capped: bool, verdict: str | None) -> tuple[str, ...]:
    up = (simulated, capped, verdict == "unstable", verdict == "unverified")
    return tuple(mark for mark, there in zip(MARKS, up, strict=True) if there)


def _intervals(
    rows: pa.Table, groups: _Groups, values: Floats, metric: str
) -> tuple[Floats, list[float | None], list[float | None], list[str | None]]:
    """Means with bounds and the kind of each; `values` in the order of the groups."""
    means = np.add.reduceat(values, groups.start) / groups.count
    away = values - np.repeat(means, groups.count)
    squares = np.add.reduceat(away * away, groups.start)
    several = groups.count > 1
    df = np.maximum(groups.count - 1, 1)
    t = {int(n): t_quantile(0.975, int(n)) for n in np.unique(df[several])}
    half = np.array([t.get(n, np.nan) for n in df.tolist()]) * np.sqrt(squares / df / groups.count)
    within_lo = floats(rows["items_per_s_lo"])[groups.last]
    within_hi = floats(rows["items_per_s_hi"])[groups.last]
    alone = ~several & ~np.isnan(within_lo + within_hi) & (metric == "items_per_s")
    lo = np.where(several, means - half, np.where(alone, within_lo, np.nan))
    hi = np.where(several, means + half, np.where(alone, within_hi, np.nan))
    kinds = [BETWEEN if s else WITHIN if a else None for s, a in zip(several, alone, strict=True)]
    return means, _known(lo), _known(hi), kinds


def _logs(values: Floats, groups: _Groups) -> list[Logs | None]:
    positive = np.minimum.reduceat(values, groups.start) > 0
    logs = np.log(np.where(values > 0, values, 1.0))
    means = np.add.reduceat(logs, groups.start) / groups.count
    away = logs - np.repeat(means, groups.count)
    variances = np.add.reduceat(away * away, groups.start) / np.maximum(groups.count - 1, 1)
    columns = zip(positive, means.tolist(), variances.tolist(), groups.count.tolist(), strict=True)
    return [Logs(mean, variance, n) if good else None for good, mean, variance, n in columns]


def _typical(rows: pa.Table, groups: _Groups) -> list[dict[str, float]]:
    """Medians of every column that has a value, a dictionary for each group."""
    names = [name for name in TYPICAL if rows[name].null_count < rows.num_rows]
    if not names:
        return [{} for _ in groups.start]
    values = np.stack([floats(rows[name])[groups.order] for name in names])
    medians = np.empty((len(groups.start), len(names)))
    for count in np.unique(groups.count).tolist():  # groups of one size make one block
        which = np.flatnonzero(groups.count == count)
        block = values[:, groups.start[which][:, None] + np.arange(count)]
        medians[which] = _medians(block).T
    complete: Bools = np.asarray(np.isfinite(medians).all(axis=1))
    return [
        dict(zip(names, row, strict=True))
        if whole
        else {name: value for name, value in zip(names, row, strict=True) if value == value}
        for row, whole in zip(medians.tolist(), complete.tolist(), strict=True)
    ]


def _medians(block: Floats) -> Floats:
    """Medians along the last axis without the nan in it; nan where there is nothing else."""
    block = np.sort(block, axis=-1)  # nan comes last
    told = (~np.isnan(block)).sum(axis=-1, keepdims=True)
    low = np.take_along_axis(block, np.maximum(told - 1, 0) // 2, axis=-1)
    high = np.take_along_axis(block, np.minimum(told // 2, block.shape[-1] - 1), axis=-1)
    middle: Floats = ((low + high) / 2)[..., 0]
    return middle


def _said(newest: pa.Table) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{} for _ in range(newest.num_rows)]
    for name in SAID:
        if newest[name].null_count < newest.num_rows:
            for place, value in enumerate(newest[name].to_pylist()):
                if value is not None:
                    found[place][name] = value
    return found


def _worst(verdicts: pa.ChunkedArray, groups: _Groups) -> list[str | None]:
    place = pc.fill_null(pc.index_in(verdicts, pa.array(VERDICTS)), -1).to_numpy()
    worst = np.maximum.reduceat(place[groups.order], groups.start)
    names = (*VERDICTS, None)  # -1, for no verdict at all, is the last
    return [names[k] for k in worst.tolist()]


def _flags(flags: pa.ChunkedArray, groups: _Groups) -> list[tuple[str, ...]]:
    """Every flag of any row of a group, by name."""
    whole = flags.combine_chunks()
    encoded = pc.dictionary_encode(pc.list_flatten(whole))
    names = encoded.dictionary.to_pylist()
    group_of = np.full(len(flags), -1)
    group_of[groups.order] = groups.of()
    group = group_of[pc.list_parent_indices(whole).to_numpy()]
    pairs = np.unique(np.stack((group, encoded.indices.to_numpy()), axis=1)[group >= 0], axis=0)
    found: dict[int, list[str]] = defaultdict(list)
    for place, flag in pairs.tolist():
        found[place].append(names[flag])
    return [tuple(sorted(found.get(place, ()))) for place in range(len(groups.start))]


_factors = attrgetter(*SERIES)


def _order(series: Series) -> tuple[Any, ...]:
    """Precisions from the widest on, numbers as numbers; None last."""
    place = {"fp32": "0", "tf32": "1", "bf16": "2", "fp16": "3"}
    values = list(_factors(series))
    values[1] = place.get(series.precision or "", series.precision)
    return tuple((value is None, 0 if value is None else value) for value in values)


# --- columns as arrays ----------------------------------------------------------------------------


def codes(column: pa.ChunkedArray) -> Ints:
    """A small number for each different value, null among them."""
    encoded = pc.dictionary_encode(column, null_encoding="encode").combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):  # a table without rows
        return np.zeros(0, dtype=np.int64)
    return np.asarray(encoded.indices.to_numpy(), dtype=np.int64)


def fold(columns: Sequence[Ints]) -> Ints:
    """A small number for each different combination."""
    folded: Ints = columns[0]
    for more in columns[1:]:
        if more.any():
            both = folded * (int(more.max()) + 1) + more
            folded = np.unique(both, return_inverse=True)[1].astype(np.int64)
    return folded


def floats(column: pa.ChunkedArray) -> Floats:
    """Null as nan."""
    return np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)


def _mask(column: pa.ChunkedArray) -> Bools:
    """Null as false."""
    return np.asarray(pc.fill_null(column, False).to_numpy(), dtype=np.bool_)


def _known(values: Floats) -> list[float | None]:
    """Nan as None."""
    return [None if value != value else value for value in values.tolist()]
