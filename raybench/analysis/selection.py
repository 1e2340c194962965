"""Which rows of a `trials` table count, and the series that each belongs to."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raybench.analysis.columns import codes, fold, mask
from raybench.analysis.series import SERIES, Series
from raybench.experiment import CLOSED, NO_PIPELINE, SYNTHETIC
from raybench.results.schema import FINAL, SCHEMAS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from raybench.analysis.columns import Bools, Ints

LEARNT = ("device", "engine_version", "mps")
"""Factors that a trial learns only when it gets far enough."""


def newest_rows(trials: pa.Table, columns: Iterable[str]) -> tuple[pa.Table, Ints]:
    """Return the newest final row of every trial, or its newest if none is final, oldest first.

    Args:
        trials: the table; columns that it lacks count as null.
        columns: what is wanted of each row.

    Returns:
        The rows, and the place of each in `trials`.
    """
    rows = with_columns(trials, columns)
    at = pa.table(
        {
            "run": pc.fill_null(rows["run_id"], ""),
            "start": pc.fill_null(rows["started_at"].cast(pa.int64()), 0),
        }
    )
    keys = [("run", "ascending"), ("start", "ascending")]
    order = pc.sort_indices(at, sort_keys=keys).to_numpy()
    rows = rows.take(pa.array(order))
    trial = fold([codes(rows[name]) for name in ("point_id", "trial", "environment_id")])
    final = mask(pc.is_in(rows["status"], pa.array(FINAL)))
    best_last = np.lexsort((np.arange(len(trial)), final, trial))
    kept = np.sort(best_last[np.flatnonzero(np.diff(trial[best_last], append=-1))])
    return rows.take(pa.array(kept)), order[kept].astype(np.int64)


def with_columns(trials: pa.Table, columns: Iterable[str]) -> pa.Table:
    """Return these columns, those that older rows lack filled in with what they mean."""
    present = set(trials.column_names)
    schema = SCHEMAS["trials"]
    found = {
        name: trials[name]
        if name in present
        else pa.nulls(trials.num_rows, schema.field(name).type)
        for name in dict.fromkeys(columns)
    }
    if "first_build_id" in found:
        found["first_build_id"] = pc.coalesce(found["first_build_id"], trials["point_id"])
    if "inputs" in found:  # older rows do not say: there were no others
        found["inputs"] = pc.fill_null(found["inputs"], SYNTHETIC)
    if "load" in found:
        found["load"] = pc.fill_null(found["load"], CLOSED)
    if "pipeline" in found:
        found["pipeline"] = pc.fill_null(found["pipeline"], NO_PIPELINE)
    if "instances" in found:
        found["instances"] = pc.fill_null(found["instances"], 1)
    if "mps" in found:
        good = pc.equal(trials["status"], "ok")  # a trial that failed on a GPU may not know
        on_cores = pc.equal(trials["device_kind"], "cpu") if "device_kind" in present else False
        unknown = pc.and_(pc.is_null(found["mps"]), pc.or_kleene(good, on_cores))
        found["mps"] = pc.if_else(unknown, pa.scalar(False), found["mps"])
    return pa.table(found)


def in_newest_point(rows: pa.Table, cell_of: Ints, good: Bools) -> Bools:
    """Tell for each row whether it belongs to the point of its cell's newest good row."""
    point = codes(rows["first_build_id"])  # all builds are one point
    newest = np.zeros(int(cell_of.max()) + 1, dtype=np.int64)
    where = np.flatnonzero(good)
    newest[cell_of[where]] = point[where]  # rows are oldest first: the last one to write stays
    return np.asarray(point == newest[cell_of], dtype=np.bool_)


def series_of_rows(rows: pa.Table, good: Bools) -> tuple[Ints, list[Series]]:
    """Return all series, and for each row the index of its series.

    A trial that ended early may lack its device or library version. It joins the one measured
    series that agrees in all the factors it has. Without exactly one such series (no other trial
    of its batch or precision got further), it takes the values that all trials of its environment
    and engine share, and makes a series of its own.
    """
    facts = np.stack([codes(rows[name]) for name in SERIES], axis=1)
    present = np.stack([~mask(pc.is_null(rows[name])) for name in SERIES], axis=1)
    kind_of = fold(list(facts.T))
    first = np.zeros(int(kind_of.max()) + 1, dtype=np.int64)
    first[kind_of] = np.arange(len(kind_of))
    facts, present = facts[first], present[first]
    measured = np.unique(kind_of[good])
    home = np.arange(len(first))
    incomplete = np.setdiff1d(np.arange(len(first)), measured)
    for pattern in {tuple(flags) for flags in present[incomplete].tolist()}:
        by_facts: dict[bytes, list[int]] = defaultdict(list)
        for kind in measured:
            by_facts[facts[kind][list(pattern)].tobytes()].append(int(kind))
        for kind in incomplete[(present[incomplete] == pattern).all(axis=1)]:
            homes = by_facts.get(facts[kind][list(pattern)].tobytes(), [])
            home[kind] = homes[0] if len(homes) == 1 else kind
    columns = [rows[name].take(pa.array(first)).to_pylist() for name in SERIES]
    queue = SERIES.index("balancer")
    columns[queue] = [None if name == "split" else name for name in columns[queue]]
    series = [Series(*values) for values in zip(*columns, strict=True)]
    alone = incomplete[home[incomplete] == incomplete].tolist()
    _fill_in(series, measured.tolist(), alone)
    first_of: dict[Series, int] = {}
    for kind in [*measured.tolist(), *alone]:
        home[kind] = first_of.setdefault(series[kind], kind)
    return home[kind_of], series


def _fill_in(series: list[Series], measured: Sequence[int], alone: Sequence[int]) -> None:
    """Fill in `LEARNT` where every measured series of the environment and engine agrees."""
    values_of: dict[tuple[Any, str], set[Any]] = defaultdict(set)
    for kind in measured:
        one = series[kind]
        for name in LEARNT:
            values_of[(one.environment_id, one.engine), name].add(getattr(one, name))
    for kind in alone:
        one = series[kind]
        candidates = {name: values_of[(one.environment_id, one.engine), name] for name in LEARNT}
        shared = {
            name: next(iter(values))
            for name, values in candidates.items()
            if getattr(one, name) is None and len(values) == 1
        }
        series[kind] = replace(one, **shared)
