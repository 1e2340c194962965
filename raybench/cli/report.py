"""`raybench report`: writes a page, figures and Markdown from results folders."""

from __future__ import annotations

import sys

from raybench.cli.arguments import parse
from raybench.errors import ConfigError
from raybench.report.analyses import question
from raybench.report.build import report

OPTIONS = ("out", "title", "by", "base", "scaling.mode", "usd_per_device_hour")


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
        print(f"raybench: {note}", file=sys.stderr)
    others = len(written.files) - 1
    print(f"Report  {written.page}")
    print(f"        {others} files beside it: report.md, and figures/ as SVG and PNG")
    return 0
