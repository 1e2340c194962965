"""scaling: how throughput grows with the number of workers, series by series."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from raybench import gc_control
from raybench.analysis.baselines import Crew
from raybench.analysis.bottlenecks import BOUNDS, Bound, bounds
from raybench.analysis.cells import (
    BETWEEN,
    SERIES,
    WITHIN,
    Cell,
    Series,
    cells,
    other_methods,
    ratios,
    union,
    without_numbers,
)
from raybench.analysis.scaling_law import LEAST_SIZES, Law, Prediction, law
from raybench.analysis.tables import as_table
from raybench.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from raybench.analysis.baselines import Alone, Slowest
    from raybench.stats.intervals import Span

MODES = ("weak", "strong")


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
        marks: what a reader must be told of the figure or of one that it is held against, see
            `points.MARKS`.
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


@dataclass(frozen=True)
class Curve:
    """One series with more than one number of workers, as a whole.

    Attributes:
        mode: weak or strong, see `Entry`.
        workers: numbers of workers with a figure, rising.
        rates: items/s of each trial at each of them.
        finding: what the curve says, in one sentence with figures.
        bounds: what holds its points back.
        missing: what could not be said and why, a sentence each.
        marks: of any of its points, see `points.MARKS`.
    """

    series: Series
    mode: str
    workers: tuple[int, ...]
    rates: tuple[tuple[float, ...], ...]
    finding: str
    bounds: tuple[Bound, ...]
    missing: tuple[str, ...]
    marks: tuple[str, ...]

    @cached_property
    def law(self) -> Law | None:
        """From four numbers of workers on; else None. Fitted when first asked for: 50 ms."""
        return law(self.workers, self.rates)


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


class _Seen(NamedTuple):
    """A cell with all that an entry and a curve need of it."""

    cell: Cell
    base: Cell | None
    fp32: Cell | None
    slowest: Slowest | None
    alone: Alone | None
    bounds: tuple[Bound, ...]


def scaling(trials: pa.Table, workers: pa.Table | None = None, *, mode: str = "weak") -> Scaling:
    """Throughput, speedup and efficiency of every series in a `trials` table.

    Of several rows of the same trial the newest final one counts. Where two points differ in
    nothing that makes a series (the same preset with another measuring time), the newer stands.

    Args:
        trials: as `raybench.load` gives it.
        workers: the `workers` table of the same folder; tells of slowest workers and of devices
            that were measured alone.
        mode: weak compares points of the same batch a worker, strong points of the same batch of
            all workers together.

    Raises:
        ConfigError: no such mode.
    """
    if mode not in MODES:
        raise ConfigError(f"Unknown scaling mode {mode!r}. {nearest(mode, MODES)}")
    with gc_control.paused():  # half a million objects of 100,000 rows stay: a fifth of the time
        return _scaling(trials, workers, mode)


def _scaling(trials: pa.Table, workers: pa.Table | None, mode: str) -> Scaling:
    made = cells(trials, mode=mode)
    crew = None if workers is None or not workers.num_rows else Crew(trials, workers)
    by_series = [list(some) for _, some in groupby(made, key=lambda cell: id(cell.series))]
    numbers = {
        some[0].series: {cell.workers: cell for cell in some if cell.ok and cell.workers}
        for some in by_series
    }
    seen = [_see_series(some, numbers, crew) for some in by_series]
    spans = _spans([one for some in seen for one in some])
    entries, curves = [], []
    for some in seen:
        made_of = [_entry(one, spans, mode) for one in some]
        entries += made_of
        series = some[0].cell.series
        if len(numbers[series]) > 1:
            curves.append(_curve(series, mode, some, made_of, crew is not None))
    return Scaling(tuple(entries), tuple(curves), _missing(made, curves))


def _fp32(series: Series, numbers: Mapping[Series, Mapping[int, Cell]]) -> Mapping[int, Cell]:
    if series.precision == "fp32":
        return {}
    return numbers.get(replace(series, precision="fp32"), {})


def _see_series(
    some: Sequence[Cell], numbers: Mapping[Series, Mapping[int, Cell]], crew: Crew | None
) -> list[_Seen]:
    series = some[0].series
    own = numbers[series]
    base = own[min(own)] if own else None
    fp32 = _fp32(series, numbers)
    return [_see(cell, base, fp32.get(cell.workers or 0), crew) for cell in some]


def _see(cell: Cell, base: Cell | None, fp32: Cell | None, crew: Crew | None) -> _Seen:
    if not cell.ok:
        return _Seen(cell, None, None, None, None, ())
    several = crew is not None and (cell.workers or 1) > 1
    slowest = crew.slowest(cell) if several and crew else None
    alone = crew.alone(cell) if several and crew else None
    return _Seen(cell, base, fp32, slowest, alone, bounds(cell, base, slowest))


_Spans: TypeAlias = "dict[tuple[int, int], Span]"


def _spans(seen: Sequence[_Seen]) -> _Spans:
    """Every ratio that the entries need, by the identities of cell and base."""
    pairs = [
        (one.cell, other)
        for one in seen
        for other in (one.base, one.fp32)
        if other is not None and other is not one.cell
    ]
    found = ratios(pairs)
    return {(id(a), id(b)): span for (a, b), span in zip(pairs, found, strict=True)}


def _entry(seen: _Seen, spans: _Spans, mode: str) -> Entry:
    cell, base, fp32 = seen.cell, seen.base, seen.fp32
    if not cell.ok or base is None or not cell.workers or not base.workers:
        return _bare(cell, mode)
    growth = _ONE if base is cell else spans[id(cell), id(base)]
    gain = _NONE if fp32 is None else spans[id(cell), id(fp32)]
    ideal = cell.workers / base.workers
    share = _over(growth, ideal)
    alone = _over(seen.alone.together, 1 / cell.workers) if seen.alone else _NONE
    loss = _lost(seen.alone.together) if seen.alone else _NONE
    marks = cell.marks
    if base.marks or (fp32 is not None and fp32.marks):
        marks = union((cell.marks, base.marks, fp32.marks if fp32 is not None else ()))
    get = cell.typical.get
    return _made(
        series=cell.series,
        workers=cell.workers,
        point_id=cell.point_id,
        status=cell.status,
        reason=None,
        trials=len(cell.rows),
        items_per_s=cell.mean,
        items_per_s_lo=cell.lo,
        items_per_s_hi=cell.hi,
        interval=cell.interval,
        base_workers=base.workers,
        speedup=growth.value,
        speedup_lo=growth.lo,
        speedup_hi=growth.hi,
        efficiency=share.value,
        efficiency_lo=share.lo,
        efficiency_hi=share.hi,
        latency_p50_ms=get("latency_p50_ms"),
        latency_p90_ms=get("latency_p90_ms"),
        latency_p99_ms=get("latency_p99_ms"),
        over_fp32=gain.value,
        over_fp32_lo=gain.lo,
        over_fp32_hi=gain.hi,
        fidelity_sqnr_db=get("fidelity_sqnr_db"),
        verdict=cell.verdict,
        flags=cell.flags,
        marks=marks,
        mode=mode,
        imbalance=get("imbalance"),
        slowest_worker=seen.slowest.name if seen.slowest else None,
        slowest_share=seen.slowest.share if seen.slowest else None,
        solo_devices=seen.alone.measured if seen.alone else None,
        solo_items_per_s=seen.alone.items_per_s if seen.alone else None,
        solo_speedup=alone.value,
        solo_speedup_lo=alone.lo,
        solo_speedup_hi=alone.hi,
        interference_loss=loss.value,
        interference_loss_lo=loss.lo,
        interference_loss_hi=loss.hi,
        bound_by=tuple(bound.what for bound in seen.bounds) if seen.bounds else (),
    )


def _made(**values: Any) -> Entry:
    """An entry of all its values; a frozen dataclass would set them one by one, 13 us each."""
    entry = object.__new__(Entry)
    entry.__dict__.update(values)
    return entry


def _bare(cell: Cell, mode: str) -> Entry:
    return Entry(
        cell.series,
        cell.workers,
        cell.point_id,
        cell.status,
        cell.reason,
        cell.trials,
        marks=cell.marks,
        mode=mode,
    )


class _Ratio(NamedTuple):
    """A ratio that may not be known at all."""

    value: float | None = None
    lo: float | None = None
    hi: float | None = None


_NONE = _Ratio()
_ONE = _Ratio(1.0)


def _over(span: Span | _Ratio | None, divisor: float) -> _Ratio:
    if span is None or span.value is None:
        return _NONE
    lo, hi = span.lo, span.hi
    return _Ratio(
        span.value / divisor,
        None if lo is None else lo / divisor,
        None if hi is None else hi / divisor,
    )


def _lost(together: Span | None) -> _Ratio:
    """What is left of a whole; its bounds change places."""
    if together is None:
        return _NONE
    lo, hi = together.lo, together.hi
    return _Ratio(
        1 - together.value, None if hi is None else 1 - hi, None if lo is None else 1 - lo
    )


# --- curves ---------------------------------------------------------------------------------------


def _curve(
    series: Series, mode: str, seen: Sequence[_Seen], entries: Sequence[Entry], crew: bool
) -> Curve:
    good = [(one, entry) for one, entry in zip(seen, entries, strict=True) if one.cell.ok]
    measured = [(one, entry) for one, entry in good if one.cell.workers]
    return Curve(
        series=series,
        mode=mode,
        workers=tuple(one.cell.workers or 0 for one, _ in measured),
        rates=tuple(one.cell.values for one, _ in measured),
        finding=_finding([entry for _, entry in measured]),
        bounds=tuple(bound for one, _ in measured for bound in one.bounds),
        missing=tuple(_lacking([entry for _, entry in measured], entries, crew)),
        marks=union(one.cell.marks for one, _ in measured),
    )


def _finding(entries: Sequence[Entry]) -> str:
    """What the largest number of workers reaches, and whether anything is lost on the way."""
    last = entries[-1]
    base = last.base_workers or 1
    digits = 3 if last.speedup_lo is None else 2  # as it stands; with an interval no finer than it
    who = f"{last.workers} workers give {last.speedup:.{digits}f} times the throughput of {base}"
    share = f"{100 * (last.efficiency or 0):.1f} % of ideal"
    told = [e for e in entries[1:] if e.efficiency_lo is not None and e.efficiency_hi is not None]
    if len(told) < len(entries) - 1:
        return f"{who} ({share}); one trial a side tells no interval."
    bound = f"{100 * (last.efficiency_lo or 0):.1f} to {100 * (last.efficiency_hi or 0):.1f} %"
    if all((e.efficiency_lo or 0) <= 1 <= (e.efficiency_hi or 0) for e in told):
        return f"{who} ({share}, {bound}): no contention that these trials could measure."
    return f"{who} ({share}, {bound})."


def _lacking(measured: Sequence[Entry], entries: Sequence[Entry], crew: bool) -> list[str]:
    base = measured[0].base_workers
    told = []
    if base != 1:
        told.append(f"One worker has no number; speedup refers to {base}. Measure workers=1.")
    if len(measured) < LEAST_SIZES:
        told.append(
            f"No scalability law: {len(measured)} numbers of workers, {LEAST_SIZES} are needed."
        )
    if any(e.trials < 2 for e in measured):
        told.append("No interval of the speedup: fewer than 2 trials. Measure with trials=3.")
    if not crew:
        told.append("No slowest worker and no loss to neighbours: no workers table was given.")
    elif all(e.solo_items_per_s is None for e in measured):
        told.append(
            "No loss to neighbours: not every device was measured alone. "
            "Measure one worker on each device."
        )
    lost = sorted({f"{e.workers} workers: {e.status}" for e in entries if e.status != "ok"})
    if lost:
        told.append(f"Without a number: {', '.join(lost)}.")
    return told


def _missing(made: Sequence[Cell], curves: Sequence[Curve]) -> tuple[str, ...]:
    told = list(without_numbers(made))
    if not told and not curves:
        told.append(
            "No scaling: every series has a single number of workers. Measure workers=auto."
        )
    return (*told, *other_methods(made))


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
