"""How many cores feed one device with images: throughput over the cores that decode for each."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raybench.analysis.cell_ratios import ratio_to
from raybench.analysis.cells import Cell, cells
from raybench.analysis.estimate import UNKNOWN, Estimate
from raybench.analysis.gaps import in_words
from raybench.analysis.marks import marks_of
from raybench.analysis.series import Series, without
from raybench.analysis.tables import curves_as_table
from raybench.experiment import NO_PIPELINE
from raybench.text import agreeing, counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

FED = 0.05
"""Share of the time up to which a device may wait for input and still be the limit."""


@dataclass(frozen=True)
class FedPoint:
    """One number of cores that feed each device.

    Attributes:
        cores: that decode for each device; None for the device without a pipeline.
        status: ok, or why there is no number.
        items_per_s: of a device, mean over trials.
        interval: see `scaling.ScalingEntry`.
        share: of the rate of the device as the limit.
        of_unfed: rate over that of the device without a pipeline.
        decoded_per_s_per_core: images that a core decodes while it works, median over trials.
        input_wait_frac: share of the time in which the device had nothing to do for lack of input.
        engine_wait_frac: share of the cores' time in which they waited for the engine.
        decoder: library that decoded, with its version.
    """

    cores: int | None
    status: str
    reason: str | None
    trials: int
    items_per_s: Estimate = UNKNOWN
    interval: str | None = None
    share: Estimate = UNKNOWN
    of_unfed: Estimate = UNKNOWN
    decoded_per_s_per_core: float | None = None
    input_wait_frac: float | None = None
    engine_wait_frac: float | None = None
    decoder: str | None = None
    verdict: str | None = None
    flags: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()

    @property
    def is_sated(self) -> bool:
        """Whether the device is the limit."""
        return _sates(self.input_wait_frac)


def _sates(input_wait_frac: float | None) -> bool:
    return input_wait_frac is not None and input_wait_frac <= FED


@dataclass(frozen=True)
class FeedingCurve:
    """Throughput of a device over the cores that feed it, all else equal.

    Attributes:
        series: without pipeline and cores.
        workers: number of devices.
        points: by number of cores, the device without a pipeline last.
        unfed: items per second of a device without a pipeline.
        enough: fewest cores that were measured with which the device is the limit; None if none is.
        needed: cores that the device needs, from its rate over that of a core where it waited.
        finding: what the curve shows, in one sentence with figures.
        missing: what limits it, a sentence each.
    """

    series: Series
    workers: int | None
    points: tuple[FedPoint, ...]
    unfed: Estimate
    enough: int | None
    needed: Estimate
    finding: str
    missing: tuple[str, ...]
    marks: tuple[str, ...]


@dataclass(frozen=True)
class Feeding:
    """The curves of all series that were measured with a pipeline."""

    curves: tuple[FeedingCurve, ...]

    def as_table(self) -> pa.Table:
        """Return a row for each point, with the columns of its curve's series."""
        return curves_as_table(FedPoint, self.curves)


def feeding(trials: pa.Table) -> Feeding:
    """Return throughput over the cores that feed each device, from rows with a pipeline."""
    groups: dict[tuple[Series, int | None], list[Cell]] = defaultdict(list)
    for cell in cells(trials):
        groups[without(cell.series, "pipeline", "cores"), cell.workers].append(cell)
    return Feeding(
        tuple(
            _curve(series, workers, members)
            for (series, workers), members in groups.items()
            if len(members) > 1 and any(cell.series.cores for cell in members)
        )
    )


def _curve(series: Series, workers: int | None, members: Sequence[Cell]) -> FeedingCurve:
    fed = sorted((c for c in members if _is_fed(c)), key=lambda c: (c.series.cores or 0, not c.ok))
    alone = next((cell for cell in members if not _is_fed(cell) and cell.ok), None)
    sated = [cell for cell in fed if cell.ok and _sates(cell.get("input_wait_frac"))]
    # a device that is fed may be slower than one that is not: decoding takes memory bandwidth from it
    limit = max(sated, key=lambda cell: cell.mean or 0.0, default=alone)
    points = tuple(_point(cell, limit, alone) for cell in (*fed, *([alone] if alone else [])))
    unfed = UNKNOWN if alone is None else alone.estimate.over(alone.workers or 1)
    enough, needed = _enough(points), _needed(points)
    return FeedingCurve(
        series=series,
        workers=workers,
        points=points,
        unfed=unfed,
        enough=enough,
        needed=needed,
        finding=_finding(points, enough, needed),
        missing=_missing(points, alone),
        marks=marks_of([cell for cell in members if cell.ok]),
    )


def _is_fed(cell: Cell) -> bool:
    return cell.series.pipeline not in (None, NO_PIPELINE)


def _point(cell: Cell, limit: Cell | None, alone: Cell | None) -> FedPoint:
    if not cell.ok:
        return FedPoint(cell.series.cores, cell.status, cell.reason, cell.trials)
    return FedPoint(
        cores=cell.series.cores,
        status=cell.status,
        reason=cell.reason,
        trials=cell.trials,
        items_per_s=cell.estimate.over(cell.workers or 1),
        interval=cell.interval,
        share=ratio_to(cell, limit),
        of_unfed=ratio_to(cell, alone),
        decoded_per_s_per_core=cell.get("decoded_per_s_per_core"),
        input_wait_frac=cell.get("input_wait_frac"),
        engine_wait_frac=cell.get("engine_wait_frac"),
        decoder=cell.newest.get("decoder"),
        verdict=cell.verdict,
        flags=cell.flags,
        marks=cell.marks,
    )


def _good(points: Sequence[FedPoint]) -> list[FedPoint]:
    """Return the points with a pipeline and a number, by cores."""
    return [point for point in points if point.cores and point.items_per_s.value]


def _enough(points: Sequence[FedPoint]) -> int | None:
    """Return the fewest cores from which on the device never waits for input."""
    fewest = None
    for point in reversed(_good(points)):
        if not point.is_sated:
            break
        fewest = point.cores
    return fewest


def _needed(points: Sequence[FedPoint]) -> Estimate:
    """Return the cores at which the rate of the cores meets that of the device.

    It is taken from the most cores that the device still waited for: the last step is the shortest.
    """
    hungry = [point for point in _good(points) if not point.is_sated and point.share.value]
    if not hungry:
        return UNKNOWN
    cores, (value, lo, hi) = hungry[-1].cores or 1, hungry[-1].share
    assert value is not None
    return Estimate(cores / value, cores / hi if hi else None, cores / lo if lo else None)


def _finding(points: Sequence[FedPoint], enough: int | None, needed: Estimate) -> str:
    good = _good(points)
    if not good:
        return "No number of cores has a number of items/s."
    clauses = [_last_step(good) if enough is None else _reached(good, enough)]
    if needed.value is not None:
        clauses.append(_needs(needed, good, enough))
    return "; ".join(clauses) + "."


def _reached(good: Sequence[FedPoint], enough: int) -> str:
    """Say from how many cores on the device is the limit."""
    point = next(each for each in good if each.cores == enough)
    verb = agreeing(enough, "feeds", "feed")
    text = f"{counted(enough, 'core')} {verb} one device: with {agreeing(enough, 'it', 'them')} the device is the limit"
    text += f", at {in_words(point.items_per_s.value or 0.0)} items/s"
    text += _beside_unfed(point.of_unfed)
    fewer = [each for each in good if (each.cores or 0) < enough]
    if fewer and fewer[-1].input_wait_frac is not None:
        wait = 100 * fewer[-1].input_wait_frac
        text += f"; with {fewer[-1].cores} it waits for input {wait:.0f} % of the time"
    return text


def _last_step(good: Sequence[FedPoint]) -> str:
    """Say how far the most cores that were measured are from feeding the device."""
    most = good[-1]
    cores = counted(most.cores or 1, "core")
    text = f"The device is fed by too few cores: with {cores} it does {in_words(most.items_per_s.value or 0.0)} items/s"
    text += _beside_unfed(most.of_unfed)
    if most.input_wait_frac is None:
        return text
    return f"{text}, and waits for input {100 * most.input_wait_frac:.0f} % of the time"


def _beside_unfed(ratio: Estimate) -> str:
    """Return how a rate compares with that of the device without a pipeline, as a clause."""
    value, lo, hi = ratio
    if value is None:
        return ""
    bounds = "" if lo is None or hi is None else f" ({100 * lo:.1f} to {100 * hi:.1f})"
    return f", {100 * value:.1f} %{bounds} of its rate without decoding"


def _needs(needed: Estimate, good: Sequence[FedPoint], enough: int | None) -> str:
    """Say how many cores the device needs by the rate of those that it waited for."""
    value, lo, hi = needed
    assert value is not None
    bounds = "no interval with one trial" if lo is None or hi is None else f"{lo:.1f} to {hi:.1f}"
    hungry = [each for each in good if not each.is_sated][-1]
    rate = hungry.decoded_per_s_per_core
    at = "" if rate is None else f", at {in_words(rate)} images/s a core"
    most = good[-1].cores or 1
    if enough is None and value > most:  # nobody knows whether more cores are as fast
        return f"if more were as fast as these{at.replace(', at', ',')}, {value:.1f} ({bounds}) would feed it"
    return (
        f"by the rate of {counted(hungry.cores or 1, 'core')} it needs {value:.1f} ({bounds}){at}"
    )


def _missing(points: Sequence[FedPoint], alone: Cell | None) -> tuple[str, ...]:
    sentences = []
    if alone is None:
        sentences.append(
            "The rate of the device without decoding is unknown: measure pipeline=[none,jpeg]."
        )
    lacking = [point for point in points if point.cores and point.status == "infeasible"]
    if lacking:
        sentences.append(
            f"{counted(lacking[0].cores or 1, 'core')} could not be measured: the node has fewer."
        )
    return tuple(sentences)
