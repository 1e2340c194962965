"""Sparkline: the blocks of a point as a drawing the height of a line, written by hand.

A page holds hundreds of them: each is under a kilobyte, with a grey ground under warm-up, a gap
between trials and a scale of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.analysis.timeline import Floats, TrialTimeline

WIDTH, HEIGHT = 220, 26
_POINTS = 36
"""Most points of a line, over all trials: a page of 500 points has a thousand of them."""


def sparkline(traces: Sequence[TrialTimeline], field: str, title: str, css: str = "") -> str:
    """An SVG element of one quantity over time, trials side by side; empty without data.

    Args:
        traces: of one point.
        field: attribute of `TrialTimeline`.
        title: plain words for those who point at it or cannot see it; no markup.
        css: class of the line.
    """
    series = [(trace, getattr(trace, field)) for trace in traces]
    known = [(trace, _known(values)) for trace, values in series if values is not None]
    known = [(trace, values) for trace, values in known if len(values)]
    if not known:
        return ""
    low, high = _scale(known)
    room = (WIDTH - 4 * (len(known) - 1)) / len(known)
    grounds, lines = [], []
    for k, (trace, values) in enumerate(known):
        left = k * (room + 4)
        x, y, split = _thinned(trace, values, max(2, _POINTS // len(known)))
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
    """Steps from point to point in whole pixels: the shortest way to write a line."""
    x, y = np.rint(xs).astype(int), np.rint(ys).astype(int)
    steps = zip(np.diff(x).tolist(), np.diff(y).tolist(), strict=True)
    return f"M{x[0]} {y[0]}l" + " ".join(f"{a} {b}" if b >= 0 else f"{a}{b}" for a, b in steps)


def _known(values: Floats) -> Floats:
    return values if np.isfinite(values).any() else values[:0]


def _scale(known: Sequence[tuple[TrialTimeline, Floats]]) -> tuple[float, float]:
    """The range of what was measured, at least 2 % wide, so that noise does not look like news."""
    some = np.concatenate([v[t.measured] if t.measured.any() else v for t, v in known])
    low, high = float(np.nanmin(some)), float(np.nanmax(some))
    missing = 0.02 * abs(high) - (high - low)
    if missing > 0 or high == low:
        low, high = low - max(missing, 1e-9) / 2, high + max(missing, 1e-9) / 2
    return low, high


def _thinned(trace: TrialTimeline, values: Floats, most: int) -> tuple[Floats, Floats, float]:
    """Places 0..1, means of neighbouring blocks, and the place where warm-up ends."""
    good = np.isfinite(values)
    t, y, measured = trace.t_s[good], values[good], trace.measured[good]
    step = -(-len(t) // most)
    edges = np.arange(0, len(t), step)
    sizes = np.diff([*edges, len(t)])
    x, y = np.add.reduceat(t, edges) / sizes, np.add.reduceat(y, edges) / sizes
    span = float(x[-1] - x[0]) or 1.0
    places = (x - x[0]) / span
    cold = int((~measured).sum())
    split = 0.0 if not cold else 1.0 if cold == len(t) else float((0.0 - x[0]) / span)
    return places, y, min(max(split, 0.0), 1.0)
