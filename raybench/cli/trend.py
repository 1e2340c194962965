"""`raybench trend`: many runs as one data set, the steps in it and what changed at them."""

from __future__ import annotations

import io
import sys
from datetime import date
from typing import TYPE_CHECKING

from raybench.analysis.run_series import ENVIRONMENT
from raybench.analysis.trend import TOLERANCE, trend
from raybench.cli.accept import print_notes, write_file
from raybench.cli.arguments import parse, parse_format, to_bool, to_share
from raybench.config.words import shown
from raybench.errors import ConfigError
from raybench.report.terminal.console import open_console, print_line
from raybench.report.terminal.trend import FORMATS, counts, print_trend
from raybench.results.folders import read_folders

if TYPE_CHECKING:
    from collections.abc import Mapping

OPTIONS = ("by", "metric", "tolerance", "since", "strict", "format", "out")
TABLES = ("trials", "environment")


def command(words: list[str]) -> int:
    """Follow the points of the named folders over their runs and print what changed.

    Returns:
        0 without a regression, 1 with one, 3 when undecided and strict.

    Raises:
        ConfigError: without a folder, for an unknown option or value, or no run with a number.
        ComparisonRefused: a run has two values of a factor in `by` for one point.
        ResultsError: for folders without rows.
    """
    arguments = parse("trend", words, OPTIONS, switches=("strict",))
    options = arguments.options
    if not arguments.positional:
        raise ConfigError("trend takes results folders. Write: raybench trend nightly/*")
    style = parse_format(options, FORMATS)
    strict = to_bool("strict", options.get("strict", "false"))
    tolerance = to_share("tolerance", options.get("tolerance", str(TOLERANCE)))
    since = _since(options)
    by = [name for name in options.get("by", ENVIRONMENT).strip("[]").split(",") if name]
    source = read_folders(list(arguments.positional), TABLES)
    print_notes(source.notes)
    found = trend(
        source.trials,
        source.environment,
        by=by,
        metric=options.get("metric", "items_per_s"),
        tolerance=tolerance,
        since=since,
    )
    if "out" not in options:
        print_trend(found, style, sys.stdout, strict=strict)
        return found.exit_code(strict)
    text = io.StringIO()
    print_trend(found, style, text, strict=strict)
    write_file(options["out"], text.getvalue())
    print_line(open_console(), f"{counts(found)} Written to {options['out']}.")
    return found.exit_code(strict)


def _since(options: Mapping[str, str]) -> date | None:
    """Return the day from which runs count; None for all.

    Raises:
        ConfigError: it is no day.
    """
    if "since" not in options:
        return None
    try:
        return date.fromisoformat(options["since"])
    except ValueError as error:
        raise ConfigError(
            f"since takes a day such as 2026-11-03, not {shown(options['since'])}. Correct the value."
        ) from error
