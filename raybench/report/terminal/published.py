"""Output of `raybench show ... reference=...`: published figures beside the rows."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.table import Table

from raybench.analysis.tables import as_dict
from raybench.report.formatting import four_digits, with_half_width
from raybench.report.symbols import marks_in_words
from raybench.report.terminal.console import emit, words, write
from raybench.report.terminal.formats import markdown_text, to_csv, to_json, to_markdown

if TYPE_CHECKING:
    from rich.console import RenderableType

    from raybench.analysis.published import BesidePublished, Published

_TITLES = ("figure", "published, a device", "here, a device", "here / published", "here")
_RIGHT = (False, True, True, True, False)


def print_published(answer: Published, form: str, file: IO[str]) -> None:
    """Print published figures beside rows in one of `results.FORMATS`."""
    if form == "json":
        write(to_json(as_dict(answer)), file)
    elif form == "csv":
        write(to_csv(answer.as_table(), file.isatty()), file)
    elif form == "markdown":
        table = to_markdown(_TITLES, _RIGHT, [_cells(row) for row in answer.rows])
        below = "".join(f"- {markdown_text(line)}\n" for line in _notes(answer))
        write(f"{table if answer.rows else ''}\n{below}", file)
    else:
        emit(lambda width: _table(answer), file)


def _cells(row: BesidePublished) -> list[str]:
    figure = row.published
    named = [figure.model, figure.device, figure.precision or "precision not said"]
    if figure.batch_size is not None:
        named.append(f"batch {figure.batch_size}")
    here = [f"{row.here_engine}", f"{row.here_precision}", f"batch {row.here_batch_size}"]
    if row.here_devices > 1:
        here.append(f"{row.here_devices} devices")
    here.append("with transfers" if row.here_transfers else "without transfers")
    marks = marks_in_words(row.marks)
    return [
        ", ".join(named),
        four_digits(row.published_per_device),
        with_half_width(row.here_per_device),
        "-" if row.ratio.value is None else f"{row.ratio.value:.3f}",
        ", ".join([*here, *([marks] if marks else [])]),
    ]


def _notes(answer: Published) -> list[str]:
    lines = []
    for row in answer.rows:
        figure = row.published
        facts = [figure.source, figure.date, figure.software, figure.differs]
        if figure.devices > 1:
            facts.append(f"{figure.devices} devices together")
        lines.append(f"{figure.device}: {'; '.join(fact for fact in facts if fact)}")
    common = [answer.common] if answer.common else []
    if answer.rows:
        common.append(
            "Figures stand beside each other and decide nothing: harness, weights and versions differ."
        )
    return [*lines, *common, *answer.missing]


def _table(answer: Published) -> RenderableType:
    below = [words(line) for line in _notes(answer)]
    if not answer.rows:
        return Group(*below)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for title, right in zip(_TITLES, _RIGHT, strict=True):
        table.add_column(title, justify="right" if right else "left", no_wrap=right)
    for row in answer.rows:
        table.add_row(*(words(cell) for cell in _cells(row)))
    return Group(table, words(""), *below)
