"""Section on the devices of a fleet: which are slow, how sure that is, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.analysis.device_verdicts import OUTCOMES
from raybench.report import columns
from raybench.report.document import Column, Paragraph, Section, TableCell
from raybench.report.figures.acceptance import figures
from raybench.report.fleet_lines import cause, closing, group_sentences, heading, place, titles
from raybench.report.labels import Naming
from raybench.report.sections.sentences import missing

if TYPE_CHECKING:
    from raybench.analysis.device_verdicts import Acceptance
    from raybench.report.analyses import Answers
    from raybench.report.document import Part, Table, Tone

_TONES: dict[int, Tone] = {0: "good", 1: "bad", 3: "open"}


def acceptance(answers: Answers) -> Section | None:
    """Return verdicts, heat maps and a table of all devices; None unless devices ran alone."""
    judged = answers.acceptance
    if judged is None:
        return None
    naming = Naming([verdict.series for verdict in judged.verdicts])
    first, *rest = closing(judged, gaps=False)
    parts: list[Part] = [
        Paragraph(first, _TONES[judged.exit_code], "Devices."),
        *(Paragraph(sentence, "bad", "Slow together.") for sentence in group_sentences(judged)),
        Paragraph(" ".join((*heading(judged), *rest)), "note"),
        *figures(judged, naming),
        _table(judged, naming),
    ]
    return Section("fleet", "Every device", [*parts, *missing(judged.missing)])


def _table(judged: Acceptance, naming: Naming) -> Table:
    devices = sorted(judged.devices, key=lambda one: OUTCOMES.index(one.verdict))
    worst = [one.worst for one in devices]
    several = len({(verdict.series, verdict.situation) for verdict in judged.verdicts}) > 1
    return columns.table(
        "fleet-devices",
        "Each device at the point that decides, rejected ones first. Ratios have 95 % intervals.",
        columns.texts("device", [one.name for one in devices], "factor"),
        columns.texts("host", [verdict.hostname for verdict in worst], "factor"),
        columns.texts("rack", [verdict.rack for verdict in worst], "factor"),
        columns.texts("at", [place(v, naming) for v in worst], "factor") if several else None,
        columns.numbers("throughput", "items/s", [verdict.items_per_s for verdict in worst]),
        columns.fixed(titles(judged)[1], "", [v.to_population.value for v in worst], 3),
        columns.bounds("interval", [verdict.to_population for verdict in worst], 3),
        columns.repeats(worst),
        (Column("verdict", kind="verdict"), [TableCell(one.verdict) for one in devices]),
        columns.texts("slow with", [verdict.slow_group for verdict in worst]),
        columns.texts("cause", [cause(one) for one in devices]),
    )
