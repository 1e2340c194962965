"""Lines below the result table on applications, and on decoders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.report.decoder_names import ladder_name, naming_of
from raybench.report.formatting import four_digits, with_half_width
from raybench.report.labels import Naming, joined, size, workers_label
from raybench.report.sections.sentences import marked
from raybench.report.terminal.aligned import aligned

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from raybench.analysis.applications import Application, Applications
    from raybench.analysis.decoder_points import DecoderPoint
    from raybench.analysis.decoding import Decoding


def of_applications(answer: Applications) -> list[str]:
    """Return a table of what each application is bound by; nothing where no ceiling was measured."""
    points = answer.known
    if not points:
        return []
    naming = Naming([point.series for point in points], without=("new_tokens",))
    several = len({point.workers for point in points}) > 1
    names = [
        naming.title(point.series, workers_label(point.workers) if several else "")
        for point in points
    ]
    return ["Applications, and how near each came to what gemm and copy reached here",
            *_table(names, points), *_undetermined(names, points)]  # fmt: skip


def _table(names: Sequence[str], points: Sequence[Application]) -> Iterator[str]:
    titles = ("application", "items/s", "p50 ms", "arithmetic", "memory", "link", "bound by", "")
    rows = [
        (
            name,
            with_half_width(point.items_per_s),
            "" if point.latency_p50_ms is None else four_digits(point.latency_p50_ms),
            percent(point.arithmetic_share.value),
            memory_range(point),
            percent(point.link_share.value),
            point.bound_by or "",
            "SIMULATED" if point.series.simulated else "",
        )
        for name, point in zip(names, points, strict=True)
    ]
    return aligned(titles, rows, "lrrrrrll")


def _undetermined(names: Sequence[str], points: Sequence[Application]) -> list[str]:
    """Return what would decide, each sentence once with the applications that it is about."""
    open_ones: dict[str, list[str]] = {}
    for name, point in zip(names, points, strict=True):
        if point.decide:
            open_ones.setdefault(point.decide, []).append(name)
    return [f"  not determined: {'; '.join(of)}. {text}" for text, of in open_ones.items()]


def percent(share: float | None) -> str:
    """Return a share in percent; empty if unknown."""
    if share is None:
        return ""
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.1f} %"


def memory_range(point: Application) -> str:
    """Return the least share of memory, and the most where it is known and more."""
    least, most = point.memory_share.value, point.memory_share_most
    if least is None or most is None or most < 1.05 * least:
        return percent(least)
    return f"{percent(least).removesuffix(' %')} - {percent(most)}"


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
            f"{with_half_width(one.request_ms)} ms, {four_digits(one.tokens_per_s.value)} tokens/s of all "
            f"(first token {with_half_width(one.first_token_ms)} ms, each further one "
            f"{with_half_width(one.token_ms)} ms {one.basis})"
        )
        lines.append(f"{name}: {marked(said, one.marks)}")
    return [*lines, *answer.missing]


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
            percent(point.memory_share.value),
            "SIMULATED" if point.series.simulated else "",
        )
        for point in points
    ]
    return aligned(titles, rows, "llrrrrrrl")
