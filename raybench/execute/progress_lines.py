"""Describes a run and its events in lines of text: for logs, pipes and batch systems."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from raybench.execute.events import BatchTimed, Note, RowWritten, TrialSkipped, TrialStarted
from raybench.execute.running_trials import RunningTrials, duration, items_per_s, span
from raybench.execute.trial_names import TrialNames
from raybench.machine import folders
from raybench.planning.estimates import TimeLeft
from raybench.planning.rate_search import MOST_PROBES
from raybench.report.formatting import percent
from raybench.report.symbols import FAILED_GLYPH, GLYPHS, OUTCOME_GLYPH, OUTCOMES
from raybench.results.search_trials import CONFIRMING
from raybench.text import agreeing, counted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from raybench.config.settings import Request
    from raybench.execute.events import Event
    from raybench.execute.run import RunContext
    from raybench.experiment import Experiment
    from raybench.measure.progress import WorkerStatus
    from raybench.planning.estimates import TimeRange
    from raybench.planning.plan import Plan, PlannedTrial
    from raybench.planning.rate_search import TrialsAhead
    from raybench.results.leases import Lease

FIRST_HEARTBEATS_S = (10.0, 30.0)
"""A line says what a trial is doing so long after its start, and then each minute."""
BEAT_S = 0.5
"""Shortest time between two looks at all running trials, of which there may be a thousand."""
MINUTE_S = 60.0
"""A stream that flows needs no line before."""
MAX_NODES = 16
"""Most nodes of a trial that get a line."""


def describe_plan(
    request: Request,
    plan: Plan,
    missing: Sequence[PlannedTrial],
    ahead: Mapping[int, TrialsAhead],
    elsewhere: Sequence[Lease] = (),
) -> list[str]:
    """Return lines with the question, the number of points and the time they take.

    Args:
        request: what was asked for.
        plan: the plan of it.
        missing: trials to measure.
        ahead: what the searches take after them, by the place of their point in the plan.
        elsewhere: the lease of each trial that another driver measures.
    """
    experiment = request.experiment
    counts = request.devices.items()
    devices = ", ".join(f"{n} {kind}" for kind, n in counts if n and "/" not in kind)
    lines = [
        f"{experiment.name}: {experiment.question}",
        f"{_points(plan)}, {counted(experiment.trials, 'trial')} each{_alone(experiment, plan)}, "
        f"preset {experiment.preset}, devices: {devices}",
    ]
    common = TrialNames(plan).common
    lines += [f"In all: {common}"] * bool(common)
    lines += [f"Inputs: {text}" for text in dict.fromkeys(_inputs(plan))]
    done = len(plan.trials) - len(missing) - len(elsewhere)
    if done:
        lines.append(
            f"{done} of {counted(len(plan.trials), 'trial')} {agreeing(done, 'has its row', 'have their rows')} "
            f"in {request.results.dir}; rerun=all measures again."
        )
    lines += [
        f"{counted(number, 'trial')} {agreeing(number, 'is', 'are')} left to {lease}, which "
        f"measures {agreeing(number, 'it', 'them')} now."
        for lease, number in Counter(elsewhere).items()
    ]
    searching = sum(each.most > 0 for each in ahead.values())
    if missing or searching:
        left = TimeLeft(plan, lambda: 0.0)
        left.searches_advanced(ahead)
        lines.append(f"{span(left.of(missing))} to go.")
    if searching:
        measure = experiment.measure
        lines.append(
            f"After each closed loop, the highest rate within {measure.slo_ms:g} ms at "
            f"p{measure.slo_percentile:g} is searched ({counted(searching, 'search', 'searches')}): at most "
            f"{MOST_PROBES} probes and {CONFIRMING} confirming trials each, more where a rate is not "
            "confirmed or a trial was disturbed."
        )
    lines += plan.remarks
    return lines + [f"Infeasible here: {why}" for why in dict.fromkeys(plan.infeasible.values())]


def _alone(experiment: Experiment, plan: Plan) -> str:
    """Return which points have their trials on several devices, or pairs of them, in turn."""
    workers = {point.workers for point in plan.points}
    parts = ["of one worker on each device"] * (experiment.solo and 1 in workers)
    parts += ["of two on each pair"] * (experiment.pairs and 2 in workers)
    return f" ({', '.join(parts)})" if parts else ""


def _points(plan: Plan) -> str:
    """Return the number of points, and of builds where a point has several."""
    first = sum(point.build == 0 for point in plan.points)
    builds = 1 + max((point.build for point in plan.points), default=0)
    return counted(first, "point") + (f" of {builds} builds" if builds > 1 else "")


def _inputs(plan: Plan) -> list[str]:
    """Return what is said of the real inputs of each point that has any."""
    return [
        f"{files}; left out, since no inputs of the model: {', '.join(files.unused)}"
        if files.unused
        else str(files)
        for files in (point.inputs for point in plan.points)
        if files is not None
    ]


def describe_run(context: RunContext) -> list[str]:
    """Return lines about a planned run, and about the nodes of a cluster that was joined."""
    plan, others = context.plan, context.elsewhere
    elsewhere = [others[planned.key] for planned in plan.trials if planned.key in others]
    ahead = context.searches.ahead()
    lines = describe_plan(context.request, plan, context.missing, ahead, elsewhere)
    session = context.cluster.session
    if session is None or not session.attached:
        return lines + [f.note for f in folders.chosen() if f.note is not None]
    lines += [f"Node {node.hostname}: {node.describe_devices()}" for node in session.nodes]
    return lines + [f"Nodes differ in {difference}" for difference in context.differences]


def outcome(row: Mapping[str, Any]) -> str:
    """Return the outcome of a trial in a few words: its rate and verdict, or status and reason."""
    mark = " SIMULATED" if row.get("simulated") else ""
    if row["status"] != "ok":
        glyph = OUTCOME_GLYPH if row["status"] in OUTCOMES else FAILED_GLYPH
        return f"{glyph} {row['status']}: {row['reason']}{_until_then(row)}{mark}"
    verdict = str(row["verdict"])
    rate = f"{items_per_s(row['items_per_s'])} items/s"
    if row.get("rel_half_width") is not None:
        rate += f" ± {percent(row['rel_half_width'], 1)}"
    why = f" ({row['advice']})" if verdict == "unstable" and row.get("advice") else ""
    return f"{rate} {GLYPHS[verdict]} {verdict}{why}{mark}"


def _until_then(row: Mapping[str, Any]) -> str:
    """Return what a soak had measured when it ended before its time; nothing of other trials."""
    if row.get("items_per_s") is None:
        return ""
    rate, time = items_per_s(row["items_per_s"]), duration(row["window_s"])
    return f" Until then {rate} items/s over {time}."


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
        parts.append(f"{items_per_s(sum(rates), 0)} items/s")
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

    Where nothing else is written for long, a line says what a trial is doing: after 10 and 30
    seconds and then each minute, for a stream that flows from a minute on.

    Args:
        plan: of the run.
        write_line: called with each line, without a line end.
        clock: returns monotonic seconds.
    """

    heartbeats = True
    """Whether lines say what goes on; a live display shows it anyway."""

    def __init__(
        self,
        plan: Plan,
        write_line: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write_line = write_line
        self._trials = len(plan.trials)
        self._names = TrialNames(plan)
        self._running = RunningTrials(plan, clock)
        self._due_s: dict[int, float] = {}
        self._beaten_s = -BEAT_S
        self._foretold_points: set[str] = set()
        self._shown_notes: set[tuple[str, str]] = set()

    def on_event(self, event: Event) -> None:
        """Write a line for the event, unless only a live display would show it."""
        foretold = self._foretold(event) if isinstance(event, BatchTimed) else None
        self._running.on_event(event)
        if isinstance(event, BatchTimed):
            self._foretell(event, foretold)
        elif isinstance(event, TrialSkipped):
            self._write_trial(event.planned, f": kept ({event.status})")
        elif isinstance(event, TrialStarted):
            self._due_s.pop(event.planned.number, None)
            self._write_trial(event.planned, " ...")
        elif isinstance(event, RowWritten):
            self._write_row(event.planned, event.row)
        elif isinstance(event, Note):
            self._write_line(event.text)
        if self.heartbeats:
            self._beat()

    def _foretold(self, event: BatchTimed) -> TimeRange:
        """Return how long the trial was to take before its batch was timed."""
        return self._running.left.of_trial(event.planned)

    def _foretell(self, event: BatchTimed, before: TimeRange | None) -> None:
        """Say how long a trial takes whose batches are slower than was foretold."""
        planned, left = event.planned, self._running.left
        now = left.of_trial(planned)
        window_s = planned.point.measure.min_s
        expected = before is not None and now.shortest_s <= before.longest_s
        if planned.purpose != "measure" or (expected and event.batch_s < window_s):
            return
        if planned.point.id in self._foretold_points:  # further trials take as long
            return
        self._foretold_points.add(planned.point.id)
        longer = f", longer than the preset's window of {window_s:g} s, which stretches"
        batch = duration(event.batch_s) if event.batch_s >= 1 else f"{1e3 * event.batch_s:.3g} ms"
        self._write_line(
            f"{self._title(planned)}: a batch takes {batch}"
            f"{longer if event.batch_s >= window_s else ''}; this trial takes {span(now)}, "
            f"the run {span(left.left())} from now"
        )

    def _beat(self) -> None:
        """Write what trials are doing of which nothing was written for long."""
        now = self._running.clock()
        if now - self._beaten_s < BEAT_S:
            return
        self._beaten_s = now
        for number, trial in self._running.by_number.items():
            elapsed_s = now - trial.began_s
            due_s = self._due_s.get(number, FIRST_HEARTBEATS_S[0])
            if elapsed_s < due_s:
                continue
            later = (s for s in FIRST_HEARTBEATS_S if s > elapsed_s)
            self._due_s[number] = next(later, elapsed_s // 60 * 60 + 60)
            if trial.is_slow or elapsed_s >= MINUTE_S:
                self._write_line(f"{self._title(trial.planned)}: {trial.describe(now)}")

    def _write_trial(self, planned: PlannedTrial, text: str) -> None:
        self._write_line(self._title(planned) + text)

    def _title(self, planned: PlannedTrial) -> str:
        """Return place and name of a trial."""
        place = planned.number + 1
        of_all = (
            f"/{self._trials}" if place <= self._trials else ""
        )  # a search goes beyond the plan
        return f"[{place}{of_all}] {self._names.name(planned)}"

    def _write_row(self, planned: PlannedTrial, row: Mapping[str, Any]) -> None:
        outside = row["status"] == "infeasible"  # of the plan, or taken out of it
        title = f"[-] {self._names.name(planned)}" if outside else self._title(planned)
        self._write_line(f"{title}: {outcome(row)}")
        for note in row.get("notes") or ():
            if (planned.point.id, note) not in self._shown_notes:  # further trials have the same
                self._shown_notes.add((planned.point.id, note))
                self._write_line(f"      {note}")
