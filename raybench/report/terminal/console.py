"""Printing to a file or a terminal, in colour, plain text or ASCII as it can take."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

from rich.console import Console

from raybench.report.formatting import TIMES

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import RenderableType

_ASCII = str.maketrans(
    {"✓": "+", "✗": "x", "∅": "o", TIMES: "x", "±": "+-", "─": "-", "·": "|", "▼": "v", "▲": "^"}
)
_PLAIN_WIDTH = 200
"""Width when the output is not a terminal: enough that no cell is cut."""


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
    encoding = getattr(file, "encoding", None) or "utf-8"
    if "utf" not in encoding.lower():
        text = text.translate(_ASCII).encode(encoding, "replace").decode(encoding)
    file.write(text)
