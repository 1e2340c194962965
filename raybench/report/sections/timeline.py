"""Section on the blocks behind every point, with the most doubtful points drawn large."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.analysis.grouping import BETWEEN, BUILDS
from raybench.report import columns
from raybench.report.document import Paragraph, Section
from raybench.report.figures.timeline import figure
from raybench.report.formatting import number
from raybench.report.labels import Naming, joined, workers_label
from raybench.report.sections.sentences import missing
from raybench.report.sparkline import sparkline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.analysis.curves import ScalingEntry
    from raybench.analysis.timeline import TrialTimeline
    from raybench.report.analyses import Answers
    from raybench.report.document import Part, Table

    Pair = tuple[ScalingEntry, Sequence[TrialTimeline]]

_MOST_FIGURES = 3


def timeline(answers: Answers) -> Section:
    """Return figures of the most doubtful points, then a line for every point."""
    numbers = [e for e in answers.scaling.entries if e.items_per_s.value is not None]
    keys = [(e.point_id or "", e.series.environment_id) for e in numbers]
    every = [(e, answers.timelines.get(key, ())) for e, key in zip(numbers, keys, strict=True)]
    pairs = [(entry, timelines) for entry, timelines in every if timelines]
    if not pairs:
        gap = "No blocks are stored beside these rows, so that nothing can be shown over time."
        return Section("evidence", "Evidence", missing([gap]))
    naming = Naming([entry.series for entry, _ in pairs])
    parts: list[Part] = [
        Paragraph(
            "Throughput block by block, trials side by side, warm-up on grey ground. Each line has "
            "its own scale, at least 2 % of its value high. The points with the most against them "
            "are drawn large first."
        )
    ]
    doubtful = sorted(pairs, key=lambda pair: _doubt(pair[0]), reverse=True)[:_MOST_FIGURES]
    for place, (entry, timelines) in enumerate(doubtful, 1):
        label = naming.label(entry.series) or str(entry.series.model)
        name = joined(label, workers_label(entry.workers))
        parts.append(figure(place, name, timelines, entry.marks, _summary(entry)))
    return Section("evidence", "Evidence", [*parts, _table(naming, pairs)])


def _doubt(entry: ScalingEntry) -> tuple[int, float]:
    """Return a key that ranks worse verdicts, then wider intervals, higher."""
    return (entry.verdict == "unstable") * 2 + (
        entry.verdict != "stable"
    ), entry.items_per_s.relative_width or 0.0


def _summary(entry: ScalingEntry) -> str:
    """Return throughput, interval, verdict and flags."""
    width = entry.items_per_s.relative_width
    kind = f"between {entry.trials} trials" if entry.interval == BETWEEN else "within the trial"
    kind = f"between {entry.builds} builds" if entry.interval == BUILDS else kind
    precision = "no interval" if width is None else f"± {50 * width:.1f} % (95 %, {kind})"
    flags = f" Flags: {', '.join(entry.flags).replace('_', ' ')}." if entry.flags else ""
    verdict = f" Verdict: {entry.verdict}." if entry.verdict else ""
    return f"{number(entry.items_per_s.value)} items/s, {precision}.{verdict}{flags}"


def _table(naming: Naming, pairs: Sequence[Pair]) -> Table:
    entries = [entry for entry, _ in pairs]

    def lines(field: str, label: str, css: str = "") -> list[str]:
        return [sparkline(timelines, field, label, css) for _, timelines in pairs]

    return columns.table(
        "evidence-table",
        "Blocks of every point.",
        *columns.factors(naming, [entry.series for entry in entries]),
        columns.counts("workers", [entry.workers for entry in entries]),
        columns.drawings("items/s", lines("items_per_s", "items/s")),
        columns.drawings("SM clock", lines("sm_clock_mhz", "SM clock", "c2")),
        columns.drawings("temperature", lines("temp_c", "temperature", "c3")),
        columns.drawings("SM use", lines("gpu_sm_frac", "multiprocessors with work")),
        columns.drawings("memory", lines("gpu_dram_frac", "traffic of device memory", "c2")),
        columns.half_widths([one.items_per_s for one in entries]),
        columns.verdicts(entries),
        columns.texts("flags", [", ".join(entry.flags).replace("_", " ") for entry in entries]),
    )
