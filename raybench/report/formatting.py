"""How values are written, in sentences, tables and figures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.analysis.estimate import Estimate

DASH, TIMES = "\N{EN DASH}", "\N{MULTIPLICATION SIGN}"
NONE = DASH
"""An unknown value in a report; never 0."""


def decimals(values: Sequence[float | None], digits: int = 4) -> int:
    """Return the decimals, at most 3, that show the smallest value to this many digits."""
    sizes = [abs(value) for value in values if value is not None and value != 0]
    if not sizes:
        return 0
    return min(3, max(0, digits - 1 - math.floor(math.log10(min(sizes)))))


def column(values: Sequence[float | None], digits: int = 4) -> list[str]:
    """Write all values with the decimals that the smallest needs, thousands separated."""
    places = decimals(values, digits)
    return [fixed(value, places) for value in values]


def fixed(value: float | None, places: int) -> str:
    """Write a number with this many decimals, an unknown one as a dash."""
    return NONE if value is None or not math.isfinite(value) else f"{value:,.{places}f}"


def number(value: float | None, digits: int = 4) -> str:
    """Write a number in running text, to at least this many digits and at most 3 decimals."""
    return fixed(value, decimals([value], digits))


def four_digits(value: float | None) -> str:
    """Write a number in plain text to at least four digits, trailing zeros included."""
    if value is None:
        return "-"
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:#.4g}".rstrip(".")


def with_half_width(estimate: Estimate) -> str:
    """Write a value in plain text with half its interval in percent, e.g. `1,000 ± 0.5 %`.

    An interval that is wider than the value is not the same on both sides: `28 [6.1, 130]`.
    """
    if estimate.relative_width is None:
        return four_digits(estimate.value)
    if estimate.relative_width > 1:
        lo, hi = (f"{end or 0:,.{'0f' if (end or 0) >= 100 else '3g'}}" for end in estimate[1:])
        return f"{four_digits(estimate.value)} [{lo}, {hi}]"
    return f"{four_digits(estimate.value)} ± {percent(estimate.relative_width / 2, 1)}"


def percent(half_width: float, places: int) -> str:
    """Write half an interval in percent; one that is as wide as its value has no figure."""
    return "> 100 %" if half_width > 1 else f"{100 * half_width:.{places}f} %"


def interval(lo: float, hi: float, places: int) -> str:
    """Write bounds as `1.98 - 2.01`."""
    return f"{fixed(lo, places)} {DASH} {fixed(hi, places)}"


def ratio(estimate: Estimate) -> str:
    """Write a ratio with its interval to 2 decimals, without one to 3; empty if unknown."""
    value, lo, hi = estimate
    if value is None:
        return ""
    if lo is None or hi is None:
        return times(value)
    return f"{value:.2f}{TIMES} [{lo:.2f}, {hi:.2f}]"


def times(value: float | None) -> str:
    """Write a ratio alone, to 3 decimals; empty if unknown."""
    return "" if value is None else f"{value:.3f}{TIMES}"


def short(value: float) -> str:
    """Write a number for an axis: 12.5k, 3M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}"
