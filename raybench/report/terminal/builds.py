"""Lines on points of several builds: how far the plans lie apart, beside trials and noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.report.build_spread import spread_sentence
from raybench.report.terminal.console import words
from raybench.text import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

    from raybench.analysis.curves import ScalingEntry
    from raybench.report.terminal.point_names import PointNames

_MOST = 8
"""Lines; the report has all of them."""


def build_spreads(entries: Sequence[ScalingEntry], names: PointNames) -> list[Text]:
    """Return a line for each point of several builds, at most eight."""
    several = [entry for entry in entries if entry.builds]
    lines = [
        f"{names.point(entry.series, entry.workers)}: {spread_sentence(entry)}"
        for entry in several[:_MOST]
    ]
    if len(several) > _MOST:
        lines.append(f"and {counted(len(several) - _MOST, 'more point')}: see the report")
    return [words(""), *(words(line) for line in lines)] if lines else []
