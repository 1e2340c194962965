"""`raybench report`: writes a page, figures and Markdown from results folders."""

from __future__ import annotations

import sys

from raybench.cli.arguments import parse
from raybench.errors import ConfigError
from raybench.report.analyses import question
from raybench.report.build import report
from raybench.report.terminal.console import open_console, print_line
from raybench.text import counted

OPTIONS = (
    "out", "title", "by", "base", "scaling.mode", "usd_per_device_hour", "best", "where", "demand",
    "rack_power_w",
)  # fmt: skip


def command(words: list[str]) -> int:
    """Write the report of the named folders and print where it is; return 0.

    Raises:
        ConfigError: without a folder, or for an unknown option or a value it cannot have.
    """
    arguments = parse("report", words, OPTIONS)
    if not arguments.positional:
        raise ConfigError("report takes results folders. Write: raybench report results")
    options = dict(arguments.options)
    out, title = options.pop("out", None), options.pop("title", None)
    written = report(list(arguments.positional), out, title=title, question=question(options))
    for note in written.notes:
        print_line(open_console(sys.stderr), f"raybench: {note}")
    others = counted(len(written.files) - 1, "file")
    console = open_console()
    print_line(console, f"Report  {written.page}")
    print_line(console, f"        {others} beside it: report.md, and figures/ as SVG and PNG")
    return 0
