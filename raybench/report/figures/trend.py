"""Figures of points over many runs, with the steps of their levels."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from raybench.analysis.estimate import Estimate
from raybench.report.captions import caveats, subset_note
from raybench.report.figures import grammar, style
from raybench.report.figures.svg import finish
from raybench.report.labels import workers_label

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes

    from raybench.analysis.trend_verdicts import PointTrend, Trend
    from raybench.report.document import Figure
    from raybench.report.labels import Naming

MOST_FIGURES = 6
_TINT = "each run"
_DAY_S = 86_400.0


def figures(trend: Trend, naming: Naming) -> Iterator[Figure]:
    """Yield a figure for each point, those with steps first."""
    ordered = sorted(trend.points, key=lambda point: not point.steps)
    subset = subset_note(MOST_FIGURES, len(ordered))
    for number, point in enumerate(ordered[:MOST_FIGURES], 1):
        yield _figure(number, point, title_of(point, naming), trend.metric, subset)


def title_of(point: PointTrend, naming: Naming) -> str:
    """Return the name of a point: its model, what else differs between points, and its devices."""
    return naming.title(point.series, workers_label(point.workers))


@style.styled
def _figure(number: int, point: PointTrend, title: str, metric: str, subset: str) -> Figure:
    figure, axes = style.canvas(1, 1, height_in=2.7)
    panel = axes[0][0]
    days, first = _days(point)
    dots = [
        grammar.Dot(day, Estimate(run.value), point.marks)
        for day, run in zip(days, point.runs, strict=True)
    ]
    grammar.draw_points(panel, dots, style.tints([_TINT])[_TINT], joined=False)
    _levels(panel, point, days)
    panel.set_xlabel(f"days since {first}" if first else "run")
    panel.set_ylabel(metric.replace("_per_s", "/s").replace("_", " "))
    panel.margins(x=0.04, y=0.12)
    grammar.draw_legend(figure, style.tints([_TINT]), set(point.marks))
    what = (
        "Each marker is a run, the mean of its trials; lines are the levels, and a dotted line stands at "
        "each step. The axis does not begin at 0."
    )
    text = " ".join(part for part in (what, caveats([point]), subset) if part)
    return finish(figure, f"trend-{number}", f"Trend: {title}", text)


def _days(point: PointTrend) -> tuple[list[float], str]:
    """Return when each run was, in days since the first, and the day of that; else its number."""
    if not all(run.started_at for run in point.runs):
        return [float(k) for k in range(1, len(point.runs) + 1)], ""
    starts = [datetime.fromisoformat(run.started_at.rstrip("Z")) for run in point.runs]
    days = [(start - starts[0]).total_seconds() / _DAY_S for start in starts]
    return days, f"{starts[0]:%Y-%m-%d}"


def _levels(panel: Axes, point: PointTrend, days: Sequence[float]) -> None:
    """Draw the level between the steps, and a line at each."""
    place = {run.run_id: k for k, run in enumerate(point.runs)}
    edges = [0, *(place[step.run_id] for step in point.steps), len(days)]
    for begin, end in pairwise(edges):
        level = float(np.exp(np.mean(np.log([run.value for run in point.runs[begin:end]]))))
        panel.plot(
            [days[begin], days[end - 1]], [level, level], color=style.INK, linewidth=1.0, zorder=3
        )
    for index in edges[1:-1]:
        middle = (days[index - 1] + days[index]) / 2
        panel.axvline(middle, color=style.MUTED, linestyle=":", linewidth=1.0, zorder=1)
