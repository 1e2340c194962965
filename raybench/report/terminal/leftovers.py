"""Output of `raybench clean`: what runs that have ended left on this machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import IO, TYPE_CHECKING

from raybench.report.formatting import four_digits
from raybench.report.terminal.console import open_console, print_line, write
from raybench.report.terminal.formats import csv_text, to_json, to_markdown
from raybench.text import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

FORMATS = ("table", "markdown", "json", "csv")


@dataclass(frozen=True)
class Leftover:
    """Something that a run, or a process of it, has left.

    Attributes:
        what: it is.
        where: its path.
        size_bytes: of all files in it.
        why: nobody needs it any more.
        removed: whether it is gone now.
    """

    what: str
    where: str
    size_bytes: int
    why: str
    removed: bool = False


def print_leftovers(
    found: Sequence[Leftover], notes: Sequence[str], form: str, file: IO[str]
) -> None:
    """Print a list of leftovers.

    Args:
        found: what is or was there.
        notes: lines for people, after a table.
        form: one of `FORMATS`.
        file: the output.
    """
    if form == "json":
        write(to_json([asdict(one) for one in found]), file)
    elif form == "csv":
        names = list(Leftover.__dataclass_fields__)
        write(csv_text(names, [list(asdict(one).values()) for one in found], file.isatty()), file)
    elif form == "markdown":
        right = [False, False, True, False]
        write(to_markdown(("what", "where", "size", "why"), right, map(_cells, found)), file)
    else:
        console = open_console(file)
        for line in (*_lines(found), *notes):
            print_line(console, line)


def _lines(found: Sequence[Leftover]) -> list[str]:
    """Return a line for each, with its path last but one and whole, so that it can be copied."""
    widest = max((len(one.what) for one in found), default=0)
    return [
        f"{one.what:<{widest}}  {size(one.size_bytes):>10}  {one.where}  ({one.why})"
        for one in found
    ]


def _cells(one: Leftover) -> list[str]:
    return [one.what, one.where, size(one.size_bytes), one.why]


def size(size_bytes: int) -> str:
    """Return a size for people: "812 bytes", "1.800 MiB"."""
    if size_bytes < 1024:
        return counted(size_bytes, "byte")
    value, unit = size_bytes / 1024, "KiB"
    for larger in ("MiB", "GiB", "TiB"):
        if value >= 1024:
            value, unit = value / 1024, larger
    return f"{four_digits(value)} {unit}"
