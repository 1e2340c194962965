"""Many runs as one data set: of each point its runs in the order of time."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from raybench.analysis.cells import Cell, cells
from raybench.analysis.comparability import FACTORS
from raybench.analysis.selection import LEARNT
from raybench.analysis.series import SERIES, Series, sort_key, without
from raybench.errors import ComparisonRefused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

Key: TypeAlias = "tuple[Series, int | None, str | None]"
"""What the runs of a series share: factors, workers and the network behind the model's name."""
ENVIRONMENT, NOTHING = "environment", "none"
_SOFTWARE = ("environment_id", "engine_version")
BY = (
    ENVIRONMENT,
    NOTHING,
    *(name for name in FACTORS if name not in (*_SOFTWARE, "method_version")),
)
"""What the runs of a series may differ in: driver, libraries and host; nothing; or further factors."""


@dataclass(frozen=True)
class RunLevel:
    """One point in one run.

    Attributes:
        run_id: of the run.
        started_at: start of the first trial of the point, UTC.
        environment_id: that it ran in.
        trials: of the point in the run.
        value: geometric mean of the metric over them.
    """

    run_id: str
    started_at: str
    environment_id: str | None
    trials: int
    value: float


@dataclass(frozen=True)
class PointRun:
    """One point in one run, with a number or without.

    Attributes:
        level: None where the run has no number.
        order: sorts by time.
        reason: why there is no number.
        medians: of measured columns, see `cells.MEDIAN_COLUMNS`.
        plans: hashes of the plans that ran, their first digits, where the engine has any.
        marks: see `marks.MARKS`.
    """

    run_id: str
    environment_id: str | None
    order: tuple[str, str]
    level: RunLevel | None = None
    reason: str | None = None
    verdict: str | None = None
    medians: Mapping[str, float] = field(default_factory=dict)
    plans: frozenset[str] = frozenset()
    marks: tuple[str, ...] = ()


def rows_since(trials: pa.Table, day: date) -> pa.Table:
    """Return the rows of trials that started on a day (UTC) or later."""
    first = datetime(day.year, day.month, day.day, tzinfo=timezone.utc)
    begin = int(first.timestamp()) * 1_000_000
    starts = pc.fill_null(trials["started_at"].cast(pa.int64()), -1)
    return trials.filter(pc.greater_equal(starts, begin))


def point_runs(trials: pa.Table, by: Sequence[str], metric: str) -> dict[Key, list[PointRun]]:
    """Return the runs of each series, oldest first, by point.

    Runs without a number stand with the series that they belong to, as far as their rows know.

    Args:
        trials: as `raybench.load` returns it.
        by: see `BY`.
        metric: see `cells.METRICS`.

    Raises:
        ComparisonRefused: a run has two values of a factor in `by` for one point.
    """
    places = trials["environment_id"].to_pylist()
    # each run as an environment of its own, so that no trial of one stands for that of another
    where = trials.column_names.index("environment_id")
    apart = trials.set_column(where, "environment_id", trials["run_id"])
    starts, plans = _starts(trials), _plans(trials)
    ignored = _ignored(by)
    series: dict[Key, list[PointRun]] = defaultdict(list)
    failed: list[tuple[Key, PointRun]] = []
    seen: dict[tuple[Key, str], Cell] = {}
    for cell in cells(apart, metric=metric):
        environment_id = places[cell.rows[0]]
        run = replace(
            _run(cell, environment_id, min(starts[row] for row in cell.rows)),
            plans=frozenset(plan for row in cell.rows if (plan := plans[row])),
        )
        key = _key(cell, environment_id, ignored)
        if run.level is None:
            failed.append((key, run))
            continue
        if (key, run.run_id) in seen:
            raise ComparisonRefused(_twice(seen[key, run.run_id], cell, run.run_id))
        seen[key, run.run_id] = cell
        series[key].append(run)
    homes = defaultdict(list)
    for key in series:
        homes[_without_learnt(key)].append(key)
    for key, run in failed:
        for home in homes.get(_without_learnt(key), ()):
            if (home, run.run_id) not in seen:
                series[home].append(run)
    return {
        key: sorted(series[key], key=lambda run: run.order)
        for key in sorted(series, key=lambda key: (sort_key(key[0]), key[1] or 0, key[2] or ""))
    }


def _ignored(by: Sequence[str]) -> tuple[str, ...]:
    software = () if NOTHING in by else _SOFTWARE
    return tuple(name for name in (*SERIES, "workers") if name in (*software, *by))


def _key(cell: Cell, environment_id: str | None, ignored: Sequence[str]) -> Key:
    own = None if "environment_id" in ignored else environment_id
    series = replace(
        without(cell.series, *(name for name in ignored if name in SERIES)), environment_id=own
    )
    identity = None if "model" in ignored else cell.newest.get("model_identity")
    return series, None if "workers" in ignored else cell.workers, identity


def _without_learnt(key: Key) -> tuple[Series, int | None]:
    return without(key[0], *LEARNT), key[1]


def _run(cell: Cell, environment_id: str | None, started_at: str) -> PointRun:
    run_id = cell.series.environment_id or ""
    level = None
    reason = f"{cell.status}. {cell.reason or ''}".rstrip()
    if cell.ok:
        reason = "its value is not a positive number."
    if cell.ok and cell.logs is not None and math.isfinite(cell.logs.mean):
        value = math.exp(cell.logs.mean)
        level = RunLevel(run_id, started_at, environment_id, cell.trials, value)
    return PointRun(
        run_id=run_id,
        environment_id=environment_id,
        order=(started_at, run_id),
        level=level,
        reason=None if level else reason,
        verdict=cell.verdict,
        medians=cell.medians,
        marks=cell.marks,
    )


def _plans(trials: pa.Table) -> list[str | None]:
    """Return the first digits of the hash of the plan that each trial ran; None without one."""
    if "engine_sha256" not in trials.column_names:
        return [None] * trials.num_rows
    return [digest and digest[:8] for digest in trials["engine_sha256"].to_pylist()]


def _starts(trials: pa.Table) -> list[str]:
    """Return when each trial started, in ISO 8601; empty where a row does not say."""
    micros = trials["started_at"].cast(pa.int64()).to_pylist()
    return [
        ""
        if start is None
        else datetime.fromtimestamp(start // 1_000_000, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        for start in micros
    ]


def _twice(one: Cell, other: Cell, run_id: str) -> str:
    differing = [
        name
        for name in FACTORS
        if name != "environment_id" and _value(one, name) != _value(other, name)
    ]
    return (
        f"Run {run_id} has two values of {differing[0] if differing else 'a factor'} for the same "
        "point. Leave that factor out of by=."
    )


def _value(cell: Cell, factor: str) -> Any:
    return cell.workers if factor == "workers" else getattr(cell.series, factor)
