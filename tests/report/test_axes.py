"""Ticks of axes: every range has enough of them to be read, and no two say the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from raybench.report.figures import axes as scales


def labels(axis, limits):
    """Return the labels of the ticks within the limits, as they are drawn."""
    low, high = sorted(limits)
    ticks = [tick for tick in axis.get_majorticklocs() if low <= tick <= high]
    return axis.get_major_formatter().format_ticks(ticks)


@given(st.floats(1e-3, 1e5), st.floats(1, 1e5))
def test_a_logarithmic_axis_has_two_ticks_or_more(least, span):
    (axes,) = Figure().subplots(1, 1, squeeze=False)[0]
    scales.decades(axes, [least, least * span])
    assert len(labels(axes.yaxis, axes.get_ylim())) >= 2


@given(st.floats(1e-3, 1.0))
def test_shares_in_percent_differ(highest):
    (axes,) = Figure().subplots(1, 1, squeeze=False)[0]
    axes.set_ylim(0, highest)
    axes.yaxis.set_major_formatter(scales.percent())
    shown = labels(axes.yaxis, axes.get_ylim())
    assert len(shown) == len(set(shown)) >= 2
