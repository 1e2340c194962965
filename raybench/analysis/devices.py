"""Devices, clusters or engines side by side at the same points."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raybench.analysis.cell_ratios import ratio_to
from raybench.analysis.cells import Cell, cells
from raybench.analysis.estimate import UNKNOWN, Estimate
from raybench.analysis.gaps import other_methods, without_numbers
from raybench.analysis.marks import marks_of
from raybench.analysis.series import SERIES, Series, device_name, without
from raybench.analysis.tables import as_table
from raybench.errors import ConfigError, nearest
from raybench.text import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

ALONG = ("environment_id", "engine_version")
"""Factors that may differ along with the one asked for: another device has another driver."""


@dataclass(frozen=True)
class DeviceResult:
    """One device, cluster or engine at one point.

    Attributes:
        series: every factor, including the one that differs.
        name: value of the factor that differs, e.g. "Tesla P40".
        base: name of the result that the ratio refers to.
        interval: see `scaling.ScalingEntry`.
        ratio: items_per_s over that of the base at the same point; 1 for the base.
        marks: of this result or of its base, see `marks.MARKS`.
    """

    series: Series
    workers: int | None
    name: str
    base: str
    status: str
    reason: str | None
    trials: int
    items_per_s: Estimate = UNKNOWN
    interval: str | None = None
    ratio: Estimate = UNKNOWN
    latency_p50_ms: float | None = None
    latency_p99_ms: float | None = None
    items_per_j: float | None = None
    verdict: str | None = None
    flags: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Generation:
    """All points that were measured on more than one device, grouped by point, base first.

    Attributes:
        by: the factor that differs, a column of `series.Series`.
        names: its values, the base first.
        results: one for each device and point.
        missing: what could not be said and why, a sentence each.
    """

    by: str
    names: tuple[str, ...]
    results: tuple[DeviceResult, ...]
    missing: tuple[str, ...]

    def as_table(self) -> pa.Table:
        """Return a row for each result."""
        return as_table(DeviceResult, self.results)


def generation(trials: pa.Table, by: str = "device", base: str | None = None) -> Generation:
    """Compare the same points on different devices, or whatever `by` names.

    Args:
        trials: rows of several machines or runs together.
        by: the factor that may differ, a column of `series.Series`; environment and engine
            version may differ along with it.
        base: its value that the others are compared with; None takes the slowest at most points.

    Raises:
        ConfigError: `by` is not a factor, or `base` is not among its values.
    """
    if by not in SERIES:
        raise ConfigError(f"Unknown factor {by!r}. {nearest(by, SERIES)}")
    every = cells(trials)
    by_point = _by_point(every, by)
    names = sorted({name for cell_of in by_point.values() for name in cell_of})
    if base is not None and base not in names:
        raise ConfigError(f"No row has {by} {base!r}. {nearest(base, names)}")
    shared = {point: cell_of for point, cell_of in by_point.items() if len(cell_of) > 1}
    base = base or _slowest(shared)
    ordered = sorted(names, key=lambda name: (name != base, name))
    results = tuple(
        _result(cell_of[name], name, base or "", cell_of.get(base or ""))
        for cell_of in shared.values()
        for name in ordered
        if name in cell_of
    )
    shown = {result.name for result in results}
    missing = without_numbers(every) or (
        *_missing(by, names, shared, base),
        *other_methods(every),
    )
    return Generation(by, tuple(name for name in ordered if name in shown), results, missing)


_Point = tuple[Series, "int | None"]


def _by_point(every: Sequence[Cell], by: str) -> dict[_Point, dict[str, Cell]]:
    """Return point -> device -> cell; of several cells one with a number, then the newest."""
    cells_of: dict[_Point, dict[str, Cell]] = defaultdict(dict)
    for cell in sorted(every, key=lambda cell: (cell.ok, cell.newest.get("run_id", ""))):
        name = getattr(cell.series, by)
        if name is not None:
            point = without(cell.series, by, *ALONG), cell.workers
            cells_of[point][str(name)] = cell
    rank = {cell.series: place for place, cell in reversed(list(enumerate(every)))}
    first = {
        point: min(rank[cell.series] for cell in cell_of.values())
        for point, cell_of in cells_of.items()
    }
    return {p: cells_of[p] for p in sorted(cells_of, key=lambda p: (first[p], p[1] or 0))}


def _slowest(shared: Mapping[_Point, Mapping[str, Cell]]) -> str | None:
    """Return the device that is slowest at most points; of equals the first by name."""
    votes: Counter[str] = Counter()
    for cell_of in shared.values():
        rates = {name: cell.mean for name, cell in cell_of.items() if cell.mean is not None}
        if len(rates) > 1:
            votes[min(rates, key=lambda name: (rates[name], name))] += 1
    if not votes:
        return min((name for cell_of in shared.values() for name in cell_of), default=None)
    return min(votes, key=lambda name: (-votes[name], name))


def _result(cell: Cell, name: str, base: str, base_cell: Cell | None) -> DeviceResult:
    ratio = ratio_to(cell, None if cell.series.is_open else base_cell)
    return DeviceResult(
        series=cell.series,
        workers=cell.workers,
        name=name,
        base=base,
        status=cell.status,
        reason=cell.reason,
        trials=cell.trials,
        items_per_s=cell.estimate,
        interval=cell.interval,
        ratio=ratio,
        latency_p50_ms=cell.get("latency_p50_ms"),
        latency_p99_ms=cell.get("latency_p99_ms"),
        items_per_j=cell.get("items_per_j"),
        verdict=cell.verdict,
        flags=cell.flags,
        marks=cell.marks if ratio.value is None else marks_of((cell, base_cell)),
    )


def _missing(
    by: str,
    names: Sequence[str],
    shared: Mapping[_Point, Mapping[str, Cell]],
    base: str | None,
) -> tuple[str, ...]:
    if len(names) < 2:
        only = f" ({device_name(names[0])})" if names else ""
        return (
            f"Nothing side by side: one {by}{only}. Give the results folders of several together.",
        )
    if not shared:
        return (
            f"Nothing side by side: no point was measured on more than one {by} "
            f"({', '.join(names)}) with all else equal.",
        )
    sentences = []
    without_base = sum(
        base is None or base not in cell_of or not cell_of[base].ok for cell_of in shared.values()
    )
    if without_base:
        sentences.append(
            f"No ratio at {without_base} of {counted(len(shared), 'point')}: {base} has no number there."
        )
    if any(cell.ok and cell.trials < 2 for cell_of in shared.values() for cell in cell_of.values()):
        sentences.append("No interval of some ratios: fewer than 2 trials. Measure with trials=3.")
    return tuple(sentences)
