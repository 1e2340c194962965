"""table: the terminal's last word, one line for each number of workers of each series."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, TypeAlias

from rich import box
from rich.console import Console, Group
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from raybench.analysis.grouping import BETWEEN, WITHIN
from raybench.analysis.series import SERIES
from raybench.report.labels import device_name
from raybench.report.symbols import FAILED_GLYPH, GLYPHS, OUTCOME_GLYPH, OUTCOMES

if TYPE_CHECKING:
    from rich.console import RenderableType

    from raybench.analysis.curves import Curve
    from raybench.analysis.repeatability import Repeat
    from raybench.analysis.scaling import Scaling

Row: TypeAlias = Mapping[str, Any]

_COLOURS = {"stable": "green", "unverified": "yellow", "unstable": "magenta"}
_TIMES = "\N{MULTIPLICATION SIGN}"
_OVER_FP32 = f"{_TIMES} fp32"
_ASCII = str.maketrans(
    {"✓": "+", "✗": "x", "∅": "o", _TIMES: "x", "±": "+-", "─": "-", "·": "|", "▼": "v", "▲": "^"}
)
_PLAIN_WIDTH = 200
"""Of what is no terminal: wide enough that no cell is cut."""
MANY = 1000
"""Trials: more than that is no advice."""
_LEAVE_OUT = ("slowest", "p50 ms", "dB to fp32", "over alone", "efficiency", _OVER_FP32)
"""Columns that a narrow terminal does without, first to go first."""


def render(made: Scaling, width: int) -> RenderableType:
    """The table of a scaling analysis, at most `width` cells wide.

    What does not vary stands once above the table; what the curves say and why a row has no
    number, below it.
    """
    entries: list[Row] = made.as_table().to_pylist()
    if not entries:
        return Text("No rows.")
    varying = [name for name in SERIES if len(_values(entries, name)) > 1]
    factors = ["model", *(name for name in varying if name != "model")]
    columns = _columns(entries, factors)
    table = _table(entries, columns)
    left_out = []
    for title in _LEAVE_OUT:
        if title in columns and _natural_width(table) > width:
            del columns[title]
            left_out.append(title)
            table = _table(entries, columns)
    if _natural_width(table) > width:
        for column in table.columns:
            column.width = None  # words may wrap
    return Group(
        *_caption(entries, [name for name in SERIES if name not in factors]),
        table,
        *_legend(entries, left_out),
        *_curves(made.curves, factors),
        *_reasons(entries, factors),
    )


def print_table(
    made: Scaling,
    file: IO[str] | None = None,
    *,
    trials: Sequence[Repeat] = (),
    where: str | None = None,
    next_steps: Sequence[str] = (),
) -> None:
    """Print the table, what several trials tell, where the rows are and what to do next.

    Plain text unless to a terminal.
    """

    def content(width: int) -> Group:
        parts: list[RenderableType] = [render(made, width)]
        if trials:
            parts.append(Text("\n".join(["", *of_trials(trials)])))
        if where or next_steps:
            parts.append(closing(where, next_steps))
        return Group(*parts)

    emit(content, sys.stdout if file is None else file)


def emit(content: Callable[[int], RenderableType], file: IO[str]) -> None:
    """Print what `content` makes of a width; plain text, and ASCII where it must be."""
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


def of_trials(found: Sequence[Repeat]) -> list[str]:
    """Precision within a trial and reproducibility between trials, a line for each place."""
    lines = []
    for each in found:
        home = each.series
        needed = f"{each.needed:,} trials" if each.needed < MANY else f"over {MANY:,} trials"
        lines.append(
            f"{home.model} {home.precision} batch {home.batch_size} x{each.workers}: one trial "
            f"claims ± {100 * each.within:.2f} % for itself; {each.trials} trials differ by "
            f"{100 * each.spread:.2f} % (standard deviation); {needed} would give ± 0.50 %"
        )
    return ["Precision within a trial, reproducibility between trials", *lines] if lines else []


def closing(where: str | None, next_steps: Sequence[str]) -> Text:
    """Where the rows are, and what to do next; begins with an empty line."""
    lines = [f"Rows  {where}"] if where else []
    lines += [f"{'      ' if i else 'Next  '}{step}" for i, step in enumerate(next_steps)]
    return Text("\n".join(["", *lines]))


def _columns(
    entries: Sequence[Row], factors: Sequence[str]
) -> dict[str, Callable[[Row], str | Text]]:
    """Title -> cell; measured columns only where at least one row has them."""
    columns: dict[str, Callable[[Row], str | Text]] = {
        name: (lambda entry, name=name: factor(name, entry[name]))  # type: ignore[misc]
        for name in factors
    }
    columns["workers"] = lambda entry: number(entry["workers"])
    measured: dict[str, tuple[str, Callable[[Row], str]]] = {
        "items/s": ("items_per_s", _rate),
        "speedup": ("speedup", lambda entry: _times(entry, "speedup")),
        "efficiency": ("efficiency", lambda entry: f"{100 * entry['efficiency']:.1f} %"),
        "over alone": ("solo_speedup", lambda entry: _times(entry, "solo_speedup")),
        "slowest": ("slowest_worker", _slowest),
        "p50 ms": ("latency_p50_ms", lambda entry: number(entry["latency_p50_ms"])),
        "p99 ms": ("latency_p99_ms", lambda entry: number(entry["latency_p99_ms"])),
        _OVER_FP32: ("over_fp32", lambda entry: _times(entry, "over_fp32")),
        "dB to fp32": ("fidelity_sqnr_db", lambda entry: f"{entry['fidelity_sqnr_db']:.1f}"),
    }
    if all(entry["workers"] == entry["base_workers"] for entry in entries if entry["base_workers"]):
        del measured["speedup"], measured["efficiency"]
    for title, (name, cell) in measured.items():
        if any(entry[name] is not None and cell(entry) for entry in entries):
            columns[title] = lambda entry, name=name, cell=cell: (  # type: ignore[misc]
                "" if entry[name] is None else cell(entry)
            )
    columns["verdict"] = _verdict
    return columns


def _table(entries: Sequence[Row], columns: Mapping[str, Callable[[Row], str | Text]]) -> Table:
    """Every column as wide as its widest cell: rich would measure each cell several times."""
    found = {title: [_text(cell(entry)) for entry in entries] for title, cell in columns.items()}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for title, cells in found.items():
        words = title in SERIES and title not in ("batch_size", "inflight", "memory_limit_bytes")
        left = words or title == "verdict"
        table.add_column(
            Text(title),
            justify="left" if left else "right",
            no_wrap=not words,
            width=max(cell.cell_len for cell in (Text(title), *cells)),
        )
    before = None
    for entry, row in zip(entries, zip(*found.values(), strict=True), strict=True):
        if before is not None and entry["model"] != before:
            table.add_section()
        before = entry["model"]
        table.add_row(*row)
    return table


def _text(cell: str | Text) -> Text:
    return Text(cell) if isinstance(cell, str) else cell  # names, no markup


def _natural_width(table: Table) -> int:
    console = Console(width=10_000)
    return Measurement.get(console, console.options, table).maximum


def _values(entries: Sequence[Row], name: str) -> list[Any]:
    """What a factor has been; a trial that ended early only did not learn its device or library."""
    values = dict.fromkeys(entry[name] for entry in entries)
    if name in ("device", "engine_version"):
        values.pop(None, None)
    return list(values)


def _caption(entries: Sequence[Row], names: Sequence[str]) -> list[Text]:
    """What is the same in every row, in one line."""
    same = [
        f"{name} {factor(name, value)}"
        for name in names
        for value in _values(entries, name)
        if value not in (None, "{}")
        and name not in ("environment_id", "simulated", "method_version")
    ]
    return [Text(" · ".join(same)), Text("")] if same else []


def _legend(entries: Sequence[Row], left_out: Sequence[str]) -> list[Text]:
    lines = []
    bases = sorted({e["base_workers"] for e in entries if e["base_workers"] is not None})
    if bases and any(e["speedup"] not in (None, 1.0) for e in entries):
        base = " or ".join(f"{n} worker{'s' if n > 1 else ''}" for n in bases)
        lines.append(f"speedup: against {base} of the same series")
    kinds = {entry["interval"] for entry in entries}
    if any(e["solo_speedup"] is not None for e in entries):
        lines.append("over alone: against the mean of the same devices each alone")
    if any(e["slowest_worker"] and "imbalance" in e["flags"] for e in entries):
        lines.append("slowest: its rate over the mean of all workers")
    if BETWEEN in kinds:
        trials = sorted({e["trials"] for e in entries if e["interval"] == BETWEEN})
        lines.append(f"±: 95 %, between {' or '.join(map(str, trials))} trials")
    if WITHIN in kinds:
        lines.append("±: 95 % CI within one trial; excludes run-to-run variation")
    if any(entry["simulated"] for entry in entries):
        lines.append("SIMULATED: timings come from a model, not from hardware")
    if left_out:
        lines.append(f"left out for want of width: {', '.join(left_out)}")
    return [Text(""), *(Text(line, style="dim") for line in lines)] if lines else []


def _curves(curves: Sequence[Curve], factors: Sequence[str]) -> list[Text]:
    """What each curve says as a whole, and what holds its largest point back."""
    lines = []
    for curve in curves:
        told = [f"{name} {factor(name, getattr(curve.series, name))}" for name in factors[1:]]
        lines.append(f"{', '.join([curve.series.model or '-', *told])}: {curve.finding}")
        last = [bound for bound in curve.bounds if bound.workers == curve.workers[-1]]
        lines += [f"  bound by {bound.what}: {bound.evidence}" for bound in last]
    return [Text(""), *(Text(line) for line in lines)] if lines else []


def _reasons(entries: Sequence[Row], factors: Sequence[str]) -> list[Text]:
    """A line on each row without a number."""
    lines = []
    for entry in entries:
        if entry["status"] != "ok":
            who = [f"{name} {factor(name, entry[name])}" for name in factors[1:]]
            where = ", ".join([entry["model"] or "-", *who, f"workers {number(entry['workers'])}"])
            count = f" ({entry['trials']} trials)" if entry["trials"] > 1 else ""
            lines.append(f"{where}: {entry['status']}{count}. {entry['reason'] or ''}".rstrip())
    return [Text(""), *(Text(line) for line in lines)] if lines else []


def factor(name: str, value: Any) -> str:
    """A factor's value as a reader writes it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "on" if value else "off"
    if name == "memory_limit_bytes":
        return f"{value / 2**20:,.0f} MiB"
    if name == "device":
        return device_name(value)
    return str(value)[:8] if name == "environment_id" else str(value)


def _verdict(entry: Row) -> Text:
    """Glyph and word; what was simulated says so."""
    status, verdict = entry["status"], entry["verdict"]
    if status == "ok":
        glyph, word, colour = GLYPHS.get(verdict, " "), verdict or "ok", _COLOURS.get(verdict, "")
    elif status in OUTCOMES:
        glyph, word, colour = OUTCOME_GLYPH, status, "cyan"
    else:
        glyph, word, colour = FAILED_GLYPH, status, "red"
    mark = " SIMULATED" if entry["simulated"] else ""
    return Text(f"{glyph} {word}{mark}", style=colour)


def _slowest(entry: Row) -> str:
    """The slowest worker, where one stood out: the flag says so."""
    if "imbalance" not in entry["flags"]:
        return ""
    return f"{entry['slowest_worker']} ({100 * entry['slowest_share']:.1f} %)"


def _rate(entry: Row) -> str:
    mean, lo, hi = entry["items_per_s"], entry["items_per_s_lo"], entry["items_per_s_hi"]
    if lo is None or hi is None or not mean:
        return number(mean)
    return f"{number(mean)} ± {50 * (hi - lo) / mean:.1f} %"


def _times(entry: Row, name: str) -> str:
    """A ratio: to 3 decimals as it stands, to 2 with its interval."""
    value, lo, hi = entry[name], entry[f"{name}_lo"], entry[f"{name}_hi"]
    if lo is None or hi is None:
        return f"{value:.3f}{_TIMES}"
    return f"{value:.2f}{_TIMES} [{lo:.2f}, {hi:.2f}]"


def number(value: float | None) -> str:
    """Four digits at least, thousands apart; a zero at the end is a digit, too."""
    if value is None:
        return "-"
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:#.4g}".rstrip(".")
