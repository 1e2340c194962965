"""`raybench accept`: a verdict on every device, against the others and against a baseline."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from raybench.analysis.acceptance import TOLERANCE, accept
from raybench.analysis.rate_baseline import RateBaseline, read_json
from raybench.cli.arguments import parse, parse_format, to_share
from raybench.errors import ConfigError
from raybench.paths import write_atomically
from raybench.report.fleet_lines import closing
from raybench.report.terminal.acceptance import FORMATS, print_acceptance
from raybench.report.terminal.console import open_console, print_line
from raybench.results.folders import read_folders

if TYPE_CHECKING:
    from collections.abc import Sequence

OPTIONS = ("baseline", "tolerance", "format", "out")
TABLES = ("trials", "workers", "environment")


def command(words: list[str]) -> int:
    """Judge the devices of the named folders and print the verdicts.

    Returns:
        0 when every device is accepted, 1 when one is rejected, 3 when one is undecided.

    Raises:
        ConfigError: without a folder, for an unknown option or value, or a baseline that does not fit.
        ResultsError: for folders without rows.
    """
    arguments = parse("accept", words, OPTIONS)
    options = arguments.options
    if not arguments.positional:
        raise ConfigError("accept takes results folders. Write: raybench accept results")
    style = parse_format(options, FORMATS)
    tolerance = to_share("tolerance", options.get("tolerance", str(TOLERANCE)))
    baseline = read_baseline(options["baseline"]) if "baseline" in options else None
    source = read_folders(list(arguments.positional), TABLES)
    print_notes(source.notes)
    acceptance = accept(
        source.trials, source.workers, source.environment, baseline=baseline, tolerance=tolerance
    )
    if "out" not in options:
        print_acceptance(acceptance, style, sys.stdout)
        return acceptance.exit_code
    text = io.StringIO()
    print_acceptance(acceptance, style, text)
    write_file(options["out"], text.getvalue())
    print_line(open_console(), f"{closing(acceptance)[0]} Written to {options['out']}.")
    return acceptance.exit_code


def read_baseline(name: str) -> RateBaseline:
    """Return the baseline of a file.

    Raises:
        ConfigError: there is no such file, or it is no baseline.
    """
    try:
        text = Path(name).read_text("utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"baseline={name} cannot be read ({getattr(error, 'strerror', None) or error}). "
            "Write one with raybench baseline DIR out=FILE."
        ) from error
    return read_json(text, name)


def write_file(name: str, text: str) -> None:
    """Write a text at once or not at all.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        write_atomically(Path(name), text.encode("utf-8", "replace"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"out={name} cannot be written ({getattr(error, 'strerror', None) or error}). "
            "Name another file."
        ) from error


def print_notes(notes: Sequence[str]) -> None:
    """Print what could not be read of the folders."""
    console = open_console(sys.stderr)
    for note in notes:
        print_line(console, f"raybench: {note}")
