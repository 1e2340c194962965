"""Output of `raybench show`: the table of a results folder for people, pages and programs."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any, NamedTuple

from rich import box
from rich.table import Table

from raybench.analysis.tables import as_dict
from raybench.errors import ConfigError, nearest
from raybench.report.formatting import four_digits
from raybench.report.terminal.console import emit, words, write
from raybench.report.terminal.formats import markdown_text, to_csv, to_json, to_markdown
from raybench.report.terminal.point_names import PointNames, of_trials
from raybench.report.terminal.table import as_plain, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from raybench.analysis.repeatability import Repeat
    from raybench.analysis.scaling import Scaling

FORMATS = ("table", "markdown", "json", "csv")


class Below(NamedTuple):
    """What stands below a table.

    Attributes:
        bounds: what the points serve under a latency bound, in lines.
        where: the rows are.
    """

    bounds: Sequence[str] = ()
    where: str = ""


NOTHING_BELOW = Below()


def print_results(
    scaling: Scaling,
    form: str,
    file: IO[str],
    *,
    trials: Sequence[Repeat] = (),
    below: Below = NOTHING_BELOW,
    columns: Sequence[str] = (),
) -> None:
    """Print the table of a folder.

    Args:
        scaling: its points.
        form: one of `FORMATS`.
        file: the output.
        trials: how well its trials repeat.
        below: what stands below a table.
        columns: of `Scaling.as_table` to print instead of the usual ones.

    Raises:
        ConfigError: for an unknown column.
    """
    if form == "table" and not columns:
        print_table(scaling, file, trials=trials, bounds=below.bounds, where=below.where)
        return
    rows = _selected(scaling.as_table(), columns)
    if form == "table":
        emit(lambda width: _table(rows), file)
    elif form == "csv":
        write(to_csv(rows, file.isatty()), file)
    elif form == "json":
        write(to_json(_facts(scaling, rows, trials)), file)
    elif columns:
        write(to_markdown(rows.column_names, _right(rows), _texts(rows)), file)
    else:
        write(_markdown(scaling, trials), file)


def _selected(rows: pa.Table, columns: Sequence[str]) -> pa.Table:
    for name in columns:
        if name not in rows.column_names:
            raise ConfigError(f"Unknown column {name!r}. {nearest(name, rows.column_names)}")
    return rows.select(list(columns)) if columns else rows


def _facts(scaling: Scaling, rows: pa.Table, trials: Sequence[Repeat]) -> dict[str, Any]:
    return {
        "points": rows.to_pylist(),
        "curves": [as_dict(curve) for curve in scaling.curves],
        "repeatability": [as_dict(repeat) for repeat in trials],
        "missing": list(scaling.missing),
    }


def _markdown(scaling: Scaling, trials: Sequence[Repeat]) -> str:
    plain = as_plain(scaling)
    table = to_markdown(plain.titles, plain.right, plain.rows) if plain.rows else ""
    notes = [*plain.notes, *of_trials(trials, PointNames(scaling.entries))]
    caption = f"{markdown_text(plain.caption)}\n\n" if plain.caption else ""
    return caption + table + "".join(f"\n{markdown_text(note)}\n" for note in notes)


def _table(rows: pa.Table) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name, right in zip(rows.column_names, _right(rows), strict=True):
        table.add_column(words(name), justify="right" if right else "left", overflow="fold")
    for row in _texts(rows):
        table.add_row(*map(words, row))
    return table


def _right(rows: pa.Table) -> list[bool]:
    return [str(field.type).startswith(("int", "double", "float")) for field in rows.schema]


def _texts(rows: pa.Table) -> list[list[str]]:
    return [[_text(value) for value in row.values()] for row in rows.to_pylist()]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or isinstance(value, (int, float)):
        return four_digits(value)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
