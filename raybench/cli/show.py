"""`raybench show`: prints the table of a results folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from raybench.analysis.applications import applications
from raybench.analysis.best import best, parse_best
from raybench.analysis.bounded import bounded
from raybench.analysis.cold_start import cold_starts
from raybench.analysis.decoding import decoding
from raybench.analysis.feeding import feeding
from raybench.analysis.interference import interference
from raybench.analysis.packing import packing
from raybench.analysis.power import power
from raybench.analysis.published import SHIPPED, beside_published, read_figures, shipped_figures
from raybench.analysis.repeatability import repeats
from raybench.analysis.scaling import scaling
from raybench.analysis.untrained import untrained_sentence
from raybench.cli.arguments import parse, parse_format
from raybench.cli.compare import parse_side, read_rows
from raybench.errors import ConfigError
from raybench.report.analyses import to_demand, to_rack_power
from raybench.report.terminal.applications import of_applications
from raybench.report.terminal.best import print_best
from raybench.report.terminal.bounded import of_bounds
from raybench.report.terminal.cold_start import of_cold_starts
from raybench.report.terminal.decoding import of_decoding
from raybench.report.terminal.feeding import of_feeding
from raybench.report.terminal.interference import of_pairs
from raybench.report.terminal.packing import of_instances
from raybench.report.terminal.power import of_power
from raybench.report.terminal.published import print_published
from raybench.report.terminal.results import FORMATS, Below, print_results
from raybench.results.load import load
from raybench.text import agreeing, counted

if TYPE_CHECKING:
    from raybench.analysis.published import PublishedRate

OPTIONS = ("format", "columns", "best", "where", "demand", "rack_power_w", "reference")


def command(words: list[str]) -> int:
    """Print the table; return 0.

    Raises:
        ConfigError: unless exactly one folder is named, or for an unknown option, format, column or
            value.
        ResultsError: for a folder without rows.
    """
    arguments = parse("show", words, OPTIONS, equals_in_positional=True)
    named = len(arguments.positional)
    if named != 1:
        raise ConfigError(
            f"show takes one results folder, and {counted(named, 'folder')} "
            f"{agreeing(named, 'was', 'were')} named. Write: raybench show results"
        )
    form = parse_format(arguments.options, FORMATS)
    columns = arguments.options.get("columns", "").strip("[]").replace(" ", "")
    side = parse_side(arguments.positional[0], "results")
    asked = parse_best(arguments.options)
    if asked is not None and columns:
        raise ConfigError("best has columns of its own. Leave columns out, or best and where.")
    written = arguments.options.get("demand")
    demand = None if written is None else to_demand(written)
    rack = arguments.options.get("rack_power_w")
    rack_power_w = None if rack is None else to_rack_power(rack)
    reference = arguments.options.get("reference")
    if reference is not None and (asked is not None or columns):
        raise ConfigError("reference has columns of its own. Leave columns, best and where out.")
    figures = None if reference is None else _figures(reference)
    rows = read_rows(side)
    if reference is not None and figures is not None:
        print_published(beside_published(rows, figures, reference), form, sys.stdout)
        return 0
    if asked is not None:
        print_best(best(rows, *asked), form, sys.stdout)
        return 0
    workers = load(side.folder, "workers")
    print_results(
        scaling(rows, workers),
        form,
        sys.stdout,
        trials=repeats(rows),
        below=Below(
            [
                *of_bounds(bounded(rows), demand),
                *of_instances(packing(rows)),
                *of_feeding(feeding(rows)),
                *of_pairs(interference(rows, workers)),
                *of_power(power(rows), rack_power_w),
                *of_cold_starts(cold_starts(rows)),
                *of_applications(applications(rows)),
                *of_decoding(decoding(rows)),
                *filter(None, [untrained_sentence(rows)]),
            ],
            f"{side.folder}/trials (Parquet)",
        ),
        columns=[name for name in columns.split(",") if name],
    )
    return 0


def _figures(name: str) -> tuple[PublishedRate, ...]:
    """Return published figures, of raybench's own or of a file.

    Raises:
        ConfigError: there is no such file, or it holds something else.
    """
    if name in SHIPPED:
        return shipped_figures(name)
    try:
        text = Path(name).read_text("utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"reference={name} cannot be read ({getattr(error, 'strerror', None) or error}). "
            f"Name {' or '.join(SHIPPED)}, or a CSV file with the columns of docs/results.md."
        ) from error
    return read_figures(text, name)
