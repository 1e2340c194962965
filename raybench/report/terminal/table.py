"""The result table of a run: one line for each number of workers of each series."""

from __future__ import annotations

import io
import sys
from typing import IO, TYPE_CHECKING, NamedTuple, TypeAlias

from rich import box
from rich.console import Group
from rich.measure import Measurement
from rich.table import Table

from raybench.analysis.grouping import BETWEEN, BUILDS, WITHIN
from raybench.analysis.series import SERIES
from raybench.experiment import AS_IS, CLOSED, SYNTHETIC
from raybench.report.formatting import TIMES, four_digits, ratio, with_half_width
from raybench.report.labels import factor_value, part_in_int8, workers_label
from raybench.report.symbols import FAILED_GLYPH, GLYPHS, OUTCOME_GLYPH, OUTCOMES
from raybench.report.terminal.bounds import device_use
from raybench.report.terminal.builds import build_spreads
from raybench.report.terminal.console import emit, lines_of, open_console, words
from raybench.report.terminal.point_names import PointNames, of_trials
from raybench.text import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rich.console import RenderableType
    from rich.text import Text

    from raybench.analysis.curves import Curve, ScalingEntry
    from raybench.analysis.repeatability import Repeat
    from raybench.analysis.scaling import Scaling

_Writer: TypeAlias = "Callable[[ScalingEntry], str | Text]"
"""Writes one cell of a row; empty where the entry lacks the value."""

_COLOURS = {"stable": "green", "unverified": "yellow", "unstable": "magenta"}
_OVER_FP32 = f"{TIMES} fp32"
_IN_8_BITS = "8-bit MACs"
NARROWEST_NAME = 12
"""Cells that a wrapped name keeps."""
_USUAL = (("instances", 1), ("mps", False), ("pipeline", "none"))
"""Values of factors that need no word."""
_LEAVE_OUT = ("slowest", "p50 ms", "dB to fp32", "over alone", "efficiency", _OVER_FP32)
"""Columns to leave out on a narrow terminal, the first one first."""


def render(scaling: Scaling, width: int) -> RenderableType:
    """Return the table of a scaling analysis, at most `width` cells wide.

    Factors that do not vary are listed once above the table; below it follow what the curves
    show and why a row has no number.
    """
    entries = scaling.entries
    if not entries:
        return words("No rows.")
    names = PointNames(entries)
    columns = _columns(entries, names.factors)
    table = _table(entries, columns)
    left_out = []
    for title in _LEAVE_OUT:
        if title in columns and _natural_width(table) > width:
            del columns[title]
            left_out.append(title)
            table = _table(entries, columns)
    fits = _natural_width(table) <= width or _names_wrapped(table, width)
    return Group(
        *_caption(entries, names.factors),
        table if fits else lines_of(_without_columns(entries, names)),
        *_legend(entries, columns, left_out),
        *_curves(scaling.curves, names),
        *build_spreads(entries, names),
        *device_use(scaling, names),
        *_reasons(entries, names),
    )


def _names_wrapped(table: Table, width: int) -> bool:
    """Let names wrap so that the table fits; return False where too little would be left of them."""
    for column in table.columns:
        if not column.no_wrap:
            column.width = min(column.width or 0, NARROWEST_NAME)
    if _natural_width(table) > width:
        return False
    for column in table.columns:
        if not column.no_wrap:
            column.min_width, column.width = column.width, None
    return True


def _without_columns(entries: Sequence[ScalingEntry], names: PointNames) -> list[str]:
    """Return a line for each row, for a terminal too narrow for the table."""
    lines = []
    for entry in entries:
        rate = f"{with_half_width(entry.items_per_s)} items/s " if entry.items_per_s.value else ""
        lines.append(f"{names.point(entry.series, entry.workers)}: {rate}{_verdict(entry)}")
    return lines


class PlainTable(NamedTuple):
    """The table as plain text.

    Attributes:
        caption: what all rows share.
        titles: of the columns.
        right: which columns are aligned to the right.
        rows: cells.
        notes: what is below the table, a line each.
    """

    caption: str
    titles: Sequence[str]
    right: Sequence[bool]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]


def as_plain(scaling: Scaling) -> PlainTable:
    """Return the whole table as plain text."""
    entries = scaling.entries
    if not entries:
        return PlainTable("", (), (), (), ("No rows.",))
    names = PointNames(entries)
    columns = _columns(entries, names.factors)
    below = (
        *_legend(entries, columns, ()),
        *_curves(scaling.curves, names),
        *build_spreads(entries, names),
        *device_use(scaling, names),
        *_reasons(entries, names),
    )
    return PlainTable(
        "".join(line.plain for line in _caption(entries, names.factors)),
        tuple(columns),
        [_is_right(title) for title in columns],
        [[_text(cell(entry)).plain for cell in columns.values()] for entry in entries],
        [line.plain for line in below if line.plain],
    )


def print_table(
    scaling: Scaling,
    file: IO[str] | None = None,
    *,
    trials: Sequence[Repeat] = (),
    bounds: Sequence[str] = (),
    where: str | None = None,
    next_steps: Sequence[str] = (),
) -> None:
    """Print the table, how well trials repeat, what keeps a latency bound, where the rows are and what to do next.

    Plain text unless to a terminal.
    """

    def content(width: int) -> Group:
        parts: list[RenderableType] = [render(scaling, width)]
        if trials:
            parts.append(lines_of(["", *of_trials(trials, PointNames(scaling.entries))]))
        if bounds:
            parts.append(lines_of(["", *bounds]))
        if where or next_steps:
            parts.append(_closing(where, next_steps))
        return Group(*parts)

    emit(content, sys.stdout if file is None else file)


def _closing(where: str | None, next_steps: Sequence[str]) -> Text:
    lines = [f"Rows  {where}"] if where else []
    lines += [f"{'      ' if i else 'Next  '}{step}" for i, step in enumerate(next_steps)]
    return lines_of(["", *lines])


def _columns(entries: Sequence[ScalingEntry], factors: Sequence[str]) -> dict[str, _Writer]:
    """Return title -> writer; a measured column only if a row has a value for it."""
    columns: dict[str, _Writer] = {
        name: (lambda entry, name=name: factor_value(name, getattr(entry.series, name)))  # type: ignore[misc]
        for name in factors
    }
    columns["workers"] = lambda entry: four_digits(entry.workers)
    measured: dict[str, Callable[[ScalingEntry], str]] = {
        "items/s": lambda entry: _known(with_half_width(entry.items_per_s)),
        "speedup": lambda entry: ratio(entry.speedup),
        "efficiency": lambda entry: _percent(entry.efficiency.value),
        "over alone": lambda entry: ratio(entry.solo_speedup),
        "slowest": _slowest,
        "p50 ms": lambda entry: _known(four_digits(entry.latency_p50_ms)),
        "p99 ms": lambda entry: _known(four_digits(entry.latency_p99_ms)),
        _OVER_FP32: lambda entry: ratio(entry.over_fp32),
        "dB to fp32": _fidelity,
        _IN_8_BITS: lambda e: part_in_int8(e.series.precision, e.quantised_macs_frac),
    }
    if all(entry.workers == entry.base_workers for entry in entries if entry.base_workers):
        del measured["speedup"], measured["efficiency"]
    columns |= {
        title: writer
        for title, writer in measured.items()
        if any(writer(entry) for entry in entries)
    }
    columns["verdict"] = _verdict
    return columns


def _table(entries: Sequence[ScalingEntry], columns: Mapping[str, _Writer]) -> Table:
    """Return the table, each column as wide as its widest cell; rich would measure them again."""
    written = {title: [_text(cell(entry)) for entry in entries] for title, cell in columns.items()}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for title, cells in written.items():
        table.add_column(
            words(title),
            justify="right" if _is_right(title) else "left",
            no_wrap=_is_right(title) or title == "verdict",
            width=max(cell.cell_len for cell in (words(title), *cells)),
        )
    before = None
    for entry, row in zip(entries, zip(*written.values(), strict=True), strict=True):
        if before is not None and entry.series.model != before:
            table.add_section()
        before = entry.series.model
        table.add_row(*row)
    return table


def _is_right(title: str) -> bool:
    """Return whether a column holds numbers."""
    is_name = title in SERIES and title not in ("batch_size", "inflight", "memory_limit_bytes")
    return not is_name and title != "verdict"


def _text(cell: str | Text) -> Text:
    return words(cell) if isinstance(cell, str) else cell


def _natural_width(table: Table) -> int:
    console = open_console(io.StringIO())
    wide = console.options.update_width(10_000)
    return Measurement.get(console, wide, table).maximum


def _caption(entries: Sequence[ScalingEntry], factors: Sequence[str]) -> list[Text]:
    """Return the factors that have no column, in one line; of a version, that of each engine."""
    same = []
    engines = {entry.series.engine for entry in entries}
    for name in SERIES:
        values = dict.fromkeys((getattr(e.series, name), e.series.engine) for e in entries)
        of_each = name.startswith("engine_") and len(engines) > 1
        shown = dict.fromkeys(
            f"{engine} {factor_value(name, value)}" if of_each else factor_value(name, value)
            for value, engine in values
            if value not in (None, "{}", SYNTHETIC, CLOSED) and (name, value) not in _USUAL
        )
        if shown and name not in (*factors, "environment_id", "simulated", "method_version"):
            same.append(f"{name} {', '.join(shown)}")
    return [words(" · ".join(same)), words("")] if same else []


def _legend(
    entries: Sequence[ScalingEntry], columns: Mapping[str, _Writer], left_out: Sequence[str]
) -> list[Text]:
    """Return what the columns mean that are shown and do not say so themselves."""
    lines = []
    bases = sorted({e.base_workers for e in entries if e.base_workers is not None})
    base = " or ".join(map(workers_label, bases))
    meanings = {
        "speedup": f"against {base} of the same series",
        "efficiency": "speedup over that of ideal scaling",
        "over alone": "against the mean of the same devices each alone",
        "slowest": "its rate over the mean of all workers",
        _OVER_FP32: "items/s against the same point in fp32",
        "dB to fp32": "how near the outputs are to those of fp32 (SQNR); higher is nearer",
    }
    lines += [f"{title}: {meanings[title]}" for title in meanings if title in columns]
    latencies = " and ".join(title for title in ("p50 ms", "p99 ms") if title in columns)
    if latencies:
        lines.append(f"{latencies}: {_latency_meaning(entries)}, median over trials")
    intervals = {entry.interval for entry in entries}
    wide = any("[" in with_half_width(e.items_per_s) for e in entries)
    sign = "± or [from, to]" if wide else "±"
    if BUILDS in intervals:
        builds = sorted({e.builds for e in entries if e.interval == BUILDS and e.builds})
        lines.append(f"{sign}: 95 %, between {' or '.join(map(str, builds))} builds")
    if BETWEEN in intervals:
        trials = sorted({e.trials for e in entries if e.interval == BETWEEN})
        lines.append(f"{sign}: 95 %, between {' or '.join(map(str, trials))} trials")
    if WITHIN in intervals:
        lines.append(f"{sign}: 95 % CI within one trial; excludes run-to-run variation")
    if any(entry.series.simulated for entry in entries):
        lines.append("SIMULATED: timings come from a model, not from hardware")
    if _IN_8_BITS in columns:
        lines.append(
            f"{_IN_8_BITS}: part of the int8 graph's work computed in 8 bits, if under 90 %"
        )
    if any(entry.series.precision == AS_IS for entry in entries):
        lines.append(f"{AS_IS}: a file that comes reduced, run unchanged; no fp32 to compare with")
        lines += [f"  {model}: {ops}" for model, ops in _ops_as_they_are(entries)]
    if left_out:
        lines.append(f"left out for want of width: {', '.join(left_out)}")
    return [words(""), *(words(line, "dim") for line in lines)] if lines else []


def _latency_meaning(entries: Sequence[ScalingEntry]) -> str:
    """Return what the latencies of a table are, which in open loop include the wait in the queue."""
    is_open = {entry.series.load not in (None, CLOSED) for entry in entries}
    batch = "latency of a batch" if False in is_open else ""
    item = "from an item's arrival to the end of its batch" if True in is_open else ""
    return f"{batch}, in open loop {item}" if batch and item else batch or item


def _ops_as_they_are(entries: Sequence[ScalingEntry]) -> list[tuple[str, str]]:
    """Return each model that ran as it is, with the operators in which it is reduced."""
    found = {
        entry.series.model or "-": ", ".join(entry.reduced_ops)
        for entry in entries
        if entry.series.precision == AS_IS and entry.reduced_ops
    }
    return list(found.items())


def _curves(curves: Sequence[Curve], names: PointNames) -> list[Text]:
    """Return what each curve shows, and what holds its largest point back."""
    lines = []
    for curve in curves:
        lines.append(f"{names.series(curve.series)}: {curve.finding}")
        last = [bound for bound in curve.bounds if bound.workers == curve.workers[-1]]
        lines += [f"  bound by {bound.what}: {bound.evidence}" for bound in last]
    return [words(""), *(words(line) for line in lines)] if lines else []


def _reasons(entries: Sequence[ScalingEntry], names: PointNames) -> list[Text]:
    """Return a line on each row without a number."""
    lines = []
    for entry in entries:
        if entry.status != "ok":
            where = names.point(entry.series, entry.workers)
            count = f" ({counted(entry.trials, 'trial')})" if entry.trials > 1 else ""
            lines.append(f"{where}: {entry.status}{count}. {entry.reason or ''}".rstrip())
    return [words(""), *(words(line) for line in lines)] if lines else []


def _known(text: str) -> str:
    return "" if text == "-" else text


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _fidelity(entry: ScalingEntry) -> str:
    return "" if entry.fidelity_sqnr_db is None else f"{entry.fidelity_sqnr_db:.1f}"


def _verdict(entry: ScalingEntry) -> Text:
    """Return glyph and verdict or status; a simulated row says so."""
    if entry.status == "ok":
        verdict = entry.verdict or ""
        glyph, word, colour = GLYPHS.get(verdict, " "), verdict or "ok", _COLOURS.get(verdict, "")
    elif entry.status in OUTCOMES:
        glyph, word, colour = OUTCOME_GLYPH, entry.status, "cyan"
    else:
        glyph, word, colour = FAILED_GLYPH, entry.status, "red"
    mark = " SIMULATED" if entry.series.simulated else ""
    return words(f"{glyph} {word}{mark}", colour)


def _slowest(entry: ScalingEntry) -> str:
    """Return the slowest worker if one stood out, which the flag decides."""
    if "imbalance" not in entry.flags or entry.slowest_share is None:
        return ""
    return f"{entry.slowest_worker} ({100 * entry.slowest_share:.1f} %)"
