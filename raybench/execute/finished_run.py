"""The rows that a run ends with, its table, and what other drivers still measure."""

from __future__ import annotations

import io
import shlex
from collections import Counter
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from raybench.execute.run import final_rows, searches_of
from raybench.planning.rate_searches import WHOLE
from raybench.results import leases
from raybench.results.schema import FAILURES
from raybench.text import agreeing, counted

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import pyarrow as pa

    from raybench.execute.run import RunContext
    from raybench.results.leases import Lease


@dataclass(frozen=True)
class Run:
    """Rows of an experiment's points on these devices, with those of earlier runs.

    Attributes:
        folder: the results folder.
        rows: the `trials` table: one row a point and trial.
        workers: the `workers` table: one row a worker.
        failed: whether a row is a failure, a point lost its devices, or a trial has no row yet.
        preset: name of the preset that was used.
        elsewhere: what other drivers measure, a sentence for each.
        layers_timed: whether the layers of each model were timed, too.
        demand: items/s for which the number of devices is wanted; None for none.
        rack_power_w: power of a rack, of which is said what it serves; None for none.
    """

    folder: str
    rows: pa.Table
    workers: pa.Table
    failed: bool
    preset: str
    elsewhere: tuple[str, ...] = ()
    layers_timed: bool = False
    demand: float | None = None
    rack_power_w: float | None = None

    def table(self) -> str:
        """Return the table that the command line prints after a run."""
        text = io.StringIO()
        self.print_table(text)
        return text.getvalue()

    def print_table(self, file: IO[str] | None = None) -> None:
        """Print the table, in colour and fitted to the width when it goes to a terminal.

        Args:
            file: where to print; None is the standard output.
        """
        from raybench.analysis.applications import applications
        from raybench.analysis.bounded import bounded
        from raybench.analysis.cold_start import cold_starts
        from raybench.analysis.decoding import decoding
        from raybench.analysis.feeding import feeding
        from raybench.analysis.interference import interference
        from raybench.analysis.packing import packing
        from raybench.analysis.power import power
        from raybench.analysis.repeatability import repeats
        from raybench.analysis.scaling import scaling
        from raybench.analysis.untrained import untrained_sentence
        from raybench.report.terminal.applications import of_applications
        from raybench.report.terminal.bounded import of_bounds
        from raybench.report.terminal.cold_start import of_cold_starts
        from raybench.report.terminal.decoding import of_decoding
        from raybench.report.terminal.feeding import of_feeding
        from raybench.report.terminal.interference import of_pairs
        from raybench.report.terminal.packing import of_instances
        from raybench.report.terminal.power import of_power
        from raybench.report.terminal.table import print_table

        next_steps = [f'python -c "import raybench; print(raybench.load({self.folder!r}))"']
        if self.preset == "quick" and "ok" in self.rows["status"].to_pylist():
            next_steps.insert(0, "preset=standard gives intervals and a verdict (minutes a point)")
        if _worth_repeating(self.rows):
            next_steps.insert(
                0, "rerun=unstable measures the unstable points again, on a quieter machine"
            )
        next_steps[:0] = _why_slower(self.rows, self.folder, self.layers_timed)
        print_table(
            scaling(self.rows, self.workers),
            file,
            trials=repeats(self.rows),
            bounds=[
                *of_bounds(bounded(self.rows), self.demand),
                *of_instances(packing(self.rows)),
                *of_feeding(feeding(self.rows)),
                *of_pairs(interference(self.rows, self.workers)),
                *of_power(power(self.rows), self.rack_power_w),
                *of_cold_starts(cold_starts(self.rows)),
                *of_applications(applications(self.rows)),
                *of_decoding(decoding(self.rows)),
                *filter(None, [untrained_sentence(self.rows)]),
            ],
            where=f"{self.folder}/trials (Parquet)",
            next_steps=[*_of_devices(self.rows, self.workers, self.folder), *next_steps],
        )


def _why_slower(rows: pa.Table, folder: str, layers_timed: bool) -> list[str]:
    """Return how to see why a precision is slower than the next wider one, if one is."""
    from raybench.analysis.precision import precision

    pairs = [
        f"{each.series.precision} is slower than {each.wider}"
        for each in precision(rows).slower
        if not each.series.simulated
    ]
    if not pairs:
        return []
    reasons = " and ".join(dict.fromkeys(pairs))
    step = f"raybench report {shlex.quote(folder)} says why {reasons}"
    if layers_timed:
        return [step]
    return [f"{step};", "results.layers=true rerun=all lets it name the layers"]


def _of_devices(rows: pa.Table, workers: pa.Table, folder: str) -> list[str]:
    """Return how to judge devices that were measured alone."""
    from raybench.analysis.fleet import fleet, several_alone

    judged = several_alone(fleet(rows, workers))
    return [f"raybench accept {shlex.quote(folder)} accepts or rejects every device"] * judged


def _worth_repeating(rows: pa.Table) -> bool:
    """Return whether a point is unstable for another reason than its outputs."""
    from raybench.measure.flags import OF_OUTPUTS

    columns = zip(rows["verdict"].to_pylist(), rows["flags"].to_pylist(), strict=True)
    return any(
        verdict == "unstable" and not OF_OUTPUTS & set(flags or ()) for verdict, flags in columns
    )


def close_run(context: RunContext, failed: bool) -> Run:
    """Tidy the results folder and return the rows of the run's points."""
    from raybench.results.load import load, select

    context.store.tidy()
    probes = (planned.point.id for planned in context.searches.asked())
    ids = list(dict.fromkeys([*(point.id for point in context.plan.points), *probes]))
    folder = context.request.results.dir
    rows, workers = (
        select(load(folder, table), ids, context.environment_id) for table in ("trials", "workers")
    )
    keys = (rows[name].to_pylist() for name in ("point_id", "trial", "run_id"))
    written = dict(zip(zip(*keys, strict=True), rows["status"].to_pylist(), strict=True))
    wanted = {
        (*key, lease.run_id): lease for key, lease in context.elsewhere.items() if key[1] != WHOLE
    }
    failed |= any(written.get(key) in FAILURES for key in wanted)
    left = Counter(lease for key, lease in wanted.items() if key not in written)
    at_work = {lease.run_id for lease in leases.at_work(context.store.files)}
    elsewhere = (*_described(left, at_work), *_described_searches(context, at_work))
    preset = context.request.experiment.preset
    demand = context.request.experiment.demand_items_per_s
    layers = context.request.results.layers
    return Run(
        folder,
        rows,
        workers,
        failed or bool(elsewhere),
        preset,
        elsewhere,
        layers,
        demand,
        context.request.rack_power_w,
    )


def _described(left: Mapping[Lease, int], at_work: Collection[str]) -> tuple[str, ...]:
    """Return a sentence on each other driver that has no rows yet of so many trials."""
    return tuple(
        f"{counted(number, 'trial')} {agreeing(number, 'is', 'are')} still measured by {lease}; "
        "`raybench show` prints the rows when it has ended."
        if lease.run_id in at_work
        else f"{counted(number, 'trial')} {agreeing(number, 'has', 'have')} no row: {lease} has "
        "ended. The same command measures what is missing."
        for lease, number in left.items()
    )


def _described_searches(context: RunContext, at_work: Collection[str]) -> tuple[str, ...]:
    """Return a sentence on each other driver whose searches for the highest rate have not ended."""
    others = {key: lease for key, lease in context.elsewhere.items() if key[1] == WHOLE}
    if not others:
        return ()
    request, environment_id = context.request, context.environment_id
    finals = final_rows(context.store, request.rerun, environment_id)
    open_ones = searches_of(request, context.plan, finals, environment_id).unfinished()
    left = Counter(lease for key, lease in others.items() if key in open_ones)
    return tuple(
        f"{counted(number, 'search', 'searches')} for the highest rate {agreeing(number, 'is', 'are')} "
        f"left to {lease}"
        + (
            "; `raybench show` prints what was found when it has ended."
            if lease.run_id in at_work
            else ", which has ended. The same command goes on with it."
        )
        for lease, number in left.items()
    )
