"""precision: what a reduced precision gains over fp32, beside what it costs in fidelity."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from raybench.analysis.accelerators import peak
from raybench.analysis.cells import (
    Cell,
    Series,
    cells,
    kin,
    marks_of,
    other_methods,
    ratio,
    without_numbers,
)
from raybench.analysis.tables import as_table

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Gain:
    """One precision of one point, held against fp32 with all else equal.

    Attributes:
        status: of the row; without a number unless ok.
        interval: see `scaling.Entry`.
        ratio: items_per_s over that of fp32 (1 for fp32 itself); None without fp32 rows.
        ratio_lo: 95 % bound, from 2 trials on either side on.
        ratio_hi: 95 % bound, from 2 trials on either side on.
        peak_ratio: the same ratio of the chip's dense peaks; None for a chip that is not known.
        fidelity_sqnr_db: outputs against fp32, median over trials.
        fidelity_cosine: outputs against fp32, median over trials.
        marks: of this point or of the fp32 it is held against, see `points.MARKS`.
    """

    series: Series
    workers: int | None
    dialect: str | None
    status: str
    reason: str | None
    trials: int
    items_per_s: float | None = None
    items_per_s_lo: float | None = None
    items_per_s_hi: float | None = None
    interval: str | None = None
    ratio: float | None = None
    ratio_lo: float | None = None
    ratio_hi: float | None = None
    peak_ratio: float | None = None
    fidelity_sqnr_db: float | None = None
    fidelity_cosine: float | None = None
    verdict: str | None = None
    flags: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Precision:
    """All points of which there is more than one precision, fp32 first.

    Attributes:
        missing: what could not be said and why, a sentence each.
    """

    gains: tuple[Gain, ...]
    missing: tuple[str, ...]

    def as_table(self) -> pa.Table:
        """A row a gain."""
        return as_table(Gain, self.gains)


def precision(trials: pa.Table) -> Precision:
    """Ratio to fp32 of every reduced precision in a `trials` table, beside its fidelity."""
    made = cells(trials)
    points: dict[tuple[Series, int | None], list[Cell]] = defaultdict(list)
    for cell in made:
        points[kin(cell.series, "precision"), cell.workers].append(cell)
    several = {
        key: some
        for key, some in points.items()
        if len({cell.series.precision for cell in some}) > 1
    }
    gains = tuple(_gain(cell, _fp32(some)) for some in several.values() for cell in some)
    return Precision(gains, _missing(made, several))


def _fp32(some: list[Cell]) -> Cell | None:
    return next((cell for cell in some if cell.ok and cell.series.precision == "fp32"), None)


def _gain(cell: Cell, fp32: Cell | None) -> Gain:
    gain = Gain(
        series=cell.series,
        workers=cell.workers,
        dialect=cell.said.get("dialect"),
        status=cell.status,
        reason=cell.reason,
        trials=cell.trials,
        marks=cell.marks,
    )
    if not cell.ok:
        return gain
    gain = replace(
        gain,
        items_per_s=cell.mean,
        items_per_s_lo=cell.lo,
        items_per_s_hi=cell.hi,
        interval=cell.interval,
        fidelity_sqnr_db=cell.get("fidelity_sqnr_db"),
        fidelity_cosine=cell.get("fidelity_cosine"),
        verdict=cell.verdict,
        flags=cell.flags,
    )
    if fp32 is None:
        return gain
    if fp32 is cell:
        return replace(gain, ratio=1.0)
    span = ratio(cell, fp32)
    return replace(
        gain,
        ratio=span.value,
        ratio_lo=span.lo,
        ratio_hi=span.hi,
        peak_ratio=_peak_ratio(cell.series),
        marks=marks_of((cell, fp32)),
    )


def _peak_ratio(series: Series) -> float | None:
    reduced, whole = peak(series.device, series.precision), peak(series.device, "fp32")
    return None if reduced is None or whole is None else reduced.value / whole.value


def _missing(
    made: list[Cell], several: dict[tuple[Series, int | None], list[Cell]]
) -> tuple[str, ...]:
    told = without_numbers(made)
    if told:
        return told
    told = other_methods(made)
    if not several:
        names = ", ".join(sorted({str(cell.series.precision) for cell in made}))
        words = f"No gain: no point has more than one precision ({names}). Measure fp32 too."
        return (*told, words)
    bare = [some for some in several.values() if _fp32(some) is None]
    if bare:
        told += (
            f"No ratio at {len(bare)} of {len(several)} points: fp32 has no number there. "
            "Measure precision=fp32.",
        )
    if any(cell.ok and cell.trials < 2 for some in several.values() for cell in some):
        told += ("No interval of some ratios: fewer than 2 trials. Measure with trials=3.",)
    return told
