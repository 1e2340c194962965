"""What the points of a table are called, and how well their trials repeat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.analysis.repeatability import TARGET
from raybench.report.formatting import percent
from raybench.report.labels import Naming, joined, workers_label
from raybench.text import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.analysis.curves import ScalingEntry
    from raybench.analysis.repeatability import Repeat
    from raybench.analysis.series import Series
    from raybench.analysis.trend_verdicts import PointTrend

MANY = 30
"""More trials than this are no advice: what makes them differ is to be found first."""


class PointNames:
    """Names of the points of a table: the model, and the factors in which the points differ.

    Args:
        points: of the table.

    Attributes:
        factors: that have a column; the model always has one.
        same: what all points have in common, in words.
    """

    def __init__(self, points: Sequence[ScalingEntry | Repeat | PointTrend]) -> None:
        self._naming = Naming([point.series for point in points])
        self.same = self._naming.same
        self._by_workers = len({point.workers for point in points}) > 1
        self.factors = ("model", *(f for f in self._naming.varying if f != "model"))

    def series(self, series: Series) -> str:
        """Return the name of a series."""
        return joined(series.model or "-", self._naming.label(series, without=("model",)))

    def point(self, series: Series, workers: int | None) -> str:
        """Return the name of a point, which names its number of workers if there are others."""
        return joined(self.series(series), workers_label(workers) if self._by_workers else "")


def of_trials(repeats: Sequence[Repeat], names: PointNames | None = None) -> list[str]:
    """Return a line for each point on precision within and reproducibility between trials.

    Args:
        repeats: points with several trials.
        names: of all points of the table; by default those of these.
    """
    names = PointNames(repeats) if names is None else names
    lines = [
        f"{names.point(repeat.series, repeat.workers)}: one trial claims ± "
        f"{percent(repeat.within, 2)} for itself; {counted(repeat.trials, 'trial')} differ by "
        f"{100 * repeat.spread:.2f} % (standard deviation); {_more_trials(repeat)}"
        for repeat in repeats
    ]
    return ["Precision within a trial, reproducibility between trials", *lines] if lines else []


def _more_trials(repeat: Repeat) -> str:
    """Say how many trials reach the half-width of preset standard, if so many are sensible."""
    target = f"± {100 * TARGET:.2f} %"
    if repeat.needed <= repeat.trials:
        return f"they give {target}"
    if repeat.needed <= MANY:
        return f"{counted(repeat.needed, 'trial')} would give {target}"
    return f"too far apart for {target} by more trials: look for what changes between them"
