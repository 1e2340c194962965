"""Lines below the result table on what devices lose beside each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.report.labels import Naming

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from raybench.analysis.interference import PairMatrix

MOST = 8
"""Devices of a matrix that is printed; a larger one is in the report."""


def of_pairs(matrices: Sequence[PairMatrix]) -> list[str]:
    """Return the finding of each matrix, and its losses where they fit."""
    naming = Naming([matrix.series for matrix in matrices])
    lines = []
    for matrix in matrices:
        mark = " SIMULATED" if matrix.series.simulated else ""
        lines.append(f"{naming.title(matrix.series, 'in pairs')}: {matrix.finding}{mark}")
        lines += _losses(matrix) if len(matrix.devices) <= MOST else []
    return lines


def _losses(matrix: PairMatrix) -> Iterator[str]:
    """Yield a line for each device with what it loses beside each other one."""
    title = "loss in %, beside"
    width = max(len(title) - 3, *map(len, matrix.devices))
    numbers = "".join(f"{k:>8}" for k in range(1, len(matrix.devices) + 1))
    yield f"  {title:<{width + 3}}{numbers}"
    ratio_of = {(loss.device, loss.beside): loss.ratio.value for loss in matrix.losses}
    for number, device in enumerate(matrix.devices, 1):
        ratios = [ratio_of.get((device, other)) for other in matrix.devices]
        # + 0.0 turns a loss of -0.0 into 0.0
        values = "".join(
            "       -" if r is None else f"{round(100 * (1 - r), 1) + 0.0:8.1f}" for r in ratios
        )
        yield f"  {number:>2} {device:<{width}}{values}"
