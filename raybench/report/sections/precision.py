"""Section on each precision compared with fp32: speed and fidelity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.experiment import QUANTISED
from raybench.report import columns
from raybench.report.document import Section
from raybench.report.figures.precision import figures
from raybench.report.formatting import TIMES
from raybench.report.labels import Naming
from raybench.report.sections.sentences import missing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.analysis.precision import Gain
    from raybench.report.analyses import Answers
    from raybench.report.document import Part, Table


def precision(answers: Answers) -> Section:
    """Return figures, gains and what is missing."""
    answer = answers.precision
    parts: list[Part] = list(figures(answer))
    if answer.gains:
        parts.append(_gains(answer.gains))
    return Section("precision", "Precision", [*parts, *missing(answer.missing)])


def _gains(gains: Sequence[Gain]) -> Table:
    naming = Naming([gain.series for gain in gains])
    return columns.table(
        "gains",
        "Ratio to fp32 with all else equal, beside the fidelity of the outputs to fp32; peaks is "
        "the same ratio of the chip's printed peaks, and 8-bit MACs the share of the "
        "multiply-accumulates that an int8 graph computes in 8 bits.",
        *columns.factors(naming, [gain.series for gain in gains]),
        columns.texts("dialect", [gain.dialect for gain in gains]),
        columns.counts("workers", [gain.workers for gain in gains]),
        columns.numbers("items", "/s", [gain.items_per_s.value for gain in gains]),
        columns.half_widths([one.items_per_s for one in gains]),
        columns.verdicts(gains),
        columns.fixed("over fp32", TIMES, [gain.ratio.value for gain in gains], 3),
        columns.bounds("95 %", [one.ratio for one in gains], 3),
        columns.fixed("peaks", TIMES, [gain.peak_ratio for gain in gains], 2),
        columns.fixed(
            "8-bit MACs",
            "%",
            [g.quantised_macs_frac if g.series.precision in QUANTISED else None for g in gains],
            0,
            100,
        ),
        columns.fixed("SQNR", "dB", [gain.fidelity_sqnr_db for gain in gains], 1),
        columns.fixed("cosine", "", [gain.fidelity_cosine for gain in gains], 5),
    )
