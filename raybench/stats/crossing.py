"""Where a straight line through scattered points crosses zero, with its interval."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from raybench.stats.intervals import Span, t_quantile

if TYPE_CHECKING:
    from raybench.stats.intervals import Floats

LEAST_POINTS = 4


def rising_crossing(x: Floats, y: Floats, confidence: float) -> Span | None:
    """Return where a line that rises through points is zero, with Fieller's interval.

    Args:
        x: shape (n,).
        y: independent, of about the same spread, shape (n,).
        confidence: of the interval.

    Returns:
        None where the points do not determine it: fewer than 4, one x alone, or a slope that may be
        zero or less.
    """
    n = len(x)
    if n < LEAST_POINTS or x.min() == x.max():
        return None
    from_mean, height = x - x.mean(), float(y.mean())
    spread = float((from_mean**2).sum())
    slope = float((from_mean * y).sum()) / spread
    scatter = float(((y - height - slope * from_mean) ** 2).sum()) / (n - 2)
    reach = t_quantile(0.5 + confidence / 2, n - 2) ** 2 * scatter
    # the ends are the roots of (height + slope u)^2 = reach (1 / n + u^2 / spread)
    square = slope**2 - reach / spread
    if slope <= 0 or square <= 0:
        return None
    root = math.sqrt(max((height * slope) ** 2 - square * (height**2 - reach / n), 0.0))
    lo, hi = ((-height * slope + sign * root) / square for sign in (-1, 1))
    middle = float(x.mean())
    return Span(middle - height / slope, middle + lo, middle + hi)
