"""Section on each precision compared with fp32: speed and fidelity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.experiment import QUANTISED
from raybench.report import columns
from raybench.report.document import Paragraph, Section
from raybench.report.figures.precision import figures
from raybench.report.figures.style import shortened
from raybench.report.formatting import TIMES, times
from raybench.report.labels import Naming, joined
from raybench.report.sections.sentences import missing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.analysis.precision import Gain
    from raybench.analysis.slower_layers import SlowerPrecision
    from raybench.report.analyses import Answers
    from raybench.report.document import Part, Table


_MOST_SLOWER, _MOST_LAYERS, _MOST_NAMED = 6, 10, 2
"""Precisions, layers of each, and layers in the sentence that are shown."""
_NAME = 60
"""Characters of a group's nodes."""


def precision(answers: Answers) -> Section:
    """Return figures, gains and what is missing."""
    answer = answers.precision
    parts: list[Part] = list(figures(answer))
    if answer.gains:
        parts.append(_gains(answer.gains))
    for number, one in enumerate(answer.slower[:_MOST_SLOWER], 1):
        parts += _slower(one, Naming([each.series for each in answer.slower]), number)
    return Section("precision", "Precision", [*parts, *missing(answer.missing)])


def _slower(slower: SlowerPrecision, naming: Naming, number: int) -> list[Part]:
    """Return a sentence on a precision that is slower than the next wider one, and its layers."""
    precision, wider = str(slower.series.precision), slower.wider
    model = shortened(str(slower.series.model), _NAME)
    where = joined(model, naming.label(slower.series, without=("model", "precision")))
    ratio = times(slower.ratio.value)
    said = f"{precision} ({where}) has {ratio} the throughput of {wider}, the next wider precision."
    if not slower.layers:
        advice = (
            "Measure both again with results.layers=true rerun=all to see which layers explain it."
        )
        return [Paragraph(f"{said} {advice}", "open", "Slower.")]
    shown = slower.layers[:_MOST_LAYERS]
    parts: list[Part] = [Paragraph(f"{said} {_explained(slower)}", "open", "Slower.")]
    return [
        *parts,
        columns.table(
            f"layers-{number}",
            f"Layers in {precision} and in {wider} that compute the same nodes, the {len(shown)} of "
            f"{len(slower.layers)} with the largest differences first; times of profiling runs of their own.",
            columns.texts("nodes", [shortened(each.layers, _NAME) for each in shown]),
            columns.fixed(precision, "ms", [each.time_ms for each in shown], 4),
            columns.fixed(wider, "ms", [each.wider_time_ms for each in shown], 4),
            columns.fixed("difference", "ms", [each.difference_ms for each in shown], 4),
        ),
    ]


def _explained(slower: SlowerPrecision) -> str:
    """Return which layers take the time, in a sentence."""
    longer = [each for each in slower.layers if each.difference_ms > 0]
    whole = sum(each.difference_ms for each in slower.layers)
    if not longer or whole <= 0:
        return (
            f"Its layers together are not slower ({-whole:.4f} ms less), so what is between them is: "
            "launches, copies or the host."
        )
    named = "; ".join(
        f"{shortened(each.layers, _NAME)} takes {each.difference_ms:.4f} ms more"
        for each in longer[:_MOST_NAMED]
    )
    return f"Its layers take {whole:.4f} ms more together: {named}."


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
