"""One point of a decoder: its times and rates, and how near it came to the ceilings of its machine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from raybench.analysis.applications import shares_of
from raybench.analysis.estimate import UNKNOWN, Estimate
from raybench.analysis.series import Series  # noqa: TC001 - get_type_hints reads it

if TYPE_CHECKING:
    from raybench.analysis.ceilings import MeasuredCeilings
    from raybench.analysis.cells import Cell

PREFILL, STEP = "prefill", "step"
PARTS = {PREFILL: "prompt", STEP: "context"}
"""The parts of a decoder, and the factor that is the length of each."""


@dataclass(frozen=True)
class DecoderPoint:
    """One point of a decoder; None where unknown.

    Attributes:
        name: of the decoder without its part, e.g. "decoder_125m".
        part: prefill or step.
        length: tokens of the prompt, or of the context that a step reads.
        interval: see `scaling.ScalingEntry`.
        batch_ms: time of a batch by its rate: of a prefill the engine's part of the time to the first
            token, of a step the time per output token.
        tokens_per_s: of all devices; of a prefill tokens of the prompt.
        tokens_per_s_per_device: of one device.
        latency_p50_ms: from submitting a batch to its end, which others in flight delay; median over trials.
        kv_cache_bytes: keys and values of all items of a batch.
        memory_share: of what `copy` reached, see `applications.Application`.
        arithmetic_share: of what `gemm` reached in the same precision.
        marks: see `marks.MARKS`.
    """

    name: str
    part: str
    series: Series
    workers: int | None
    length: int | None
    status: str
    reason: str | None
    trials: int
    interval: str | None = None
    batch_ms: Estimate = UNKNOWN
    tokens_per_s: Estimate = UNKNOWN
    tokens_per_s_per_device: Estimate = UNKNOWN
    latency_p50_ms: float | None = None
    latency_p99_ms: float | None = None
    kv_cache_bytes: int | None = None
    memory_share: Estimate = UNKNOWN
    arithmetic_share: Estimate = UNKNOWN
    verdict: str | None = None
    flags: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()

    @property
    def items_per_s(self) -> Estimate:
        """What captions look at for intervals."""
        return self.tokens_per_s


def part_of(cell: Cell) -> str | None:
    """Return which part of a decoder a point is of; None for any other model."""
    lengths = {part: getattr(cell.series, factor) for part, factor in PARTS.items()}
    return next((part for part, length in lengths.items() if length is not None), None)


def decoder_point(cell: Cell, part: str, measured: MeasuredCeilings) -> DecoderPoint:
    """Return what the trials of one point of a decoder say, beside the ceilings that were measured."""
    length = getattr(cell.series, PARTS[part])
    bare = DecoderPoint(
        name=(cell.series.model or "").removesuffix(f"_{part}"),
        part=part,
        series=cell.series,
        workers=cell.workers,
        length=length,
        status=cell.status,
        reason=cell.reason,
        trials=cell.trials,
        marks=cell.marks,
    )
    if not cell.ok:
        return bare
    shares = {
        one.ceiling.part: one.share
        for one in shares_of(cell, measured.beside(cell.series, cell.workers))
    }
    tokens = cell.estimate.over(1 / (length if part == PREFILL else 1))
    engines = (cell.workers or 1) * (cell.series.instances or 1)
    return replace(
        bare,
        interval=cell.interval,
        batch_ms=time_of(cell.estimate, 1e3 * (cell.series.batch_size or 0) * engines),
        tokens_per_s=tokens,
        tokens_per_s_per_device=tokens.over(cell.workers or 1),
        latency_p50_ms=cell.get("latency_p50_ms"),
        latency_p99_ms=cell.get("latency_p99_ms"),
        kv_cache_bytes=cell.newest.get("kv_cache_bytes"),
        memory_share=shares.get("memory", UNKNOWN),
        arithmetic_share=shares.get("arithmetic", UNKNOWN),
        verdict=cell.verdict,
        flags=cell.flags,
    )


def time_of(rate: Estimate, amount: float) -> Estimate:
    """Return the time of an amount at a rate; the bounds change places."""
    value, lo, hi = (None if not each or each <= 0 else amount / each for each in rate)
    return Estimate(value, hi, lo) if value is not None else UNKNOWN
