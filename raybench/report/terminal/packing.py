"""Lines below the result table on what several instances a device gain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.report.labels import Naming, workers_label

if TYPE_CHECKING:
    from raybench.analysis.packing import Packing


def of_instances(packing: Packing) -> list[str]:
    """Return the finding of each curve and what limits it, with the name of its points."""
    naming = Naming([curve.series for curve in packing.curves], without=("instances",))
    lines = []
    for curve in packing.curves:
        name = naming.title(curve.series, workers_label(curve.workers))
        lines += [f"{name}: {' '.join((curve.finding, *curve.missing))}"]
    return lines
