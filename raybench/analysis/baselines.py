"""Crew: the workers behind the trials: which was slowest, and what each device does alone."""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raybench.analysis.cells import codes, floats, fold, singles
from raybench.stats.intervals import Span, t_quantile
from raybench.stats.ratios import sum_of_variances

if TYPE_CHECKING:
    from raybench.analysis.cells import Cell, Ints, Series


@dataclass(frozen=True)
class Slowest:
    """The worker that was slowest in most trials.

    Attributes:
        name: in words.
        share: its rate over the mean of all workers, median over trials.
    """

    name: str
    share: float


@dataclass(frozen=True)
class Alone:
    """The devices of a cell, each measured alone.

    Attributes:
        devices: of the cell.
        measured: how many of them were also measured alone.
        items_per_s: their rates alone, summed; None unless all were.
        together: rate of the cell over that sum.
    """

    devices: int
    measured: int
    items_per_s: float | None
    together: Span | None


class Crew:
    """The `workers` table of the same rows, by trial.

    Rows are handled as columns: a table may hold half a million of them.
    """

    def __init__(self, trials: pa.Table, workers: pa.Table) -> None:
        there = set(workers.column_names)
        self._rows = {name: workers[name].to_pylist() for name in _NAMED if name in there}
        self._rates = floats(workers["items_per_s"])
        self._device = _devices(workers)
        trial_of, row_of = _keys(trials, workers)
        self._trial: list[int] = trial_of.tolist()
        self._least, self._share = self._find_slowest(row_of)
        self._order = np.argsort(row_of, kind="stable")
        found = row_of[self._order]
        self._start = np.searchsorted(found, trial_of, "left").tolist()
        self._end = np.searchsorted(found, trial_of, "right").tolist()
        self._solo: dict[tuple[Series, int], list[float]] = defaultdict(list)
        for series, place, rate in singles(trials):
            for row in self._of(place)[:1]:
                self._solo[series, int(self._device[row])].append(rate)

    def _of(self, place: int) -> Ints:
        """Rows of the workers of a trial, by its place in `trials`."""
        rows: Ints = self._order[self._start[place] : self._end[place]]
        return rows

    def slowest(self, cell: Cell) -> Slowest | None:
        """None with one worker, or without rows of workers."""
        trials = [self._trial[place] for place in cell.rows]
        seen = [(self._name(self._least[k]), self._share[k]) for k in trials if self._least[k] >= 0]
        if not seen:
            return None
        name, _ = Counter(name for name, _ in seen).most_common(1)[0]
        return Slowest(name, statistics.median(share for who, share in seen if who == name))

    def _find_slowest(self, row_of: Ints) -> tuple[list[int], list[float]]:
        """The slowest row of each trial of several workers, else -1; its rate over their mean."""
        least = np.full(int(max(row_of.max(initial=-1), max(self._trial, default=-1))) + 1, -1)
        share = np.full(len(least), np.nan)
        rows = np.flatnonzero(self._rates > 0)
        rows = rows[np.lexsort((self._rates[rows], row_of[rows]))]
        start = np.flatnonzero(np.diff(row_of[rows], prepend=-1))
        count = np.diff(start, append=len(rows))
        first = rows[start[count > 1]]
        mean = np.add.reduceat(self._rates[rows], start)[count > 1] / count[count > 1]
        least[row_of[first]] = first
        share[row_of[first]] = self._rates[first] / mean
        return least.tolist(), share.tolist()

    def alone(self, cell: Cell) -> Alone | None:
        """What the cell's devices do alone; None without rows of workers."""
        rows = self._of(cell.rows[-1])
        if not len(rows) or cell.mean is None:
            return None
        rates = [
            self._solo.get((cell.series, device), []) for device in self._device[rows].tolist()
        ]
        measured = sum(bool(some) for some in rates)
        if measured < len(rates):
            return Alone(len(rates), measured, None, None)
        total = sum(statistics.fmean(some) for some in rates)
        return Alone(len(rates), measured, total, _together(cell, rates, total))

    def _name(self, row: int) -> str:
        worker, host, index = (
            self._rows[name][row] if name in self._rows else None for name in _NAMED
        )
        where = f" on {host}" if host else ""
        which = f", GPU {index}" if index is not None else ""
        return f"worker {worker}{where}{which}"


_NAMED = ("worker", "hostname", "gpu_index")
_KEY = ("run_id", "point_id", "trial")


def _keys(trials: pa.Table, workers: pa.Table) -> tuple[Ints, Ints]:
    """A number for each trial, the same in both tables: one a row of each."""
    both = [codes(_joined(trials[name], workers[name])) for name in _KEY]
    number = fold(both)
    return number[: trials.num_rows], number[trials.num_rows :]


def _joined(a: pa.ChunkedArray, b: pa.ChunkedArray) -> pa.ChunkedArray:
    return pa.chunked_array([*a.chunks, *b.cast(a.type).chunks], type=a.type)


def _devices(workers: pa.Table) -> Ints:
    """A number for each device itself, whatever worker has it: by its UUID, else by its place."""
    there = set(workers.column_names)
    empty = pa.nulls(workers.num_rows, pa.string())
    uuid = workers["gpu_uuid"] if "gpu_uuid" in there else pa.chunked_array([empty])
    place = [codes(workers[name]) for name in _PLACE if name in there]
    known = np.asarray(pc.is_valid(uuid).to_numpy(), dtype=np.bool_)
    if not place:
        return codes(uuid)
    by_place = fold(place)
    return np.where(known, codes(uuid) + int(by_place.max(initial=0)) + 1, by_place)


_PLACE = ("hostname", "gpu_index", "cpu_affinity")


def _together(cell: Cell, rates: list[list[float]], total: float) -> Span:
    """Rate together over the sum alone; the sum's logarithm has the variance of the delta method."""
    value = (cell.mean or 0.0) / total
    several = all(len(some) > 1 for some in rates)
    if not several or cell.logs is None or cell.logs.count < 2:
        return Span(value, None, None)
    parts = [(cell.logs.variance / cell.logs.count, float(cell.logs.count - 1))]
    for some in rates:
        variance = float(np.var(some, ddof=1)) / len(some) / total**2
        parts.append((variance, float(len(some) - 1)))
    spread = sum_of_variances(*parts)
    if spread is None:
        return Span(value, value, value)
    variance, df = spread
    half = t_quantile(0.975, df) * math.sqrt(variance)
    return Span(value, value * math.exp(-half), value * math.exp(half))
