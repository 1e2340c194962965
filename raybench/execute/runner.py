"""Driver: every step of the plan on the devices that are held; a failure becomes a row."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from raybench.cluster import reservation as devices
from raybench.errors import Infeasible, Interrupted
from raybench.execute import rows
from raybench.execute.trial_threads import TrialThreads
from raybench.execute.writer import Writer
from raybench.planning.plan import PlannedTrial
from raybench.planning.preparations import builds_ahead, preparations
from raybench.planning.scheduler import Scheduler, SchedulingPolicy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from raybench.cluster.reservation import RayReservation
    from raybench.cluster.session import Session
    from raybench.config.compose import Request
    from raybench.execute.events import View
    from raybench.execute.signals import Signals
    from raybench.execute.trial_threads import FinishedAttempt
    from raybench.experiment import Experiment, Point
    from raybench.planning.attempts import Attempt, Outcome
    from raybench.planning.plan import Plan
    from raybench.planning.slots import DeviceSlot
    from raybench.results.store import Run

LOST = "lost"
"""In the tally, beside the statuses: points that had their devices when the run began."""
FAREWELL_S = 10.0
"""Longest wait for the gangs of an interrupted run to notice that their workers were ended."""


@dataclass(frozen=True)
class Driver:
    """Runs a plan on a connected cluster and writes its rows at once.

    Attributes:
        finals: status of every step that is final in the store already, by (point_id, trial).
        session: the cluster; None when every step has its row already.
        signals: ask the run to end.
        kinds: what kind of machine a node is, by its id; nodes of one kind can use the same plans.
    """

    request: Request
    plan: Plan
    run: Run
    view: View
    environment_id: str
    finals: Mapping[tuple[str, int], str]
    session: Session | None
    signals: Signals
    kinds: Mapping[str, str]

    @property
    def _experiment(self) -> Experiment:
        return self.request.experiment

    def execute(self) -> Mapping[str, int]:
        """Run all steps; returns how many rows there are of each status, and how many `LOST`.

        Raises:
            KeyboardInterrupt: after the rows of what was running were written as interrupted.
        """
        with Writer(self.run, self.view) as writer:
            for step in self._impossible():
                trial = rows.outcome(*_now(), reason=self.plan.infeasible[step.point.id])
                self._write(step, rows.Tables(trial), writer)
            missing = []
            for step in self.plan.trials:
                known = self.finals.get((step.point.id, step.trial))
                if known is None:
                    missing.append(step)
                else:
                    self.view.skipped(step.number, step, known)
            if missing and self.session is not None:
                self._run(missing, self.session, writer)
        keys = ((step.point.id, step.trial) for step in self.plan.trials)
        return writer.tally + Counter(self.finals[key] for key in keys if key in self.finals)

    def _run(self, missing: list[PlannedTrial], session: Session, writer: Writer) -> None:
        """Hold the devices and let all that is missing be measured."""
        cluster = self.request.cluster
        wanted = _wanted(missing, session.devices, cluster.isolation)
        with devices.reserve(
            session.nodes, wanted, cluster.start_timeout_s, cluster.placement
        ) as seats:
            self._prepare(missing, seats, writer)
            self._measure(missing, seats, writer)

    def _impossible(self) -> list[PlannedTrial]:
        return [
            PlannedTrial(point, index, trial)
            for index, point in enumerate(self.plan.points)
            if point.id in self.plan.infeasible
            for trial in range(self._experiment.trials)
            if (point.id, trial) not in self.finals
        ]

    def _prepare(self, missing: list[PlannedTrial], seats: RayReservation, writer: Writer) -> None:
        """Let graphs and plans be made first, where that saves time or spares a stream.

        Plans are made once for each kind of machine.
        """
        by_kind: dict[str, list[DeviceSlot]] = {}
        for seat in seats.slots:
            by_kind.setdefault(self.kinds.get(seat.node, ""), []).append(seat)
        steps = preparations(missing, by_kind.values())
        gpu = any(step.point.device == "gpu" for step in steps)
        apart = self.request.cluster.isolation != "gpu" and not gpu
        side_by_side = len(steps) > 1 and len(seats.slots) > 1 and not apart
        nodes = {seat.node for seat in seats.slots}
        shared = len(nodes) > 1 and any(builds_ahead(step.point) for step in steps)
        if side_by_side or shared:
            self._work(Scheduler(steps, seats.slots, SchedulingPolicy("gpu")), seats, writer)

    def _measure(self, missing: list[PlannedTrial], seats: RayReservation, writer: Writer) -> None:
        cluster = self.request.cluster
        agenda = Scheduler(
            missing,
            seats.slots,
            SchedulingPolicy(cluster.isolation, cluster.retries, cluster.placement),
            self._unfit(),
            seats.busy,
        )
        self._settle(agenda.drop_impossible(), None, writer)
        self._work(agenda, seats, writer)

    def _work(self, agenda: Scheduler, seats: RayReservation, writer: Writer) -> None:
        """Let gangs work until nothing on the agenda is left."""
        running = TrialThreads(self.request, self.view, seats)
        self.signals.first = writer.failed = running.stop
        try:
            while (ended := self._next_end(agenda, running, writer)) is not None:
                known = len(agenda.removed_devices)
                settled = agenda.end(ended.start, ended.error)
                self._tell(ended, settled, agenda.removed_devices[known:])
                self._settle(settled, ended, writer)
        except BaseException as error:
            # whatever it was, what has been measured meanwhile is kept, and nobody works on
            for ended in running.end(FAREWELL_S):
                if ended.error is None:
                    self._settle(agenda.end(ended.start, None), ended, writer)
            if isinstance(error, KeyboardInterrupt):
                for start in agenda.running:
                    self._write_interrupted(start, writer)
            raise

    def _unfit(self) -> list[Point]:
        """Points that are known to run out of memory."""
        return [
            step.point
            for step in self.plan.trials
            if self.finals.get((step.point.id, step.trial)) == "out_of_memory"
            and not step.point.largest
        ]

    def _next_end(
        self, agenda: Scheduler, running: TrialThreads, writer: Writer
    ) -> FinishedAttempt | None:
        """Start all that can be, then wait for an end; None when nothing runs any more.

        Raises:
            KeyboardInterrupt: when the run is to end.
            ResultsError: when rows cannot be written any more.
        """
        writer.check()
        while (start := agenda.next_attempt()) is not None:
            self.view.step(start.planned.number, start.planned)
            running.begin(start)
        if not agenda.running:
            return None
        ended = running.wait()
        if ended is None:
            writer.check()
            raise KeyboardInterrupt
        return ended

    def _tell(self, ended: FinishedAttempt, settled: list[Outcome], gone: Sequence[str]) -> None:
        """Say what no row will: that a step is tried again, and which devices are used no more."""
        step, error = ended.start.planned, ended.error
        tried = step.purpose != "prepare" and all(entry.planned != step for entry in settled)
        if error is not None and error.retried and tried:
            self.view.note(f"[{step.number + 1}] {error.status}, tried again: {error}")
        for reason in gone:
            self.view.note(f"From now on without: {reason}.")

    def _settle(
        self, settled: list[Outcome], ended: FinishedAttempt | None, writer: Writer
    ) -> None:
        """Write the rows of steps that have their last word."""
        for entry in settled:
            if entry.planned.purpose == "prepare":
                continue
            mine = ended is not None and entry.planned == ended.start.planned
            began = ended.began if ended is not None and mine else datetime.now(timezone.utc)
            tables = ended.tables if ended is not None and mine else rows.Tables({})
            outcome = rows.outcome(began, datetime.now(timezone.utc), entry.error, entry.attempts)
            if isinstance(entry.error, Infeasible) and entry.error.lost:
                writer.tally[LOST] += 1
            if entry.note is not None:
                outcome["notes"] = [*tables.trial.get("notes", ()), entry.note]
            self._write(entry.planned, replace(tables, trial={**tables.trial, **outcome}), writer)

    def _write_interrupted(self, start: Attempt, writer: Writer) -> None:
        if start.planned.purpose != "measure":
            return
        error = Interrupted(
            "The run was ended by hand. The same command measures this point again."
        )
        outcome = rows.outcome(*_now(), error, start.number)
        self._write(start.planned, rows.Tables(outcome), writer)

    def _write(self, step: PlannedTrial, tables: rows.Tables, writer: Writer) -> None:
        row = {**rows.identity(self._experiment, step, self.environment_id), **tables.trial}
        writer.put(step, row, tables)


def _wanted(steps: list[PlannedTrial], there: Mapping[str, int], isolation: str) -> dict[str, int]:
    """Devices of each kind to hold: of those that steps use, as many as can be at work."""
    most: dict[str, int] = {}
    for step in steps:
        kind = step.point.wants
        needed = step.point.workers if step.device is None else there[kind]
        most[kind] = max(most.get(kind, 0), needed)
    return most if isolation == "cluster" else {kind: there[kind] for kind in most}


def _now() -> tuple[datetime, datetime]:
    now = datetime.now(timezone.utc)
    return now, now
