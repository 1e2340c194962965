"""The result table of a run: one line for each number of workers of each series."""

from __future__ import annotations

import sys
from typing import IO, TYPE_CHECKING, Any, TypeAlias

from rich import box
from rich.console import Console, Group
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from raybench.analysis.grouping import BETWEEN, WITHIN
from raybench.analysis.series import SERIES
from raybench.experiment import AS_IS, SYNTHETIC
from raybench.report.formatting import TIMES, four_digits, ratio, with_half_width
from raybench.report.labels import factor_value, part_in_int8
from raybench.report.symbols import FAILED_GLYPH, GLYPHS, OUTCOME_GLYPH, OUTCOMES
from raybench.report.terminal.console import emit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rich.console import RenderableType

    from raybench.analysis.curves import Curve, ScalingEntry
    from raybench.analysis.repeatability import Repeat
    from raybench.analysis.scaling import Scaling

_Writer: TypeAlias = "Callable[[ScalingEntry], str | Text]"
"""Writes one cell of a row; empty where the entry lacks the value."""

_COLOURS = {"stable": "green", "unverified": "yellow", "unstable": "magenta"}
_OVER_FP32 = f"{TIMES} fp32"
_IN_8_BITS = "8-bit MACs"
MANY = 1000
"""Above this many trials, the number needed is shown as "over 1,000"."""
_LEAVE_OUT = ("slowest", "p50 ms", "dB to fp32", "over alone", "efficiency", _OVER_FP32)
"""Columns to leave out on a narrow terminal, the first one first."""


def render(scaling: Scaling, width: int) -> RenderableType:
    """Return the table of a scaling analysis, at most `width` cells wide.

    Factors that do not vary are listed once above the table; below it follow what the curves
    show and why a row has no number.
    """
    entries = scaling.entries
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
        *_curves(scaling.curves, factors),
        *_reasons(entries, factors),
    )


def print_table(
    scaling: Scaling,
    file: IO[str] | None = None,
    *,
    trials: Sequence[Repeat] = (),
    where: str | None = None,
    next_steps: Sequence[str] = (),
) -> None:
    """Print the table, how well trials repeat, where the rows are and what to do next.

    Plain text unless to a terminal.
    """

    def content(width: int) -> Group:
        parts: list[RenderableType] = [render(scaling, width)]
        if trials:
            parts.append(Text("\n".join(["", *of_trials(trials)])))
        if where or next_steps:
            parts.append(_closing(where, next_steps))
        return Group(*parts)

    emit(content, sys.stdout if file is None else file)


def of_trials(repeats: Sequence[Repeat]) -> list[str]:
    """Return a line for each point on precision within and reproducibility between trials."""
    lines = []
    for repeat in repeats:
        series = repeat.series
        needed = f"{repeat.needed:,} trials" if repeat.needed < MANY else f"over {MANY:,} trials"
        lines.append(
            f"{series.model} {series.precision} batch {series.batch_size} x{repeat.workers}: one "
            f"trial claims ± {100 * repeat.within:.2f} % for itself; {repeat.trials} trials differ "
            f"by {100 * repeat.spread:.2f} % (standard deviation); {needed} would give ± 0.50 %"
        )
    return ["Precision within a trial, reproducibility between trials", *lines] if lines else []


def _closing(where: str | None, next_steps: Sequence[str]) -> Text:
    lines = [f"Rows  {where}"] if where else []
    lines += [f"{'      ' if i else 'Next  '}{step}" for i, step in enumerate(next_steps)]
    return Text("\n".join(["", *lines]))


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
        is_name = title in SERIES and title not in ("batch_size", "inflight", "memory_limit_bytes")
        table.add_column(
            Text(title),
            justify="left" if is_name or title == "verdict" else "right",
            no_wrap=not is_name,
            width=max(cell.cell_len for cell in (Text(title), *cells)),
        )
    before = None
    for entry, row in zip(entries, zip(*written.values(), strict=True), strict=True):
        if before is not None and entry.series.model != before:
            table.add_section()
        before = entry.series.model
        table.add_row(*row)
    return table


def _text(cell: str | Text) -> Text:
    return Text(cell) if isinstance(cell, str) else cell  # plain: names may look like markup


def _natural_width(table: Table) -> int:
    console = Console(width=10_000)
    return Measurement.get(console, console.options, table).maximum


def _values(entries: Sequence[ScalingEntry], name: str) -> list[Any]:
    """Return the different values of a factor, without those that a trial did not learn."""
    values = dict.fromkeys(getattr(entry.series, name) for entry in entries)
    if name in ("device", "engine_version"):
        values.pop(None, None)
    return list(values)


def _caption(entries: Sequence[ScalingEntry], names: Sequence[str]) -> list[Text]:
    """Return the factors that are the same in every row, in one line."""
    same = [
        f"{name} {factor_value(name, value)}"
        for name in names
        for value in _values(entries, name)
        if value not in (None, "{}", SYNTHETIC)
        and name not in ("environment_id", "simulated", "method_version")
    ]
    return [Text(" · ".join(same)), Text("")] if same else []


def _legend(entries: Sequence[ScalingEntry], left_out: Sequence[str]) -> list[Text]:
    lines = []
    bases = sorted({e.base_workers for e in entries if e.base_workers is not None})
    if bases and any(e.speedup.value not in (None, 1.0) for e in entries):
        base = " or ".join(f"{n} worker{'s' if n > 1 else ''}" for n in bases)
        lines.append(f"speedup: against {base} of the same series")
    intervals = {entry.interval for entry in entries}
    if any(e.solo_speedup.value is not None for e in entries):
        lines.append("over alone: against the mean of the same devices each alone")
    if any(e.slowest_worker and "imbalance" in e.flags for e in entries):
        lines.append("slowest: its rate over the mean of all workers")
    if BETWEEN in intervals:
        trials = sorted({e.trials for e in entries if e.interval == BETWEEN})
        lines.append(f"±: 95 %, between {' or '.join(map(str, trials))} trials")
    if WITHIN in intervals:
        lines.append("±: 95 % CI within one trial; excludes run-to-run variation")
    if any(entry.series.simulated for entry in entries):
        lines.append("SIMULATED: timings come from a model, not from hardware")
    if any(part_in_int8(e.series.precision, e.quantised_macs_frac) for e in entries):
        lines.append(
            f"{_IN_8_BITS}: part of the int8 graph's work computed in 8 bits, if under 90 %"
        )
    if any(entry.series.precision == AS_IS for entry in entries):
        lines.append(f"{AS_IS}: a file that comes reduced, run unchanged; no fp32 to compare with")
        lines += [f"  {model}: {ops}" for model, ops in _ops_as_they_are(entries)]
    if left_out:
        lines.append(f"left out for want of width: {', '.join(left_out)}")
    return [Text(""), *(Text(line, style="dim") for line in lines)] if lines else []


def _ops_as_they_are(entries: Sequence[ScalingEntry]) -> list[tuple[str, str]]:
    """Return each model that ran as it is, with the operators in which it is reduced."""
    found = {
        entry.series.model or "-": ", ".join(entry.reduced_ops)
        for entry in entries
        if entry.series.precision == AS_IS and entry.reduced_ops
    }
    return list(found.items())


def _curves(curves: Sequence[Curve], factors: Sequence[str]) -> list[Text]:
    """Return what each curve shows, and what holds its largest point back."""
    lines = []
    for curve in curves:
        names = [
            f"{name} {factor_value(name, getattr(curve.series, name))}" for name in factors[1:]
        ]
        lines.append(f"{', '.join([curve.series.model or '-', *names])}: {curve.finding}")
        last = [bound for bound in curve.bounds if bound.workers == curve.workers[-1]]
        lines += [f"  bound by {bound.what}: {bound.evidence}" for bound in last]
    return [Text(""), *(Text(line) for line in lines)] if lines else []


def _reasons(entries: Sequence[ScalingEntry], factors: Sequence[str]) -> list[Text]:
    """Return a line on each row without a number."""
    lines = []
    for entry in entries:
        if entry.status != "ok":
            names = [
                f"{name} {factor_value(name, getattr(entry.series, name))}" for name in factors[1:]
            ]
            workers = f"workers {four_digits(entry.workers)}"
            where = ", ".join([entry.series.model or "-", *names, workers])
            count = f" ({entry.trials} trials)" if entry.trials > 1 else ""
            lines.append(f"{where}: {entry.status}{count}. {entry.reason or ''}".rstrip())
    return [Text(""), *(Text(line) for line in lines)] if lines else []


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
    return Text(f"{glyph} {word}{mark}", style=colour)


def _slowest(entry: ScalingEntry) -> str:
    """Return the slowest worker if one stood out, which the flag decides."""
    if "imbalance" not in entry.flags or entry.slowest_share is None:
        return ""
    return f"{entry.slowest_worker} ({100 * entry.slowest_share:.1f} %)"
