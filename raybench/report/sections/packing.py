"""Section on how many engines a device is worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.report import columns
from raybench.report.document import Paragraph, Section
from raybench.report.figures.packing import figures, title_of
from raybench.report.labels import Naming
from raybench.report.sections.sentences import gaps, marked, missing

if TYPE_CHECKING:
    from raybench.analysis.packing import PackingCurve
    from raybench.report.analyses import Answers
    from raybench.report.document import Part, Table


def packing(answers: Answers) -> Section | None:
    """Return figures, findings and a table for each curve; None without one."""
    curves = answers.packing.curves
    if not curves:
        return None
    naming = Naming([curve.series for curve in curves], without=("instances",))
    parts: list[Part] = [
        Paragraph(marked(curve.finding, curve.marks), "good", f"{title_of(curve, naming)}.")
        for curve in curves
    ]
    parts += figures(curves, naming)
    parts += [_table(number, curve, naming) for number, curve in enumerate(curves, 1)]
    return Section("packing", "Instances a device", [*parts, *missing(gaps(curves, naming))])


def _table(number: int, curve: PackingCurve, naming: Naming) -> Table:
    points = curve.points
    return columns.table(
        f"packing-{number}",
        f"{title_of(curve, naming)}: each number of instances with the best of its settings. The gain "
        "is over the best single instance; fairness is the rate of a device's slowest instance over "
        "that of its fastest. The CPUs of a device are the same for any number of instances.",
        columns.counts("instances", [point.instances for point in points]),
        columns.counts("in flight", [point.inflight for point in points]),
        columns.numbers("throughput", "items/s", [p.items_per_s.value for p in points]),
        columns.half_widths([point.items_per_s for point in points]),
        columns.fixed("gain", "", [point.gain.value for point in points], 3),
        columns.bounds("interval", [point.gain for point in points], 3),
        columns.fixed("fairness", "%", [point.fairness for point in points], 1, 100),
        columns.fixed("latency p99", "ms", [point.latency_p99_ms for point in points], 3),
        columns.fixed("memory", "MiB", [point.gpu_mem_peak_mib for point in points], 0),
        columns.repeats(points),
        columns.verdicts(points),
        columns.texts("why there is none", [point.reason for point in points]),
    )
