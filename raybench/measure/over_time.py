"""Columns of device and host over several windows that follow one another, combined as they come."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_SUMS = (
    *("energy_j", "energy_j_lo", "energy_j_hi"),
    *("cpu_energy_j", "cpu_energy_j_lo", "cpu_energy_j_hi"),
)
"""Unknown as soon as one window's is."""
_COUNTS = ("ecc_errors", "ecc_corrected", "remapped_rows", "xid_errors")
_HIGHEST = (
    *("temp_c_max", "gpu_mem_peak_mib", "foreign_processes", "rss_peak_mib", "telemetry_gap_s"),
    *("remapped_rows_total", "row_remap_pending"),
)
_LOWEST = (
    *("sm_clock_mhz_min", "cpu_mhz_min", "node_available_min_mib", "pcie_gen", "pcie_width"),
    *("cpu_quota_cores", "dram_peak_bytes_per_s"),
)
_LAST = ("temp_c_end", "energy_source")
_FOLDS: dict[str, Callable[[Any, Any], Any]] = {
    **dict.fromkeys(_COUNTS, lambda a, b: a + b),
    **dict.fromkeys(_HIGHEST, max),
    **dict.fromkeys(_LOWEST, min),
    **dict.fromkeys(_LAST, lambda a, b: b),
    "temp_c_start": lambda a, b: a,
    "energy_check_rel": lambda a, b: max(a, b, key=abs),
    "xid_codes": lambda a, b: sorted({*a, *b}),
}


class ColumnsOverTime:
    """The columns of all windows so far: sums, extremes, and means weighted by time.

    An unknown value is left out, but for sums of energy, which are then unknown.
    """

    def __init__(self) -> None:
        self._folded: dict[str, Any] = {}
        self._weighted: dict[str, tuple[float, float]] = {}
        self._sums: dict[str, float | None] = {}
        self._clock_squares = 0.0
        self._names: dict[str, None] = {}

    def add(self, columns: dict[str, Any], seconds: float) -> None:
        """Add the columns of a window, as in the table `workers`."""
        self._names |= dict.fromkeys(columns)
        for name, value in columns.items():
            if name in _SUMS:
                before = self._sums.get(name, 0.0)
                self._sums[name] = None if value is None or before is None else before + value
            elif value is None:
                continue
            elif name in _FOLDS:
                known = name in self._folded
                self._folded[name] = _FOLDS[name](self._folded[name], value) if known else value
            elif name not in ("clock_cv", "items_per_j", "j_per_item"):
                total, time_s = self._weighted.get(name, (0.0, 0.0))
                self._weighted[name] = (total + value * seconds, time_s + seconds)
        clock, varied = columns.get("clock_frac"), columns.get("clock_cv")
        if clock is not None:
            self._clock_squares += seconds * clock**2 * (1 + (varied or 0.0) ** 2)

    def columns(self, items: int) -> dict[str, Any]:
        """Return the columns of all windows together, in which so many items were completed."""
        means = {name: total / time_s for name, (total, time_s) in self._weighted.items() if time_s}
        joules = self._sums.get("energy_j")
        return {
            **self._names,
            **means,
            **self._folded,
            **self._sums,
            "clock_cv": self._clock_cv(),
            "items_per_j": items / joules if joules and items else None,
            "j_per_item": joules / items if joules and items else None,
        }

    def _clock_cv(self) -> float | None:
        """Return the deviation over the mean from those of the windows and their own means."""
        total, time_s = self._weighted.get("clock_frac", (0.0, 0.0))
        if not total:
            return None
        mean = total / time_s
        return math.sqrt(max(self._clock_squares / time_s - mean**2, 0.0)) / mean
