"""Lines below the result table on how many cores feed one device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.report.labels import Naming, workers_label
from raybench.report.sections.sentences import marked

if TYPE_CHECKING:
    from raybench.analysis.feeding import Feeding


def of_feeding(feeding: Feeding) -> list[str]:
    """Return the finding of each curve and what limits it, with the name of its points."""
    naming = Naming([curve.series for curve in feeding.curves], without=("pipeline", "cores"))
    lines = []
    for curve in feeding.curves:
        name = naming.title(curve.series, workers_label(curve.workers))
        said = marked(" ".join((curve.finding, *curve.missing)), curve.marks)
        lines.append(f"{name}: {said}")
    return lines
