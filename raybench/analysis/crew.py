"""Crew: the workers behind the trials: which was slowest, and what each device does alone."""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.analysis.points import singles
from raybench.statistics import Span, sum_of_variances, t_quantile

if TYPE_CHECKING:
    import pyarrow as pa

    from raybench.analysis.points import Cell, Series

_COLUMNS = (
    "run_id",
    "point_id",
    "trial",
    "worker",
    "hostname",
    "device",
    "gpu_index",
    "gpu_uuid",
    "cpu_affinity",
    "items_per_s",
)


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
    """The `workers` table of the same rows, by trial."""

    def __init__(self, trials: pa.Table, workers: pa.Table) -> None:
        there = [name for name in _COLUMNS if name in workers.column_names]
        self._of: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for row in workers.select(there).to_pylist():
            self._of[row["run_id"], row["point_id"], row["trial"]].append(row)
        keys = (trials[name].to_pylist() for name in ("run_id", "point_id", "trial"))
        self._keys = list(zip(*keys, strict=True))
        self._solo = self._solo_rates(trials)

    def _solo_rates(self, trials: pa.Table) -> dict[tuple[Series, str], list[float]]:
        """Rates of one-worker trials, by series and device."""
        found: dict[tuple[Series, str], list[float]] = defaultdict(list)
        for series, place, rate in singles(trials):
            for row in self._of.get(self._keys[place], [])[:1]:
                found[series, _identity(row)].append(rate)
        return found

    def slowest(self, cell: Cell) -> Slowest | None:
        """None with one worker, or without rows of workers."""
        seen: list[tuple[str, float]] = []
        for place in cell.rows:
            rows = [row for row in self._of.get(self._keys[place], []) if row.get("items_per_s")]
            if len(rows) > 1:
                least = min(rows, key=lambda row: float(row["items_per_s"]))
                mean = statistics.fmean(row["items_per_s"] for row in rows)
                seen.append((_name(least), least["items_per_s"] / mean))
        if not seen:
            return None
        name, _ = Counter(name for name, _ in seen).most_common(1)[0]
        return Slowest(name, statistics.median(share for who, share in seen if who == name))

    def alone(self, cell: Cell) -> Alone | None:
        """What the cell's devices do alone; None without rows of workers."""
        rows = self._of.get(self._keys[cell.rows[-1]], [])
        if not rows or cell.mean is None:
            return None
        rates = [self._solo.get((cell.series, _identity(row)), []) for row in rows]
        measured = sum(bool(some) for some in rates)
        if measured < len(rates):
            return Alone(len(rates), measured, None, None)
        total = sum(statistics.fmean(some) for some in rates)
        return Alone(len(rates), measured, total, _together(cell, rates, total))


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


def _identity(row: dict[str, Any]) -> str:
    """The device itself, whatever worker has it."""
    if row.get("gpu_uuid"):
        return str(row["gpu_uuid"])
    return f"{row.get('hostname')}/{row.get('gpu_index')}/{row.get('cpu_affinity')}"


def _name(row: dict[str, Any]) -> str:
    index = row.get("gpu_index")
    where = f" on {row['hostname']}" if row.get("hostname") else ""
    which = f", GPU {index}" if index is not None else ""
    return f"worker {row.get('worker')}{where}{which}"
