"""Gate: `raybench compare`: two sides named in words, held together, printed; an exit code."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from raybench.analysis.compare import compare
from raybench.errors import ConfigError, nearest
from raybench.report.terminal.comparison import FORMATS, print_comparison
from raybench.results.load import having, load
from raybench.results.storage import is_address

if TYPE_CHECKING:
    import pyarrow as pa

    from raybench.analysis.compare import Comparison

USAGE = (
    "compare takes two sides, each a folder, FOLDER:key=value,... or the id of a run. "
    "Write for example: raybench compare old new, or: "
    "raybench compare results:precision=fp32 results:precision=int8 by=precision"
)
OPTIONS = ("by", "metric", "threshold", "format", "strict", "results.dir")
_FILTER = re.compile(r"\w+=")
_RUN = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")


@dataclass(frozen=True)
class Side:
    """Which rows: those of a folder that every filter lets through.

    Attributes:
        name: as it was written.
        filters: (column of `trials`, value) pairs; `run` stands for the first letters of run_id.
    """

    name: str
    folder: str
    filters: tuple[tuple[str, str], ...]


def gate(words: list[str]) -> int:
    """Compare what the words name and print it; returns the exit code.

    Raises:
        ConfigError: words that name no two sides, or an unknown option, column or value.
        ResultsError: a folder without rows.
        ComparisonRefused: sides that are not alike.
    """
    given = {key: value for key, value in map(_option, words) if key}
    written = [word for word in words if not _option(word)[0]]
    if len(written) != 2:
        raise ConfigError(f"{len(written)} sides were named. {USAGE}")
    form = given.get("format", "table")
    if form not in FORMATS:
        raise ConfigError(f"Unknown format {form!r}. {nearest(form, FORMATS)}")
    strict = _yes(given.get("strict", "false"))
    a, b = (parse(word, given.get("results.dir", "results")) for word in written)
    made = _compared(a, b, given)
    print_comparison(made, form, sys.stdout, strict=strict)
    return made.exit_code(strict)


def _compared(a: Side, b: Side, given: dict[str, str]) -> Comparison:
    return compare(
        read(a),
        read(b),
        by=[name for name in given.get("by", "").strip("[]").split(",") if name],
        metric=given.get("metric", "items_per_s"),
        threshold=_share(given.get("threshold", "0.01")),
        names=(a.name, b.name) if a.name != b.name else ("A", "B"),
        environments=(load(a.folder, "environment"), load(b.folder, "environment")),
    )


def _option(word: str) -> tuple[str, str]:
    """Key and value of an option, with or without dashes; an empty key for anything else."""
    key, equals, value = word.lstrip("-").partition("=")
    if key in OPTIONS and (equals or key == "strict"):
        return key, value if equals else "true"
    if word.startswith("-"):
        raise ConfigError(f"Unknown option {word!r}. {nearest(key, OPTIONS)}")
    return "", ""


def _yes(value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise ConfigError(f"strict takes true or false, not {value!r}.")
    return value.lower() == "true"


def _share(value: str) -> float:
    try:
        return float(value.removesuffix("%")) / (100 if value.endswith("%") else 1)
    except ValueError:
        raise ConfigError(f"threshold takes a share such as 0.01, not {value!r}.") from None


def parse(word: str, usual: str) -> Side:
    """A side as it is written: FOLDER, FOLDER:FILTERS, FILTERS or RUN.

    Args:
        word: FILTERS are key=value pairs apart by commas.
        usual: the folder where none is named.
    """
    if Path(word).exists():
        return Side(word, word, ())
    if _RUN.fullmatch(word):
        return Side(word, usual, (("run", word),))
    folder, colon, rest = word.rpartition(":")
    address = is_address(word) and not _FILTER.match(rest)  # of a store, with options of its own
    if "=" not in rest or address:  # a folder that is not there, or no filter: load says so
        return Side(word, word.removesuffix(":"), ())
    pairs = [pair.partition("=") for pair in rest.split(",")]
    broken = [key for key, equals, _ in pairs if not equals]
    if broken:
        raise ConfigError(f"Filter {broken[0]!r} in {word!r} is not key=value. {USAGE}")
    return Side(
        word, folder if colon and folder else usual, tuple((key, value) for key, _, value in pairs)
    )


def read(side: Side) -> pa.Table:
    """The side's rows of `trials`.

    Raises:
        ConfigError: an unknown column, or a value that no row has.
    """
    rows = load(side.folder)
    for key, value in side.filters:
        rows = having(rows, key, value)
    return rows
