"""batch: how throughput rises with the batch, where that ends to pay, and where memory ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from raybench.analysis.frame import as_table
from raybench.analysis.points import Series  # noqa: TC001 - as_table reads the annotation

if TYPE_CHECKING:
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
    return Batch((), ("Not built yet.",))
