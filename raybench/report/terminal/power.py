"""Lines below the result table on what power limits gain and cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.report.labels import Naming, workers_label
from raybench.report.sections.sentences import marked

if TYPE_CHECKING:
    from raybench.analysis.power import Power


def of_power(power: Power, rack_power_w: float | None = None) -> list[str]:
    """Return the finding of each curve, what limits it, and what a rack serves.

    Args:
        power: from `analysis.power`.
        rack_power_w: power of the rack that is asked for; None for none.
    """
    naming = Naming([curve.series for curve in power.curves], without=("power_limit_w",))
    if rack_power_w is not None and not power.curves:
        return [
            "No rack: nothing was measured at several power limits. Write raybench experiment=power."
        ]
    lines = []
    for curve in power.curves:
        name = naming.title(curve.series, workers_label(curve.workers))
        found = marked(curve.finding, curve.marks)
        lines.append(f"{name}: {' '.join((found, *curve.missing))}")
        if rack_power_w is not None:
            lines.append(f"  {marked(curve.in_rack(rack_power_w), curve.marks)}")
    return lines
