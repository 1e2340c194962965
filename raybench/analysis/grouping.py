"""Statistics of rows that belong together, for all groups of a table at once."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raybench.analysis.columns import floats, none_for_nan
from raybench.results.schema import VERDICTS
from raybench.stats.intervals import bounds, t_quantile
from raybench.stats.ratios import Logs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.analysis.columns import Bools, Floats, Ints

WITHIN, BETWEEN, BUILDS = "within_trial", "between_trials", "between_builds"
"""Where an interval comes from; the second predicts the next trial of a plan, the third another plan."""


@dataclass(frozen=True)
class Groups:
    """Rows that belong together: their numbers, group after group, oldest first in each.

    Attributes:
        order: row numbers, shape (rows,).
        start: where each group begins in `order`, shape (groups,).
        count: rows in each group, shape (groups,).
    """

    order: Ints
    start: Ints
    count: Ints

    @property
    def last(self) -> Ints:
        """The newest row of each group."""
        last: Ints = self.order[self.start + self.count - 1]
        return last

    def group_of(self) -> Ints:
        """Return the group of each entry of `order`."""
        return np.repeat(np.arange(len(self.start)), self.count)

    def parts(self, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Cut values in the order of `order` into a tuple for each group."""
        starts, ends = self.start.tolist(), (self.start + self.count).tolist()
        return [tuple(values[a:b]) for a, b in zip(starts, ends, strict=True)]


def group(key: Ints, selected: Bools) -> Groups:
    """Group the selected rows by their key, keeping their order within a group."""
    rows = np.flatnonzero(selected)
    order = rows[np.argsort(key[rows], kind="stable")]
    start: Ints = np.flatnonzero(np.diff(key[order], prepend=-1))
    return Groups(order, start, np.diff(start, append=len(order)))


def intervals(
    rows: pa.Table, groups: Groups, values: Floats, metric: str
) -> tuple[Floats, list[float | None], list[float | None], list[str | None]]:
    """Return the mean of each group, its 95 % bounds and where these come from.

    Args:
        rows: the table; a single trial brings its own bounds of `items_per_s`.
        groups: of its rows.
        values: the metric, in the order of `groups.order`.
        metric: its column.
    """
    means = np.add.reduceat(values, groups.start) / groups.count
    away = values - np.repeat(means, groups.count)
    squares = np.add.reduceat(away * away, groups.start)
    several = groups.count > 1
    df = np.maximum(groups.count - 1, 1)
    t = {int(n): t_quantile(0.975, int(n)) for n in np.unique(df[several])}
    half = np.array([t.get(n, np.nan) for n in df.tolist()]) * np.sqrt(squares / df / groups.count)
    within_lo = floats(rows["items_per_s_lo"])[groups.last]
    within_hi = floats(rows["items_per_s_hi"])[groups.last]
    single = ~several & ~np.isnan(within_lo + within_hi) & (metric == "items_per_s")
    reaches_below = within_lo <= 0  # only in rows from before intervals were logarithmic
    as_today = bounds(means, within_hi - means)
    within_lo, within_hi = np.where(reaches_below, as_today, (within_lo, within_hi))
    between_lo, between_hi = bounds(means, half)
    lo = np.where(several, between_lo, np.where(single, within_lo, np.nan))
    hi = np.where(several, between_hi, np.where(single, within_hi, np.nan))
    kinds = [BETWEEN if s else WITHIN if a else None for s, a in zip(several, single, strict=True)]
    return means, none_for_nan(lo), none_for_nan(hi), kinds


def logarithms(values: Floats, groups: Groups) -> list[Logs | None]:
    """Return the moments of each group's logarithms; None unless all values are positive."""
    positive = np.minimum.reduceat(values, groups.start) > 0
    logs = np.log(np.where(values > 0, values, 1.0))
    means = np.add.reduceat(logs, groups.start) / groups.count
    away = logs - np.repeat(means, groups.count)
    variances = np.add.reduceat(away * away, groups.start) / np.maximum(groups.count - 1, 1)
    columns = zip(positive, means.tolist(), variances.tolist(), groups.count.tolist(), strict=True)
    return [Logs(mean, variance, n) if good else None for good, mean, variance, n in columns]


def medians(rows: pa.Table, groups: Groups, columns: Sequence[str]) -> list[dict[str, float]]:
    """Return for each group the median of every column that has a value in it."""
    names = [name for name in columns if rows[name].null_count < rows.num_rows]
    if not names:
        return [{} for _ in groups.start]
    values = np.stack([floats(rows[name])[groups.order] for name in names])
    middle = np.empty((len(groups.start), len(names)))
    for count in np.unique(groups.count).tolist():  # groups of one size make one block
        which = np.flatnonzero(groups.count == count)
        block = values[:, groups.start[which][:, None] + np.arange(count)]
        middle[which] = _medians(block).T
    complete: Bools = np.asarray(np.isfinite(middle).all(axis=1))
    return [
        dict(zip(names, row, strict=True))
        if whole
        else {name: value for name, value in zip(names, row, strict=True) if value == value}
        for row, whole in zip(middle.tolist(), complete.tolist(), strict=True)
    ]


def _medians(block: Floats) -> Floats:
    """Return medians along the last axis, ignoring NaN; NaN if there is nothing else."""
    block = np.sort(block, axis=-1)  # NaN comes last
    count = (~np.isnan(block)).sum(axis=-1, keepdims=True)
    low = np.take_along_axis(block, np.maximum(count - 1, 0) // 2, axis=-1)
    high = np.take_along_axis(block, np.minimum(count // 2, block.shape[-1] - 1), axis=-1)
    middle: Floats = ((low + high) / 2)[..., 0]
    return middle


def present_values(rows: pa.Table, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Return for each row its values of these columns, nulls left out."""
    values: list[dict[str, Any]] = [{} for _ in range(rows.num_rows)]
    for name in columns:
        if rows[name].null_count < rows.num_rows:
            for row, value in enumerate(rows[name].to_pylist()):
                if value is not None:
                    values[row][name] = value
    return values


def worst_verdicts(verdicts: pa.ChunkedArray, groups: Groups) -> list[str | None]:
    """Return the worst verdict of each group."""
    rank = pc.fill_null(pc.index_in(verdicts, pa.array(VERDICTS)), -1).to_numpy()
    worst = np.maximum.reduceat(rank[groups.order], groups.start)
    names = (*VERDICTS, None)  # rank -1, no verdict at all, picks the last
    return [names[rank] for rank in worst.tolist()]


def all_flags(flags: pa.ChunkedArray, groups: Groups) -> list[tuple[str, ...]]:
    """Return every flag that any row of a group has, by name."""
    whole = flags.combine_chunks()
    encoded = pc.dictionary_encode(pc.list_flatten(whole))
    names = encoded.dictionary.to_pylist()
    group_of = np.full(len(flags), -1)
    group_of[groups.order] = groups.group_of()
    owner = group_of[pc.list_parent_indices(whole).to_numpy()]
    pairs = np.unique(np.stack((owner, encoded.indices.to_numpy()), axis=1)[owner >= 0], axis=0)
    flags_of: dict[int, list[str]] = defaultdict(list)
    for number, flag in pairs.tolist():
        flags_of[number].append(names[flag])
    return [tuple(sorted(flags_of.get(number, ()))) for number in range(len(groups.start))]
