"""Section with the key table: one line for every point, and why some have no number."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from raybench.analysis.estimate import UNKNOWN
from raybench.experiment import CLOSED
from raybench.report import columns
from raybench.report.document import Section
from raybench.report.formatting import TIMES
from raybench.report.labels import Naming

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from raybench.analysis.curves import ScalingEntry
    from raybench.report.analyses import Answers
    from raybench.report.document import Table


def points(answers: Answers) -> Section:
    """Return the key table."""
    entries = answers.scaling.entries
    naming = Naming([entry.series for entry in entries])
    same = f"In all: {naming.same}. " if naming.same else ""
    curves = {curve.series for curve in answers.scaling.curves}
    grown = [
        e if e.series in curves else replace(e, speedup=UNKNOWN, efficiency=UNKNOWN)
        for e in entries
    ]
    table = columns.table(
        "points",
        f"{same}± is half the 95 % interval: between trials where there are several, within the "
        f"trial where there is one. Latency is {_latency(entries)}, median over trials.",
        *columns.factors(naming, [entry.series for entry in entries]),
        columns.counts("workers", [entry.workers for entry in entries]),
        columns.numbers("items", "/s", [entry.items_per_s.value for entry in entries]),
        columns.half_widths([one.items_per_s for one in entries]),
        columns.verdicts(entries),
        columns.fixed("speedup", TIMES, [e.speedup.value for e in grown], 3),
        columns.fixed("efficiency", "%", [e.efficiency.value for e in grown], 1, 100),
        columns.numbers("p50", "ms", [entry.latency_p50_ms for entry in entries]),
        columns.numbers("p99", "ms", [entry.latency_p99_ms for entry in entries]),
        columns.fixed("over fp32", TIMES, [entry.over_fp32.value for entry in entries], 3),
        columns.fixed("fidelity", "dB", [entry.fidelity_sqnr_db for entry in entries], 1),
        columns.repeats(entries),
    )
    return Section("table", "Key table", [table, *_without_number(naming, entries)])


def _latency(entries: Sequence[ScalingEntry]) -> str:
    """Return what the latencies are of, in closed loop, in open loop or in both."""
    opened = {entry.series.load not in (None, CLOSED) for entry in entries}
    batch = "that of a batch in a closed loop"
    item = "in open loop from the arrival of an item to the end of its batch"
    if True not in opened:
        return batch
    return f"{batch}, and {item}" if False in opened else item


def _without_number(naming: Naming, entries: Sequence[ScalingEntry]) -> Iterator[Table]:
    failed = [entry for entry in entries if entry.items_per_s.value is None]
    if failed:
        yield columns.table(
            "reasons",
            "Points without a number, and why.",
            *columns.factors(naming, [entry.series for entry in failed]),
            columns.counts("workers", [entry.workers for entry in failed]),
            columns.verdicts(failed),
            columns.repeats(failed),
            columns.texts("why", [entry.reason for entry in failed]),
        )
