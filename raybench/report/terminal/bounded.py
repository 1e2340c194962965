"""Lines below the result table on what the workers serve under a latency bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.report.formatting import four_digits
from raybench.report.labels import Naming, joined, workers_label
from raybench.text import agreeing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.analysis.bounded import BoundedCurve, BoundedRate


def of_bounds(curves: Sequence[BoundedCurve], demand: float | None = None) -> list[str]:
    """Return the highest rate under the bound for each number of workers, and the answer to a demand.

    Args:
        curves: from `analysis.bounded`.
        demand: items/s for which the number of devices is wanted; None for none.
    """
    naming = Naming([curve.series for curve in curves])
    lines = []
    for curve in curves:
        lines.append(f"Highest rate within {curve.bound}, {naming.title(curve.series)}")
        lines += [f"  {workers_label(point.workers)}: {rate_text(point)}" for point in curve.points]
        if demand is not None:
            lines.append(f"  {curve.workers_for(demand)}")
    return lines


def rate_text(point: BoundedRate) -> str:
    """Return what so many workers serve under the bound, in words."""
    value, lo, hi = point.items_per_s
    if value is None:
        return " ".join(
            [point.reason or "", f"{point.disturbance}." * bool(point.disturbed)]
        ).strip()
    sure = [
        f"surely kept at {four_digits(lo)}" if lo is not None and lo < value else "",
        f"surely not at {four_digits(hi)}" if hi is not None else "",
    ]
    if point.capacity_items_per_s is not None and lo is not None and hi is not None:
        interval = f"{four_digits(lo)} to {four_digits(hi)}"
        sure = [f"capacity {four_digits(point.capacity_items_per_s)} ({interval})"]
    share = "" if point.share is None else f"{100 * point.share:.0f} % of the closed loop's"
    over = "" if point.over is None else f"{100 * point.over:.2g} % of the items later"
    if point.undecided:
        decide = agreeing(point.undecided, "does", "do")
        over += f" ({point.undecided} of its trials {decide} not decide alone)"
    text = joined(f"{four_digits(value)} items/s", over, *sure, share)
    if point.efficiency is not None and point.closed_efficiency is not None:
        text += (
            f"; efficiency {100 * point.efficiency:.1f} %, in closed loop "
            f"{100 * point.closed_efficiency:.1f} %"
        )
    return f"{text}; {point.disturbance}" if point.disturbed else text
