"""How precise one trial is, and how well the next one repeats it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from raybench.analysis.cells import cells
from raybench.stats.intervals import half_width_df, t_quantile
from raybench.stats.ratios import trial_interval

if TYPE_CHECKING:
    import pyarrow as pa

    from raybench.analysis.series import Series

TARGET = 0.005
"""Half-width that `Repeat.needed` is to reach: that of preset standard."""


@dataclass(frozen=True)
class Repeat:
    """One point with two trials or more. All widths are relative to the mean.

    Attributes:
        within: half the 95 % interval that a single trial claims for itself, root mean square.
        spread: standard deviation of the trial means.
        between: the part of it that the noise within trials does not explain.
        needed: trials that would reach a 95 % interval of +-0.5 % at this spread.
    """

    series: Series
    workers: int
    trials: int
    within: float
    spread: float
    between: float
    needed: int


def repeats(trials: pa.Table) -> list[Repeat]:
    """Return every point with two trials or more that have intervals, by series."""
    repeated = []
    halves, blocks, effective = (
        trials[name].to_numpy(zero_copy_only=False).astype(np.float64)
        for name in ("rel_half_width", "n_blocks", "n_eff")
    )
    for cell in cells(trials):
        rows = list(cell.rows)
        if not cell.ok or len(rows) < 2 or cell.workers is None or np.isnan(halves[rows]).any():
            continue
        if cell.builds:  # more trials alone would not make it more precise
            continue
        means = np.array(cell.values)
        t = [t_quantile(0.975, half_width_df(blocks[row], effective[row])) for row in rows]
        interval = trial_interval(means, halves[rows] / t * means, TARGET)
        assert interval.sd is not None
        assert interval.between_sd is not None
        assert interval.trials_needed is not None
        repeated.append(
            Repeat(
                series=cell.series,
                workers=cell.workers,
                trials=interval.trials,
                within=float(np.sqrt(np.mean(np.square(halves[rows])))),
                spread=interval.sd / interval.mean,
                between=interval.between_sd / interval.mean,
                needed=interval.trials_needed,
            )
        )
    return repeated
