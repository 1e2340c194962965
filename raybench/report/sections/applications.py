"""Section on applications side by side: how near each came to the machine's ceilings, and its bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.analysis.bound_by import NEAR
from raybench.report import columns
from raybench.report.document import Paragraph, Section
from raybench.report.figures.applications import figures
from raybench.report.labels import Naming
from raybench.report.sections.sentences import marked, missing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.analysis.applications import Application, MeasuredCeiling
    from raybench.report.analyses import Answers
    from raybench.report.document import Part, Table


def applications(answers: Answers) -> Section | None:
    """Return a figure, the bound of each application and the ceilings; None where none was measured."""
    answer = answers.applications
    points = answer.known
    if not points:
        return None
    naming = Naming([point.series for point in points], without=("new_tokens",))
    parts: list[Part] = [_summary(points, naming), *figures(points, naming)]
    parts += [_rates(points, naming), _bounds(points, naming), _ceilings(answer.ceilings)]
    return Section("applications", "Applications", [*parts, *missing(answer.missing)])


def _summary(points: Sequence[Application], naming: Naming) -> Paragraph:
    """Return which applications each part of the machine holds back."""
    by_bound: dict[str, list[str]] = {}
    for point in points:
        name = marked(naming.title(point.series), point.marks)
        by_bound.setdefault(point.bound_by or "not determined", []).append(name)
    ordered = sorted(by_bound.items(), key=lambda pair: pair[0] == "not determined")
    text = " ".join(f"{bound[:1].upper()}{bound[1:]}: {'; '.join(of)}." for bound, of in ordered)
    return Paragraph(text, "good", "Bound by.")


def _rates(points: Sequence[Application], naming: Naming) -> Table:
    return columns.table(
        "application-rates",
        "Shares are of what gemm (arithmetic, in the same precision) and copy (memory; link with transfers) "
        "reached on the same device with as many at work. The traffic of memory is computed: at least weights, "
        "cache of keys and values, inputs and outputs, once a batch; at most also all that operators hand on, "
        "written and read once. More than 100 % is read from caches, or faster than copy, which writes as much "
        "as it reads.",
        *columns.factors(naming, [point.series for point in points]),
        columns.counts("workers", [point.workers for point in points]),
        columns.numbers("throughput", "items/s", [p.items_per_s.value for p in points]),
        columns.half_widths([point.items_per_s for point in points]),
        columns.numbers("p50", "ms", [point.latency_p50_ms for point in points]),
        columns.numbers("p99", "ms", [point.latency_p99_ms for point in points]),
        columns.fixed("arithmetic", "%", [p.arithmetic_share.value for p in points], 1, 100),
        columns.fixed("memory", "%", [p.memory_share.value for p in points], 1, 100),
        columns.fixed("memory at most", "%", [p.memory_share_most for p in points], 1, 100),
        columns.fixed("link", "%", [p.link_share.value for p in points], 1, 100),
        columns.texts("bound by", [point.bound_by for point in points], "factor"),
        columns.repeats(points),
        columns.verdicts(points),
    )


def _bounds(points: Sequence[Application], naming: Naming) -> Table:
    return columns.table(
        "bounds",
        f"What each application is bound by, and why: telemetry shows it, or a part came to {100 * NEAR:.0f} % "
        "of its ceiling or more. Where the evidence does not agree, the last sentence says what would decide.",
        *columns.factors(naming, [point.series for point in points]),
        columns.counts("workers", [point.workers for point in points]),
        columns.texts("bound by", [point.bound_by for point in points], "factor"),
        columns.texts("evidence", [" ".join(filter(None, (p.evidence, p.decide))) for p in points]),
    )


def _ceilings(ceilings: Sequence[MeasuredCeiling]) -> Table:
    naming = Naming([one.series for one in ceilings])
    return columns.table(
        "ceilings",
        "The ceilings: the most that gemm and copy reached on one device while as many worked. Memory counts "
        "bytes read and written, the link each way.",
        *columns.factors(naming, [one.series for one in ceilings]),
        columns.counts("workers", [one.workers for one in ceilings]),
        columns.texts("ceiling of", [one.part for one in ceilings]),
        columns.numbers("arithmetic", "Gop/s", [one.gops_per_s for one in ceilings]),
        columns.numbers("traffic", "GB/s", [one.gb_per_s for one in ceilings]),
        columns.repeats(ceilings),
        columns.verdicts(ceilings),
    )
