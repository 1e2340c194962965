"""Ladders of decoders over batch, prompt and context: what more at once gains, and what longer costs."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raybench.analysis.decoder_points import STEP
from raybench.analysis.gaps import in_words
from raybench.analysis.marks import marks_of
from raybench.analysis.series import Series, without

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.analysis.decoder_points import DecoderPoint


@dataclass(frozen=True)
class DecoderLadder:
    """Points of one part of a decoder that differ in their batch or length only.

    Attributes:
        series: without the factor of the ladder.
        along: the factor: batch_size, prompt or context.
        points: from the smallest.
        memory_end: smallest value that ran out of memory; None if none did.
        finding: what the ladder shows, in one sentence with figures.
        missing: what limits it, a sentence each.
    """

    name: str
    part: str
    series: Series
    workers: int | None
    along: str
    points: tuple[DecoderPoint, ...]
    memory_end: int | None
    finding: str
    missing: tuple[str, ...]
    marks: tuple[str, ...]

    def place(self, point: DecoderPoint) -> int:
        """Return where on the ladder a point is."""
        return int(getattr(point.series, self.along) or 0)


def ladders(points: Sequence[DecoderPoint], along: str) -> list[DecoderLadder]:
    """Return the ladders over a factor: points that share all others, with two values or more."""
    groups: dict[tuple[Series, int | None], list[DecoderPoint]] = defaultdict(list)
    for point in points:
        if getattr(point.series, along) is not None:
            groups[without(point.series, along), point.workers].append(point)
    return [
        _ladder(series, members, along)
        for (series, _), members in groups.items()
        if len({getattr(point.series, along) for point in members}) > 1
    ]


def _ladder(series: Series, members: Sequence[DecoderPoint], along: str) -> DecoderLadder:
    ordered = sorted(
        members, key=lambda point: (getattr(point.series, along), point.status != "ok")
    )
    good = [point for point in ordered if point.batch_ms.value is not None]
    ended = [point for point in ordered if point.status == "out_of_memory"]
    end = getattr(ended[0].series, along) if ended else None
    finding = _over_batch(good) if along == "batch_size" else _over_length(good, along)
    clauses = [finding] if finding else []
    if end is not None:
        clauses.append(f"memory ends at {_value(along, end)}")
    text = "; ".join(clauses)
    return DecoderLadder(
        name=ordered[0].name,
        part=ordered[0].part,
        series=series,
        workers=ordered[0].workers,
        along=along,
        points=tuple(ordered),
        memory_end=end,
        finding=f"{text[:1].upper()}{text[1:]}." if text else "Nothing has a number.",
        missing=() if end is not None else (f"No memory end: no {along} ran out of memory.",),
        marks=marks_of(good),
    )


def _value(along: str, value: int) -> str:
    return f"batch {value:,}" if along == "batch_size" else f"a {along} of {value:,}"


def _over_batch(good: Sequence[DecoderPoint]) -> str:
    """Return what more sequences at once gain in tokens/s and cost in time."""
    if len(good) < 2:
        return ""
    most = max(good, key=lambda point: point.tokens_per_s.value or 0.0)
    first = good[0]
    gain = (most.tokens_per_s.value or 0.0) / (first.tokens_per_s.value or 1.0)
    what = "a token" if first.part == STEP else "a prefill"
    return (
        f"batch {most.series.batch_size} gives the most, {in_words(most.tokens_per_s.value or 0.0)} tokens/s, "
        f"{gain:.3g} times batch {first.series.batch_size}; {what} takes {in_words(most.batch_ms.value or 0.0)} ms "
        f"there and {in_words(first.batch_ms.value or 0.0)} ms at batch {first.series.batch_size}"
    )


def _over_length(good: Sequence[DecoderPoint], along: str) -> str:
    """Return what longer sequences cost."""
    if len(good) < 2:
        return ""
    first, last = good[0], good[-1]
    times = [point.batch_ms.value or 0.0 for point in (first, last)]
    lengths = [int(getattr(point.series, along)) for point in (first, last)]
    what = "a token takes" if first.part == STEP else "a prefill takes"
    each = (times[1] - times[0]) / (lengths[1] - lengths[0])
    cost = f"{each:.3g} ms" if each >= 1 else f"{1e3 * each:.3g} us"
    more = f"{cost} more for each token of it" if _surely_more(last, first) else "not surely longer"
    return (
        f"{what} {in_words(times[0])} ms with {_value(along, lengths[0])} and {in_words(times[1])} ms with "
        f"{_value(along, lengths[1])}: {more}"
    )


def _surely_more(last: DecoderPoint, first: DecoderPoint) -> bool:
    """Return whether a point takes longer than another, beyond their intervals where they have any."""
    least = last.batch_ms.value if last.batch_ms.lo is None else last.batch_ms.lo
    most = first.batch_ms.value if first.batch_ms.hi is None else first.batch_ms.hi
    return least is not None and most is not None and least > most
