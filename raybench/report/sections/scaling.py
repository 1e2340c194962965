"""Section on throughput over workers, what bounds it, and the scalability law."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.report import columns
from raybench.report.document import Section
from raybench.report.figures.scaling import figures
from raybench.report.formatting import TIMES
from raybench.report.labels import Naming
from raybench.report.sections.sentences import gaps, marked, missing
from raybench.text import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from raybench.analysis.curves import Curve, ScalingEntry
    from raybench.report.analyses import Answers
    from raybench.report.document import Part, Table


def scaling(answers: Answers) -> Section:
    """Return figures, speedups, the finding of each curve and what is missing."""
    answer = answers.scaling
    grown = {curve.series for curve in answer.curves}
    entries = [entry for entry in answer.entries if entry.series in grown]
    parts: list[Part] = list(figures(answer))
    if entries:
        parts += [_speedups(entries), _curves(answer.curves), *_laws(answer.curves)]
    parts += _builds(answer.entries)
    naming = Naming([curve.series for curve in answer.curves])
    lacking = [*answer.missing, *gaps(answer.curves, naming)]
    return Section("scaling", "Scaling", [*parts, *missing(lacking)])


def _builds(every: Sequence[ScalingEntry]) -> Iterator[Table]:
    """Yield a table of how far builds lie apart, where points have several."""
    entries = [entry for entry in every if entry.builds]
    if not entries:
        return
    series = [entry.series for entry in entries]
    yield columns.table(
        "builds",
        "Spread between separately built plans, between the trials of a plan and within a trial: standard "
        "deviations in percent of the rate, from an analysis of variance of logarithms.",
        *columns.factors(Naming(series), series),
        columns.counts("workers", [entry.workers for entry in entries]),
        columns.numbers("items", "/s", [entry.items_per_s.value for entry in entries]),
        columns.counts("builds", [entry.builds for entry in entries]),
        columns.counts("trials", [entry.trials for entry in entries]),
        columns.fixed("between builds", "%", [entry.builds_sd for entry in entries], 2, 100),
        columns.fixed("between trials", "%", [entry.trials_sd for entry in entries], 2, 100),
        columns.fixed("within a trial", "%", [entry.within_sd for entry in entries], 2, 100),
    )


def _speedups(entries: Sequence[ScalingEntry]) -> Table:
    naming = Naming([entry.series for entry in entries])
    bases = sorted({e.base_workers for e in entries if e.base_workers is not None})
    base = " or ".join(map(str, bases)) or "no"
    return columns.table(
        "speedups",
        f"Speedup against {base} worker{'' if bases == [1] else 's'} of the same series, "
        "over solo against the same devices each alone; intervals are 95 %, from the logarithms "
        "of the trial means.",
        *columns.factors(naming, [entry.series for entry in entries]),
        columns.counts("workers", [entry.workers for entry in entries]),
        columns.numbers("items", "/s", [entry.items_per_s.value for entry in entries]),
        columns.verdicts(entries),
        columns.fixed("speedup", TIMES, [e.speedup.value for e in entries], 3),
        columns.bounds("95 %", [one.speedup for one in entries], 3),
        columns.fixed("efficiency", "%", [e.efficiency.value for e in entries], 1, 100),
        columns.fixed("over solo", TIMES, [e.solo_speedup.value for e in entries], 3),
        columns.bounds("95 %", [one.solo_speedup for one in entries], 3),
        columns.fixed("interference", "%", [e.interference_loss.value for e in entries], 1, 100),
        columns.fixed("imbalance", "%", [e.imbalance for e in entries], 1, 100),
        columns.texts("slowest", [e.slowest_worker for e in entries]),
        columns.texts("bound by", [", ".join(e.bound_by).replace("_", " ") for e in entries]),
    )


def _curves(curves: Sequence[Curve]) -> Table:
    naming = Naming([curve.series for curve in curves])
    held = [
        " ".join(f"{counted(b.workers, 'worker')}: {b.evidence}" for b in c.bounds) for c in curves
    ]
    return columns.table(
        "curves",
        "What each series says as a whole, and what its flags and telemetry tell of its bounds.",
        *columns.factors(naming, [curve.series for curve in curves]),
        columns.texts("finding", [marked(curve.finding, curve.marks) for curve in curves]),
        columns.texts("held back by", held),
    )


def _laws(curves: Sequence[Curve]) -> Iterator[Table]:
    fitted = [(curve, curve.law) for curve in curves if curve.law is not None]
    if not fitted:
        return
    series, laws = [curve.series for curve, _ in fitted], [law for _, law in fitted]
    last = [law.predictions[-1] for law in laws]
    yield columns.table(
        "laws",
        "Universal scalability law, gamma N / (1 + sigma (N - 1) + kappa N (N - 1)), with 95 % "
        "intervals; the prediction stops at twice what was measured.",
        *columns.factors(Naming(series), series),
        columns.numbers("gamma", "items/s", [law.gamma for law in laws]),
        columns.fixed("contention sigma", "", [law.sigma.value for law in laws], 5),
        columns.bounds("95 %", [one.sigma for one in laws], 5),
        columns.fixed("coherency kappa", "", [law.kappa.value for law in laws], 6),
        columns.bounds("95 %", [one.kappa for one in laws], 6),
        columns.fixed("peak at", "workers", [law.peak_workers for law in laws], 0),
        columns.fixed("predicted for", "workers", [p.workers for p in last], 0),
        columns.numbers("items", "/s", [p.items_per_s.value for p in last]),
        columns.bounds("95 %", [one.items_per_s for one in last], 0),
    )
