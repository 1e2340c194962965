"""Heat maps of pairs: devices down, the one beside across, coloured by what is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.collections import PatchCollection
from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle

from raybench.report.captions import subset_note
from raybench.report.figures import style
from raybench.report.figures.svg import finish

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from raybench.analysis.interference import PairMatrix
    from raybench.report.document import Figure
    from raybench.report.labels import Naming

MOST_FIGURES = 4
MOST_DEVICES = 64
"""Devices of a matrix that are drawn."""
_WRITTEN = 16
"""Devices up to which the losses are written into the cells."""
_LEAST_FULL = 0.1
"""Loss in full colour, unless more is lost somewhere."""
_ROW_IN = 0.26


def figures(matrices: Sequence[PairMatrix], naming: Naming) -> Iterator[Figure]:
    """Yield a heat map for each matrix."""
    subset = subset_note(MOST_FIGURES, len(matrices))
    for number, matrix in enumerate(matrices[:MOST_FIGURES], 1):
        yield _figure(number, matrix, naming.title(matrix.series), subset)


@style.styled
def _figure(number: int, matrix: PairMatrix, name: str, subset: str) -> Figure:
    devices = matrix.devices[:MOST_DEVICES]
    place = {device: k for k, device in enumerate(devices)}
    drawn = [one for one in matrix.losses if one.device in place and one.beside in place]
    losses = [1 - (one.ratio.value or 1.0) for one in drawn]
    full = max(_LEAST_FULL, *losses)
    figure, axes = style.canvas(1, 1, height_in=max(_ROW_IN * len(devices) + 0.6, 1.2))
    (axis,) = axes[0]
    cells = [Rectangle((place[o.beside] + 0.03, place[o.device] - 0.47), 0.94, 0.94) for o in drawn]
    colours = [_colour(loss, full) for loss in losses]
    axis.add_collection(
        PatchCollection(cells, facecolors=colours, edgecolors=style.RULE, linewidths=0.5)
    )
    for one, loss in zip(drawn, losses, strict=True):
        if len(devices) <= _WRITTEN:
            axis.text(place[one.beside] + 0.5, place[one.device], f"{round(100 * loss, 1) + 0.0:.1f}", ha="center",
                      va="center", fontsize=7, fontweight="bold" if one.sure else "normal",
                      color=style.PAPER if abs(loss) > full / 2 else style.INK)  # fmt: skip
    axis.set_xlim(0, max(len(devices), 4))
    axis.set_ylim(len(devices) - 0.4, -0.6)
    axis.set_yticks(
        range(len(devices)), [f"{style.shortened(d, 28)}  {k}" for k, d in enumerate(devices, 1)]
    )
    axis.set_xticks(
        [k + 0.5 for k in range(len(devices))], [str(k + 1) for k in range(len(devices))]
    )
    axis.set_xlabel("the device beside it")
    axis.grid(visible=False)
    what = (
        "What a device loses while the other works, in percent of its rate alone: orange, in full colour "
        f"from {100 * full:.0f} % on; blue is a gain. Bold losses are beyond doubt over all pairs."
    )
    simulated = " Simulated, no hardware." if matrix.series.simulated else ""
    return finish(
        figure, f"pairs-{number}", f"Pairs: {name}", f"{what}{simulated} {subset}".rstrip()
    )


def _colour(loss: float, full: float) -> tuple[float, ...]:
    """Return the colour of a loss; none is clear, so that the page shows through."""
    strength = min(abs(loss) / full, 1.0)
    return to_rgba(style.SERIES[1] if loss > 0 else style.SERIES[0], 0.08 + 0.92 * strength)
