"""Lines below the result table on what of a GPU was full."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.report.terminal.console import words
from raybench.text import counted

if TYPE_CHECKING:
    from rich.text import Text

    from raybench.analysis.scaling import Scaling
    from raybench.report.terminal.point_names import PointNames

_MOST = 8
"""Lines; the report has all of them."""


def device_use(scaling: Scaling, names: PointNames) -> list[Text]:
    """Return a line for each point on one GPU, at most eight; curves name theirs themselves."""
    grown = {curve.series for curve in scaling.curves}
    known = [
        (names.point(entry.series, entry.workers), entry.device_use)
        for entry in scaling.entries
        if entry.device_use and entry.series not in grown
    ]
    lines = [f"{name}: {text}" for name, text in known[:_MOST]]
    if len(known) > _MOST:
        lines.append(f"and {counted(len(known) - _MOST, 'more point')}: see the report")
    return [words(""), *(words(line) for line in lines)] if lines else []
