"""numbers: how values are written, a whole column at a time so that decimals stand in line."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

DASH, TIMES = "\N{EN DASH}", "\N{MULTIPLICATION SIGN}"
NONE = DASH
"""Unknown; never 0."""


def decimals(values: Sequence[float | None], digits: int = 4) -> int:
    """How many decimals show the smallest of the values to so many digits; at most 3."""
    sizes = [abs(value) for value in values if value is not None and value != 0]
    if not sizes:
        return 0
    return min(3, max(0, digits - 1 - math.floor(math.log10(min(sizes)))))


def column(values: Sequence[float | None], digits: int = 4) -> list[str]:
    """All values with the decimals that the smallest needs, thousands apart."""
    places = decimals(values, digits)
    return [fixed(value, places) for value in values]


def fixed(value: float | None, places: int) -> str:
    """A number with so many decimals; unknown is a dash."""
    return NONE if value is None or not math.isfinite(value) else f"{value:,.{places}f}"


def number(value: float | None, digits: int = 4) -> str:
    """A number in running text, to so many digits at least."""
    return fixed(value, decimals([value], digits))


def interval(lo: float, hi: float, places: int) -> str:
    """Bounds as `1.98 - 2.01`."""
    return f"{fixed(lo, places)} {DASH} {fixed(hi, places)}"


def ratio(value: float, lo: float | None = None, hi: float | None = None) -> str:
    """A ratio: to 3 decimals as it stands, to 2 with its interval."""
    if lo is None or hi is None:
        return f"{value:.3f}{TIMES}"
    return f"{value:.2f}{TIMES} [{lo:.2f}, {hi:.2f}]"


def short(value: float) -> str:
    """A number on an axis: 12.5k, 3M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}"
