"""Section on devices side by side, how well each is used, and what an item costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.analysis.roofline import rooflines
from raybench.report import columns
from raybench.report.document import Paragraph, Section
from raybench.report.figures import devices as side_figures
from raybench.report.figures import efficiency as share_figures
from raybench.report.figures import roofline as roofline_figures
from raybench.report.formatting import TIMES
from raybench.report.labels import Naming
from raybench.report.sections.sentences import missing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.analysis.devices import Generation
    from raybench.analysis.efficiency import Utilization
    from raybench.report.analyses import Answers
    from raybench.report.document import Part, Table


def devices(answers: Answers) -> Section:
    """Return figures, ratios, shares of the peak, energy, cost and what is missing."""
    generation, efficiency = answers.generation, answers.efficiency
    parts: list[Part] = list(side_figures.figures(generation))
    if generation.results:
        parts.append(_sides(generation))
    roofs = rooflines(efficiency.uses, answers.applications.measured)
    parts += share_figures.figures(efficiency)
    parts += roofline_figures.figures(roofs)
    uses = [
        use
        for use in efficiency.uses
        if use.achieved_tflops or use.items_per_j or use.usd_per_million_items or use.device_use
    ]
    if uses:
        parts += [_uses(uses), *_filled(uses), *_peak_sources(uses)]
    gaps = missing([*generation.missing, *efficiency.missing, *roofs.missing])
    return Section("devices", "Devices", [*parts, *gaps])


def _sides(generation: Generation) -> Table:
    sides = generation.results
    naming = Naming([s.series for s in sides], without=("engine_version", "environment_id"))
    by = generation.by.replace("_", " ")
    return columns.table(
        "sides",
        f"The same points by {by}; ratios to {generation.names[0]}.",
        *columns.factors(naming, [s.series for s in sides]),
        columns.counts("workers", [s.workers for s in sides]),
        columns.numbers("items", "/s", [s.items_per_s.value for s in sides]),
        columns.half_widths([one.items_per_s for one in sides]),
        columns.verdicts(sides),
        columns.fixed("ratio", TIMES, [s.ratio.value for s in sides], 3),
        columns.bounds("95 %", [one.ratio for one in sides], 3),
        columns.numbers("p99", "ms", [s.latency_p99_ms for s in sides]),
        columns.numbers("items", "/J", [s.items_per_j for s in sides]),
    )


def _uses(uses: Sequence[Utilization]) -> Table:
    naming = Naming([u.series for u in uses])
    return columns.table(
        "uses",
        "Achieved arithmetic counts 2 operations a multiply-accumulate: TFLOP/s in floating point, "
        "TOP/s in integers. Peaks are dense, as the maker prints them; share at clock is of the peak at "
        "the clock that was measured. Energy ± holds for power, items/J and J/item: what "
        "the steps of the counter, or the sampling of power, may hide in the window. Intensity is "
        "operations for each byte of device memory's traffic; at most, where that is not measured.",
        *columns.factors(naming, [u.series for u in uses]),
        columns.counts("workers", [u.workers for u in uses]),
        *_arithmetic(uses, "TFLOP/s"),
        *_arithmetic(uses, "TOP/s"),
        columns.fixed("share", "%", [u.mfu for u in uses], 1, 100),
        columns.fixed("at clock", "%", [u.mfu_clock for u in uses], 1, 100),
        *_intensity(uses),
        columns.numbers("power", "W", [u.avg_power_w for u in uses]),
        columns.numbers("items", "/J", [u.items_per_j for u in uses]),
        columns.numbers("energy", "J/item", [u.j_per_item for u in uses]),
        columns.fixed("energy ±", "%", [u.energy_error_rel for u in uses], 1, 100),
        columns.fixed("cost", "USD per million", [u.usd_per_million_items for u in uses], 4),
        columns.marks(uses),
    )


def _filled(uses: Sequence[Utilization]) -> list[Table]:
    """Return a table of what was full, apart from the numbers: its sentences need the width."""
    known = [use for use in uses if use.device_use]
    if not known:
        return []
    naming = Naming([use.series for use in uses])
    table = columns.table(
        "full",
        "What of the device was full, else what it waited for.",
        *columns.factors(naming, [use.series for use in known]),
        columns.counts("workers", [use.workers for use in known]),
        columns.texts("full", [use.device_use for use in known]),
    )
    return [table]


def _peak_sources(uses: Sequence[Utilization]) -> list[Paragraph]:
    """Return where each peak is printed."""
    printed: dict[str, dict[str, None]] = {}
    for use in uses:
        if use.peak_source:
            peak = f"{use.chip} in {use.series.precision}"
            printed.setdefault(use.peak_source, {})[peak] = None
    return [
        Paragraph(f"{source}.", "note", f"Peak of {', '.join(peaks)}.")
        for source, peaks in printed.items()
    ]


def _intensity(uses: Sequence[Utilization]) -> list[columns.Filled | None]:
    """Return the operations for each byte of memory traffic, apart where that is the least."""
    measured = [use.ops_per_byte if use.ops_per_byte_measured else None for use in uses]
    at_most = [None if use.ops_per_byte_measured else use.ops_per_byte for use in uses]
    return [
        columns.numbers("intensity", "op/B", measured),
        columns.numbers("intensity at most", "op/B", at_most),
    ]


def _arithmetic(uses: Sequence[Utilization], unit: str) -> list[columns.Filled | None]:
    """Return what was achieved and the peak, of the points whose arithmetic has this unit."""
    achieved = [use.achieved_tflops if use.unit == unit else None for use in uses]
    peaks = [use.peak_tflops if use.unit == unit else None for use in uses]
    return [columns.numbers("achieved", unit, achieved), columns.numbers("peak", unit, peaks)]
