"""Lines below the result table on decoders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.report.decoder_names import ladder_name, naming_of
from raybench.report.formatting import four_digits, with_half_width
from raybench.report.labels import joined, size
from raybench.report.sections.sentences import marked
from raybench.report.terminal.aligned import aligned, share_in_percent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from raybench.analysis.decoder_points import DecoderPoint
    from raybench.analysis.decoding import Decoding
    from raybench.analysis.estimate import Estimate


def of_decoding(answer: Decoding) -> list[str]:
    """Return a table of decoders, what their ladders show, and the time of requests."""
    points = [point for point in answer.points if point.batch_ms.value is not None]
    if not points:
        return []
    lines = ["Decoders: the engine's part of the time to the first token (prefill) and of that of each "
             "further token (step)", *_decoders(points)]  # fmt: skip
    lines += [
        f"{ladder_name(ladder, answer.ladders)}: {marked(ladder.finding, ladder.marks)}"
        for ladder in answer.ladders
    ]
    requests = naming_of(answer.requests)
    for one in answer.requests:
        name = joined(one.name, requests.label(one.series))
        said = (
            f"a prompt of {one.prompt:,} and {one.new_tokens:,} new tokens take "
            f"{_ms(one.request_ms)}, {four_digits(one.tokens_per_s.value)} tokens/s of all "
            f"(first token {_ms(one.first_token_ms)}, each further one {_ms(one.token_ms)} "
            f"{one.basis})"
        )
        lines.append(f"{name}: {marked(said, one.marks)}")
    return [*lines, *answer.missing]


def _ms(time: Estimate) -> str:
    """Return a time with its unit before its interval."""
    value, gap, interval = with_half_width(time).partition(" ")
    return f"{value} ms{gap}{interval}"


def _decoders(points: Sequence[DecoderPoint]) -> Iterator[str]:
    naming = naming_of(points)
    titles = ("decoder", "part", "length", "ms", "tokens/s", "a device", "KV cache", "memory", "")
    rows = [
        (
            joined(point.name, naming.label(point.series)),
            point.part,
            f"{point.length:,}",
            with_half_width(point.batch_ms),
            four_digits(point.tokens_per_s.value),
            four_digits(point.tokens_per_s_per_device.value) if (point.workers or 1) > 1 else "",
            "" if point.kv_cache_bytes is None else size(point.kv_cache_bytes),
            share_in_percent(point.memory_share.value),
            "SIMULATED" if point.series.simulated else "",
        )
        for point in points
    ]
    return aligned(titles, rows, "llrrrrrrl")
