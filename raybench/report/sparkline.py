"""The blocks of a point as an SVG drawing of the height of a text line.

A page holds hundreds of them, so each stays under a kilobyte. Warm-up has a grey background, trials
are separated by a gap, and each drawing has its own scale.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.analysis.timeline import Floats, TrialTimeline

WIDTH, HEIGHT = 220, 26
_POINTS = 36
"""Largest number of vertices of a line, over all trials."""


def sparkline(timelines: Sequence[TrialTimeline], field: str, title: str, css: str = "") -> str:
    """Return an SVG element of one quantity over time, trials side by side; empty without data.

    Args:
        timelines: of one point.
        field: attribute of `TrialTimeline`.
        title: description for a tooltip and for screen readers; no markup.
        css: class of the line.
    """
    series = [(timeline, getattr(timeline, field)) for timeline in timelines]
    present = [(timeline, _if_any(values)) for timeline, values in series if values is not None]
    present = [(timeline, values) for timeline, values in present if len(values)]
    if not present:
        return ""
    low, high = _scale(present)
    room = (WIDTH - 4 * (len(present) - 1)) / len(present)
    grounds, lines = [], []
    for k, (timeline, values) in enumerate(present):
        left = k * (room + 4)
        x, y, split = _thinned(timeline, values, max(2, _POINTS // len(present)))
        xs = left + room * x
        ys = HEIGHT - 2 - (HEIGHT - 4) * (y - low) / (high - low)
        if split > 0:
            grounds.append(f"M{left:.0f} 0h{room * split:.0f}v{HEIGHT}H{left:.0f}z")
        lines.append(_path(xs, ys))
    tint = f' class="{css}"' if css else ""
    ground = f'<path class="w" d="{"".join(grounds)}"/>' if grounds else ""
    return (
        f'<svg class="spark" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">'
        f'{ground}<path{tint} d="{"".join(lines)}"/></svg>'
    )


def _path(xs: Floats, ys: Floats) -> str:
    """Write a line as relative steps in whole pixels, its shortest form."""
    x, y = np.rint(xs).astype(int), np.rint(ys).astype(int)
    steps = zip(np.diff(x).tolist(), np.diff(y).tolist(), strict=True)
    return f"M{x[0]} {y[0]}l" + " ".join(f"{a} {b}" if b >= 0 else f"{a}{b}" for a, b in steps)


def _if_any(values: Floats) -> Floats:
    return values if np.isfinite(values).any() else values[:0]


def _scale(series: Sequence[tuple[TrialTimeline, Floats]]) -> tuple[float, float]:
    """Return the range of the measured values, at least 2 % wide so that noise stays small."""
    measured = np.concatenate([v[t.measured] if t.measured.any() else v for t, v in series])
    low, high = float(np.nanmin(measured)), float(np.nanmax(measured))
    missing = 0.02 * abs(high) - (high - low)
    if missing > 0 or high == low:
        low, high = low - max(missing, 1e-9) / 2, high + max(missing, 1e-9) / 2
    return low, high


def _thinned(timeline: TrialTimeline, values: Floats, most: int) -> tuple[Floats, Floats, float]:
    """Return x from 0 to 1, means of neighbouring blocks, and the x where warm-up ends."""
    good = np.isfinite(values)
    t, y, measured = timeline.t_s[good], values[good], timeline.measured[good]
    step = -(-len(t) // most)
    edges = np.arange(0, len(t), step)
    sizes = np.diff([*edges, len(t)])
    x, y = np.add.reduceat(t, edges) / sizes, np.add.reduceat(y, edges) / sizes
    span = float(x[-1] - x[0]) or 1.0
    places = (x - x[0]) / span
    cold = int((~measured).sum())
    split = 0.0 if not cold else 1.0 if cold == len(t) else float((0.0 - x[0]) / span)
    return places, y, min(max(split, 0.0), 1.0)
