"""How throughput grows with the batch, where that stops paying, and where memory ends."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from raybench.analysis.cell_ratios import ratio
from raybench.analysis.cells import Cell, cells
from raybench.analysis.estimate import UNKNOWN, Estimate
from raybench.analysis.gaps import in_words, other_methods, without_numbers
from raybench.analysis.grouping import WITHIN
from raybench.analysis.marks import marks_of
from raybench.analysis.series import Series, without
from raybench.analysis.tables import as_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa


KNEE = 0.95
"""The knee is the smallest batch that reaches this share of the best throughput."""


@dataclass(frozen=True)
class BatchPoint:
    """One batch size of a curve.

    Attributes:
        batch_size: items in a batch of one worker.
        status: ok, or why there is no number; out_of_memory and infeasible are results too.
        items_per_s: mean over trials.
        interval: see `scaling.ScalingEntry`.
        share_of_best: items_per_s over the best of the curve.
        latency_p50_ms: median over trials, as are the other hardware figures.
        knee: whether this is the curve's knee.
        marks: see `marks.MARKS`.
    """

    batch_size: int | None
    status: str
    reason: str | None
    trials: int
    items_per_s: Estimate = UNKNOWN
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
class BatchCurve:
    """Throughput over batch sizes, all else equal.

    Attributes:
        series: with batch_size None.
        points: by batch size.
        best_batch_size: batch of the highest throughput.
        knee_batch_size: smallest batch within 5 % of the best; None with a single point.
        largest_batch_size: largest that ran.
        memory_end_batch_size: smallest that ran out of memory; None if none did.
        memory_end_reason: the engine's message.
        rises: whether every step up is a gain or within noise of one; None with a single point.
        flattens: whether the last doubling gains less than the first; None below 3 points.
        finding: what the curve shows, in one sentence with figures.
        missing: what could not be said and why, a sentence each.
        marks: of any point with a number.
    """

    series: Series
    workers: int | None
    points: tuple[BatchPoint, ...]
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
    """A batch point with the curve it belongs to."""

    series: Series
    workers: int | None
    point: BatchPoint


@dataclass(frozen=True)
class Batch:
    """The batch curves of all series with more than one batch size.

    Attributes:
        ladders: the curves.
        missing: what could not be said and why, a sentence each.
    """

    ladders: tuple[BatchCurve, ...]
    missing: tuple[str, ...]

    def as_table(self) -> pa.Table:
        """Return a row for each batch point, with the columns of its curve's series."""
        rows = [
            _Row(curve.series, curve.workers, point)
            for curve in self.ladders
            for point in curve.points
        ]
        return as_table(_Row, rows)


def batch(trials: pa.Table) -> Batch:
    """Return the batch curves in a `trials` table, each with its knee and its memory end.

    Only closed-loop rows count: in open loop the rate is what was asked for.
    """
    every = cells(trials)
    groups: dict[tuple[Series, int | None], list[Cell]] = defaultdict(list)
    for cell in every:
        if cell.series.batch_size and not cell.series.is_open:
            groups[without(cell.series, "batch_size"), cell.workers].append(cell)
    curves = tuple(
        batch_curve(members)
        for members in groups.values()
        if len({cell.series.batch_size for cell in members}) > 1
    )
    return Batch(curves, without_numbers(every) or (*_missing(curves), *other_methods(every)))


def _missing(curves: Sequence[BatchCurve]) -> tuple[str, ...]:
    if curves:
        return ()
    return ("No batch curve: every series has a single batch size. Measure batch_size=[1,8,32].",)


def _size(cell: Cell) -> tuple[int, bool]:
    return cell.series.batch_size or 0, not cell.ok


def batch_curve(cells: Sequence[Cell]) -> BatchCurve:
    """Return the curve of cells that differ only in their batch size."""
    ordered = sorted(cells, key=_size)
    good = [cell for cell in ordered if cell.ok]
    best = max(good, key=lambda cell: cell.mean or 0.0, default=None)
    most = best.mean if best is not None else None
    enough = [cell for cell in good if most and (cell.mean or 0.0) >= KNEE * most]
    knee = enough[0] if len(good) > 1 else None
    end = _memory_end(ordered)
    curve = BatchCurve(
        series=without(ordered[0].series, "batch_size"),
        workers=ordered[0].workers,
        points=tuple(_point(cell, most, cell is knee) for cell in ordered),
        best_batch_size=best.series.batch_size if best is not None else None,
        best_items_per_s=most,
        knee_batch_size=knee.series.batch_size if knee is not None else None,
        largest_batch_size=good[-1].series.batch_size if good else None,
        memory_end_batch_size=end.series.batch_size if end is not None else None,
        memory_end_reason=end.reason if end is not None else None,
        rises=_rises(good),
        flattens=_flattens(good),
        finding="",
        missing=_lacking(ordered, good),
        marks=marks_of(good),
    )
    return replace(curve, finding=_finding(curve, good))


def _point(cell: Cell, most: float | None, knee: bool) -> BatchPoint:
    return BatchPoint(
        batch_size=cell.series.batch_size,
        status=cell.status,
        reason=cell.reason,
        trials=cell.trials,
        items_per_s=cell.estimate,
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


def _memory_end(cells: Sequence[Cell]) -> Cell | None:
    """Return the smallest batch that ran out of memory, else the smallest skipped for that."""
    ran_out = [cell for cell in cells if cell.status == "out_of_memory"]
    skipped = [
        cell
        for cell in cells
        if cell.status == "infeasible" and "memory" in (cell.reason or "").lower()
    ]
    return min(ran_out or skipped, key=_size, default=None)


def _rises(good: Sequence[Cell]) -> bool | None:
    if len(good) < 2:
        return None
    return all(_no_loss(after, before) for before, after in pairwise(good))


def _no_loss(after: Cell, before: Cell) -> bool:
    """Tell whether a step up is a gain or within noise of one.

    With 2 trials on both sides the interval of the ratio decides, else whether the intervals of
    the two trials overlap, else the bare figures.
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
    """Return the growth for each doubling of the batch on this step, as a factor."""
    sizes = (after.series.batch_size or 1) / (before.series.batch_size or 1)
    return float(ratio(after, before).value ** (1 / math.log2(sizes)))


def _finding(curve: BatchCurve, good: Sequence[Cell]) -> str:
    if not good:
        return "No batch size has a number."
    most = in_words(curve.best_items_per_s or 0.0)
    clauses = [f"Batch {curve.best_batch_size} gives the most, {most} items/s"]
    if curve.knee_batch_size == curve.best_batch_size:
        clauses.append("no smaller batch comes within 5 % of it")
    elif curve.knee_batch_size is not None:
        clauses.append(f"batch {curve.knee_batch_size} is the smallest within 5 % of it")
    if curve.rises and len(good) > 1:
        first, last = good[0].series.batch_size, good[-1].series.batch_size
        growth = ratio(good[-1], good[0]).value
        slope = " and flattens" if curve.flattens else ""
        rises = "rises" if growth > 1 else "does not rise"
        clauses.append(
            f"throughput {rises}{slope}, {growth:.3g} times from batch {first} to {last}"
        )
    elif curve.rises is False:
        clauses.append("throughput does not rise at every step")
    if curve.memory_end_batch_size is not None:
        clauses.append(f"memory ends at batch {curve.memory_end_batch_size}")
    return "; ".join(clauses) + "."


def _lacking(cells: Sequence[Cell], good: Sequence[Cell]) -> tuple[str, ...]:
    sentences = []
    if len(good) < 2:
        sentences.append(f"No knee: {len(good)} batch sizes with a number, 2 are needed.")
    if len(good) < 3:
        sentences.append(
            f"Whether it flattens: {len(good)} batch sizes with a number, 3 are needed."
        )
    if _memory_end(cells) is None:
        sentences.append("No memory end: no batch size ran out of memory.")
    lost = [f"batch {c.series.batch_size}: {c.status}" for c in cells if not c.ok]
    if lost:
        sentences.append(f"Without a number: {', '.join(lost)}.")
    return tuple(sentences)
