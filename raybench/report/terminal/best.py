"""Output of `raybench show ... best=... where=...`: the best points under constraints."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.table import Table

from raybench.report.formatting import four_digits, with_half_width
from raybench.report.labels import Naming, factor_value
from raybench.report.symbols import marks_in_words
from raybench.report.terminal.console import emit, lines_of, words, write
from raybench.report.terminal.formats import markdown_text, to_csv, to_json, to_markdown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.analysis.best import Best

EVEN = "~: its interval and that of the best have values in common"


def print_best(answer: Best, form: str, file: IO[str]) -> None:
    """Print the best points in one of `results.FORMATS`."""
    if form == "json":
        facts = {"question": answer.question, "points": answer.as_table().to_pylist(),
                 "missing": list(answer.missing)}  # fmt: skip
        write(to_json(facts), file)
    elif form == "csv":
        write(to_csv(answer.as_table(), file.isatty()), file)
    elif form == "markdown":
        titles, rows = as_text(answer)
        table = to_markdown(titles, [title not in ("model", "verdict") for title in titles], rows)
        notes = "".join(f"\n{markdown_text(note)}\n" for note in answer.missing)
        write(f"{markdown_text(answer.question)}\n\n{table if rows else ''}{notes}", file)
    else:
        emit(lambda width: _rendered(answer), file)


def as_text(answer: Best) -> tuple[list[str], list[list[str]]]:
    """Return titles and cells of the table, with a column for each factor that varies."""
    naming = Naming([point.series for point in answer.points])
    factors = ["model", *(name for name in naming.varying if name != "model")]
    conditions = [condition.column for condition in answer.where]
    titles = ["rank", *factors, "workers", answer.column, *conditions, "trials", "verdict"]
    rows = [
        [
            f"{point.rank}{' ~' if point.even and point.rank > 1 else ''}",
            *(factor_value(name, getattr(point.series, name)) for name in factors),
            four_digits(point.workers),
            with_half_width(point.value),
            *map(four_digits, point.conditions),
            str(point.trials),
            marks_in_words(point.marks) or point.verdict or "",
        ]
        for point in answer.points
    ]
    return titles, rows


def _rendered(answer: Best) -> Group:
    titles, rows = as_text(answer)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for title in titles:
        table.add_column(words(title), overflow="fold")
    for row in rows:
        table.add_row(*map(words, row))
    notes: Sequence[str] = answer.missing
    if any(point.even and point.rank > 1 for point in answer.points):
        notes = (EVEN, *notes)
    head = lines_of([f"{answer.question}, in every trial" if answer.where else answer.question, ""])
    return Group(head, *([table] if rows else []), *([lines_of(["", *notes])] if notes else []))
