"""Colours, type and canvas of every figure.

The colours are those of Okabe and Ito (2008), which readers with the usual colour vision
deficiencies can distinguish.
"""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING, Any, TypeVar

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas
from typing_extensions import ParamSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from matplotlib.axes import Axes

INK, MUTED, RULE, PAPER = "#1c1f24", "#616874", "#d6dae0", "#fefefe"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5c3e")
"""Colours of the lines and bars of a panel, in order; whatever needs more is two panels."""
WIDTH_IN = 7.4
_INCHES_PER_LETTER = 0.082
"""Width of a letter of a bold title."""

RC: Any = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "text.color": INK,
    "text.parse_math": False,
    "axes.titlesize": 9.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 9.0,
    "axes.labelsize": 8.5,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.facecolor": "none",
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "xtick.major.size": 3.0,
    "ytick.major.size": 0.0,
    "xtick.minor.size": 0.0,
    "ytick.minor.size": 0.0,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "legend.labelcolor": INK,
    "hatch.linewidth": 0.7,
    "lines.linewidth": 1.4,
    "lines.markersize": 5.2,
    "figure.facecolor": PAPER,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.w_pad": 0.06,
}

P = ParamSpec("P")
R = TypeVar("R")


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Apply `RC` to everything that the function draws, and to nothing else."""

    @functools.wraps(draw)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        with mpl.rc_context(RC), warnings.catch_warnings():
            # names in a script that the font lacks: browsers have it, images show boxes
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            return draw(*args, **kwargs)

    return inner


def canvas(rows: int = 1, columns: int = 1, height_in: float = 2.7, **options: Any) -> Any:
    """Return a figure and its axes, always as an array of rows and columns.

    Args:
        rows: of panels.
        columns: of panels.
        height_in: of one row, in inches.
        options: of matplotlib's `subplots`.
    """
    figure = Canvas(figsize=(WIDTH_IN, height_in * rows + 0.35))
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def title(axes: Axes, text: str, columns: int = 1) -> None:
    """Set the title of a panel, shortened to its width; the caption has the whole name."""
    room_in = 0.88 * WIDTH_IN / columns
    axes.set_title(shortened(text, int(room_in / _INCHES_PER_LETTER)))


def shortened(text: str, most: int) -> str:
    """Shorten a text in the middle, since names differ at their ends."""
    if len(text) <= most:
        return text
    tail = (most - 1) // 2
    return f"{text[: most - 1 - tail]}\N{HORIZONTAL ELLIPSIS}{text[len(text) - tail :]}"


def tints(names: Iterable[str]) -> dict[str, str]:
    """Return a colour for each name, in order."""
    return {name: SERIES[k % len(SERIES)] for k, name in enumerate(dict.fromkeys(names))}
