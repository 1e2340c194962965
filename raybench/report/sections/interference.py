"""Section on what devices lose beside each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.report import columns
from raybench.report.document import Paragraph, Section
from raybench.report.figures.interference import figures
from raybench.report.labels import Naming

if TYPE_CHECKING:
    from raybench.analysis.interference import PairMatrix
    from raybench.report.analyses import Answers
    from raybench.report.document import Part, Table


def interference(answers: Answers) -> Section | None:
    """Return finding, heat map and table of each matrix; None without one."""
    matrices = answers.interference
    if not matrices:
        return None
    naming = Naming([matrix.series for matrix in matrices])
    parts: list[Part] = [
        Paragraph(matrix.finding, "note", f"{naming.title(matrix.series)}.") for matrix in matrices
    ]
    parts += figures(matrices, naming)
    parts += [_table(number, matrix, naming) for number, matrix in enumerate(matrices, 1)]
    return Section("pairs", "Pairs of devices", parts)


def _table(number: int, matrix: PairMatrix, naming: Naming) -> Table:
    losses = sorted(matrix.losses, key=lambda loss: loss.ratio.value or 1.0)
    return columns.table(
        f"pairs-{number}",
        f"{naming.title(matrix.series)}: rate of a device beside another over its rate alone, the largest "
        "loss first. Sure are losses beyond doubt over all pairs. A shared resource is named where both "
        "devices are on one NUMA node and their links to it were full.",
        columns.texts("device", [loss.device for loss in losses], "factor"),
        columns.texts("beside", [loss.beside for loss in losses], "factor"),
        columns.fixed("over alone", "", [loss.ratio.value for loss in losses], 3),
        columns.bounds("interval", [loss.ratio for loss in losses], 3),
        columns.texts("sure", ["yes" if loss.sure else "" for loss in losses]),
        columns.fixed("trials", "", [loss.trials for loss in losses], 0),
        columns.texts("unstable", ["a trial was" if loss.unstable else "" for loss in losses]),
        columns.texts("shared resource", [loss.shared or "" for loss in losses]),
    )
