"""The ceilings of a machine, as `gemm` and `copy` measured them beside the applications.

A ceiling is of one device, while as many others worked as beside the point that is held against it:
cores of a CPU share their memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from raybench.analysis.accelerators import arithmetic_unit
from raybench.analysis.cell_ratios import ratio_to
from raybench.analysis.estimate import UNKNOWN, Estimate
from raybench.analysis.traffic import CACHED_BYTES, traffic

if TYPE_CHECKING:
    from collections.abc import Iterable

    from raybench.analysis.cells import Cell
    from raybench.analysis.series import Series

ARITHMETIC, MEMORY = "gemm", "copy"
"""The models that show what one part of a device can."""
COPIED_BYTES = 2.0**20
"""Of an item of `copy`, read and written once each."""
READING_ALONE = 1.5
"""Reading alone is at most so many times as fast as `copy` counts: where a write fetches its line first, a
copy moves half as much again as what is read and written."""


@dataclass(frozen=True)
class Ceiling:
    """What one part of a device can.

    Attributes:
        part: arithmetic, memory or link.
        per_s: operations or bytes a second of one device; of the link each way.
        of_item: operations or bytes of an item of the model that measured it.
        cell: the point that measured it.
    """

    part: str
    per_s: float
    of_item: float
    cell: Cell

    def share(self, cell: Cell, of_item: float | None) -> Estimate:
        """Return the share of the ceiling that a point reached, with its interval.

        From 2 trials on it is that of the ratio; of single trials it sets the end of one interval against
        the other end of the other.

        Args:
            cell: a point with as many workers as that of the ceiling.
            of_item: operations or bytes of an item of it; None if unknown.
        """
        if of_item is None:
            return UNKNOWN
        if of_item <= 0:
            return Estimate(0.0)
        ratio = ratio_to(cell, self.cell)
        if not ratio.has_interval:
            ratio = Estimate(ratio.value, *_ends(cell, self.cell))
        return ratio.over(self.of_item / of_item)

    def in_words(self) -> str:
        """Return the ceiling with its unit and the model that measured it."""
        if self.part == "arithmetic":
            precision = self.cell.series.precision
            unit = arithmetic_unit(precision)
            if self.per_s < 1e12:
                return f"the {_digits(self.per_s / 1e9)} {unit.replace('T', 'G', 1)} of gemm in {precision}"
            return f"the {_digits(self.per_s / 1e12)} {unit} of gemm in {precision}"
        way = "each way" if self.part == "link" else "read and written"
        return f"the {_digits(self.per_s / 1e9)} GB/s of copy, {way}"


@dataclass(frozen=True)
class Ceilings:
    """What the parts of a device can, as far as they were measured; None where they were not."""

    arithmetic: Ceiling | None = None
    memory: Ceiling | None = None
    link: Ceiling | None = None


@dataclass(frozen=True)
class RefutedCeiling:
    """What `copy` reached where a point moved so much more that it is no ceiling of memory.

    Attributes:
        ceiling: as `copy` measured it.
        cell: the point that surely moved the most.
        times: how many times as many bytes a second as `copy`.
    """

    ceiling: Ceiling
    cell: Cell
    times: float

    def in_words(self) -> str:
        """Return that the ceiling is none, and what to measure."""
        held, point = self.ceiling.cell.series, self.cell.series
        return (
            f"copy by {held.engine} is no ceiling of memory: {point.model} by {point.engine} moves {self.times:.2g} times "
            f"as many bytes a second, and reading alone explains {READING_ALONE:g}. Measure it by another engine into the "
            f"same folder: model=copy batch_size={held.batch_size} engine=..."
        )


Conditions = tuple[object, ...]


def is_ceiling(series: Series) -> bool:
    """Return whether a point measures a ceiling instead of an application."""
    return series.model in (ARITHMETIC, MEMORY)


class MeasuredCeilings:
    """The ceilings that the points of a table measured.

    Args:
        cells: of the table; those that measure no ceiling may refute one.
    """

    def __init__(self, cells: Iterable[Cell]) -> None:
        self._arithmetic: dict[Conditions, Ceiling] = {}
        self._memory: dict[Conditions, Ceiling] = {}
        self._link: dict[Conditions, Ceiling] = {}
        good = [cell for cell in cells if cell.ok and not cell.series.is_open]
        for cell in good:
            if is_ceiling(cell.series):
                self._add(cell)
        self._refuted = self._found_too_low(c for c in good if not is_ceiling(c.series))
        for key in self._refuted:
            del self._memory[key]

    def __bool__(self) -> bool:
        """Whether any ceiling was measured."""
        return bool(self._arithmetic or self._memory or self._link)

    @property
    def refuted(self) -> tuple[RefutedCeiling, ...]:
        """What `copy` measured and another point showed to be no ceiling of memory."""
        return tuple(self._refuted.values())

    def refuted_beside(self, series: Series, workers: int | None) -> bool:
        """Return whether a point would have a ceiling of memory that is refuted."""
        return _conditions(series, workers) in self._refuted

    def beside(self, series: Series, workers: int | None) -> Ceilings:
        """Return the ceilings that hold for a point: of its device, under its conditions."""
        key = _conditions(series, workers)
        return Ceilings(
            self._arithmetic.get((*key, series.precision)),
            self._memory.get(key),
            self._link.get(key),
        )

    def _found_too_low(self, cells: Iterable[Cell]) -> dict[Conditions, RefutedCeiling]:
        """Return the ceilings of memory that a point surely exceeds by more than reading alone does."""
        found: dict[Conditions, RefutedCeiling] = {}
        for cell in cells:
            key, needed = _conditions(cell.series, cell.workers), traffic(cell)
            ceiling, batch = self._memory.get(key), cell.series.batch_size
            if ceiling is None or needed is None or not batch or needed.least < CACHED_BYTES:
                continue
            share = ceiling.share(cell, needed.least / batch)
            times = (share.value if share.lo is None else share.lo) or 0.0
            if times > max(READING_ALONE, found[key].times if key in found else 0.0):
                found[key] = RefutedCeiling(ceiling, cell, times)
        return found

    def _add(self, cell: Cell) -> None:
        key = _conditions(cell.series, cell.workers)
        rate = (cell.mean or 0.0) / (cell.workers or 1)
        if cell.series.model == ARITHMETIC:
            operations = (cell.get("gflops_per_item") or 0.0) * 1e9
            found = Ceiling("arithmetic", rate * operations, operations, cell)
            _keep_higher(self._arithmetic, (*key, cell.series.precision), found)
        elif cell.series.precision != "fp32":
            return  # what it then moves is not known
        elif cell.series.transfers and cell.newest.get("device_kind") == "gpu":
            _keep_higher(self._link, key, Ceiling("link", rate * COPIED_BYTES, COPIED_BYTES, cell))
        else:
            moved = 2 * COPIED_BYTES
            largest = self._memory.get(key)
            found = Ceiling("memory", rate * moved, moved, cell)
            if largest is None or _batch(cell) > _batch(largest.cell):
                self._memory[key] = found  # caches help the largest batch least
            elif _batch(cell) == _batch(largest.cell):
                _keep_higher(self._memory, key, found)


def _ends(cell: Cell, base: Cell) -> tuple[float | None, float | None]:
    """Return the least and the greatest ratio that two intervals allow."""
    low = None if cell.lo is None or not base.hi else cell.lo / base.hi
    high = None if cell.hi is None or not base.lo else cell.hi / base.lo
    return low, high


NOTHING_MEASURED = MeasuredCeilings(())


def _keep_higher(ceilings: dict[Conditions, Ceiling], key: Conditions, found: Ceiling) -> None:
    known = ceilings.get(key)
    if found.per_s > 0 and (known is None or found.per_s > known.per_s):
        ceilings[key] = found


def _batch(cell: Cell) -> int:
    return cell.series.batch_size or 0


def _conditions(one: Series, workers: int | None) -> Conditions:
    """Return what a point and its ceilings share: machine, device, power, and how many worked."""
    return one.environment_id, one.device, one.simulated, one.power_limit_w, workers


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
