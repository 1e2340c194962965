"""Columns of a report's tables; a column without any value is left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from raybench.experiment import LENGTHS
from raybench.report import formatting as write
from raybench.report.document import Column, Table, TableCell
from raybench.report.labels import factor_label
from raybench.report.symbols import marks_in_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from raybench.analysis.estimate import Estimate
    from raybench.analysis.series import Series
    from raybench.report.labels import Naming

Filled = tuple[Column, list[TableCell]]

_TITLES = {
    "batch_size": "batch",
    "inflight": "in flight",
    "memory_limit_bytes": "memory limit",
    "power_limit_w": "power limit",
    "new_tokens": "new tokens",
}


def table(name: str, caption: str, *columns: Filled | None) -> Table:
    """Return a table of the columns that have a value."""
    kept = [filled for filled in columns if filled is not None]
    rows = list(zip(*(cells for _, cells in kept), strict=True))
    return Table(name, caption, [column for column, _ in kept], rows)


def factors(naming: Naming, series: Sequence[Series]) -> list[Filled]:
    """Return a column for every factor that differs, or for the model if none does."""
    names = naming.varying or ("model",)
    return [_factor(name, series) for name in names]


def _factor(name: str, series: Sequence[Series]) -> Filled:
    values = [getattr(one, name) for one in series]
    title = _TITLES.get(name, name.replace("_", " "))
    if name in ("batch_size", "inflight", *LENGTHS):
        cells = [TableCell(write.fixed(value, 0)) for value in values]
        return Column(title, kind="count"), cells
    unknown = "none" if name == "memory_limit_bytes" else write.NONE
    texts = [unknown if value is None else factor_label(name, value) for value in values]
    return Column(title, kind="factor"), [
        TableCell(text.removeprefix("memory limit ").removeprefix("limited to ")) for text in texts
    ]


def counts(title: str, values: Sequence[int | None]) -> Filled:
    """Return a column of integers by which a reader can filter."""
    return Column(title, kind="count"), [TableCell(write.fixed(v, 0)) for v in values]


def numbers(
    title: str, unit: str, values: Sequence[float | None], digits: int = 3
) -> Filled | None:
    """Return a column of measured values with aligned decimals; None if all are unknown."""
    if all(value is None for value in values):
        return None
    texts = write.column(values, digits)
    return Column(title, unit, "number"), [
        TableCell("" if v is None else t) for t, v in zip(texts, values, strict=True)
    ]


def fixed(
    title: str, unit: str, values: Sequence[float | None], places: int, factor: float = 1.0
) -> Filled | None:
    """Return a column of values with this many decimals; None if all are unknown."""
    if all(value is None for value in values):
        return None
    scaled = [None if value is None else value * factor for value in values]
    return Column(title, unit, "number"), [
        TableCell("" if v is None else write.fixed(v, places)) for v in scaled
    ]


def bounds(title: str, estimates: Sequence[Estimate], places: int) -> Filled | None:
    """Return a column with the bounds of the estimates; None if there are none."""
    if not any(estimate.has_interval for estimate in estimates):
        return None
    texts = [
        "" if lo is None or hi is None else write.interval(lo, hi, places)
        for _, lo, hi in estimates
    ]
    return Column(title, kind="interval"), [TableCell(text) for text in texts]


def half_widths(estimates: Sequence[Estimate]) -> Filled | None:
    """Return a column with half of each interval in percent of its value."""
    return fixed("±", "%", [estimate.relative_width for estimate in estimates], 1, 50)


def texts(
    title: str, values: Iterable[str | None], kind: Literal["text", "factor"] = "text"
) -> Filled | None:
    """Return a column of text; None if there is none."""
    cells = [TableCell(value or "") for value in values]
    return (Column(title, kind=kind), cells) if any(cell.text for cell in cells) else None


def repeats(items: Sequence[Any]) -> Filled:
    """Return a column with the number of trials of each item."""
    return Column("trials", kind="number"), [TableCell(str(i.trials)) for i in items]


def verdict(item: Any) -> str:
    """Return the verdict of an item with a number, else its status."""
    return (item.verdict or "ok") if item.status == "ok" else item.status


def verdicts(items: Sequence[Any]) -> Filled:
    """Return a column with the verdict or status of each item and its marks."""
    return Column("verdict", kind="verdict"), [TableCell(verdict(i), marks=i.marks) for i in items]


def marks(items: Sequence[Any]) -> Filled | None:
    """Return a column with the marks of each item; None if there are none."""
    return texts("marks", [marks_in_words(item.marks) for item in items])


def drawings(title: str, values: Sequence[str]) -> Filled | None:
    """Return a column of SVG drawings; None if there are none."""
    if not any(values):
        return None
    return Column(title, kind="drawing"), [TableCell("", drawing=value) for value in values]
