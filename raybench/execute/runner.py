"""Runs a plan: prepares what is shared, measures every trial, and writes a row for each."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

from raybench.execute.capacities import Capacities
from raybench.execute.events import AttemptEnded, Note, SearchesAdvanced, TrialSkipped, TrialStarted
from raybench.execute.recorder import Recorder
from raybench.execute.trial import TrialRunner
from raybench.execute.trial_threads import TrialThreads
from raybench.execute.writer import Writer
from raybench.planning.preparations import builds_ahead, preparations
from raybench.planning.scheduler import Scheduler, SchedulingPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from contextlib import AbstractContextManager

    from raybench.config.settings import Request
    from raybench.execute.events import Listener
    from raybench.execute.recorder import FinishedAttempt
    from raybench.execute.rows import Tables
    from raybench.execute.stop_request import StopRequest
    from raybench.execute.workers import Reservation
    from raybench.experiment import Point
    from raybench.planning.attempts import Attempt, Outcome
    from raybench.planning.plan import Plan, PlannedTrial
    from raybench.planning.rate_searches import RateSearches
    from raybench.planning.slots import DeviceSlot
    from raybench.results.store import RunWriter

LOST = "lost"
"""Key in the tally of rows that are infeasible because devices went away during the run."""
SHUTDOWN_TIMEOUT_S = 10.0
"""How long to wait for trial threads after an interrupt."""

Reserve: TypeAlias = "Callable[[Mapping[str, int]], AbstractContextManager[Reservation]]"


@dataclass(frozen=True)
class DevicePool:
    """The devices of a cluster and how to reserve them.

    Attributes:
        devices: number of devices of each kind, as `Point.wants` names it.
        node_kinds: kind of machine by node id; nodes of one kind can use the same engine plans.
        reserve: holds so many devices of each kind while its context is entered.
    """

    devices: Mapping[str, int]
    node_kinds: Mapping[str, str]
    reserve: Reserve


@dataclass(frozen=True)
class RowTarget:
    """Where rows go and which are there.

    Attributes:
        run: takes the rows.
        environment_id: of the rows.
        finals: status of every trial that is final in the store, by point id and trial.
        elsewhere: trials that another driver measures.
        rates: items/s of trials in the store, by point id and trial.
        searches: of the run, with what the store holds of them.
    """

    run: RunWriter
    environment_id: str
    finals: Mapping[tuple[str, int], str]
    searches: RateSearches
    elsewhere: Collection[tuple[str, int]] = frozenset()
    rates: Mapping[tuple[str, int], float] = field(default_factory=dict)


@dataclass(frozen=True)
class ExperimentRunner:
    """Runs the trials of a plan that have no final row.

    Attributes:
        request: the settings.
        plan: what to run.
        target: where rows go.
        pool: the devices; None when every trial has its row.
        on_event: receives everything that happens.
        stop: asks the run to stop.
    """

    request: Request
    plan: Plan
    target: RowTarget
    pool: DevicePool | None
    on_event: Listener
    stop: StopRequest

    def execute(self) -> Mapping[str, int]:
        """Run everything; return the number of rows of each status, and of those that are `LOST`.

        Raises:
            KeyboardInterrupt: after the running measurements got their rows as interrupted.
            ResultsError: when rows cannot be written.
        """
        finals = self.target.finals
        environment_id = self.target.environment_id
        with Writer(self.target.run, self.on_event, self.stop, environment_id) as writer:
            recorder = Recorder(
                self.request.experiment, environment_id, writer, self.target.searches
            )
            decided = {*finals, *self.target.elsewhere}
            recorder.infeasible(self.plan, decided)
            ordered = replace(self, on_event=writer.announce)  # behind the rows before
            for planned in self.plan.trials:
                if planned.key in finals:
                    ordered.on_event(TrialSkipped(planned, finals[planned.key]))
            missing = [planned for planned in self.plan.trials if planned.key not in decided]
            if self.plan.searched:
                ordered.on_event(SearchesAdvanced(self.target.searches.ahead()))
            if missing and self.pool is not None:
                ordered._run(missing, self.pool, recorder)
        skipped = Counter(finals[t.key] for t in self.plan.trials if t.key in finals)
        return writer.tally + skipped + Counter({LOST: recorder.lost})

    def _run(self, missing: Sequence[PlannedTrial], pool: DevicePool, recorder: Recorder) -> None:
        """Reserve devices, prepare what trials share, and measure."""
        cluster = self.request.cluster
        wanted = _devices_to_reserve(missing, pool.devices, cluster.isolation)
        with pool.reserve(wanted) as reservation:
            builders = self._builders(reservation.slots, pool)
            shared = self._preparations(missing, builders, pool.node_kinds)
            if shared:
                spread = SchedulingPolicy("gpu", placement="spread")
                scheduler = Scheduler(shared, builders, spread)
                self._work(scheduler, reservation, recorder)
                reservation.stop(builders)
            policy = SchedulingPolicy(cluster.isolation, cluster.retries, cluster.placement)
            scheduler = Scheduler(
                missing, reservation.slots, policy, self._out_of_memory(), reservation.busy
            )
            recorder.outcomes(scheduler.drop_impossible(), None)
            self._work(scheduler, reservation, recorder)
            asked: list[PlannedTrial] = []
            while (following := self._asked_next()) and following != asked:
                scheduler = Scheduler(following, reservation.slots, policy, busy=reservation.busy)
                recorder.outcomes(scheduler.drop_impossible(), None)
                self._work(scheduler, reservation, recorder)
                asked = following

    def _asked_next(self) -> list[PlannedTrial]:
        """Return the trials that the searches ask for now, and announce how far they are."""
        searches = self.target.searches
        if self.plan.searched:
            self.on_event(SearchesAdvanced(searches.ahead()))
            for remark in searches.remarks():
                self.on_event(Note(remark))
        return searches.missing()

    def _builders(self, slots: Sequence[DeviceSlot], pool: DevicePool) -> list[DeviceSlot]:
        """Return the slots to build on: a GPU takes several builds, which mostly use a core each."""
        cores, gpus = (pool.devices.get(kind, 0) for kind in ("cpu", "gpu"))
        cores_per_gpu = cores // gpus if gpus else 0
        parts = max(min(self.request.cluster.builds_per_gpu, cores_per_gpu), 1)
        return [part for slot in slots for part in slot.divided(parts if slot.kind == "gpu" else 1)]

    def _preparations(
        self,
        missing: Sequence[PlannedTrial],
        slots: Sequence[DeviceSlot],
        node_kinds: Mapping[str, str],
    ) -> Sequence[PlannedTrial]:
        """Return what to build before measuring, where that saves time or spares a measurement.

        Engine plans are built once for each kind of machine.
        """
        by_kind: dict[str, list[DeviceSlot]] = {}
        for slot in slots:
            by_kind.setdefault(node_kinds.get(slot.node, ""), []).append(slot)
        shared = preparations(missing, by_kind.values())
        on_gpu = any(planned.point.device == "gpu" for planned in shared)
        exclusive = self.request.cluster.isolation != "gpu" and not on_gpu
        in_parallel = len(shared) > 1 and len(slots) > 1 and not exclusive
        several_nodes = len({slot.node for slot in slots}) > 1
        copied = several_nodes and any(builds_ahead(planned.point) for planned in shared)
        return shared if in_parallel or copied else ()

    def _out_of_memory(self) -> list[Point]:
        """Return the points that ran out of memory in earlier runs."""
        return [
            planned.point
            for planned in self.plan.trials
            if self.target.finals.get(planned.key) == "out_of_memory" and not planned.point.largest
        ]

    def _work(self, scheduler: Scheduler, reservation: Reservation, recorder: Recorder) -> None:
        """Run attempts until the scheduler has none left.

        Raises:
            BaseException: the reason of the stop request; what has been measured by then, or
                finishes meanwhile, is recorded.
        """
        capacities = Capacities(self.target.rates)

        def run_attempt(attempt: Attempt) -> Tables:
            rate = capacities.of(attempt.planned)
            return TrialRunner(self.request, reservation, self.on_event, attempt, rate).run()

        threads = TrialThreads(run_attempt, reservation, self.stop)
        try:
            while (finished := self._next_finished(scheduler, threads)) is not None:
                removed_before = len(scheduler.removed_devices)
                capacities.note(finished)
                outcomes = scheduler.end(finished.attempt, finished.error)
                self.on_event(AttemptEnded(finished.attempt.planned))
                self._announce(finished, outcomes, scheduler.removed_devices[removed_before:])
                recorder.outcomes(outcomes, finished)
        except BaseException as error:
            ended = threads.shut_down(SHUTDOWN_TIMEOUT_S)
            for finished in ended:
                if finished.error is None:
                    recorder.outcomes(scheduler.end(finished.attempt, None), finished)
            if isinstance(error, KeyboardInterrupt):
                recorder.interrupted(scheduler.running, ended)
            raise
        finally:
            self.stop.listen(None)

    def _next_finished(self, scheduler: Scheduler, threads: TrialThreads) -> FinishedAttempt | None:
        """Start all that can run now, then wait for an end; None when nothing runs any more."""
        self.stop.check()
        while (attempt := scheduler.next_attempt()) is not None:
            self.on_event(TrialStarted(attempt.planned))
            threads.start(attempt)
        finished = threads.wait() if scheduler.running else None
        if finished is not None and finished.error is not None:
            self.stop.check()  # what stops the run may have ended the workers, too
        return finished

    def _announce(
        self, finished: FinishedAttempt, outcomes: Sequence[Outcome], removed: Sequence[str]
    ) -> None:
        """Announce what no row says: that a trial is retried, and devices that were removed."""
        planned, error = finished.attempt.planned, finished.error
        decided = planned in [outcome.planned for outcome in outcomes]
        if error is not None and error.retried and not decided and planned.purpose != "prepare":
            text = f"[{planned.number + 1}] {error.status}, tried again: {error}"
            self.on_event(Note(text))
        for reason in removed:
            self.on_event(Note(f"No longer used: {reason}."))


def _devices_to_reserve(
    trials: Sequence[PlannedTrial], devices: Mapping[str, int], isolation: str
) -> dict[str, int]:
    """Return how many devices of each kind the trials can use at the same time."""
    most: dict[str, int] = {}
    for planned in trials:
        kind = planned.point.wants
        needed = devices[kind] if planned.devices else planned.point.workers
        most[kind] = max(most.get(kind, 0), needed)
    return most if isolation == "cluster" else {kind: devices[kind] for kind in most}
