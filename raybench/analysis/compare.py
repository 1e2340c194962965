"""compare: did it get faster or slower, point by point, and how sure is that."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from raybench.analysis.cells import (
    METRICS,
    SERIES,
    Cell,
    Series,
    cells,
    kin,
    marks_of,
    ratio,
    without_numbers,
)
from raybench.analysis.tables import as_table
from raybench.errors import ComparisonRefused, ConfigError, nearest
from raybench.stats.intervals import Span, t_quantile
from raybench.stats.ratios import sum_of_variances

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pyarrow as pa

Key: TypeAlias = tuple[Series, "int | None"]


IMPROVED, REGRESSED, SAME, INCONCLUSIVE = "improved", "regressed", "same", "inconclusive"
MISSING = "missing"
"""A point that only one side has a number for."""
THRESHOLD = 0.01
POWER = 0.8
"""Of how many cases the detectable change is found."""
EXPLAINS = 0.8
"""Share of a change that the clock must account for to explain it."""

ENVIRONMENT = (
    "driver_version",
    "cuda_driver_version",
    "cuda_runtime_version",
    "tensorrt_version",
    "onnxruntime_version",
    "openvino_version",
    "cpu_model",
    "container_digest",
)
"""Facts of the table `environment` that make two environments differ, beside the devices."""
_LIBRARIES = ("tensorrt_version", "onnxruntime_version", "openvino_version")
ALONG: dict[str, tuple[str, ...]] = {
    "device": ("driver_version", "cuda_driver_version", "cuda_runtime_version", "cpu_model"),
    "engine": ("engine_version", "engine_options"),
    "engine_version": _LIBRARIES,
    "environment_id": ENVIRONMENT,
}
"""What may differ along with a factor: another device has another driver."""
_SIDE = ("environment_id", "method_version")
"""Columns of `Series` that are looked at for a side as a whole."""
FACTORS = ("workers", *SERIES)
_RATES = ("items_per_s", "latency_p50_ms", "latency_p90_ms", "latency_p99_ms")
"""Metrics that a clock can explain."""
_CLOCKS = ("sm_clock_mhz_mean", "cpu_mhz_mean")


@dataclass(frozen=True)
class Change:
    """One point on both sides.

    Attributes:
        series: what both sides share; factors that may differ are None.
        a: mean over trials on the first side, with its interval; b on the second.
        a_interval: see `scaling.Entry`.
        ratio: b over a, of geometric means of trials; 95 % bounds from 2 trials a side on.
        outcome: IMPROVED, REGRESSED, SAME, INCONCLUSIVE or MISSING.
        detectable: relative change that these trials would find in 80 of 100 cases; None with
            fewer than 2 trials a side.
        clock_ratio: mean SM clock of b over a; None where it was not read.
        clock_explains: the clock accounts for 80 % or more of the change.
        note: why it is inconclusive or missing, or what explains it; one sentence.
        marks: of either side, see `points.MARKS`.
    """

    series: Series
    workers: int | None
    outcome: str
    note: str | None
    a: float | None
    a_lo: float | None
    a_hi: float | None
    a_interval: str | None
    a_trials: int
    a_verdict: str | None
    b: float | None
    b_lo: float | None
    b_hi: float | None
    b_interval: str | None
    b_trials: int
    b_verdict: str | None
    ratio: float | None
    ratio_lo: float | None
    ratio_hi: float | None
    detectable: float | None
    clock_ratio: float | None
    clock_explains: bool
    a_flags: tuple[str, ...]
    b_flags: tuple[str, ...]
    marks: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """Two sides, point by point.

    Attributes:
        a_name: what the first side is called; b_name the second.
        metric: column that was compared, see `points.METRICS`.
        threshold: changes within it do not matter, as a share.
        by: factors that were said to differ.
        differs: what does differ, by factor: (name, value in a, value in b) in words.
        geometric_mean: of the ratios of the points on both sides; descriptive only.
        missing: what could not be said and why, a sentence each.
    """

    a_name: str
    b_name: str
    metric: str
    threshold: float
    by: tuple[str, ...]
    differs: tuple[tuple[str, str, str], ...]
    changes: tuple[Change, ...]
    geometric_mean: float | None
    missing: tuple[str, ...]

    def count(self, outcome: str) -> int:
        """How many points have this outcome."""
        return sum(change.outcome == outcome for change in self.changes)

    def exit_code(self, strict: bool = False) -> int:
        """0 nothing regressed, 1 something did, 3 undecided with `strict`."""
        if self.count(REGRESSED):
            return 1
        return 3 if strict and (self.count(INCONCLUSIVE) or self.count(MISSING)) else 0

    def as_table(self) -> pa.Table:
        """A row a point."""
        return as_table(Change, self.changes)


def compare(
    a: pa.Table,
    b: pa.Table,
    *,
    by: Sequence[str] = (),
    metric: str = "items_per_s",
    threshold: float = THRESHOLD,
    names: tuple[str, str] = ("A", "B"),
    environments: tuple[pa.Table | None, pa.Table | None] = (None, None),
) -> Comparison:
    """Hold two `trials` tables against one another.

    The change of a point is the ratio of the geometric means of its trials with Welch's t interval
    on logarithms. It is improved or regressed when the whole interval lies beyond the threshold,
    same when the whole interval lies within, else inconclusive; so it is with fewer than two
    trials a side, and when a side is not stable.

    Simulated (benchmarks/inference.py; 3 trials a side, sd 0.5 %, threshold 1 %): of equal sides
    under 0.1 % are called improved or regressed, of drops of 5 % over 99.9 % are found.

    Args:
        a: the rows that are held to be usual.
        b: the rows in question.
        by: factors that may differ between the sides: columns of `points.Series`, workers, or one
            of `ENVIRONMENT`; what differs along with them (`ALONG`) needs no mention.
        metric: see `points.METRICS`.
        threshold: changes within it do not matter, as a share.
        names: what the sides are called.
        environments: the `environment` table of either side; tells in what environments differ.

    Raises:
        ComparisonRefused: the sides are not alike in something that `by` does not name, or have no
            point in common.
        ConfigError: an unknown factor or metric, or a threshold that is no share.
    """
    _check(by, metric, threshold)
    made = cells(a, metric=metric), cells(b, metric=metric)
    for side, name in zip(made, names, strict=True):
        told = without_numbers(side)
        if told:
            raise ComparisonRefused(f"Nothing to compare: {name}: {told[0]}")
    _refuse_other_methods(made, names)
    open_ = _open(by, made)
    sides = _good(made[0], open_, names[0]), _good(made[1], open_, names[1])
    _refuse_strangers(sides, open_, names)
    differs = _differs(sides, by, open_, environments, names)
    lost = _lost(made[0], open_, sides[0]), _lost(made[1], open_, sides[1])
    keys = dict.fromkeys([*sides[0], *sides[1]])
    changes = tuple(
        _change(key, _Both(*(side.get(key) for side in (*sides, *lost))), metric, threshold, names)
        for key in keys
    )
    return Comparison(
        a_name=names[0],
        b_name=names[1],
        metric=metric,
        threshold=threshold,
        by=tuple(by),
        differs=differs,
        changes=changes,
        geometric_mean=_geometric_mean(changes),
        missing=_missing(changes),
    )


# --- what may be held against what ----------------------------------------------------------------


def _check(by: Sequence[str], metric: str, threshold: float) -> None:
    if metric not in METRICS:
        raise ConfigError(f"Unknown metric {metric!r}. {nearest(metric, METRICS)}")
    if not 0 <= threshold < 1:
        raise ConfigError(f"threshold={threshold} is no share. Write 0.01 for 1 %.")
    known = {*FACTORS, *ENVIRONMENT} - {"method_version"}
    for name in by:
        if name not in known:
            raise ConfigError(f"Unknown factor {name!r} in by=. {nearest(name, known)}")


def _refuse_other_methods(made: tuple[list[Cell], list[Cell]], names: tuple[str, str]) -> None:
    """Numbers of two methods, or intervals of two levels, say nothing of one another."""
    methods = [{cell.series.method_version for cell in side if cell.ok} for side in made]
    levels = [{cell.said.get("ci_level") for cell in side if cell.ok} for side in made]
    for what, (a, b) in (("method_version", methods), ("ci_level", levels)):
        if len((a | b) - {None}) > 1:
            raise ComparisonRefused(
                f"{what} is {_list(a)} in {names[0]} and {_list(b)} in {names[1]}: what they "
                "measured is not the same. Measure one side again with the newer raybench."
            )


def _along(by: Iterable[str]) -> set[str]:
    """What may differ: what was named, and what differs along with it."""
    found = set(by)
    for name in ("engine", "engine_version", "device", "environment_id"):  # engine brings version
        if name in found:
            found |= set(ALONG[name])
    return found


def _open(by: Sequence[str], made: tuple[list[Cell], list[Cell]]) -> frozenset[str]:
    """Factors that are left out of what makes a point.

    The environment is among them unless both sides have one in common: then each is held against
    itself.
    """
    a, b = ({cell.series.environment_id for cell in side if cell.ok} for side in made)
    always = {"method_version"} if a & b else set(_SIDE)
    return frozenset((_along(by) | always) & set(FACTORS))


def _key(cell: Cell, open_: frozenset[str]) -> Key:
    names = [name for name in SERIES if name in open_]
    return kin(cell.series, *names), None if "workers" in open_ else cell.workers


def _good(made: Sequence[Cell], open_: frozenset[str], name: str) -> dict[Key, Cell]:
    groups: dict[Key, list[Cell]] = defaultdict(list)
    for cell in made:
        if cell.ok:
            groups[_key(cell, open_)].append(cell)
    for some in groups.values():
        if len(some) > 1:
            factor = next(f for f in FACTORS if len({_value(c, f) for c in some}) > 1)
            values = {_value(c, factor) for c in some}
            raise ComparisonRefused(
                f"{name} has {factor} {_list(values)} for the same point. "
                f"Choose one of them: FOLDER:{factor}={_list(values, 1)}"
            )
    return {key: some[0] for key, some in groups.items()}


def _lost(made: Sequence[Cell], open_: frozenset[str], good: Mapping[Key, Cell]) -> dict[Key, Cell]:
    """Cells of points that have no number on this side."""
    found = {_key(cell, open_): cell for cell in made if not cell.ok}
    return {key: cell for key, cell in found.items() if key not in good}


def _refuse_strangers(
    sides: tuple[Mapping[Key, Cell], Mapping[Key, Cell]],
    open_: frozenset[str],
    names: tuple[str, str],
) -> None:
    """Refuse sides of which no point is on both, and say what makes the difference."""
    shared = sides[0].keys() & sides[1].keys()
    identities = [tuple(side[key].said.get("model_identity") for side in sides) for key in shared]
    if any(a != b and None not in (a, b) for a, b in identities):
        raise ComparisonRefused(
            f"A network of one name is not the same in {names[0]} and {names[1]} "
            "(model_identity differs). Measure both sides with one model file or seed."
        )
    if shared:
        return
    apart = {}
    for factor in (name for name in FACTORS if name not in open_ and name not in _SIDE):
        a, b = ({_value(cell, factor) for cell in side.values()} for side in sides)
        if not a & b:
            apart[factor] = f"{factor} ({_list(a)} against {_list(b)})"
    if not apart:
        raise ComparisonRefused(
            f"{names[0]} and {names[1]} have no point in common. "
            "Measure the same experiment on both sides."
        )
    raise ComparisonRefused(
        f"{names[0]} and {names[1]} are not alike: they differ in {', '.join(apart.values())}. "
        f"If that is the question, add by={','.join(apart)}"
    )


def _differs(
    sides: tuple[Mapping[Key, Cell], Mapping[Key, Cell]],
    by: Sequence[str],
    open_: frozenset[str],
    environments: tuple[pa.Table | None, pa.Table | None],
    names: tuple[str, str],
) -> tuple[tuple[str, str, str], ...]:
    """What does differ, in words; refuses environments that differ in what nobody named."""
    shared = [key for key in sides[0] if key in sides[1]]
    both = [[side[key] for key in shared] for side in sides]
    found = []
    for factor in (name for name in FACTORS if name in open_ and name not in _SIDE):
        a, b = ({_value(cell, factor) for cell in side} for side in both)
        if a != b:
            found.append((factor, _list(a), _list(b)))
    ids = [{cell.series.environment_id for cell in side} for side in both]
    if ids[0] == ids[1]:
        return tuple(found)
    facts = [_facts(table, some) for table, some in zip(environments, ids, strict=True)]
    strange = [name for name in ENVIRONMENT if facts[0].get(name) != facts[1].get(name)]
    told = [(name, *(_list(side.get(name, ())) for side in facts)) for name in strange]
    allowed = _along(by)
    surprise = [entry for entry in told if entry[0] not in allowed]
    unknown = not (facts[0] and facts[1])
    if surprise or (unknown and not allowed & {"environment_id", "device", *ENVIRONMENT}):
        raise ComparisonRefused(_other_environment(surprise, names))
    return (*found, *((name, a, b) for name, a, b in told))


def _other_environment(surprise: Sequence[tuple[str, ...]], names: tuple[str, str]) -> str:
    if not surprise:
        return (
            f"{names[0]} and {names[1]} ran in different environments. "
            "If that is the question, add by=environment_id"
        )
    words = ", ".join(f"{name} ({a} against {b})" for name, a, b in surprise)
    return (
        f"{names[0]} and {names[1]} ran in environments that differ in {words}. "
        f"If that is the question, add by={','.join(entry[0] for entry in surprise)}"
    )


def _facts(table: pa.Table | None, ids: set[str | None]) -> dict[str, set[Any]]:
    """Values of each fact over the rows of some environments; empty when they are not known."""
    if table is None:
        return {}
    there = [name for name in ENVIRONMENT if name in table.column_names]
    rows = table.select(["environment_id", *there]).to_pylist()
    rows = [row for row in rows if row["environment_id"] in ids]
    return {name: {row[name] for row in rows} for name in there} if rows else {}


def _value(cell: Cell, factor: str) -> Any:
    return cell.workers if factor == "workers" else getattr(cell.series, factor)


def _list(values: Iterable[Any], most: int = 4) -> str:
    words = sorted("none" if value is None else str(value) for value in values)
    more = f" and {len(words) - most} more" if len(words) > most > 1 else ""
    return ", ".join(words[:most]) + more


# --- one point ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Both:
    """A point on both sides: its cells with a number, else the ones without."""

    a: Cell | None
    b: Cell | None
    a_lost: Cell | None
    b_lost: Cell | None


def _change(key: Key, both: _Both, metric: str, threshold: float, names: tuple[str, str]) -> Change:
    a, b = both.a, both.b
    span, clock, explains, detectable = None, None, False, None
    note: str | None
    if a is None or b is None:
        outcome, note = MISSING, _why_missing(both, names)
    else:
        span = ratio(b, a)
        detectable = _detectable(a, b, threshold)
        clock = _clock_ratio(a, b)
        explains = metric in _RATES and _explained(span, clock, METRICS[metric])
        outcome, note = _judge(a, b, span, metric, threshold, names)
        if explains and clock is not None:
            words = f"Consistent with the clock, which changed by {100 * (clock - 1):+.1f} %."
            note = words if note is None else f"{note} {words}"
    return Change(
        series=key[0],
        workers=key[1],
        outcome=outcome,
        note=note,
        **_figures("a", a),
        **_figures("b", b),
        ratio=None if span is None else span.value,
        ratio_lo=None if span is None else span.lo,
        ratio_hi=None if span is None else span.hi,
        detectable=detectable,
        clock_ratio=clock,
        clock_explains=explains,
        marks=marks_of((a, b)),
    )


def _figures(side: str, cell: Cell | None) -> dict[str, Any]:
    if cell is None:
        nothing = dict.fromkeys(("", "_lo", "_hi", "_interval", "_verdict"))
        return {f"{side}{name}": value for name, value in nothing.items()} | {
            f"{side}_trials": 0,
            f"{side}_flags": (),
        }
    return {
        side: cell.mean,
        f"{side}_lo": cell.lo,
        f"{side}_hi": cell.hi,
        f"{side}_interval": cell.interval,
        f"{side}_trials": cell.trials,
        f"{side}_verdict": cell.verdict,
        f"{side}_flags": cell.flags,
    }


def _why_missing(both: _Both, names: tuple[str, str]) -> str:
    name, lost = (names[0], both.a_lost) if both.a is None else (names[1], both.b_lost)
    if lost is None:
        return f"{name} has no row of it."
    return f"{name}: {lost.status}. {lost.reason or ''}".rstrip()


def _judge(
    a: Cell, b: Cell, span: Span, metric: str, threshold: float, names: tuple[str, str]
) -> tuple[str, str | None]:
    for cell, name in ((a, names[0]), (b, names[1])):
        if cell.verdict != "stable":
            flags = f" ({', '.join(cell.flags)})" if cell.flags else ""
            return INCONCLUSIVE, f"{name} is {cell.verdict or 'without a verdict'}{flags}."
    if span.lo is None or span.hi is None:
        few = min(((a, names[0]), (b, names[1])), key=lambda side: side[0].trials)
        return INCONCLUSIVE, f"{few[1]} has {few[0].trials} trial; an interval needs 2 a side."
    better, worse = (IMPROVED, REGRESSED) if METRICS[metric] == "higher" else (REGRESSED, IMPROVED)
    if span.lo > 1 + threshold:
        return better, None
    if span.hi < 1 - threshold:
        return worse, None
    if span.lo >= 1 - threshold and span.hi <= 1 + threshold:
        return SAME, None
    return INCONCLUSIVE, "The interval reaches over the threshold; more trials make it narrower."


def _detectable(a: Cell, b: Cell, threshold: float) -> float | None:
    """Change for the worse that is found in about `POWER` of cases.

    The quantiles of t add up; the spread is taken as larger by what a sample of so few trials
    falls short of it in the median (Wilson and Hilferty).
    """
    if a.logs is None or b.logs is None or min(a.logs.count, b.logs.count) < 2:
        return None
    spread = sum_of_variances(
        *((logs.variance / logs.count, float(logs.count - 1)) for logs in (a.logs, b.logs))
    )
    if spread is None:
        return threshold
    variance, df = spread
    median = (1 - 2 / (9 * df)) ** 3
    reach = (t_quantile(0.975, df) + t_quantile(POWER, df)) * math.sqrt(variance / median)
    return 1 - (1 - threshold) * math.exp(-reach)


def _clock_ratio(a: Cell, b: Cell) -> float | None:
    """Of the devices' clocks; of the processors' where no device told one."""
    for column in _CLOCKS:
        before, after = a.get(column), b.get(column)
        if before and after:
            return after / before
    return None


def _explained(span: Span, clock: float | None, way: str) -> bool:
    """Whether a change that is none of noise is the clock's, to `EXPLAINS` of it or more."""
    if clock is None or span.lo is None or span.hi is None or span.lo <= 1 <= span.hi:
        return False
    faster = math.log(span.value) * (1 if way == "higher" else -1)
    return math.log(clock) / faster >= EXPLAINS


def _geometric_mean(changes: Sequence[Change]) -> float | None:
    logs = [math.log(change.ratio) for change in changes if change.ratio]
    return math.exp(math.fsum(logs) / len(logs)) if logs else None


def _missing(changes: Sequence[Change]) -> tuple[str, ...]:
    told = []
    lost = sum(change.outcome == MISSING for change in changes)
    if lost:
        told.append(f"{lost} of {len(changes)} points have a number on one side only.")
    if any(min(change.a_trials, change.b_trials) == 1 for change in changes):
        told.append("No interval with a single trial. Measure with trials=3, gates with trials=5.")
    return tuple(told)
