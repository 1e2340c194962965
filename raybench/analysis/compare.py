"""What became faster or slower, point by point, and how sure that is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from raybench.analysis.builds import log_ratio, spread_unknown
from raybench.analysis.cell_ratios import ratio
from raybench.analysis.cells import METRICS, Cell, cells
from raybench.analysis.comparability import (
    check,
    differences,
    failed_points,
    good_points,
    ignored_factors,
    refuse_disjoint,
    refuse_other_methods,
)
from raybench.analysis.estimate import UNKNOWN, Estimate, estimate
from raybench.analysis.gaps import without_numbers
from raybench.analysis.marks import marks_of
from raybench.analysis.series import Series  # noqa: TC001 - get_type_hints reads it
from raybench.analysis.tables import as_table
from raybench.errors import ComparisonRefused
from raybench.stats.intervals import Span, t_quantile
from raybench.stats.ratios import sum_of_variances
from raybench.text import agreeing, counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from raybench.analysis.comparability import Key, Names, Tables

IMPROVED, REGRESSED, SAME, INCONCLUSIVE = "improved", "regressed", "same", "inconclusive"
MISSING = "missing"
"""A point that only one side has a number for."""
THRESHOLD = 0.01
POWER = 0.8
"""Share of cases in which the detectable change is detected."""
EXPLAINS = 0.8
"""Share of a change that the clock must account for to explain it."""
_TIMED = ("items_per_s", "latency_p50_ms", "latency_p90_ms", "latency_p99_ms")
"""Metrics that a clock can explain."""
_CLOCKS = ("sm_clock_mhz_mean", "cpu_mhz_mean")


@dataclass(frozen=True)
class Change:
    """One point on both sides.

    Attributes:
        series: the factors that both sides share; those that may differ are None.
        outcome: IMPROVED, REGRESSED, SAME, INCONCLUSIVE or MISSING.
        note: why it is inconclusive or missing, or what explains it; one sentence.
        a: mean over trials on the first side; `b` on the second.
        a_interval: see `scaling.ScalingEntry`.
        ratio: b over a, of geometric means of trials; with bounds if both have 2 trials or more.
        detectable: relative change that these trials would detect in 80 of 100 cases; None with
            fewer than 2 trials on a side.
        clock_ratio: mean SM clock of b over a; None where it was not read.
        clock_explains: whether the clock accounts for 80 % or more of the change.
        marks: of either side, see `marks.MARKS`.
    """

    series: Series
    workers: int | None
    outcome: str
    note: str | None
    a: Estimate
    a_interval: str | None
    a_trials: int
    a_verdict: str | None
    b: Estimate
    b_interval: str | None
    b_trials: int
    b_verdict: str | None
    ratio: Estimate
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
        a_name: what the first side is called; `b_name` the second.
        metric: column that was compared, see `cells.METRICS`.
        threshold: changes below this share are ignored.
        by: factors that were said to differ.
        differs: what does differ: (factor, value in a, value in b).
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
        """Return the number of points with this outcome."""
        return sum(change.outcome == outcome for change in self.changes)

    def exit_code(self, strict: bool = False) -> int:
        """Return 0 if nothing regressed, 1 if something did, 3 if undecided with `strict`."""
        if self.count(REGRESSED):
            return 1
        return 3 if strict and (self.count(INCONCLUSIVE) or self.count(MISSING)) else 0

    def as_table(self) -> pa.Table:
        """Return a row for each point."""
        return as_table(Change, self.changes)


def compare(
    a: pa.Table,
    b: pa.Table,
    *,
    by: Sequence[str] = (),
    metric: str = "items_per_s",
    threshold: float = THRESHOLD,
    names: Names = ("A", "B"),
    environments: Tables = (None, None),
) -> Comparison:
    """Compare two `trials` tables point by point.

    The change of a point is the ratio of the geometric means of its trials with Welch's t interval
    on logarithms. It is improved or regressed when the whole interval lies beyond the threshold,
    same when the whole interval lies within it, and inconclusive otherwise: also with fewer than
    two trials on a side, and when a side is not stable.

    Simulated (benchmarks/inference.py; 3 trials a side, sd 0.5 %, threshold 1 %): under 0.1 % of
    equal sides are called improved or regressed, over 99.9 % of drops of 5 % are detected.

    Args:
        a: the reference rows.
        b: the rows in question.
        by: factors that may differ between the sides: columns of `series.Series`, workers, or one
            of `experiment.ENVIRONMENT`; what differs along with them (`comparability.ALONG`)
            needs no mention.
        metric: see `cells.METRICS`.
        threshold: changes below this share are ignored.
        names: what the sides are called.
        environments: the `environment` table of either side, to see what differs in them.

    Raises:
        ComparisonRefused: the sides differ in something that `by` does not name, or have no point
            in common.
        ConfigError: an unknown factor or metric, or a threshold that is not a share.
    """
    check(by, metric, threshold)
    cells_a, cells_b = _cells(a, metric, names[0]), _cells(b, metric, names[1])
    refuse_other_methods(cells_a, cells_b, names)
    ignored = ignored_factors(by, cells_a, cells_b)
    good_a = good_points(cells_a, ignored, names[0])
    good_b = good_points(cells_b, ignored, names[1])
    refuse_disjoint(good_a, good_b, ignored, names)
    differs = differences(good_a, good_b, by, ignored, environments, names)
    failed_a = failed_points(cells_a, ignored, good_a)
    failed_b = failed_points(cells_b, ignored, good_b)
    keys = dict.fromkeys([*good_a, *good_b])
    both = {k: _Both(*(of.get(k) for of in (good_a, good_b, failed_a, failed_b))) for k in keys}
    changes = tuple(_change(key, both[key], metric, threshold, names) for key in both)
    return Comparison(
        a_name=names[0],
        b_name=names[1],
        metric=metric,
        threshold=threshold,
        by=tuple(by),
        differs=differs,
        changes=changes,
        geometric_mean=_geometric_mean(changes),
        missing=(*_missing(changes), *_other_plans(list(both.values()))),
    )


def _cells(trials: pa.Table, metric: str, name: str) -> list[Cell]:
    """Return the cells of one side; refuse a side without a number."""
    every = cells(trials, metric=metric)
    gaps = without_numbers(every)
    if gaps:
        raise ComparisonRefused(f"Nothing to compare: {name}: {gaps[0]}")
    return every


class _Both(NamedTuple):
    """A point on both sides: its cells with a number, else those without."""

    a: Cell | None
    b: Cell | None
    a_failed: Cell | None
    b_failed: Cell | None


def _change(key: Key, both: _Both, metric: str, threshold: float, names: Names) -> Change:
    a, b = both.a, both.b
    span, clock, explains, detectable = None, None, False, None
    note: str | None
    if a is None or b is None:
        outcome, note = MISSING, _why_missing(both, names)
    else:
        span = ratio(b, a)
        detectable = _detectable(a, b, threshold)
        clock = _clock_ratio(a, b)
        explains = metric in _TIMED and _explained(span, clock, METRICS[metric])
        outcome, note = _judge(a, b, span, metric, threshold, names)
        if explains and clock is not None:
            reason = f"Consistent with the clock, which changed by {100 * (clock - 1):+.1f} %."
            note = reason if note is None else f"{note} {reason}"
    return Change(
        series=key[0],
        workers=key[1],
        outcome=outcome,
        note=note,
        a=a.estimate if a else UNKNOWN,
        a_interval=a.interval if a else None,
        a_trials=a.trials if a else 0,
        a_verdict=a.verdict if a else None,
        b=b.estimate if b else UNKNOWN,
        b_interval=b.interval if b else None,
        b_trials=b.trials if b else 0,
        b_verdict=b.verdict if b else None,
        ratio=estimate(span),
        detectable=detectable,
        clock_ratio=clock,
        clock_explains=explains,
        a_flags=a.flags if a else (),
        b_flags=b.flags if b else (),
        marks=marks_of((a, b)),
    )


def _why_missing(both: _Both, names: Names) -> str:
    name, failed = (names[0], both.a_failed) if both.a is None else (names[1], both.b_failed)
    if failed is None:
        return f"{name} has no row of it."
    return f"{name}: {failed.status}. {failed.reason or ''}".rstrip()


def _judge(
    a: Cell, b: Cell, span: Span, metric: str, threshold: float, names: Names
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
    """Return the change for the worse that is detected in about `POWER` of cases.

    The quantiles of t add up. The spread is corrected for how far the sample variance of so few
    trials falls short of the true one in the median (Wilson and Hilferty).
    """
    ratio = log_ratio(a, b)
    if ratio is None:
        return None
    spread = sum_of_variances(*ratio.variances)
    if spread is None:
        return threshold
    variance, df = spread
    median = (1 - 2 / (9 * df)) ** 3
    reach = (t_quantile(0.975, df) + t_quantile(POWER, df)) * math.sqrt(variance / median)
    return 1 - (1 - threshold) * math.exp(-reach)


def _clock_ratio(a: Cell, b: Cell) -> float | None:
    """Return the ratio of the devices' clocks, else of the processors'; None without either."""
    for column in _CLOCKS:
        before, after = a.get(column), b.get(column)
        if before and after:
            return after / before
    return None


def _explained(span: Span, clock: float | None, better: str) -> bool:
    """Tell whether the clock accounts for `EXPLAINS` or more of a change beyond noise."""
    if clock is None or span.lo is None or span.hi is None or span.lo <= 1 <= span.hi:
        return False
    faster = math.log(span.value) * (1 if better == "higher" else -1)
    return math.log(clock) / faster >= EXPLAINS


def _geometric_mean(changes: Sequence[Change]) -> float | None:
    logs = [math.log(change.ratio.value) for change in changes if change.ratio.value]
    return math.exp(math.fsum(logs) / len(logs)) if logs else None


def _other_plans(points: Sequence[_Both]) -> tuple[str, ...]:
    """Return that the sides ran different plans, where nothing tells how far builds lie apart."""
    pairs = [(point.a, point.b) for point in points]
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    other = sum(spread_unknown(a, b) for a, b in known)
    if not other:
        return ()
    return (
        f"{other} of {counted(len(known), 'point')} ran another plan on each side, built once: plans of one "
        "graph differ by chance, which these intervals do not hold. Measure both sides with builds=3.",
    )


def _missing(changes: Sequence[Change]) -> tuple[str, ...]:
    sentences = []
    one_sided = sum(change.outcome == MISSING for change in changes)
    if one_sided:
        sentences.append(
            f"{one_sided} of {counted(len(changes), 'point')} "
            f"{agreeing(one_sided, 'has', 'have')} a number on one side only."
        )
    if any(min(change.a_trials, change.b_trials) == 1 for change in changes):
        sentences.append(
            "No interval with a single trial. Use trials=3, or trials=5 for a CI gate."
        )
    return tuple(sentences)
