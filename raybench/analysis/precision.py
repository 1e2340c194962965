"""precision: what a reduced precision gains over fp32, beside what it costs in fidelity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from raybench.analysis.frame import as_table
from raybench.analysis.points import Series  # noqa: TC001 - as_table reads the annotation

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
    return Precision((), ("Not built yet.",))
