"""`raybench compare`: compares two sides, which are named in words, and prints the result."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raybench.analysis.compare import compare
from raybench.cli.arguments import parse, parse_format, to_bool, to_share
from raybench.errors import ConfigError
from raybench.report.terminal.comparison import FORMATS, print_comparison
from raybench.results.load import having, load
from raybench.results.storage import is_address
from raybench.text import agreeing, counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

    from raybench.analysis.compare import Comparison

USAGE = (
    "compare takes two sides, each a folder, FOLDER:key=value,... or the id of a run. "
    "Write for example: raybench compare old new, or: "
    "raybench compare results:precision=fp32 results:precision=int8 by=precision"
)
OPTIONS = ("by", "metric", "threshold", "format", "strict", "results.dir")
_FILTER = re.compile(r"\w+=")
_RUN_ID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")


@dataclass(frozen=True)
class RowSelection:
    """The rows of a folder that pass every filter: one side of a comparison.

    Attributes:
        name: as it was written.
        folder: the results folder.
        filters: (column of `trials`, value) pairs; `run` stands for the first letters of run_id.
    """

    name: str
    folder: str
    filters: tuple[tuple[str, str], ...]


def command(words: list[str]) -> int:
    """Compare the named sides and print the result.

    Returns:
        0 without a regression, 1 with one, 3 when undecided and strict.

    Raises:
        ConfigError: unless two sides are named, or for an unknown option, column or value.
        ResultsError: for a folder without rows.
        ComparisonRefused: when the sides differ in what may not differ.
    """
    arguments = parse("compare", words, OPTIONS, switches=("strict",), equals_in_positional=True)
    options = arguments.options
    named = len(arguments.positional)
    if named != 2:
        raise ConfigError(
            f"{counted(named, 'side')} {agreeing(named, 'was', 'were')} named. {USAGE}"
        )
    style = parse_format(options, FORMATS)
    strict = to_bool("strict", options.get("strict", "false"))
    folder = options.get("results.dir", "results")
    a, b = (parse_side(word, folder) for word in arguments.positional)
    comparison = _compare(a, b, options)
    print_comparison(comparison, style, sys.stdout, strict=strict)
    return comparison.exit_code(strict)


def _compare(a: RowSelection, b: RowSelection, options: Mapping[str, str]) -> Comparison:
    return compare(
        read_rows(a),
        read_rows(b),
        by=[name for name in options.get("by", "").strip("[]").split(",") if name],
        metric=options.get("metric", "items_per_s"),
        threshold=to_share("threshold", options.get("threshold", "0.01")),
        names=(a.name, b.name) if a.name != b.name else ("A", "B"),
        environments=(load(a.folder, "environment"), load(b.folder, "environment")),
    )


def parse_side(word: str, default_folder: str) -> RowSelection:
    """Return the rows that a word names: FOLDER, FOLDER:FILTERS, FILTERS or the id of a run.

    Args:
        word: FILTERS are key=value pairs, separated by commas.
        default_folder: the folder where the word names none.

    Raises:
        ConfigError: for a filter that is not key=value.
    """
    if os.path.exists(word):  # Path.exists raises for names that are too long
        return RowSelection(word, word, ())
    if _RUN_ID.fullmatch(word):
        return RowSelection(word, default_folder, (("run", word),))
    folder, filters = _split(word)
    if filters is None:  # a missing folder, which `load` reports
        return RowSelection(word, word.removesuffix(":"), ())
    pairs = [pair.partition("=") for pair in filters.split(",")]
    broken = [key for key, equals, _ in pairs if not equals]
    if broken:
        raise ConfigError(f"Filter {broken[0]!r} in {word!r} is not key=value. {USAGE}")
    return RowSelection(
        word,
        folder or default_folder,
        tuple((key, value) for key, _, value in pairs),
    )


def _split(word: str) -> tuple[str, str | None]:
    """Return folder and filters of a word; None for a word without filters.

    Folders may hold colons, as addresses of buckets do, and values too: "results:model=timm:resnet18".
    """
    begins = [0, *(place + 1 for place, letter in enumerate(word) if letter == ":")]
    begin = next((each for each in reversed(begins) if _FILTER.match(word, each)), None)
    if begin is not None and (begin or not is_address(word)):
        return word[: max(begin - 1, 0)], word[begin:]
    folder, _, rest = word.rpartition(":")
    return (folder, rest) if "=" in rest and not is_address(word) else (word, None)


def read_rows(selection: RowSelection) -> pa.Table:
    """Return the selected rows of `trials`.

    Raises:
        ConfigError: for an unknown column, or a value that no row has.
    """
    rows = load(selection.folder)
    for key, value in selection.filters:
        rows = having(rows, key, value)
    return rows
