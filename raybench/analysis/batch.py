"""batch: how throughput rises with the batch, where that ends to pay, and where memory ends."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from raybench.analysis.cells import (
    WITHIN,
    Cell,
    Series,
    cells,
    kin,
    number,
    other_methods,
    ratio,
    union,
    without_numbers,
)
from raybench.analysis.tables import as_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa


KNEE = 0.95
"""The knee is the smallest batch that reaches this share of the best throughput."""


@dataclass(frozen=True)
class Rung:
    """One batch size of a curve.

    Attributes:
        batch_size: items in a batch of one worker.
        status: ok, or why there is no number: out_of_memory and infeasible are results too.
        share_of_best: items_per_s over the best of the curve.
        latency_p50_ms: median over trials, as are the other hardware figures.
        knee: whether this is the curve's knee.
        marks: see `points.MARKS`.
    """

    batch_size: int | None
    status: str
    reason: str | None
    trials: int
    items_per_s: float | None = None
    items_per_s_lo: float | None = None
    items_per_s_hi: float | None = None
    interval: str | None = None
    share_of_best: float | None = None
    latency_p50_ms: float | None = None
    latency_p99_ms: float | None = None
    gpu_mem_peak_mib: float | None = None
    items_per_j: float | None = None
    knee: bool = False
    verdict: str | None = None
    flags: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ladder:
    """Throughput over batch sizes, all else equal.

    Attributes:
        series: with batch_size None.
        rungs: by batch size.
        best_batch_size: of the highest throughput.
        knee_batch_size: smallest batch within 5 % of the best; None with a single rung.
        largest_batch_size: largest that ran.
        memory_end_batch_size: smallest that ran out of memory; None when none did.
        memory_end_reason: in the engine's words.
        rises: every step up is a gain or within noise of one; None with a single rung.
        flattens: the last doubling brings a smaller gain than the first; None below 3 rungs.
        finding: what the curve says, in one sentence with figures.
        missing: what could not be said and why, a sentence each.
        marks: of any rung.
    """

    series: Series
    workers: int | None
    rungs: tuple[Rung, ...]
    best_batch_size: int | None
    best_items_per_s: float | None
    knee_batch_size: int | None
    largest_batch_size: int | None
    memory_end_batch_size: int | None
    memory_end_reason: str | None
    rises: bool | None
    flattens: bool | None
    finding: str
    missing: tuple[str, ...]
    marks: tuple[str, ...]


@dataclass(frozen=True)
class _Row:
    """A rung with the curve that it belongs to."""

    series: Series
    workers: int | None
    rung: Rung


@dataclass(frozen=True)
class Batch:
    """The curves of all series that have more than one batch size.

    Attributes:
        missing: what could not be said and why, a sentence each.
    """

    ladders: tuple[Ladder, ...]
    missing: tuple[str, ...]

    def as_table(self) -> pa.Table:
        """A row a rung, with the columns of its curve's series."""
        rows = [
            _Row(ladder.series, ladder.workers, r) for ladder in self.ladders for r in ladder.rungs
        ]
        return as_table(_Row, rows)


def batch(trials: pa.Table) -> Batch:
    """The batch curves in a `trials` table, each with its knee and its memory end."""
    made = cells(trials)
    curves: dict[tuple[Series, int | None], list[Cell]] = defaultdict(list)
    for cell in (cell for cell in made if cell.series.batch_size):
        curves[kin(cell.series, "batch_size"), cell.workers].append(cell)
    ladders = tuple(
        ladder(some)
        for some in curves.values()
        if len({cell.series.batch_size for cell in some}) > 1
    )
    return Batch(ladders, without_numbers(made) or (*_missing(ladders), *other_methods(made)))


def _missing(ladders: Sequence[Ladder]) -> tuple[str, ...]:
    if ladders:
        return ()
    return ("No batch curve: every series has a single batch size. Measure batch_size=[1,8,32].",)


def _size(cell: Cell) -> tuple[int, bool]:
    return cell.series.batch_size or 0, not cell.ok


def ladder(cells: Sequence[Cell]) -> Ladder:
    """The curve of cells that differ in nothing but their batch size."""
    some = sorted(cells, key=_size)
    good = [cell for cell in some if cell.ok]
    best = max(good, key=lambda cell: cell.mean or 0.0, default=None)
    most = best.mean if best is not None else None
    enough = [cell for cell in good if most and (cell.mean or 0.0) >= KNEE * most]
    knee = enough[0] if len(good) > 1 else None
    end = _memory_end(some)
    rises, flattens = _rises(good), _flattens(good)
    made = Ladder(
        series=kin(some[0].series, "batch_size"),
        workers=some[0].workers,
        rungs=tuple(_rung(cell, most, cell is knee) for cell in some),
        best_batch_size=best.series.batch_size if best is not None else None,
        best_items_per_s=most,
        knee_batch_size=knee.series.batch_size if knee is not None else None,
        largest_batch_size=good[-1].series.batch_size if good else None,
        memory_end_batch_size=end.series.batch_size if end is not None else None,
        memory_end_reason=end.reason if end is not None else None,
        rises=rises,
        flattens=flattens,
        finding="",
        missing=_lacking(some, good),
        marks=union(cell.marks for cell in good),
    )
    return replace(made, finding=_finding(made, good))


def _rung(cell: Cell, most: float | None, knee: bool) -> Rung:
    return Rung(
        batch_size=cell.series.batch_size,
        status=cell.status,
        reason=cell.reason,
        trials=cell.trials,
        items_per_s=cell.mean,
        items_per_s_lo=cell.lo,
        items_per_s_hi=cell.hi,
        interval=cell.interval,
        share_of_best=cell.mean / most if cell.mean is not None and most else None,
        latency_p50_ms=cell.get("latency_p50_ms"),
        latency_p99_ms=cell.get("latency_p99_ms"),
        gpu_mem_peak_mib=cell.get("gpu_mem_peak_mib"),
        items_per_j=cell.get("items_per_j"),
        knee=knee,
        verdict=cell.verdict,
        flags=cell.flags,
        marks=cell.marks,
    )


def _memory_end(some: Sequence[Cell]) -> Cell | None:
    """The smallest batch without memory enough: it ran out, or what came before it had."""
    ran_out = [cell for cell in some if cell.status == "out_of_memory"]
    told = [c for c in some if c.status == "infeasible" and "memory" in (c.reason or "").lower()]
    return min(ran_out or told, key=_size, default=None)


def _rises(good: Sequence[Cell]) -> bool | None:
    if len(good) < 2:
        return None
    return all(_no_loss(after, before) for before, after in pairwise(good))


def _no_loss(after: Cell, before: Cell) -> bool:
    """Whether a step up is a gain, or cannot be told from one.

    From 2 trials on either side by the interval of the ratio, else by whether the intervals of
    the two trials meet, else as the figures stand.
    """
    span = ratio(after, before)
    if span.value >= 1:
        return True
    if span.hi is not None:
        return span.hi >= 1
    if after.interval == before.interval == WITHIN and after.hi is not None:
        return before.lo is not None and after.hi >= before.lo
    return False


def _flattens(good: Sequence[Cell]) -> bool | None:
    if len(good) < 3:
        return None
    return _gain_of_doubling(good[-2], good[-1]) < _gain_of_doubling(good[0], good[1])


def _gain_of_doubling(before: Cell, after: Cell) -> float:
    """Growth for each doubling of the batch on this step, as a factor."""
    sizes = (after.series.batch_size or 1) / (before.series.batch_size or 1)
    return float(ratio(after, before).value ** (1 / math.log2(sizes)))


def _finding(curve: Ladder, good: Sequence[Cell]) -> str:
    if not good:
        return "No batch size has a number."
    most = number(curve.best_items_per_s or 0.0)
    told = [f"Batch {curve.best_batch_size} gives the most, {most} items/s"]
    if curve.knee_batch_size == curve.best_batch_size:
        told.append("no smaller batch comes within 5 % of it")
    elif curve.knee_batch_size is not None:
        told.append(f"batch {curve.knee_batch_size} is the smallest within 5 % of it")
    if curve.rises and len(good) > 1:
        first, last = good[0].series.batch_size, good[-1].series.batch_size
        growth = ratio(good[-1], good[0]).value
        slope = " and flattens" if curve.flattens else ""
        told.append(f"throughput rises{slope}, {growth:.3g} times from batch {first} to {last}")
    elif curve.rises is False:
        told.append("throughput does not rise at every step")
    if curve.memory_end_batch_size is not None:
        told.append(f"memory ends at batch {curve.memory_end_batch_size}")
    return "; ".join(told) + "."


def _lacking(some: Sequence[Cell], good: Sequence[Cell]) -> tuple[str, ...]:
    told = []
    if len(good) < 2:
        told.append(f"No knee: {len(good)} batch sizes with a number, 2 are needed.")
    if len(good) < 3:
        told.append(f"Whether it flattens: {len(good)} batch sizes with a number, 3 are needed.")
    if _memory_end(some) is None:
        told.append("No memory end: no batch size ran out of memory.")
    lost = [f"batch {c.series.batch_size}: {c.status}" for c in some if not c.ok]
    if lost:
        told.append(f"Without a number: {', '.join(lost)}.")
    return tuple(told)
