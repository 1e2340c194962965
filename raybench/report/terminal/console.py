"""The door to the terminal: in colour, plain text or ASCII as the output can take.

Every word that is printed passes `words` or `print_line`, which make it safe; `rich.text.Text` and
`rich.console.Console` are made nowhere else.
"""

from __future__ import annotations

import sys
from typing import IO, TYPE_CHECKING, Any, cast

from rich.console import Console
from rich.text import Text

from raybench.report.formatting import TIMES
from raybench.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rich.console import RenderableType

_ASCII = str.maketrans(
    {"✓": "+", "✗": "x", "∅": "o", TIMES: "x", "±": "+-", "─": "-", "·": "|", "▼": "v", "▲": "^",
     "…": "...", "\N{EN DASH}": "-"}
)  # fmt: skip
_PLAIN_WIDTH = 10_000
"""Width when the output is not a terminal: no cell is cut and no line is broken."""


class _NarrowFile:
    """A text file that writes in ASCII what its encoding lacks.

    Args:
        file: with an encoding other than UTF.
    """

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, text: str) -> int:
        """Write the text; a character that has no likeness becomes a question mark."""
        return self._file.write(_narrowed(text, self._file))


def open_console(file: IO[str] | None = None) -> Console:
    """Return a console on a file; None is the standard output."""
    file = sys.stdout if file is None else file
    return Console(file=cast("IO[str]", _NarrowFile(file)), highlight=False, force_jupyter=False)


def print_line(console: Console, line: str, style: str = "") -> None:
    """Print one line, however long it is."""
    console.print(words(line, style), soft_wrap=True)


def print_rendered(console: Console, content: RenderableType) -> None:
    """Print a table of words."""
    console.print(content)


def words(text: str, style: str = "") -> Text:
    """Return words to print, as they are: no markup, on one line, nothing a terminal obeys."""
    return Text(printable(text), style)


def lines_of(lines: Iterable[str], style: str = "") -> Text:
    """Return lines to print below each other, each as `words` returns it."""
    return Text("\n", style).join(words(line) for line in lines)


def emit(content: Callable[[int], RenderableType], file: IO[str]) -> None:
    """Print what `content` returns for a width.

    Without colours unless to a terminal, and in ASCII where the file's encoding requires it.
    """
    terminal = file.isatty()
    console = Console(
        file=file,
        force_terminal=terminal,
        force_jupyter=False,
        color_system="auto" if terminal else None,
        width=None if terminal else _PLAIN_WIDTH,
        highlight=False,
    )
    with console.capture() as captured:
        console.print(content(console.width))
    text = "\n".join(line.rstrip() for line in captured.get().split("\n"))
    write(text, file)


def write(text: str, file: IO[str]) -> None:
    """Write text that has been made safe to print."""
    file.write(_narrowed(text, file))


def _narrowed(text: str, file: IO[str]) -> str:
    encoding = getattr(file, "encoding", None) or "utf-8"
    if "utf" in encoding.lower():
        return text
    return text.translate(_ASCII).encode(encoding, "replace").decode(encoding)
