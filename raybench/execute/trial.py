"""Runs one attempt at a trial: from the start of its workers to the columns of its rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from raybench.errors import PointError, Refused
from raybench.execute import rows, stream_rows
from raybench.execute.decoder_rows import decoder_columns
from raybench.execute.events import BatchTimed, PhaseChanged
from raybench.execute.soak_rows import SoakRows
from raybench.execute.soak_watch import SoakWatch
from raybench.execute.stream_watch import StreamWatch
from raybench.experiment import parse_load
from raybench.measure.arrivals import SHARED, Arrivals
from raybench.measure.limits import Limits
from raybench.measure.open_rules import gap_s, open_limits
from raybench.measure.soak_record import SoakRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from raybench.config.settings import Request
    from raybench.engines.base import Layer
    from raybench.execute.events import Listener
    from raybench.execute.stream_watch import StreamedTrial
    from raybench.execute.workers import Reservation, WorkerGroup
    from raybench.planning.attempts import Attempt

STALL_BATCHES = 20.0
"""A worker counts as hung after so many times a batch's usual time."""

T = TypeVar("T")


@dataclass(frozen=True)
class MeasuredTrial:
    """What the workers of a measured trial delivered."""

    workers: rows.TrialWorkers
    streamed: StreamedTrial
    limits: Limits
    layers: Sequence[Layer]
    fresh: bool
    notes: tuple[str, ...] = ()


class _CutShort(Exception):
    """A soak ended before its time; `measured` holds what was measured by then."""

    def __init__(self, measured: MeasuredTrial) -> None:
        super().__init__(str(measured.streamed.ended_by))
        self.measured = measured


@dataclass(frozen=True)
class TrialRunner:
    """Runs one attempt on the slots that it was given.

    Attributes:
        request: the settings.
        reservation: provides the workers.
        on_event: receives phases and progress.
        attempt: to run.
        capacity_items_per_s: closed-loop rate that a share of capacity is of; None where not needed.
    """

    request: Request
    reservation: Reservation
    on_event: Listener
    attempt: Attempt
    capacity_items_per_s: float | None = None

    def run(self) -> rows.Tables:
        """Return the rows of the trial; none for a preparation or a probe.

        Raises:
            PointError: when there is no number.
        """
        purpose = self.attempt.planned.purpose
        if purpose == "prepare":
            self._with_workers(self._prebuild, park=True)
            return rows.Tables({})
        if purpose == "fit":
            self._with_workers(self._prepare)
            return rows.Tables({})
        try:
            return self._tables(self._with_workers(self._measure, park=True))
        except _CutShort as cut:
            return self._tables(cut.measured)

    def _with_workers(self, work: Callable[[WorkerGroup], T], park: bool = False) -> T:
        """Start the workers and let them work; afterwards stop them, or park them for reuse."""
        reuse_key, slots = self._reuse_key, self.attempt.worker_slots
        parked = False
        try:
            self._enter("start")
            group = self.reservation.start_workers(
                slots,
                self.attempt.planned.point,
                self._label,
                reuse_key,
                self.request.cluster.start_timeout_s,
            )
            result = work(group)
            if park and reuse_key:
                self.reservation.park(slots, reuse_key)
                parked = True
            return result
        finally:
            if not parked:
                self.reservation.stop(slots)

    # ------------------------------------------------------------ the work of each purpose

    def _prebuild(self, group: WorkerGroup) -> None:
        """Build graph and engine plan, also for other nodes of the same kind."""
        self._enter("prepare")
        nodes = {slot.node for slot in self.attempt.planned.allowed_slots}
        cluster, seed = self.request.cluster, self.request.experiment.seed
        group.build(seed, cluster.prepare_timeout_s, nodes, self._prepares)

    def _prepare(self, group: WorkerGroup) -> rows.TrialWorkers:
        """Load the engines; for a probe of the batch size that is all."""
        self._enter("prepare")
        timeout_s = self.request.cluster.prepare_timeout_s
        prepared = group.prepare(
            self.request.experiment.seed, timeout_s, self._sharers(), self._prepares
        )
        batch_s = max(each.batch_s for each in prepared)
        self.on_event(BatchTimed(self.attempt.planned, batch_s))
        return rows.TrialWorkers(group.members, prepared, self.attempt.instances)

    def _measure(self, group: WorkerGroup) -> MeasuredTrial:
        """Load the engines, stream batches, and time the layers if asked for."""
        workers = self._prepare(group)
        batch_s = max(prepared.batch_s for prepared in workers.prepared)
        measure, arrivals = self.attempt.planned.point.measure, self._arrivals()
        least_s = STALL_BATCHES * batch_s
        if arrivals is None:
            limits = Limits.of(measure, batch_s)
        else:
            limits = open_limits(measure, batch_s, arrivals)
            least_s = max(least_s, STALL_BATCHES * gap_s(arrivals))
        stall_s = max(self.request.cluster.stall_timeout_s, least_s)
        if measure.row_every_s > 0:
            rows_of_soak = self._soak_rows(workers, limits)
            watch: StreamWatch = SoakWatch(
                group, self.attempt, limits, stall_s, self.on_event, rows=rows_of_soak
            )
        else:
            watch = StreamWatch(group, self.attempt, limits, stall_s, self.on_event, arrivals)
        streamed = watch.run()
        if streamed.ended_by is not None:
            raise _CutShort(MeasuredTrial(workers, streamed, limits, (), group.fresh))
        layers, notes = self._layers(group)
        notes += group.release()
        return MeasuredTrial(workers, streamed, limits, layers, group.fresh, notes)

    def _soak_rows(self, workers: rows.TrialWorkers, limits: Limits) -> SoakRows:
        """Return what keeps the blocks of a soak."""
        planned = self.attempt.planned
        blocks = max(1, round(planned.point.measure.row_every_s / limits.span_s))
        record = SoakRecord(
            len(workers.members), planned.point.batch_size, round(limits.span_s * 1e9), blocks
        )
        return SoakRows(planned, self.request.experiment.name, workers, record, self.on_event)

    def _arrivals(self) -> Arrivals | None:
        """Return what arrives in open loop, seeded by the trial; None for a closed loop."""
        planned = self.attempt.planned
        load = parse_load(planned.point.load)
        if load is None or load.arrivals == "closed":
            return None
        rate = load.items_per_s
        if load.share is not None:
            if self.capacity_items_per_s is None:
                raise Refused(
                    f"load={planned.point.load} is a share of a closed-loop rate that could not be "
                    "measured. Look at the row with load=closed, or give a rate: load=poisson(RATE)."
                )
            rate = load.share * self.capacity_items_per_s
        assert rate is not None
        return Arrivals(
            load.arrivals,
            rate,
            planned.point.engines,
            (self.request.experiment.seed, planned.trial),
            planned.point.measure.max_wait_ms,
            planned.point.measure.balancer == SHARED,
        )

    def _layers(self, group: WorkerGroup) -> tuple[Sequence[Layer], tuple[str, ...]]:
        """Return the time of each layer if asked for, and why there is none.

        A profile that fails costs no row, but its workers are not used again.
        """
        if not self.request.results.layers:
            return (), ()
        self._enter("layers")
        try:
            return group.layers(self.request.cluster.prepare_timeout_s), ()
        except PointError as error:
            self.reservation.stop(self.attempt.worker_slots)
            return (), (f"The layers were not timed: {error}",)

    def _tables(self, measured: MeasuredTrial) -> rows.Tables:
        workers, streamed = measured.workers, measured.streamed
        raw = self.request.results.samples == "all"
        prepared = rows.preparation_columns(workers, streamed.clocks)
        return rows.Tables(
            trial={
                **prepared,
                "notes": [*prepared["notes"], *streamed.notes, *measured.notes],
                **rows.measurement_columns(workers, streamed.summary),
                **decoder_columns(
                    self.attempt.planned.point, workers.prepared[0].model, streamed.summary.trial
                ),
                **self._verdict(measured),
                "fresh_processes": measured.fresh,
            },
            workers=rows.worker_rows(workers, streamed.summary, streamed.clocks),
            blocks=stream_rows.block_rows(streamed.summary, streamed.start_ns),
            samples=stream_rows.sample_rows(streamed.traces) if raw else (),
            layers=stream_rows.layer_rows(measured.layers),
            ended_by=streamed.ended_by,
        )

    def _verdict(self, measured: MeasuredTrial) -> rows.Columns:
        """Return verdict and flags; none for a soak that ended before its time."""
        streamed, trials = measured.streamed, self.request.experiment.trials
        if streamed.ended_by is not None:
            return {}
        return rows.verdict_columns(measured.workers, streamed, measured.limits, trials)

    # ------------------------------------------------------------ facts about the attempt

    @property
    def _reuse_key(self) -> str:
        """Which parked workers may be reused: of the same round and engine; "" for none.

        What is built does not depend on what a process has built before, so builders are kept.
        What a GPU computes does: with a second execution context of TensorRT in a process all of it
        ran 2.6 to 4 % slower on an H200, even the first, so workers of GPUs are not.
        """
        planned = self.attempt.planned
        if planned.purpose == "prepare":
            return f"prepare/{planned.point.engine}"
        if self.request.cluster.processes != "kept" or planned.point.device == "gpu":
            return ""
        return f"{planned.trial}/{planned.point.engine}"

    @property
    def _label(self) -> str:
        """Name of the trial in Ray's dashboard."""
        planned, point = self.attempt.planned, self.attempt.planned.point
        model = point.model.rsplit("/", 1)[-1]
        instances = f"x{point.instances}" if point.instances > 1 else ""
        return (
            f"{self.request.experiment.name}/{model}/{point.precision}/b{point.batch_size}"
            f"/w{point.workers}{instances}/t{planned.trial}"
        )

    def _sharers(self) -> Counter[str]:
        """Count the workers that share the memory of each node, those of other points too."""
        only_mine = self.request.cluster.isolation != "gpu"
        slots = self.attempt.slots if only_mine else self.reservation.slots
        return Counter(part.node for slot in slots for part in slot.divided(self.attempt.instances))

    def _prepares(self, step: str, detail: str) -> None:
        """Announce what a worker does to prepare; "" between two steps says nothing."""
        if step:
            self._enter("prepare", step.partition(" of '")[0], detail)

    def _enter(self, phase: str, step: str = "", detail: str = "") -> None:
        self.on_event(PhaseChanged(self.attempt.planned.number, phase, step, detail))
