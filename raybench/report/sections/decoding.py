"""Section on decoders: times and rates over batch and context, and requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.report import columns
from raybench.report.decoder_names import ladder_name, naming_of
from raybench.report.document import Paragraph, Section
from raybench.report.figures.decoding import figures
from raybench.report.sections.sentences import marked, missing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.analysis.decoder_points import DecoderPoint
    from raybench.analysis.decoder_requests import DecoderRequest
    from raybench.report.analyses import Answers
    from raybench.report.document import Part, Table
    from raybench.report.labels import Naming


def decoding(answers: Answers) -> Section | None:
    """Return figures, findings and tables of decoders; None without one."""
    answer = answers.decoding
    if not answer.points:
        return None
    parts: list[Part] = [
        Paragraph(
            marked(ladder.finding, ladder.marks), "good", f"{ladder_name(ladder, answer.ladders)}."
        )
        for ladder in answer.ladders
    ]
    parts += figures(answer.ladders)
    if answer.requests:
        parts.append(_requests(answer.requests))
    parts.append(_points(answer.points))
    lacking = [
        f"{ladder_name(ladder, answer.ladders)}: {sentence}"
        for ladder in answer.ladders
        for sentence in ladder.missing
    ]
    return Section("decoding", "Decoders", [*parts, *missing([*answer.missing, *lacking])])


def _requests(requests: Sequence[DecoderRequest]) -> Table:
    naming = naming_of(requests)
    return columns.table(
        "requests",
        "A prompt and the tokens that follow it, of all sequences of a batch at once. The prefill gives the first "
        "token, and each further one takes the time of a step at the context that the last column names. The "
        "interval of a request adds those of its parts. Only the engine's part: no tokeniser, scheduler or network.",
        columns.texts("decoder", [one.name for one in requests], "factor"),
        *_factors(naming, requests),
        columns.counts("workers", [one.workers for one in requests]),
        columns.counts("prompt", [one.prompt for one in requests]),
        columns.counts("new tokens", [one.new_tokens for one in requests]),
        columns.numbers("first token", "ms", [one.first_token_ms.value for one in requests]),
        columns.numbers("each further", "ms", [one.token_ms.value for one in requests]),
        columns.numbers("request", "ms", [one.request_ms.value for one in requests]),
        columns.half_widths([one.request_ms for one in requests]),
        columns.numbers("new tokens", "/s", [one.tokens_per_s.value for one in requests]),
        columns.texts("time of a token", [one.basis for one in requests]),
        columns.marks(requests),
    )


def _points(points: Sequence[DecoderPoint]) -> Table:
    naming = naming_of(points)
    mib = [None if p.kv_cache_bytes is None else p.kv_cache_bytes / 2**20 for p in points]
    return columns.table(
        "decoders",
        "Time of a batch by its rate: of a prefill the time to the first token, of a step the time per output "
        "token. Tokens of a prefill are those of its prompt. Memory is the share of what copy reached that "
        "weights, keys and values need; reading alone may be faster than copy, which writes as much as it reads.",
        columns.texts("decoder", [point.name for point in points], "factor"),
        columns.texts("part", [point.part for point in points], "factor"),
        *_factors(naming, points),
        columns.counts("workers", [point.workers for point in points]),
        columns.counts("length", [point.length for point in points]),
        columns.numbers("time", "ms", [point.batch_ms.value for point in points]),
        columns.half_widths([point.batch_ms for point in points]),
        columns.numbers("tokens", "/s", [point.tokens_per_s.value for point in points]),
        columns.numbers("of a device", "/s", [p.tokens_per_s_per_device.value for p in points]),
        columns.numbers("KV cache", "MiB", mib),
        columns.fixed("memory", "%", [point.memory_share.value for point in points], 1, 100),
        columns.fixed("arithmetic", "%", [p.arithmetic_share.value for p in points], 1, 100),
        columns.repeats(points),
        columns.verdicts(points),
        columns.texts("why there is none", [point.reason for point in points]),
    )


def _factors(
    naming: Naming, items: Sequence[DecoderPoint] | Sequence[DecoderRequest]
) -> list[columns.Filled]:
    """Return a column for every other factor that differs."""
    return columns.factors(naming, [item.series for item in items]) if naming.varying else []
