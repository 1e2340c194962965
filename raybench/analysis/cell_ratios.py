"""Ratios of the mean throughput of cells, with their confidence intervals."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from raybench.analysis.builds import log_ratio
from raybench.analysis.estimate import ONE, UNKNOWN, Estimate, estimate
from raybench.stats.intervals import Span
from raybench.stats.ratios import ratio_with, ratios_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.analysis.cells import Cell


def ratio(cell: Cell, base: Cell) -> Span:
    """Return the ratio of two means, with an interval if both cells have 2 trials or more.

    Where plans that both ran are compared with themselves, it is that of geometric means.
    """
    if not cell.mean or not base.mean:
        return Span(math.nan, None, None)
    found = log_ratio(cell, base)
    if found is None:
        return Span(cell.mean / base.mean, None, None)
    span = ratio_with(*found)
    return span if cell.builds or base.builds else Span(cell.mean / base.mean, span.lo, span.hi)


def ratio_to(cell: Cell, base: Cell | None) -> Estimate:
    """Return the ratio of a cell to its base; unknown unless both have a number."""
    if base is None or not cell.ok or not base.ok:
        return UNKNOWN
    return ONE if cell is base else estimate(ratio(cell, base))


def ratios(pairs: Sequence[tuple[Cell, Cell]]) -> list[Estimate]:
    """Return the ratio of each pair of cells with numbers, as `ratio` but all at once."""
    several = [
        (cell.logs, base.logs)
        for cell, base in pairs
        if cell.logs is not None and base.logs is not None
        if cell.logs.count > 1 and base.logs.count > 1 and not (cell.builds or base.builds)
    ]
    spans = iter(ratios_of(several))
    estimates = []
    for cell, base in pairs:
        value = (cell.mean or 0.0) / base.mean if base.mean else math.nan
        a, b = cell.logs, base.logs
        if cell.builds or base.builds:
            estimates.append(estimate(ratio(cell, base)))
        elif a is not None and b is not None and a.count > 1 and b.count > 1:
            span = next(spans)
            estimates.append(Estimate(value, span.lo, span.hi))
        else:
            estimates.append(Estimate(value))
    return estimates
