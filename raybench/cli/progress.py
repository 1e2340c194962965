"""Progress: what the user sees while points run; lines in a log, or a live line in a terminal."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.live import Live
from rich.text import Text
from typing_extensions import override

from raybench.execute.events import (
    Note,
    PhaseChanged,
    ProgressUpdated,
    RowWritten,
    TrialSkipped,
    TrialStarted,
)
from raybench.report.symbols import FAILED_GLYPH, GLYPHS, OUTCOME_GLYPH, OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from raybench.cluster.metrics import RunMetrics
    from raybench.execute.events import Event, Listener
    from raybench.measure.progress import TrialProgress, WorkerStatus
    from raybench.planning.plan import Plan, PlannedTrial


def title(planned: PlannedTrial) -> str:
    """A point in one short line."""
    point = planned.point
    unit = {"gpu": "GPU", "cpu": "core"}[point.device] + ("s" if point.workers > 1 else "")
    trial = f" trial {planned.trial + 1}" if planned.trial else ""
    purpose = {"measure": "", "fit": "try ", "prepare": "prepare "}[planned.purpose]
    return (
        f"{purpose}{point.model} {point.precision} batch {point.batch_size} on {point.workers} {unit}"
        f" ({point.engine}){trial}"
    )


def duration(seconds: float) -> str:
    """Seconds for people: 42 s, 3 min 05 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def ending(row: Mapping[str, Any]) -> str:
    """What became of a step, in a few words."""
    mark = " SIMULATED" if row.get("simulated") else ""
    if row["status"] != "ok":
        glyph = OUTCOME_GLYPH if row["status"] in OUTCOMES else FAILED_GLYPH
        return f"{glyph} {row['status']}: {row['reason']}{mark}"
    verdict = str(row["verdict"])
    rate = f"{row['items_per_s']:,.1f} items/s"
    if row.get("rel_half_width") is not None:
        rate += f" ± {100 * row['rel_half_width']:.1f} %"
    why = f" ({row['advice']})" if verdict == "unstable" and row.get("advice") else ""
    return f"{rate} {GLYPHS[verdict]} {verdict}{why}{mark}"


NODES_SHOWN = 16
"""Nodes that the live view has a line for."""


def node_lines(pulses: Sequence[WorkerStatus]) -> list[str]:
    """A line for each node of a running point: its workers, their rate and how they feel."""
    hosts: dict[str, list[WorkerStatus]] = {}
    for pulse in pulses:
        hosts.setdefault(pulse.host, []).append(pulse)
    width = max(map(len, hosts), default=0)
    lines = [f"      {host:<{width}}  {_condition(mine)}" for host, mine in sorted(hosts.items())]
    if len(lines) > NODES_SHOWN:
        lines[NODES_SHOWN:] = [f"      and {len(lines) - NODES_SHOWN} more nodes"]
    return lines


def _condition(pulses: Sequence[WorkerStatus]) -> str:
    rates = [pulse.items_per_s for pulse in pulses if pulse.items_per_s is not None]
    words = [f"{len(pulses)} x {pulses[0].device.split()[0]}"]
    if rates:
        words.append(f"{sum(rates):,.0f} items/s")
    for name, unit, worst in (
        ("latency_ms", "ms", max),
        ("power_w", "W", sum),
        ("temp_c", "°C", max),
    ):
        known = [value for pulse in pulses if (value := getattr(pulse, name)) is not None]
        if known:
            words.append(f"{worst(known):,.0f} {unit}")
    return "  ".join(words)


class Lines:
    """One line an event: for logs, pipes and batch systems. No control codes."""

    def __init__(self, plan: Plan, console: Console) -> None:
        self._console = console
        self._trials = len(plan.trials)

    def _print(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def on_event(self, event: Event) -> None:
        """Print a line for what starts, ends or deserves a note; the rest is for the live view."""
        if isinstance(event, TrialSkipped):
            self._print_trial(event.planned, f": kept ({event.status})")
        elif isinstance(event, TrialStarted):
            self._print_trial(event.planned, " ...")
        elif isinstance(event, RowWritten):
            self._print_row(event.number, event.row)
        elif isinstance(event, Note):
            self._print(event.text)

    def _print_trial(self, planned: PlannedTrial, text: str) -> None:
        self._print(f"[{planned.number + 1}/{self._trials}] {title(planned)}{text}")

    def _print_row(self, number: int, row: Mapping[str, Any]) -> None:
        place = f"[{number + 1}/{self._trials}]" if row["status"] != "infeasible" else "[-]"
        name = f"{row['model']} {row['precision']} batch {row['batch_size']} x{row['workers']}"
        self._print(f"{place} {name}: {ending(row)}")


class LiveLine(Lines):
    """The lines of finished steps, and below them what moves: phase, rate, time left."""

    def __init__(self, plan: Plan, console: Console) -> None:
        super().__init__(plan, console)
        self._live = Live(console=console, refresh_per_second=2, transient=True)
        self._running: dict[int, _Shown] = {}
        self._missing = len(plan.trials)
        self._left_s = plan.shortest_s
        self._began = self._estimated = time.monotonic()
        self._finished = 0

    def __enter__(self) -> LiveLine:
        self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.stop()

    @override
    def on_event(self, event: Event) -> None:
        """Update what moves; leave a line for what has ended."""
        if isinstance(event, TrialStarted):
            self._running[event.planned.number] = _Shown(title(event.planned))
        elif isinstance(event, PhaseChanged):
            running = self._running[event.number]
            running.phase, running.detail = event.phase, ""
        elif isinstance(event, ProgressUpdated):
            self._show_progress(self._running[event.number], event.progress)
        else:
            if isinstance(event, TrialSkipped):
                self._missing -= 1  # it takes no time
            elif isinstance(event, RowWritten):
                self._end(event.number, event.row)
            super().on_event(event)
            return
        self._show()

    def _show_progress(self, running: _Shown, progress: TrialProgress) -> None:
        """Show the current rate and how narrow its interval is."""
        rate = f"{progress.items_per_s:,.0f} items/s" if progress.items_per_s else ""
        relative = progress.relative
        known = f" ± {100 * relative:.1f} %" if relative is not None and relative < 1 else ""
        running.detail = (
            f"{progress.elapsed_s:.0f} of at most {progress.limit_s:.0f} s  {rate}{known}"
        )
        running.nodes = node_lines(progress.workers) if len(progress.workers) > 1 else []

    def _end(self, number: int, row: Mapping[str, Any]) -> None:
        """Forget a trial that has ended; estimate the time left from the pace so far."""
        self._running.pop(number, None)
        if row["status"] != "infeasible":
            self._finished += 1
            self._missing -= 1
            self._estimated = time.monotonic()
            self._left_s = (self._estimated - self._began) / self._finished * self._missing

    def _show(self) -> None:
        self._live.update(self.shown())

    def shown(self) -> Text:
        """What moves, as it stands: two lines for each step that runs, and one a node."""
        left = max(self._left_s - (time.monotonic() - self._estimated), 0)
        lines: list[str] = []
        running = sorted(self._running.items())  # a copy: rows come from another thread
        for number, shown in running:
            last = number == running[-1][0]
            lines += [
                f"[{number + 1}/{self._trials}] {shown.title}",
                f"      {shown.phase} {shown.detail}"
                + (f"  (about {duration(left)} left)" if last else ""),
                *shown.nodes,
            ]
        return Text("\n".join(lines[-SHOWN:]), style="cyan", overflow="ellipsis", no_wrap=True)


SHOWN = 24
"""Lines that may move; points beyond that are at work unseen."""


@dataclass
class _Shown:
    """What is shown of a step that runs."""

    title: str
    phase: str = ""
    detail: str = ""
    nodes: list[str] = field(default_factory=list)


def export_to(metrics: RunMetrics) -> Listener:
    """Return a listener that passes events on to the metrics of Ray."""

    def on_event(event: Event) -> None:
        if isinstance(event, TrialSkipped):
            metrics.trial_skipped(event.status)
        elif isinstance(event, TrialStarted):
            metrics.trial_started(event.planned)
        elif isinstance(event, PhaseChanged):
            metrics.phase_changed(event.number, event.phase)
        elif isinstance(event, ProgressUpdated):
            metrics.progress_updated(event.number, event.progress)
        elif isinstance(event, RowWritten):
            metrics.row_written(event.number, event.row)

    return on_event
