"""Describes a run and its events in lines of text: for logs, pipes and batch systems."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raybench.execute.events import Note, RowWritten, TrialSkipped, TrialStarted
from raybench.execute.trial_names import TrialNames
from raybench.report.symbols import FAILED_GLYPH, GLYPHS, OUTCOME_GLYPH, OUTCOMES
from raybench.text import agreeing, counted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from raybench.config.settings import Request
    from raybench.execute.events import Event
    from raybench.execute.run import RunContext
    from raybench.measure.progress import WorkerStatus
    from raybench.planning.plan import Plan, PlannedTrial

MAX_NODES = 16
"""Most nodes of a trial that get a line."""


def describe_plan(request: Request, plan: Plan, missing: int) -> list[str]:
    """Return lines with the question, the number of points and the time they take.

    Args:
        request: what was asked for.
        plan: the plan of it.
        missing: number of trials without a final row.
    """
    experiment = request.experiment
    counts = request.devices.items()
    devices = ", ".join(f"{n} {kind}" for kind, n in counts if n and "/" not in kind)
    lines = [
        f"{experiment.name}: {experiment.question}",
        f"{counted(len(plan.points), 'point')}, {counted(experiment.trials, 'trial')} each, "
        f"preset {experiment.preset}, devices: {devices}",
    ]
    common = TrialNames(plan).common
    lines += [f"In all: {common}"] * bool(common)
    lines += [f"Inputs: {text}" for text in dict.fromkeys(_inputs(plan))]
    done = len(plan.trials) - missing
    if done:
        lines.append(
            f"{done} of {counted(len(plan.trials), 'trial')} {agreeing(done, 'has its row', 'have their rows')} "
            f"in {request.results.dir}; rerun=all measures again."
        )
    if missing:
        share = missing / len(plan.trials)
        shortest, longest = plan.shortest_s * share, plan.longest_s * share
        lines.append(f"{duration(shortest)} to {duration(longest)} to go.")
    lines += plan.remarks
    return lines + [f"Infeasible here: {why}" for why in dict.fromkeys(plan.infeasible.values())]


def _inputs(plan: Plan) -> list[str]:
    """Return what is said of the real inputs of each point that has any."""
    return [str(point.inputs) for point in plan.points if point.inputs is not None]


def describe_run(context: RunContext) -> list[str]:
    """Return lines about a planned run, and about the nodes of a cluster that was joined."""
    lines = describe_plan(context.request, context.plan, len(context.missing))
    session = context.cluster.session
    if session is None or not session.attached:
        return lines
    lines += [f"Node {node.hostname}: {node.describe_devices()}" for node in session.nodes]
    return lines + [f"Nodes differ in {difference}" for difference in context.differences]


def duration(seconds: float) -> str:
    """Convert seconds to "42 s", "3 min 05 s" or "2 h 10 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def outcome(row: Mapping[str, Any]) -> str:
    """Return the outcome of a trial in a few words: its rate and verdict, or status and reason."""
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


def node_lines(workers: Sequence[WorkerStatus]) -> list[str]:
    """Return a line for each node of a running trial: its workers, rate, latency and sensors."""
    hosts: dict[str, list[WorkerStatus]] = {}
    for worker in workers:
        hosts.setdefault(worker.host, []).append(worker)
    width = max(map(len, hosts), default=0)
    lines = [
        f"      {host:<{width}}  {_node_state(on_host)}" for host, on_host in sorted(hosts.items())
    ]
    if len(lines) > MAX_NODES:
        lines[MAX_NODES:] = [f"      and {counted(len(lines) - MAX_NODES, 'more node')}"]
    return lines


def _node_state(workers: Sequence[WorkerStatus]) -> str:
    rates = [worker.items_per_s for worker in workers if worker.items_per_s is not None]
    parts = [f"{len(workers)} x {workers[0].device.split()[0]}"]
    if rates:
        parts.append(f"{sum(rates):,.0f} items/s")
    for name, unit, combine in (
        ("latency_ms", "ms", max),
        ("power_w", "W", sum),
        ("temp_c", "°C", max),
    ):
        values = [value for worker in workers if (value := getattr(worker, name)) is not None]
        if values:
            parts.append(f"{combine(values):,.0f} {unit}")
    return "  ".join(parts)


class ProgressLines:
    """Writes a line when a trial starts, is skipped or ends, and for each note of run and rows.

    Args:
        plan: of the run.
        write_line: called with each line, without a line end.
    """

    def __init__(self, plan: Plan, write_line: Callable[[str], object]) -> None:
        self._write_line = write_line
        self._trials = len(plan.trials)
        self._names = TrialNames(plan)
        self._shown_notes: set[tuple[str, str]] = set()

    def on_event(self, event: Event) -> None:
        """Write a line for the event, unless only a live display would show it."""
        if isinstance(event, TrialSkipped):
            self._write_trial(event.planned, f": kept ({event.status})")
        elif isinstance(event, TrialStarted):
            self._write_trial(event.planned, " ...")
        elif isinstance(event, RowWritten):
            self._write_row(event.planned, event.row)
        elif isinstance(event, Note):
            self._write_line(event.text)

    def _write_trial(self, planned: PlannedTrial, text: str) -> None:
        self._write_line(self._title(planned) + text)

    def _title(self, planned: PlannedTrial) -> str:
        """Return place and name of a trial."""
        return f"[{planned.number + 1}/{self._trials}] {self._names.name(planned)}"

    def _write_row(self, planned: PlannedTrial, row: Mapping[str, Any]) -> None:
        outside = row["status"] == "infeasible"  # of the plan, or taken out of it
        title = f"[-] {self._names.name(planned)}" if outside else self._title(planned)
        self._write_line(f"{title}: {outcome(row)}")
        for note in row.get("notes") or ():
            if (planned.point.id, note) not in self._shown_notes:  # further trials have the same
                self._shown_notes.add((planned.point.id, note))
                self._write_line(f"      {note}")
