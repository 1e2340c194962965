"""What a reduced precision gains over fp32, and what it costs in fidelity."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raybench.analysis.accelerators import peak
from raybench.analysis.cell_ratios import ratio_to
from raybench.analysis.cells import Cell, cells
from raybench.analysis.estimate import UNKNOWN, Estimate
from raybench.analysis.gaps import other_methods, without_numbers
from raybench.analysis.marks import marks_of
from raybench.analysis.series import Series, without
from raybench.analysis.slower_layers import SlowerPrecision, slower_precisions
from raybench.analysis.tables import as_table
from raybench.experiment import AS_IS
from raybench.text import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa


@dataclass(frozen=True)
class Gain:
    """One precision of one point, compared with fp32, all else equal.

    Attributes:
        status: of the row; without a number unless ok.
        interval: see `scaling.ScalingEntry`.
        ratio: items_per_s over that of fp32 (1 for fp32 itself); unknown without fp32 rows.
        peak_ratio: the same ratio of the chip's dense peaks; None for a chip without an entry.
        fidelity_sqnr_db: outputs against fp32, median over trials.
        fidelity_cosine: outputs against fp32, median over trials.
        marks: of this point or of the fp32 it is compared with, see `marks.MARKS`.
        quantised_macs_frac: share of the multiply-accumulates computed in 8 bits.
    """

    series: Series
    workers: int | None
    dialect: str | None
    status: str
    reason: str | None
    trials: int
    items_per_s: Estimate = UNKNOWN
    interval: str | None = None
    ratio: Estimate = UNKNOWN
    peak_ratio: float | None = None
    fidelity_sqnr_db: float | None = None
    fidelity_cosine: float | None = None
    verdict: str | None = None
    flags: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    quantised_macs_frac: float | None = None


@dataclass(frozen=True)
class Precision:
    """All points that were measured in more than one precision, fp32 first.

    Attributes:
        gains: one for each precision of each point.
        missing: what could not be said and why, a sentence each.
        slower: those that are slower than the next wider precision, with the layers that explain it.
    """

    gains: tuple[Gain, ...]
    missing: tuple[str, ...]
    slower: tuple[SlowerPrecision, ...] = ()

    def as_table(self) -> pa.Table:
        """Return a row for each gain."""
        return as_table(Gain, self.gains)


_Point = tuple[Series, "int | None"]


def precision(trials: pa.Table, layers: pa.Table | None = None) -> Precision:
    """Return the ratio to fp32 of every precision in a `trials` table that was made from fp32.

    Args:
        trials: as `raybench.load` returns it.
        layers: the table `layers` of the same folder; it explains what is slower than it should be.
    """
    every = cells(trials)
    points: dict[_Point, list[Cell]] = defaultdict(list)
    for cell in every:
        if cell.series.precision == AS_IS or cell.series.is_open:
            continue  # a file that comes reduced has no fp32 graph, and in open loop rates are offered
        points[without(cell.series, "precision"), cell.workers].append(cell)
    compared = {
        point: members
        for point, members in points.items()
        if len({cell.series.precision for cell in members}) > 1
    }
    gains = tuple(_gain(cell, _fp32(members)) for members in compared.values() for cell in members)
    slower = slower_precisions(compared.values(), layers)
    return Precision(gains, _missing(every, compared), slower)


def _fp32(members: Sequence[Cell]) -> Cell | None:
    return next((cell for cell in members if cell.ok and cell.series.precision == "fp32"), None)


def _gain(cell: Cell, fp32: Cell | None) -> Gain:
    ratio = ratio_to(cell, fp32)
    compared = ratio.value is not None and cell is not fp32
    return Gain(
        series=cell.series,
        workers=cell.workers,
        dialect=cell.newest.get("dialect"),
        status=cell.status,
        reason=cell.reason,
        trials=cell.trials,
        items_per_s=cell.estimate,
        interval=cell.interval,
        ratio=ratio,
        peak_ratio=_peak_ratio(cell.series) if compared else None,
        fidelity_sqnr_db=cell.get("fidelity_sqnr_db"),
        fidelity_cosine=cell.get("fidelity_cosine"),
        verdict=cell.verdict,
        flags=cell.flags,
        marks=marks_of((cell, fp32)) if compared else cell.marks,
        quantised_macs_frac=cell.get("quantised_macs_frac"),
    )


def _peak_ratio(series: Series) -> float | None:
    reduced, full = peak(series.device, series.precision), peak(series.device, "fp32")
    return None if reduced is None or full is None else reduced.value / full.value


def _missing(every: Sequence[Cell], compared: Mapping[_Point, Sequence[Cell]]) -> tuple[str, ...]:
    sentences = without_numbers(every)
    if sentences:
        return sentences
    sentences = other_methods(every)
    if not compared:
        names = ", ".join(sorted({str(cell.series.precision) for cell in every}))
        other = "another precision" if names == "fp32" else "fp32"
        gap = f"No gain: no point has more than one precision ({names}). Measure the same one in {other} too."
        return (*sentences, gap)
    without_fp32 = sum(_fp32(members) is None for members in compared.values())
    if without_fp32:
        sentences += (
            f"No ratio at {without_fp32} of {counted(len(compared), 'point')}: fp32 has no number there. "
            "Measure precision=fp32.",
        )
    if any(cell.ok and cell.trials < 2 for members in compared.values() for cell in members):
        sentences += ("No interval of some ratios: fewer than 2 trials. Measure with trials=3.",)
    return sentences
