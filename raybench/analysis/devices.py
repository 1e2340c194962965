"""generation: devices, clusters or engines side by side for the same point."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from raybench.analysis.cells import (
    SERIES,
    Cell,
    Series,
    cells,
    kin,
    marks_of,
    other_methods,
    ratio,
    without_numbers,
)
from raybench.analysis.tables import as_table
from raybench.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

ALONG = ("environment_id", "engine_version")
"""What may differ along with the factor that is asked for: another device has another driver."""


@dataclass(frozen=True)
class Side:
    """One device, cluster or engine at one point.

    Attributes:
        series: all factors, what differs by included.
        name: value of the factor that differs, e.g. "Tesla P40".
        interval: see `scaling.Entry`.
        ratio: items_per_s over that of the base at the same point; 1 for the base.
        ratio_lo: 95 % bound, from 2 trials on either side on.
        ratio_hi: 95 % bound, from 2 trials on either side on.
        marks: of this side or of its base, see `points.MARKS`.
    """

    series: Series
    workers: int | None
    name: str
    base: str
    status: str
    reason: str | None
    trials: int
    items_per_s: float | None = None
    items_per_s_lo: float | None = None
    items_per_s_hi: float | None = None
    interval: str | None = None
    ratio: float | None = None
    ratio_lo: float | None = None
    ratio_hi: float | None = None
    latency_p50_ms: float | None = None
    latency_p99_ms: float | None = None
    items_per_j: float | None = None
    verdict: str | None = None
    flags: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Generation:
    """Sides of all points that were measured on more than one, grouped by point, base first.

    Attributes:
        by: the column of `points.Series` that differs.
        names: its values, the base first.
        missing: what could not be said and why, a sentence each.
    """

    by: str
    names: tuple[str, ...]
    sides: tuple[Side, ...]
    missing: tuple[str, ...]

    def as_table(self) -> pa.Table:
        """A row a side."""
        return as_table(Side, self.sides)


def generation(trials: pa.Table, by: str = "device", base: str | None = None) -> Generation:
    """The same points on different devices (or whatever `by` names), side by side.

    Args:
        trials: rows of several machines or runs together.
        by: column of `points.Series` that may differ; environment and engine version may differ
            along with it.
        base: its value that the others are held against; None takes the slowest at most points.

    Raises:
        ConfigError: `by` is no factor, or `base` is not among its values.
    """
    if by not in SERIES:
        raise ConfigError(f"Unknown factor {by!r}. {nearest(by, SERIES)}")
    made = cells(trials)
    newest = _newest(made, by)
    names = sorted({name for sides in newest.values() for name in sides})
    if base is not None and base not in names:
        raise ConfigError(f"No row has {by} {base!r}. {nearest(base, names)}")
    several = {point: sides for point, sides in newest.items() if len(sides) > 1}
    base = base or _slowest(several)
    ordered = sorted(names, key=lambda name: (name != base, name))
    sides = tuple(
        _side(sides[name], name, base or "", sides.get(base or ""))
        for sides in several.values()
        for name in ordered
        if name in sides
    )
    seen = {side.name for side in sides}
    missing = without_numbers(made) or (
        *_missing(by, names, several, base),
        *other_methods(made),
    )
    return Generation(by, tuple(n for n in ordered if n in seen), sides, missing)


_Point = tuple[Series, "int | None"]


def _newest(made: Sequence[Cell], by: str) -> dict[_Point, dict[str, Cell]]:
    """Point -> name of the side -> its cell; of several, one with a number, then the newest."""
    found: dict[_Point, dict[str, Cell]] = defaultdict(dict)
    for cell in sorted(made, key=lambda cell: (cell.ok, cell.said.get("run_id", ""))):
        name = getattr(cell.series, by)
        if name is not None:
            point = kin(cell.series, by, *ALONG), cell.workers
            found[point][str(name)] = cell
    rank = {cell.series: place for place, cell in reversed(list(enumerate(made)))}
    first = {p: min(rank[cell.series] for cell in sides.values()) for p, sides in found.items()}
    return {p: found[p] for p in sorted(found, key=lambda p: (first[p], p[1] or 0))}


def _slowest(several: Mapping[_Point, Mapping[str, Cell]]) -> str | None:
    """The side that is slowest at most points; of equals the first by name."""
    votes: Counter[str] = Counter()
    for sides in several.values():
        rates = {name: cell.mean for name, cell in sides.items() if cell.mean is not None}
        if len(rates) > 1:
            votes[min(rates, key=lambda name: (rates[name], name))] += 1
    if not votes:
        return min((name for sides in several.values() for name in sides), default=None)
    return min(votes, key=lambda name: (-votes[name], name))


def _side(cell: Cell, name: str, base: str, against: Cell | None) -> Side:
    side = Side(
        series=cell.series,
        workers=cell.workers,
        name=name,
        base=base,
        status=cell.status,
        reason=cell.reason,
        trials=cell.trials,
        marks=cell.marks,
    )
    if not cell.ok:
        return side
    side = replace(
        side,
        items_per_s=cell.mean,
        items_per_s_lo=cell.lo,
        items_per_s_hi=cell.hi,
        interval=cell.interval,
        latency_p50_ms=cell.get("latency_p50_ms"),
        latency_p99_ms=cell.get("latency_p99_ms"),
        items_per_j=cell.get("items_per_j"),
        verdict=cell.verdict,
        flags=cell.flags,
    )
    if against is None or not against.ok:
        return side
    if against is cell:
        return replace(side, ratio=1.0)
    span = ratio(cell, against)
    return replace(
        side,
        ratio=span.value,
        ratio_lo=span.lo,
        ratio_hi=span.hi,
        marks=marks_of((cell, against)),
    )


def _missing(
    by: str,
    names: Sequence[str],
    several: Mapping[_Point, Mapping[str, Cell]],
    base: str | None,
) -> tuple[str, ...]:
    if len(names) < 2:
        only = f" ({names[0]})" if names else ""
        return (
            f"Nothing side by side: one {by}{only}. Give the results folders of several together.",
        )
    if not several:
        return (
            f"Nothing side by side: no point was measured on more than one {by} "
            f"({', '.join(names)}) with all else equal.",
        )
    told = []
    bare = sum(
        base is None or base not in sides or not sides[base].ok for sides in several.values()
    )
    if bare:
        told.append(f"No ratio at {bare} of {len(several)} points: {base} has no number there.")
    if any(cell.ok and cell.trials < 2 for sides in several.values() for cell in sides.values()):
        told.append("No interval of some ratios: fewer than 2 trials. Measure with trials=3.")
    return tuple(told)
