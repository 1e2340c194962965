"""Section on what devices do under a power limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.analysis.power import HOSTS, WITHIN
from raybench.report import columns
from raybench.report.document import Paragraph, Section
from raybench.report.figures.power import figures, title_of
from raybench.report.labels import Naming
from raybench.report.sections.sentences import gaps, marked, missing

if TYPE_CHECKING:
    from raybench.analysis.power import PowerCurve
    from raybench.report.analyses import Answers
    from raybench.report.document import Part, Table


def power(answers: Answers) -> Section | None:
    """Return figures, findings, what a rack serves, and a table for each curve; None without one."""
    curves = answers.power.curves
    if not curves:
        return None
    rack_power_w = answers.rack_power_w
    naming = Naming([curve.series for curve in curves], without=("power_limit_w",))
    parts: list[Part] = []
    for curve in curves:
        title = f"{title_of(curve, naming)}."
        parts.append(Paragraph(marked(curve.finding, curve.marks), "good", title))
        if rack_power_w is not None:
            said = marked(curve.in_rack(rack_power_w), curve.marks)
            parts.append(Paragraph(said, "good", title))
    parts += figures(curves, naming)
    for number, curve in enumerate(curves, 1):
        parts.append(_table(number, curve, naming))
        if rack_power_w is not None:
            parts.append(_rack(number, curve, naming, rack_power_w))
    return Section("power", "Power limits", [*parts, *missing(gaps(curves, naming))])


def _table(number: int, curve: PowerCurve, naming: Naming) -> Table:
    points = curve.points
    return columns.table(
        f"power-{number}",
        f"{title_of(curve, naming)}: each power limit that the devices were set to. Share is of the "
        f"highest rate; the knee is the lowest limit of which its interval begins at {100 - 100 * WITHIN:g} % "
        "or above. Power is what all devices together took.",
        columns.numbers("power limit", "W", [point.power_limit_w for point in points]),
        columns.numbers("throughput", "items/s", [p.items_per_s.value for p in points]),
        columns.half_widths([point.items_per_s for point in points]),
        columns.fixed("share", "%", [point.share.value for point in points], 1, 100),
        columns.bounds("interval", [point.share for point in points], 3),
        columns.numbers("items", "/J", [p.items_per_j.value for p in points]),
        columns.half_widths([point.items_per_j for point in points]),
        columns.fixed("power", "W", [point.avg_power_w for point in points], 0),
        columns.fixed("SM clock", "MHz", [point.sm_clock_mhz_mean for point in points], 0),
        columns.repeats(points),
        columns.verdicts(points),
        columns.texts("why there is none", [point.reason for point in points]),
    )


def _rack(number: int, curve: PowerCurve, naming: Naming, rack_power_w: float) -> Table:
    shares = curve.racks(rack_power_w)
    return columns.table(
        f"rack-{number}",
        f"{title_of(curve, naming)}: what the devices serve that {rack_power_w:,.15g} W are enough for, each "
        f"taking what its limit allows and running as it was measured. {HOSTS}.",
        columns.numbers("power limit", "W", [share.power_limit_w for share in shares]),
        columns.counts("devices", [share.devices for share in shares]),
        columns.numbers("throughput", "items/s", [share.items_per_s.value for share in shares]),
        columns.bounds("interval", [share.items_per_s for share in shares], 0),
    )
