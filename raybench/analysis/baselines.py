"""The workers behind the trials: which was slowest, and what each device reaches alone."""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raybench.analysis.cells import singles
from raybench.analysis.columns import codes, floats, fold
from raybench.analysis.estimate import UNKNOWN, Estimate
from raybench.stats.intervals import t_quantile
from raybench.stats.ratios import sum_of_variances

if TYPE_CHECKING:
    from raybench.analysis.cells import Cell
    from raybench.analysis.columns import Ints
    from raybench.analysis.series import Series

_NAMED = ("worker", "hostname", "gpu_index")
"""Columns that name a worker to a reader."""
_KEY = ("run_id", "point_id", "trial")
_PLACE = ("hostname", "gpu_index", "cpu_affinity")
"""Columns that tell devices without a UUID apart."""


@dataclass(frozen=True)
class Slowest:
    """The worker that was slowest in most trials.

    Attributes:
        name: worker, host and GPU in words.
        share: its rate over the mean of all workers, median over trials.
    """

    name: str
    share: float


@dataclass(frozen=True)
class SoloBaseline:
    """The devices of a cell, each measured alone.

    Attributes:
        devices: how many the cell has.
        measured: how many of them were also measured alone.
        items_per_s: their solo rates, summed; None unless all were measured.
        ratio: rate of the cell over that sum.
    """

    devices: int
    measured: int
    items_per_s: float | None
    ratio: Estimate


class WorkerTable:
    """The `workers` table of the same rows, by trial.

    Rows are handled as columns: a table may hold half a million of them.
    """

    def __init__(self, trials: pa.Table, workers: pa.Table) -> None:
        present = set(workers.column_names)
        self._rows = {name: workers[name].to_pylist() for name in _NAMED if name in present}
        self._rates = floats(workers["items_per_s"])
        self._device = _devices(workers)
        trial_of, row_of = _keys(trials, workers)
        self._trial: list[int] = trial_of.tolist()
        self._slowest, self._share = self._find_slowest(row_of)
        self._order = np.argsort(row_of, kind="stable")
        sorted_keys = row_of[self._order]
        self._start = np.searchsorted(sorted_keys, trial_of, "left").tolist()
        self._end = np.searchsorted(sorted_keys, trial_of, "right").tolist()
        self._solo: dict[tuple[Series, int], list[float]] = defaultdict(list)
        for series, place, rate in singles(trials):
            for row in self._rows_of(place)[:1]:
                self._solo[series, int(self._device[row])].append(rate)

    def _rows_of(self, place: int) -> Ints:
        """Return the rows of a trial's workers, given its row number in `trials`."""
        rows: Ints = self._order[self._start[place] : self._end[place]]
        return rows

    def slowest(self, cell: Cell) -> Slowest | None:
        """Return the slowest worker; None with one worker or without rows of workers."""
        keys = [self._trial[place] for place in cell.rows]
        named = [
            (self._name(self._slowest[key]), self._share[key])
            for key in keys
            if self._slowest[key] >= 0
        ]
        if not named:
            return None
        name, _ = Counter(name for name, _ in named).most_common(1)[0]
        return Slowest(name, statistics.median(share for who, share in named if who == name))

    def _find_slowest(self, row_of: Ints) -> tuple[list[int], list[float]]:
        """Return each trial's slowest row (-1 with one worker) and its rate over the mean."""
        last = int(row_of.max(initial=-1))
        size = max(last, max(self._trial, default=-1)) + 1
        slowest = np.full(size, -1)
        share = np.full(size, np.nan)
        rows = np.flatnonzero(self._rates > 0)
        rows = rows[np.lexsort((self._rates[rows], row_of[rows]))]
        start = np.flatnonzero(np.diff(row_of[rows], prepend=-1))
        count = np.diff(start, append=len(rows))
        first = rows[start[count > 1]]
        mean = np.add.reduceat(self._rates[rows], start)[count > 1] / count[count > 1]
        slowest[row_of[first]] = first
        share[row_of[first]] = self._rates[first] / mean
        return slowest.tolist(), share.tolist()

    def solo(self, cell: Cell) -> SoloBaseline | None:
        """Return what the cell's devices reach alone; None without rows of workers."""
        rows = self._rows_of(cell.rows[-1])
        if not len(rows) or cell.mean is None:
            return None
        rates = [
            self._solo.get((cell.series, device), []) for device in self._device[rows].tolist()
        ]
        measured = sum(bool(of_device) for of_device in rates)
        if measured < len(rates):
            return SoloBaseline(len(rates), measured, None, UNKNOWN)
        total = sum(statistics.fmean(of_device) for of_device in rates)
        return SoloBaseline(len(rates), measured, total, _ratio_to_solo(cell, rates, total))

    def _name(self, row: int) -> str:
        worker, host, index = (
            self._rows[name][row] if name in self._rows else None for name in _NAMED
        )
        where = f" on {host}" if host else ""
        which = f", GPU {index}" if index is not None else ""
        return f"worker {worker}{where}{which}"


def _keys(trials: pa.Table, workers: pa.Table) -> tuple[Ints, Ints]:
    """Number the trials, the same in both tables; one number for each row of either."""
    both = [codes(_joined(trials[name], workers[name])) for name in _KEY]
    number = fold(both)
    return number[: trials.num_rows], number[trials.num_rows :]


def _joined(a: pa.ChunkedArray, b: pa.ChunkedArray) -> pa.ChunkedArray:
    return pa.chunked_array([*a.chunks, *b.cast(a.type).chunks], type=a.type)


def _devices(workers: pa.Table) -> Ints:
    """Number the devices themselves, whichever worker used them: by UUID, else by place."""
    present = set(workers.column_names)
    empty = pa.nulls(workers.num_rows, pa.string())
    uuid = workers["gpu_uuid"] if "gpu_uuid" in present else pa.chunked_array([empty])
    place = [codes(workers[name]) for name in _PLACE if name in present]
    has_uuid = np.asarray(pc.is_valid(uuid).to_numpy(), dtype=np.bool_)
    if not place:
        return codes(uuid)
    by_place = fold(place)
    return np.where(has_uuid, codes(uuid) + int(by_place.max(initial=0)) + 1, by_place)


def _ratio_to_solo(cell: Cell, rates: list[list[float]], total: float) -> Estimate:
    """Return the rate together over the sum of the rates alone.

    The variance of the sum's logarithm is that of the delta method.
    """
    value = (cell.mean or 0.0) / total
    several = all(len(of_device) > 1 for of_device in rates)
    if not several or cell.logs is None or cell.logs.count < 2:
        return Estimate(value)
    parts = [(cell.logs.variance / cell.logs.count, float(cell.logs.count - 1))]
    for of_device in rates:
        variance = float(np.var(of_device, ddof=1)) / len(of_device) / total**2
        parts.append((variance, float(len(of_device) - 1)))
    spread = sum_of_variances(*parts)
    if spread is None:
        return Estimate(value, value, value)
    variance, df = spread
    half = t_quantile(0.975, df) * math.sqrt(variance)
    return Estimate(value, value * math.exp(-half), value * math.exp(half))
