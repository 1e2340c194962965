"""Progress: what the user sees while points run; lines in a log, or a live line in a terminal."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.live import Live
from rich.text import Text
from typing_extensions import override

from raybench.report.symbols import FAILED_GLYPH, GLYPHS, OUTCOME_GLYPH, OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from raybench.measure.progress import Glance, Pulse
    from raybench.planning.plan import Plan, PlannedTrial


def title(step: PlannedTrial) -> str:
    """A point in one short line."""
    point = step.point
    unit = {"gpu": "GPU", "cpu": "core"}[point.device] + ("s" if point.workers > 1 else "")
    trial = f" trial {step.trial + 1}" if step.trial else ""
    purpose = {"measure": "", "fit": "try ", "prepare": "prepare "}[step.purpose]
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


def node_lines(pulses: Sequence[Pulse]) -> list[str]:
    """A line for each node of a running point: its workers, their rate and how they feel."""
    hosts: dict[str, list[Pulse]] = {}
    for pulse in pulses:
        hosts.setdefault(pulse.host, []).append(pulse)
    width = max(map(len, hosts), default=0)
    lines = [f"      {host:<{width}}  {_condition(mine)}" for host, mine in sorted(hosts.items())]
    if len(lines) > NODES_SHOWN:
        lines[NODES_SHOWN:] = [f"      and {len(lines) - NODES_SHOWN} more nodes"]
    return lines


def _condition(pulses: Sequence[Pulse]) -> str:
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
        self._steps = len(plan.trials)

    def _print(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def skipped(self, number: int, step: PlannedTrial, status: str) -> None:
        """Say that the row is there."""
        self._print(f"[{number + 1}/{self._steps}] {title(step)}: kept ({status})")

    def step(self, number: int, step: PlannedTrial) -> None:
        """Announce the step."""
        self._print(f"[{number + 1}/{self._steps}] {title(step)} ...")

    def phase(self, number: int, name: str) -> None:
        """Phases are for the live view."""

    def look(self, number: int, glance: Glance) -> None:
        """Running rates are for the live view."""

    def row(self, number: int, row: Mapping[str, Any]) -> None:
        """Say how it ended."""
        place = f"[{number + 1}/{self._steps}]" if row["status"] != "infeasible" else "[-]"
        name = f"{row['model']} {row['precision']} batch {row['batch_size']} x{row['workers']}"
        self._print(f"{place} {name}: {ending(row)}")

    def note(self, text: str) -> None:
        """Say it."""
        self._print(text)


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
    def skipped(self, number: int, step: PlannedTrial, status: str) -> None:
        """Say that the row is there; it takes no time."""
        self._missing -= 1
        super().skipped(number, step, status)

    @override
    def step(self, number: int, step: PlannedTrial) -> None:
        """Show the step."""
        self._running[number] = _Shown(title(step))
        self._show()

    @override
    def phase(self, number: int, name: str) -> None:
        """Show the phase."""
        self._running[number].phase, self._running[number].detail = name, ""
        self._show()

    @override
    def look(self, number: int, glance: Glance) -> None:
        """Show the running rate and how far its interval has come."""
        rate = f"{glance.items_per_s:,.0f} items/s" if glance.items_per_s else ""
        relative = glance.relative
        known = f" ± {100 * relative:.1f} %" if relative is not None and relative < 1 else ""
        running = self._running[number]
        running.detail = f"{glance.gone_s:.0f} of at most {glance.most_s:.0f} s  {rate}{known}"
        running.nodes = node_lines(glance.pulses) if len(glance.pulses) > 1 else []
        self._show()

    @override
    def row(self, number: int, row: Mapping[str, Any]) -> None:
        """Leave a line for the finished step; reckon the time that is left at the pace so far."""
        self._running.pop(number, None)
        if row["status"] != "infeasible":
            self._finished += 1
            self._missing -= 1
            self._estimated = time.monotonic()
            self._left_s = (self._estimated - self._began) / self._finished * self._missing
        super().row(number, row)

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
                f"[{number + 1}/{self._steps}] {shown.title}",
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
