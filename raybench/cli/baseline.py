"""`raybench baseline`: writes what a sound device reaches, for `raybench accept` to compare with."""

from __future__ import annotations

from raybench.analysis.rate_baseline import to_baseline_file, write_json
from raybench.analysis.series import SERIES, Series, device_name
from raybench.cli.accept import TABLES, print_notes, write_file
from raybench.cli.arguments import parse
from raybench.errors import ConfigError
from raybench.report.formatting import four_digits
from raybench.report.labels import Naming
from raybench.report.terminal.console import open_console, print_line
from raybench.results.folders import read_folders
from raybench.text import counted
from raybench.version import __version__

OPTIONS = ("out",)


def command(words: list[str]) -> int:
    """Write the baseline of the named folders; return 0.

    Raises:
        ConfigError: without a folder or a file, for an unknown option, or rows of single trials.
        ResultsError: for folders without rows.
    """
    arguments = parse("baseline", words, OPTIONS)
    if not arguments.positional or "out" not in arguments.options:
        raise ConfigError(
            "baseline takes results folders and a file. Write: raybench baseline results "
            "out=h200.json"
        )
    source = read_folders(list(arguments.positional), TABLES)
    print_notes(source.notes)
    baseline = to_baseline_file(source.trials, source.workers, source.environment, __version__)
    name = arguments.options["out"]
    write_file(name, write_json(baseline))
    devices = max(rate.devices for rate in baseline.rates)
    console = open_console()
    every = [Series(*(rate.series.get(factor) for factor in SERIES)) for rate in baseline.rates]
    naming = Naming(every)
    print_line(
        console,
        f"{name}: {counted(len(baseline.rates), 'rate')} of up to {counted(devices, 'device')}; "
        f"{naming.same}",
    )
    for rate, series in zip(baseline.rates, every, strict=True):
        reach = 50 * (rate.items_per_s_hi - rate.items_per_s_lo) / rate.items_per_s
        print_line(
            console,
            f"  {device_name(str(rate.product))}, {naming.title(series)}, {rate.situation}: "
            f"{four_digits(rate.items_per_s)} items/s ± {reach:.1f} %, "
            f"{counted(rate.devices, 'device')}, {counted(rate.trials, 'trial')} each",
        )
    return 0
