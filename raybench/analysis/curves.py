"""One series over its numbers of workers: its law, its finding and what it lacks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from raybench.analysis.estimate import UNKNOWN, Estimate
from raybench.analysis.marks import marks_of
from raybench.analysis.scaling_law import LEAST_SIZES, ScalingLaw, law
from raybench.analysis.series import Series  # noqa: TC001 - get_type_hints reads it
from raybench.text import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.analysis.bottlenecks import Bound
    from raybench.analysis.cells import Cell


TELLING = 0.05
"""Largest half-width of an efficiency that says whether anything is lost on the way."""


@dataclass(frozen=True)
class ScalingEntry:
    """One number of workers in one series: what its trials say together.

    Trials with a status other than ok make an entry of their own, without numbers.

    Attributes:
        trials: how many ended with this status.
        reason: of the newest of them.
        items_per_s: mean over trials.
        interval: where its bounds come from: between_builds from 2 builds on, between_trials from 2
            trials on, within_trial for a single one; None without bounds.
        base_workers: the smallest number of workers with a number, to which speedup refers.
        speedup: items_per_s over that of the base; with bounds if both have 2 trials or more.
        efficiency: speedup over the ratio of the numbers of workers.
        latency_p50_ms: median over trials, as are the other latencies.
        over_fp32: items_per_s over that of fp32, all else equal; unknown for fp32 itself.
        verdict: of the worst trial.
        flags: of any trial.
        marks: what a reader must know before trusting the entry or one that it is compared
            with, see `marks.MARKS`.
        mode: weak (every worker keeps its batch) or strong (the batch of all workers together
            is the same; `series.batch_size` is then that total batch).
        imbalance: fastest worker over slowest, minus 1; median over trials.
        slowest_worker: the worker that was slowest in most trials, in words; None without a
            `workers` table or with one worker.
        slowest_share: its rate over the mean of all workers, median over trials.
        solo_devices: how many of its devices were also measured alone.
        solo_items_per_s: their solo rates, summed; None unless all of them were.
        solo_speedup: items_per_s over the mean of the same devices each alone.
        interference_loss: 1 - items_per_s / solo_items_per_s.
        bound_by: what holds it back, of `bottlenecks.BOUNDS`; empty without a sign of anything.
        quantised_macs_frac: share of the multiply-accumulates computed in 8 bits.
        reduced_ops: operators of the graph that compute below fp32, with their types.
        device_use: what of a GPU was full, a sentence with figures; None for other devices.
        builds: number of separately built plans; None for a single one.
        builds_sd: standard deviation between builds over the mean; with that between trials in it where
            `trials_sd` is None.
        trials_sd: the same between trials of a build, beyond the noise within them; None with one trial a
            build.
        within_sd: the same of a trial by the noise within it.
    """

    series: Series
    workers: int | None
    point_id: str | None
    status: str
    reason: str | None
    trials: int
    items_per_s: Estimate = UNKNOWN
    interval: str | None = None
    base_workers: int | None = None
    speedup: Estimate = UNKNOWN
    efficiency: Estimate = UNKNOWN
    latency_p50_ms: float | None = None
    latency_p90_ms: float | None = None
    latency_p99_ms: float | None = None
    over_fp32: Estimate = UNKNOWN
    fidelity_sqnr_db: float | None = None
    verdict: str | None = None
    flags: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    mode: str = "weak"
    imbalance: float | None = None
    slowest_worker: str | None = None
    slowest_share: float | None = None
    solo_devices: int | None = None
    solo_items_per_s: float | None = None
    solo_speedup: Estimate = UNKNOWN
    interference_loss: Estimate = UNKNOWN
    bound_by: tuple[str, ...] = ()
    quantised_macs_frac: float | None = None
    reduced_ops: tuple[str, ...] = ()
    device_use: str | None = None
    builds: int | None = None
    builds_sd: float | None = None
    trials_sd: float | None = None
    within_sd: float | None = None


@dataclass(frozen=True)
class Curve:
    """One series with more than one number of workers, as a whole.

    Attributes:
        mode: weak or strong, see `ScalingEntry`.
        workers: numbers of workers with a number, rising.
        rates: items/s of each trial at each of them.
        finding: what the curve shows, in one sentence with figures.
        bounds: what holds its points back.
        missing: what could not be said and why, a sentence each.
        marks: of any of its points, see `marks.MARKS`.
    """

    series: Series
    mode: str
    workers: tuple[int, ...]
    rates: tuple[tuple[float, ...], ...]
    finding: str
    bounds: tuple[Bound, ...]
    missing: tuple[str, ...]
    marks: tuple[str, ...]

    @cached_property
    def law(self) -> ScalingLaw | None:
        """The law from four numbers of workers on; fitted on first use, which takes 50 ms."""
        return law(self.workers, self.rates)


def curve(
    cells: Sequence[Cell],
    entries: Sequence[ScalingEntry],
    bounds: Sequence[Bound],
    workers_known: bool,
) -> Curve:
    """Return the curve of one series.

    Args:
        cells: of the series, those with numbers first.
        entries: one for each cell, in the same order.
        bounds: what holds the cells back.
        workers_known: whether there was a `workers` table.
    """
    pairs = [(cell, entry) for cell, entry in zip(cells, entries, strict=True)
             if cell.ok and cell.workers]  # fmt: skip
    measured = [entry for _, entry in pairs]
    return Curve(
        series=entries[0].series,
        mode=entries[0].mode,
        workers=tuple(cell.workers or 0 for cell, _ in pairs),
        rates=tuple(cell.values for cell, _ in pairs),
        finding=_finding(measured),
        bounds=tuple(bounds),
        missing=tuple(_lacking(measured, entries, workers_known)),
        marks=marks_of(cell for cell, _ in pairs),
    )


def _finding(entries: Sequence[ScalingEntry]) -> str:
    """Say what the largest number of workers reaches and whether anything is lost on the way."""
    last = entries[-1]
    base = last.base_workers or 1
    digits = 3 if last.speedup.lo is None else 2  # with an interval, no finer than the interval
    reached = f"{last.workers} workers give {last.speedup.value:.{digits}f} times the throughput of {base}"
    share = f"{100 * (last.efficiency.value or 0):.1f} % of ideal"
    sure = [entry.efficiency for entry in entries[1:] if entry.efficiency.has_interval]
    if len(sure) < len(entries) - 1:
        shaken = {entry.verdict for entry in (entries[0], last)} == {"unstable"}
        doubt = "; both rows are unstable" * shaken
        return f"{reached} ({share}); no confidence interval with one trial{doubt}."
    low, high = last.efficiency.lo or 0, last.efficiency.hi or 0
    interval = f"{100 * low:.1f} to {100 * high:.1f} %"
    if high - low > 2 * TELLING:
        return (
            f"{reached} ({share}, {interval}): an interval too wide to say whether anything is lost; "
            "more trials make it narrower."
        )
    if all((efficiency.lo or 0) <= 1 <= (efficiency.hi or 0) for efficiency in sure):
        return f"{reached} ({share}, {interval}): no contention that these trials could measure."
    return f"{reached} ({share}, {interval})."


def _lacking(
    measured: Sequence[ScalingEntry], entries: Sequence[ScalingEntry], workers_known: bool
) -> list[str]:
    base = measured[0].base_workers
    sentences = []
    if base != 1:
        sentences.append(f"One worker has no number; speedup refers to {base}. Measure workers=1.")
    if len(measured) < LEAST_SIZES:
        sentences.append(
            f"No scalability law: {len(measured)} numbers of workers, {LEAST_SIZES} are needed."
        )
    if any(entry.trials < 2 for entry in measured):
        sentences.append("No interval of the speedup: fewer than 2 trials. Measure with trials=3.")
    if not workers_known:
        sentences.append("No slowest worker and no loss to neighbours: no workers table was given.")
    elif all(entry.solo_items_per_s is None for entry in measured):
        sentences.append(
            "No loss to neighbours: not every device was measured alone. "
            "Measure one worker on each device."
        )
    lost = sorted(
        {
            f"{counted(entry.workers or 0, 'worker')}: {entry.status}"
            for entry in entries
            if entry.status != "ok"
        }
    )
    if lost:
        sentences.append(f"Without a number: {', '.join(lost)}.")
    return sentences
