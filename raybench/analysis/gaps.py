"""Sentences on what an analysis could not say, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from raybench.analysis.cells import Cell


def without_numbers(cells: Sequence[Cell]) -> tuple[str, ...]:
    """Return a sentence if no cell has a number to analyse."""
    if not cells:
        return ("There are no rows.",)
    if any(cell.ok for cell in cells):
        return ()
    statuses = ", ".join(sorted({cell.status for cell in cells}))
    return (f"No row has a number: {statuses}. See the column reason.",)


def other_methods(cells: Iterable[Cell]) -> tuple[str, ...]:
    """Return a sentence if the rows were measured by more than one version of the method."""
    methods = {cell.series.method_version for cell in cells}
    if len(methods) < 2:
        return ()
    names = ", ".join(sorted(str(version) for version in methods))
    return (f"Rows of methods {names} are not compared.",)


def in_words(value: float) -> str:
    """Write a number for a sentence: at least four digits, thousands separated."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
