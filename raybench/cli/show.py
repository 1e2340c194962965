"""`raybench show`: prints the table of a results folder."""

from __future__ import annotations

from raybench.analysis.repeatability import repeats
from raybench.analysis.scaling import scaling
from raybench.errors import ConfigError
from raybench.report.terminal.table import print_table
from raybench.results.load import load


def command(words: list[str]) -> int:
    """Print the table; return 0.

    Raises:
        ConfigError: unless exactly one folder is named.
    """
    if len(words) != 1:
        raise ConfigError("show takes one results folder. Write: raybench show results")
    folder = words[0]
    rows = load(folder)
    answer = scaling(rows, load(folder, "workers"))
    print_table(answer, trials=repeats(rows), where=f"{folder}/trials (Parquet)")
    return 0
