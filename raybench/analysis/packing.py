"""How many engines a device is worth: the gain of several instances over the best single one."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raybench.analysis.cell_ratios import ratio_to
from raybench.analysis.cells import Cell, cells
from raybench.analysis.estimate import UNKNOWN, Estimate
from raybench.analysis.marks import marks_of
from raybench.analysis.series import Series, without
from raybench.analysis.tables import curves_as_table
from raybench.experiment import CLOSED
from raybench.text import agreeing

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

TUNED = ("inflight", "engine_options")
"""Factors over which each number of instances is taken at its best."""
WORTH = 0.95
"""More instances than the fewest that reach this share of the most are not worth their memory."""


@dataclass(frozen=True)
class PackedPoint:
    """One number of instances, with the best of the settings that were measured for it.

    Attributes:
        instances: engines on each device.
        status: ok, or why no setting has a number.
        settings: how many settings (in flight, options of the engine) have a number.
        inflight: of the best setting, for each engine.
        engine_options: of the best setting.
        items_per_s: mean over trials, all devices.
        interval: see `scaling.ScalingEntry`.
        gain: over the best single instance, with or without CUDA's MPS, whichever was faster.
        fairness: slowest over fastest instance of a device, median over trials.
        gpu_mem_peak_mib: most memory of a device in use, median over trials.
    """

    instances: int | None
    status: str
    reason: str | None
    trials: int
    settings: int
    inflight: int | None = None
    engine_options: str | None = None
    items_per_s: Estimate = UNKNOWN
    interval: str | None = None
    gain: Estimate = UNKNOWN
    fairness: float | None = None
    latency_p99_ms: float | None = None
    gpu_mem_peak_mib: float | None = None
    verdict: str | None = None
    flags: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class PackingCurve:
    """Throughput over the number of instances on each device, all else equal.

    Attributes:
        series: without the factors that were tuned.
        workers: number of devices.
        points: by number of instances.
        finding: what the curve shows, in one sentence with figures.
        missing: what limits it, a sentence each.
    """

    series: Series
    workers: int | None
    points: tuple[PackedPoint, ...]
    finding: str
    missing: tuple[str, ...]
    marks: tuple[str, ...]


@dataclass(frozen=True)
class Packing:
    """The curves of all series that were measured with several instances a device."""

    curves: tuple[PackingCurve, ...]

    def as_table(self) -> pa.Table:
        """Return a row for each point, with the columns of its curve's series."""
        return curves_as_table(PackedPoint, self.curves)


def packing(trials: pa.Table) -> Packing:
    """Return throughput over the number of instances a device, from rows in closed loop."""
    groups: dict[tuple[Series, int | None], list[Cell]] = defaultdict(list)
    singles: dict[tuple[Series, int | None], list[Cell]] = defaultdict(list)
    for cell in cells(trials):
        if cell.series.load == CLOSED:
            key = without(cell.series, "instances", *TUNED)
            groups[key, cell.workers].append(cell)
            if (cell.series.instances or 1) == 1:
                singles[_of_singles(key), cell.workers].append(cell)
    return Packing(
        tuple(
            _curve(series, workers, members, singles[_of_singles(series), workers])
            for (series, workers), members in groups.items()
            if len({cell.series.instances for cell in members}) > 1
        )
    )


def _of_singles(series: Series) -> Series:
    """Return what single instances share that are compared; MPS also makes another environment."""
    return without(series, "mps", "environment_id")


def _curve(
    series: Series, workers: int | None, members: Sequence[Cell], singles: Sequence[Cell]
) -> PackingCurve:
    by_count: dict[int, list[Cell]] = defaultdict(list)
    for cell in members:
        by_count[cell.series.instances or 1].append(cell)
    bests = {count: _best(by_count[count]) for count in sorted(by_count)}
    base = _best(singles)
    points = tuple(_point(count, by_count[count], bests[count], base) for count in bests)
    return PackingCurve(
        series=series,
        workers=workers,
        points=points,
        finding=_finding(points, _ran_otherwise(base, series)),
        missing=_missing(base, sum(cell.ok for cell in singles)),
        marks=marks_of([cell for cell in bests.values() if cell is not None]),
    )


def _ran_otherwise(base: Cell | None, series: Series) -> str:
    """Return how the best single instance ran, as a clause, where the others of the curve did not."""
    if base is None or base.series.mps == series.mps:
        return ""
    return f", which ran {'with' if base.series.mps else 'without'} MPS"


def _best(settings: Sequence[Cell]) -> Cell | None:
    good = [cell for cell in settings if cell.ok and cell.mean]
    return max(good, key=lambda cell: cell.mean or 0.0, default=None)


def _point(
    count: int, settings: Sequence[Cell], best: Cell | None, base: Cell | None
) -> PackedPoint:
    good = sum(cell.ok for cell in settings)
    if best is None:
        first = next((c for c in settings if c.status == "out_of_memory"), settings[0])
        return PackedPoint(count, first.status, first.reason, first.trials, good)
    return PackedPoint(
        instances=count,
        status=best.status,
        reason=best.reason,
        trials=best.trials,
        settings=good,
        inflight=best.series.inflight,
        engine_options=best.series.engine_options,
        items_per_s=best.estimate,
        interval=best.interval,
        gain=ratio_to(best, base),
        fairness=best.get("instance_min_max_ratio"),
        latency_p99_ms=best.get("latency_p99_ms"),
        gpu_mem_peak_mib=best.get("gpu_mem_peak_mib"),
        verdict=best.verdict,
        flags=best.flags,
        marks=best.marks,
    )


def _finding(points: Sequence[PackedPoint], base_ran: str) -> str:
    good = [point for point in points if point.items_per_s.value]
    if not good:
        return "No number of instances has a number of items/s."
    most = max(good, key=lambda point: point.items_per_s.value or 0.0)
    enough = WORTH * (most.items_per_s.value or 0.0)
    fewest = next(point for point in good if (point.items_per_s.value or 0.0) >= enough)
    clauses = [_gain(most, base_ran)]
    if most.instances == 1:
        pass
    elif fewest.instances == most.instances:
        clauses.append("no fewer come within 5 % of it")
    else:
        verb = agreeing(fewest.instances or 0, "is", "are")
        clauses.append(f"{fewest.instances} {verb} the fewest within 5 % of it: more gain little")
    if most.fairness is not None:
        clauses.append(
            f"the slowest of a device's instances runs at {100 * most.fairness:.0f} % of the fastest"
        )
    ended = next((point for point in points if point.status == "out_of_memory"), None)
    if ended is not None:
        clauses.append(f"memory ends at {ended.instances}")
    return "; ".join(clauses) + "."


def _gain(most: PackedPoint, base_ran: str) -> str:
    if most.instances == 1:
        return "One instance a device gives the most"
    value, lo, hi = most.gain
    text = f"{most.instances} instances a device give the most"
    if value is None:
        return text
    text += f", {value:.3f} times the best single instance"
    if lo is None or hi is None:
        return f"{text} (no interval with one trial){base_ran}"
    sure = "" if lo > 1 or hi < 1 else ", which may be no gain"
    return f"{text} [{lo:.3f}, {hi:.3f}]{base_ran}{sure}"


def _missing(base: Cell | None, settings: int) -> tuple[str, ...]:
    """Return what the gain lacks: a baseline, or other settings of it that were tried."""
    if base is None:
        return ("No gain: one instance has no number. Measure instances=[1,2,3,4].",)
    if settings == 1:
        return (
            f"The gain is over one instance with {base.series.inflight} in flight as given, not at its "
            "best: measure it with inflight=[1,2,4] as well, or with more streams of the engine.",
        )
    return ()
