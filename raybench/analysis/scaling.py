"""How throughput grows with the number of workers, series by series."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from raybench import gc_control
from raybench.analysis.baselines import WorkerTable
from raybench.analysis.bottlenecks import Bound, bounds
from raybench.analysis.builds import build_spreads
from raybench.analysis.cell_ratios import ratios
from raybench.analysis.cells import Cell, cells
from raybench.analysis.curves import Curve, ScalingEntry, curve
from raybench.analysis.estimate import ONE, UNKNOWN, Estimate
from raybench.analysis.gaps import other_methods, without_numbers
from raybench.analysis.marks import marks_of
from raybench.analysis.resources import in_words
from raybench.analysis.tables import as_table
from raybench.errors import ConfigError, nearest
from raybench.experiment import AS_IS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from raybench.analysis.baselines import Slowest, SoloBaseline
    from raybench.analysis.builds import BuildSpread
    from raybench.analysis.series import Series

MODES = ("weak", "strong")


@dataclass(frozen=True)
class Scaling:
    """Entries of all series: by series, then workers, those with numbers first.

    Attributes:
        entries: one for each number of workers and status of each series.
        curves: one for each series with a number for two or more numbers of workers.
        missing: what could not be said of the whole table, a sentence each.
    """

    entries: tuple[ScalingEntry, ...]
    curves: tuple[Curve, ...] = ()
    missing: tuple[str, ...] = ()

    def as_table(self) -> pa.Table:
        """Return a row for each entry, the columns of the series first."""
        return as_table(ScalingEntry, self.entries)


class _Compared(NamedTuple):
    """A cell with everything that its entry and its curve need.

    Attributes:
        base: the same series at its smallest number of workers.
        fp32: the same point in fp32; None for fp32 itself.
    """

    cell: Cell
    base: Cell | None = None
    fp32: Cell | None = None
    slowest: Slowest | None = None
    solo: SoloBaseline | None = None
    bounds: tuple[Bound, ...] = ()


def scaling(trials: pa.Table, workers: pa.Table | None = None, *, mode: str = "weak") -> Scaling:
    """Return throughput, speedup and efficiency of every series in a `trials` table.

    In open loop there is neither speedup nor efficiency: the rate is what was asked for.

    Of several rows of the same trial the newest final one counts. Where two points have the same
    factors (the same preset with another measuring time), the newer one counts.

    Args:
        trials: as `raybench.load` returns it.
        workers: the `workers` table of the same folder; shows slowest workers and devices that
            were measured alone.
        mode: weak compares points of the same batch per worker, strong points of the same batch
            of all workers together.

    Raises:
        ConfigError: no such mode.
    """
    if mode not in MODES:
        raise ConfigError(f"Unknown scaling mode {mode!r}. {nearest(mode, MODES)}")
    with gc_control.paused():  # half a million objects of 100,000 rows stay: a fifth of the time
        return _scaling(trials, workers, mode)


def _scaling(trials: pa.Table, workers: pa.Table | None, mode: str) -> Scaling:
    every = cells(trials, mode=mode)
    table = None if workers is None or not workers.num_rows else WorkerTable(trials, workers)
    by_series = [list(members) for _, members in groupby(every, key=lambda cell: id(cell.series))]
    numbers = {
        members[0].series: {cell.workers: cell for cell in members if cell.ok and cell.workers}
        for members in by_series
    }
    compared_series = [_compare_series(members, numbers, table) for members in by_series]
    ratio_of = _ratios([one for compared in compared_series for one in compared])
    spreads = {(one.series, one.workers): one for one in build_spreads(every, trials)}
    entries: list[ScalingEntry] = []
    curves = []
    for members, compared in zip(by_series, compared_series, strict=True):
        of_series = [
            _with_spread(
                _entry(one, ratio_of, mode), spreads.get((one.cell.series, one.cell.workers or 0))
            )
            for one in compared
        ]
        entries += of_series
        if len(numbers[members[0].series]) > 1 and not members[0].series.is_open:
            held_back = [bound for one in compared if one.cell.workers for bound in one.bounds]
            curves.append(curve(members, of_series, held_back, table is not None))
    return Scaling(tuple(entries), tuple(curves), _missing(every, curves))


_Numbers: TypeAlias = "Mapping[Series, Mapping[int, Cell]]"
"""Series -> number of workers -> its cell with a number."""


def _compare_series(
    members: Sequence[Cell], numbers: _Numbers, table: WorkerTable | None
) -> list[_Compared]:
    series = members[0].series
    own = numbers[series]
    base = own[min(own)] if own and not series.is_open else None
    alone = series.precision in ("fp32", AS_IS) or series.is_open
    fp32 = {} if alone else numbers.get(replace(series, precision="fp32"), {})
    return [_compare(cell, base, fp32.get(cell.workers or 0), table) for cell in members]


def _compare(
    cell: Cell, base: Cell | None, fp32: Cell | None, table: WorkerTable | None
) -> _Compared:
    if not cell.ok:
        return _Compared(cell)
    if table is None or (cell.workers or 1) < 2:
        return _Compared(cell, base, fp32, bounds=bounds(cell, base, None))
    slowest = table.slowest(cell)
    return _Compared(cell, base, fp32, slowest, table.solo(cell), bounds(cell, base, slowest))


_Ratios: TypeAlias = "dict[tuple[int, int], Estimate]"


def _ratios(compared: Sequence[_Compared]) -> _Ratios:
    """Return every ratio that the entries need, by the identities of cell and base."""
    pairs = [
        (one.cell, other)
        for one in compared
        for other in (one.base, one.fp32)
        if other is not None and other is not one.cell
    ]
    return {
        (id(cell), id(base)): ratio
        for (cell, base), ratio in zip(pairs, ratios(pairs), strict=True)
    }


def _entry(compared: _Compared, ratio_of: _Ratios, mode: str) -> ScalingEntry:
    cell, base, fp32, slowest, solo, held_back = compared
    if not cell.ok or not cell.workers:
        return ScalingEntry(
            cell.series, cell.workers, cell.point_id, cell.status, cell.reason, cell.trials,
            marks=cell.marks, mode=mode,
        )  # fmt: skip
    base_workers = base.workers if base is not None else None
    speedup = UNKNOWN if base is None else ONE if base is cell else ratio_of[id(cell), id(base)]
    to_solo = solo.ratio if solo else UNKNOWN
    get = cell.medians.get
    return ScalingEntry(
        series=cell.series,
        workers=cell.workers,
        point_id=cell.point_id,
        status=cell.status,
        reason=None,
        trials=len(cell.rows),
        items_per_s=cell.estimate,
        interval=cell.interval,
        base_workers=base_workers,
        speedup=speedup,
        efficiency=speedup.over(cell.workers / (base_workers or 1)),
        latency_p50_ms=get("latency_p50_ms"),
        latency_p90_ms=get("latency_p90_ms"),
        latency_p99_ms=get("latency_p99_ms"),
        over_fp32=UNKNOWN if fp32 is None else ratio_of[id(cell), id(fp32)],
        fidelity_sqnr_db=get("fidelity_sqnr_db"),
        verdict=cell.verdict,
        flags=cell.flags,
        marks=marks_of((cell, base, fp32)),
        mode=mode,
        imbalance=get("imbalance"),
        slowest_worker=slowest.name if slowest else None,
        slowest_share=slowest.share if slowest else None,
        solo_devices=solo.measured if solo else None,
        solo_items_per_s=solo.items_per_s if solo else None,
        solo_speedup=to_solo.over(1 / cell.workers),
        interference_loss=to_solo.complement(),
        bound_by=tuple(bound.what for bound in held_back),
        quantised_macs_frac=get("quantised_macs_frac"),
        reduced_ops=tuple(cell.newest.get("reduced_ops", ())),
        device_use=in_words(cell),
    )


def _with_spread(entry: ScalingEntry, spread: BuildSpread | None) -> ScalingEntry:
    """Return the entry with how far its builds lie apart, where it has several."""
    if spread is None or entry.status != "ok":
        return entry
    return replace(
        entry,
        builds=spread.builds,
        builds_sd=spread.between_builds,
        trials_sd=spread.between_trials,
        within_sd=spread.within,
    )


def _missing(every: Sequence[Cell], curves: Sequence[Curve]) -> tuple[str, ...]:
    sentences = list(without_numbers(every))
    if not sentences and not curves:
        sentences.append(
            "No scaling: every series has a single number of workers. Measure workers=auto."
        )
    return (*sentences, *other_methods(every))
