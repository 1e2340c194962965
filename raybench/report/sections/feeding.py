"""Section on how many cores feed one device with images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.report import columns
from raybench.report.document import Paragraph, Section
from raybench.report.figures.feeding import figures, title_of
from raybench.report.labels import Naming
from raybench.report.sections.sentences import gaps, marked, missing

if TYPE_CHECKING:
    from raybench.analysis.feeding import FeedingCurve
    from raybench.report.analyses import Answers
    from raybench.report.document import Part, Table


def feeding(answers: Answers) -> Section | None:
    """Return figures, findings and a table for each curve; None without one."""
    curves = answers.feeding.curves
    if not curves:
        return None
    naming = Naming([curve.series for curve in curves], without=("pipeline", "cores"))
    parts: list[Part] = [
        Paragraph(
            marked(curve.finding, curve.marks),
            "bad" if curve.enough is None else "good",
            f"{title_of(curve, naming)}.",
        )
        for curve in curves
    ]
    parts += figures(curves, naming)
    parts += [_table(number, curve, naming) for number, curve in enumerate(curves, 1)]
    return Section("feeding", "Cores that feed a device", [*parts, *missing(gaps(curves, naming))])


def _table(number: int, curve: FeedingCurve, naming: Naming) -> Table:
    points = curve.points
    return columns.table(
        f"feeding-{number}",
        f"{title_of(curve, naming)}: images are decoded, scaled and written into the batch by so many "
        "cores while the device computes. A core's rate is that of its work, without its waits.",
        columns.texts("cores", [_cores(point.cores) for point in points], "factor"),
        columns.numbers("throughput", "items/s a device", [p.items_per_s.value for p in points]),
        columns.half_widths([point.items_per_s for point in points]),
        columns.fixed("of the limit", "%", [point.share.value for point in points], 1, 100),
        columns.numbers("decoded", "images/s a core", [p.decoded_per_s_per_core for p in points]),
        columns.fixed("device waits", "%", [point.input_wait_frac for point in points], 1, 100),
        columns.fixed("cores wait", "%", [point.engine_wait_frac for point in points], 1, 100),
        columns.texts("decoder", [point.decoder for point in points]),
        columns.repeats(points),
        columns.verdicts(points),
        columns.texts("why there is none", [point.reason for point in points]),
    )


def _cores(cores: int | None) -> str:
    return "none: not decoded" if cores is None else str(cores)
