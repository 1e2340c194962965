"""Requests to a decoder: a prompt and the tokens that follow it, from a prefill and steps."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raybench.analysis.decoder_points import PARTS, PREFILL, STEP, time_of
from raybench.analysis.estimate import Estimate
from raybench.analysis.marks import union
from raybench.analysis.series import Series, without

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

    decoder: str
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


def requests(points: Sequence[DecoderPoint], new_tokens: int) -> Iterator[DecoderRequest]:
    """Yield the request of each prefill whose decoder has steps under the same conditions."""
    steps: dict[object, list[DecoderPoint]] = defaultdict(list)
    for point in points:
        if point.part == STEP and point.batch_ms.value is not None and point.length:
            steps[_of_request(point)].append(point)
    for first in points:
        others = steps.get(_of_request(first), [])
        if first.part == PREFILL and first.batch_ms.value is not None and first.length and others:
            yield _request(first, others, new_tokens)


def _of_request(point: DecoderPoint) -> tuple[str, Series, int | None]:
    """Return what the prefill and the steps of a request share."""
    return point.decoder, without(point.series, "model", *PARTS.values()), point.workers


def _request(first: DecoderPoint, steps: Sequence[DecoderPoint], new_tokens: int) -> DecoderRequest:
    prompt = first.length or 0
    token, basis, used = _token_time(steps, prompt + (new_tokens - 1) / 2)
    rest = new_tokens - 1
    whole = Estimate(
        *(_sum(one, other, rest) for one, other in zip(first.batch_ms, token, strict=True))
    )
    sequences = (
        (first.series.batch_size or 0) * (first.workers or 1) * (first.series.instances or 1)
    )
    return DecoderRequest(
        decoder=first.decoder,
        series=first.series,
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


def why_none(points: Sequence[DecoderPoint], known: bool) -> str:
    """Return why there is no request, in a sentence.

    Args:
        points: of all decoders.
        known: whether the number of new tokens is.
    """
    if not known:
        return "No time of a request: no row names new_tokens. Write new_tokens=128 beside prompt and context."
    parts = {point.part for point in points if point.batch_ms.value is not None}
    lacking = [part for part in PARTS if part not in parts]
    if lacking:
        return f"No time of a request: {' and '.join(lacking)} has no number. Measure both parts."
    return (
        "No time of a request: prefill and step were measured with different batches or settings."
    )
