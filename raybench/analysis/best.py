"""The best points under constraints: the most of one column where others keep their bounds."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from raybench.analysis.cells import cells
from raybench.analysis.conditions import Condition, numeric_column, parse_conditions, values_of
from raybench.analysis.estimate import Estimate  # noqa: TC001 - get_type_hints reads it
from raybench.analysis.series import Series  # noqa: TC001 - get_type_hints reads it
from raybench.analysis.tables import as_table
from raybench.errors import ConfigError, nearest
from raybench.text import agreeing, counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from raybench.analysis.cells import Cell
    from raybench.analysis.columns import Floats

DIRECTIONS = {
    "items_per_s": "higher",
    "tokens_per_s": "higher",
    "items_per_j": "higher",
    "fidelity_sqnr_db": "higher",
    "j_per_item": "lower",
    "avg_power_w": "lower",
    "latency_p50_ms": "lower",
    "latency_p90_ms": "lower",
    "latency_p99_ms": "lower",
    "gpu_mem_peak_mib": "lower",
    "load_s": "lower",
    "first_infer_ms": "lower",
}
"""Columns of which there is a best, and where it lies."""
MOST = 5
"""Ranks that are shown of each model on each device."""


@dataclass(frozen=True)
class RankedPoint:
    """A point that meets all conditions, with its rank on its model and device.

    Attributes:
        rank: 1 is the best.
        value: the column that is asked for, mean over trials.
        conditions: the worst value over trials of each column that has a condition.
        even: whether its interval and that of the best have values in common.
    """

    rank: int
    series: Series
    workers: int | None
    point_id: str | None
    value: Estimate
    conditions: tuple[float, ...]
    trials: int
    interval: str | None
    verdict: str | None
    marks: tuple[str, ...]
    even: bool

    @property
    def status(self) -> str:
        """What a table of points asks for: a ranked point has a number."""
        return "ok"


@dataclass(frozen=True)
class Best:
    """The answer to `best=COLUMN where=CONDITIONS`.

    Attributes:
        column: that is to be best.
        where: conditions that a point must meet in every trial.
        points: by model and device, best first.
        missing: which points are left out and why, a sentence each.
    """

    column: str
    where: tuple[Condition, ...]
    points: tuple[RankedPoint, ...]
    missing: tuple[str, ...]

    @property
    def question(self) -> str:
        """The question in the words of the command line."""
        bounds = " and ".join(map(str, self.where))
        return f"best {self.column}" + (f" where {bounds}" if bounds else "")

    def as_table(self) -> pa.Table:
        """Return a row for each ranked point."""
        table = as_table(RankedPoint, self.points)
        names = [name.replace("value", self.column) if name.startswith("value") else name
                 for name in table.column_names]  # fmt: skip
        return table.rename_columns(names)


def parse_best(options: Mapping[str, str]) -> tuple[str, tuple[Condition, ...]] | None:
    """Return column and conditions of the options `best` and `where`; None without either.

    Raises:
        ConfigError: for a column that has no best or does not exist, or a condition that is none.
    """
    if not {"best", "where"} & options.keys():
        return None
    name = options.get("best", "items_per_s")
    column = numeric_column(name)
    if column not in DIRECTIONS:
        raise ConfigError(f"{name!r} has no best. {nearest(column, DIRECTIONS)}")
    return column, parse_conditions(options["where"]) if "where" in options else ()


def best(trials: pa.Table, column: str, where: Sequence[Condition] = ()) -> Best:
    """Return the points that meet all conditions, ranked for each model and device.

    A condition holds where every trial of a point meets it; an unknown value does not.

    Args:
        trials: as `raybench.load` returns it.
        column: one of `DIRECTIONS`.
        where: conditions on columns of numbers.
    """
    every = [cell for cell in cells(trials, metric=column) if cell.ok]
    groups: dict[tuple[object, ...], list[Cell]] = defaultdict(list)
    for cell in every:
        kept = all(
            condition.met(values_of(trials, condition.column, cell.rows)) for condition in where
        )
        group = groups[cell.series.model, cell.series.device, cell.series.simulated]
        if kept:
            group.append(cell)
    ranked = [point for group in groups.values() for point in _ranked(trials, column, where, group)]
    return Best(
        column, tuple(where), tuple(ranked), tuple(_missing(trials, column, where, every, groups))
    )


def _ranked(
    trials: pa.Table, column: str, where: Sequence[Condition], group: Sequence[Cell]
) -> list[RankedPoint]:
    sign = -1 if DIRECTIONS[column] == "higher" else 1
    ordered = sorted(group, key=lambda cell: sign * (cell.mean or 0.0))[:MOST]
    return [
        RankedPoint(
            rank, cell.series, cell.workers, cell.point_id, cell.estimate,
            tuple(_worst(condition, values_of(trials, condition.column, cell.rows)) for condition in where),
            cell.trials, cell.interval, cell.verdict, cell.marks, _overlap(cell.estimate, ordered[0].estimate),
        )
        for rank, cell in enumerate(ordered, 1)
    ]  # fmt: skip


def _worst(condition: Condition, values: Floats) -> float:
    return float(np.max(values) if condition.symbol.startswith("<") else np.min(values))


def _overlap(one: Estimate, other: Estimate) -> bool:
    if one.lo is None or one.hi is None or other.lo is None or other.hi is None:
        return one.value == other.value
    return one.lo <= other.hi and other.lo <= one.hi


def _missing(
    trials: pa.Table,
    column: str,
    where: Sequence[Condition],
    every: Sequence[Cell],
    groups: Mapping[tuple[object, ...], Sequence[Cell]],
) -> list[str]:
    sentences = []
    measured = sum(cell.ok for cell in cells(trials))
    if len(every) < measured:
        without = measured - len(every)
        sentences.append(
            f"{counted(without, 'point')} of {measured} {agreeing(without, 'has', 'have')} no {column}."
        )
    for condition in where:
        unknown = sum(
            bool(np.isnan(values_of(trials, condition.column, cell.rows)).any()) for cell in every
        )
        if unknown:
            sentences.append(
                f"{counted(unknown, 'point')} of {len(every)} {agreeing(unknown, 'has', 'have')} no "
                f"{condition.column} in some trial, and count as not meeting {condition}."
            )
    for (model, device, _), group in groups.items():
        if not group:
            sentences.append(
                f"No point of {model} on {device} meets {' and '.join(map(str, where))}."
            )
    return sentences
