"""Ratios of the mean throughput of cells, with their confidence intervals."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from raybench.analysis.builds import ratio_variances, shared_plans
from raybench.analysis.estimate import ONE, UNKNOWN, Estimate, estimate
from raybench.stats.builds import paired_ratio
from raybench.stats.intervals import Span
from raybench.stats.ratios import ratio_of, ratio_with, ratios_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.analysis.cells import Cell


def ratio(cell: Cell, base: Cell) -> Span:
    """Return the ratio of two means, with an interval if both cells have 2 trials or more.

    Where either has several builds, plans that both ran are compared with themselves; where they share
    none, the spread between builds is in the interval.
    """
    if not cell.mean or not base.mean:
        return Span(math.nan, None, None)
    if cell.builds or base.builds:
        own, other = shared_plans(cell, base)
        if len(own) > 1:
            return paired_ratio(own, other)
        if own and min(own[0].count, other[0].count) > 1:
            return ratio_of(own[0], other[0])
    return _unpaired(cell, base, cell.mean / base.mean)


def _unpaired(cell: Cell, base: Cell, value: float) -> Span:
    if cell.logs is None or base.logs is None or min(cell.logs.count, base.logs.count) < 2:
        return Span(value, None, None)
    span = ratio_with(cell.logs.mean - base.logs.mean, ratio_variances(cell, base))
    return Span(value, span.lo, span.hi)


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
