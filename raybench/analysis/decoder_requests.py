"""Requests to a decoder: a prompt and the tokens that follow it, from a prefill and steps."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raybench.analysis.decoder_points import PARTS, PREFILL, STEP, time_of
from raybench.analysis.estimate import Estimate
from raybench.analysis.marks import union
from raybench.analysis.series import Series, without
from raybench.experiment import LENGTHS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from raybench.analysis.decoder_points import DecoderPoint


@dataclass(frozen=True)
class DecoderRequest:
    """A prompt and the tokens that follow it, from a prefill and the steps of the same batch.

    Attributes:
        series: of the prefill.
        new_tokens: that are generated; the prefill gives the first.
        first_token_ms: the engine's part of the time to the first token.
        token_ms: time per output token after it.
        request_ms: of the whole request; its interval adds those of its parts.
        tokens_per_s: new tokens of all sequences and devices.
        basis: at which context `token_ms` was measured, in words.
    """

    name: str
    series: Series
    workers: int | None
    prompt: int
    new_tokens: int
    first_token_ms: Estimate
    token_ms: Estimate
    request_ms: Estimate
    tokens_per_s: Estimate
    basis: str
    marks: tuple[str, ...]


def requests(points: Sequence[DecoderPoint], new_tokens: int | None) -> Iterator[DecoderRequest]:
    """Yield the request of each prefill whose decoder has steps under the same conditions.

    Args:
        points: of all decoders.
        new_tokens: of each request; None takes those that the steps were measured with.
    """
    steps: dict[object, dict[int, list[DecoderPoint]]] = defaultdict(lambda: defaultdict(list))
    for point in points:
        if point.part == STEP and point.batch_ms.value is not None and point.length:
            count = point.series.new_tokens if new_tokens is None else new_tokens
            steps[_of_request(point)][count or 0].append(point)
    for first in points:
        if first.part == PREFILL and first.batch_ms.value is not None and first.length:
            for count, others in sorted(steps.get(_of_request(first), {}).items()):
                if count:
                    yield _request(first, others, count)


def _of_request(point: DecoderPoint) -> tuple[str, Series, int | None]:
    """Return what the prefill and the steps of a request share."""
    return point.name, without(point.series, "model", *LENGTHS), point.workers


def _request(first: DecoderPoint, steps: Sequence[DecoderPoint], new_tokens: int) -> DecoderRequest:
    prompt = first.length or 0
    # the first step reads the prompt, the last all but the last two of the tokens
    token, basis, used = _token_time(steps, prompt + max(new_tokens - 2, 0) / 2)
    both = zip(first.batch_ms, token, strict=True)
    whole = Estimate(*(_sum(one, other, new_tokens - 1) for one, other in both))
    series = first.series
    sequences = (series.batch_size or 0) * (first.workers or 1) * (series.instances or 1)
    return DecoderRequest(
        name=first.name,
        series=series,
        workers=first.workers,
        prompt=prompt,
        new_tokens=new_tokens,
        first_token_ms=first.batch_ms,
        token_ms=token,
        request_ms=whole,
        tokens_per_s=time_of(whole, 1e3 * sequences * new_tokens),
        basis=basis,
        marks=union((first.marks, *(point.marks for point in used))),
    )


def _sum(first: float | None, token: float | None, count: int) -> float | None:
    return None if first is None or token is None else first + count * token


def _token_time(
    steps: Sequence[DecoderPoint], context: float
) -> tuple[Estimate, str, tuple[DecoderPoint, ...]]:
    """Return the time per output token at a context, where it was measured, and by which points.

    Between two measured contexts it is on the line through both; elsewhere it is that of the nearest.
    """
    ordered = sorted(steps, key=lambda point: point.length or 0)
    below = [point for point in ordered if (point.length or 0) <= context]
    above = [point for point in ordered if (point.length or 0) >= context]
    if below and above and below[-1].length != above[0].length:
        low, high = below[-1], above[0]
        at = (context - (low.length or 0)) / ((high.length or 0) - (low.length or 0))
        parts = zip(low.batch_ms, high.batch_ms, strict=True)
        mixed = (None if a is None or b is None else a + at * (b - a) for a, b in parts)
        basis = f"on the line between contexts {low.length:,} and {high.length:,}"
        return Estimate(*mixed), basis, (low, high)
    nearest = above[0] if above else below[-1]
    side = "" if below and above else ", longer than it has" if above else ", shorter than it has"
    return nearest.batch_ms, f"at a context of {nearest.length:,}{side}", (nearest,)


def why_none(points: Sequence[DecoderPoint]) -> str:
    """Return why there is no request, in a sentence."""
    parts = {point.part for point in points if point.batch_ms.value is not None}
    lacking = [part for part in PARTS if part not in parts]
    if lacking:
        return f"No time of a request: {' and '.join(lacking)} has no number. Measure both parts."
    return (
        "No time of a request: prefill and step were measured with different batches or settings."
    )
