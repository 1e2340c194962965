"""Leads a request to its rows: plan, start the cluster, execute, read the rows."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from raybench.cluster import local, nodes, session_folders
from raybench.cluster import session as sessions
from raybench.cluster.head_watch import watching
from raybench.cluster.metrics import RunMetrics
from raybench.errors import ClusterError, ResultsError
from raybench.execute.discovery import check_engines, check_queue
from raybench.execute.events import (
    PhaseChanged,
    ProgressUpdated,
    RowWritten,
    TrialSkipped,
    TrialStarted,
    to_all,
)
from raybench.execute.power_limits import check_boards, check_limits
from raybench.planning.plan import make_plan, still_final
from raybench.planning.rate_searches import FACTS, WHOLE, RateSearches, facts_of
from raybench.results.load import load
from raybench.results.schema import FAILURES
from raybench.results.storage import FORMAT_FILE
from raybench.results.store import Store, build

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from raybench.cluster.session import Session
    from raybench.config.settings import Request
    from raybench.execute.discovery import DiscoveredCluster
    from raybench.execute.events import Event, Listener
    from raybench.execute.runner import DevicePool
    from raybench.execute.stop_request import StopRequest
    from raybench.planning.plan import Plan, PlannedTrial
    from raybench.results.leases import HeldLease, Lease
    from raybench.results.store import RunWriter


@dataclass(frozen=True)
class RunContext:
    """A planned and checked run, of which nothing has started.

    Attributes:
        request: what to measure.
        cluster: the devices.
        plan: the trials, in order.
        store: the results folder.
        environment_id: of the rows.
        lease: what this run measures and others leave out.
        finals: status of every trial that need not be measured again, by point id and trial.
        elsewhere: who measures a trial without a final row instead, by point id and trial; a search
            as trial `WHOLE`.
        differences: versions in which the nodes differ, one line each.
        searches: for the highest rate of each point, where the experiment asks for them.
    """

    request: Request
    cluster: DiscoveredCluster
    plan: Plan
    store: Store
    environment_id: str
    lease: HeldLease
    finals: Mapping[tuple[str, int], str]
    elsewhere: Mapping[tuple[str, int], Lease]
    differences: Sequence[str]
    searches: RateSearches

    @property
    def missing(self) -> list[PlannedTrial]:
        """Trials without a final row, except those that other drivers measure."""
        decided = {*self.finals, *self.elsewhere}
        return [planned for planned in self.plan.trials if planned.key not in decided]


@dataclass(frozen=True)
class StartedRun:
    """A run whose cluster is up and whose environment is stored.

    Attributes:
        writer: takes the rows.
        session: the cluster; None when every trial has its row already.
    """

    writer: RunWriter
    session: Session | None


# ---------------------------------------------------------------- plan


def plan_request(request: Request, cluster: DiscoveredCluster) -> Plan:
    """Return the points and trials of a request, in order.

    Engines are checked on this machine only: facts about the nodes of a cluster take seconds.

    Raises:
        UsageError: for an unknown or broken model, an engine that is missing on this machine, or
            when no point can run on these devices.
    """
    if cluster.session is None:
        check_engines(request.experiment, cluster.facts)
    isolation = request.cluster.isolation
    available, lacking = cluster.describe(), cluster.lacking
    plan = make_plan(request.experiment, request.devices, isolation, available, lacking)
    check_queue(plan.points, cluster.session)
    check_limits(plan.points)
    return plan


@contextlib.contextmanager
def open_run(request: Request, cluster: DiscoveredCluster) -> Iterator[RunContext]:
    """Plan a run, check everything that can be refused before it starts, and take its trials.

    Raises:
        UsageError: for models, engines, nodes or a results folder that cannot be used, or when
            other drivers measure all that is missing.
    """
    plan = plan_request(request, cluster)
    store = Store(request.results.dir)
    facts = cluster.facts
    if cluster.session is not None:  # this machine's engines have been checked with the plan
        check_engines(request.experiment, facts)
    differences = nodes.differences(facts)
    if differences and request.cluster.uniform == "require":
        raise ClusterError(
            f"The nodes differ ({'. '.join(differences)}). Make them equal, leave some out with "
            "cluster.select, or measure all the same with cluster.uniform=warn."
        )
    environment_id = nodes.environment_id(facts)
    store.tidy()
    wanted = _trials_of(request, plan)
    with store.claim(environment_id, wanted) as lease:
        # read after the claim: what another driver measured before has its row by now
        every = final_rows(store, request.rerun, environment_id)
        searches = searches_of(request, plan, every, environment_id)
        finals = still_final(plan, every)
        ended = finals.keys() | (searches_in(plan) - searches.unfinished())
        lease.keep(wanted - ended)
        elsewhere = {key: other for key, other in lease.others.items() if key not in ended}
        searches.leave(elsewhere.keys() & searches_in(plan))
        plan = replace(plan, trials=(*plan.trials, *searches.asked()))
        context = RunContext(
            request, cluster, plan, store, environment_id, lease, finals, elsewhere, differences,
            searches,
        )  # fmt: skip
        if elsewhere and not lease.lease.trials:
            raise ResultsError(
                f"All that is missing in {store.files.root!r} is measured by {_drivers(elsewhere)}. "
                "Wait for its rows, or measure into another folder with results.dir=PATH."
            )
        check_boards([planned.point for planned in context.missing], cluster.session)
        if context.missing and cluster.session is None:
            sessions.check_unconnected()
            local.check_room(request.devices)
        yield context


def stored(
    request: Request, cluster: DiscoveredCluster, plan: Plan
) -> tuple[Mapping[tuple[str, int], str], RateSearches]:
    """Return the status of every trial that a run would not measure again, and its searches.

    Writes nothing. A folder that does not exist has no rows, and a bucket is not asked.
    """
    if not os.path.isfile(os.path.join(request.results.dir, FORMAT_FILE)):
        return {}, RateSearches(request.experiment, plan, {})
    store, environment_id = Store(request.results.dir), nodes.environment_id(cluster.facts)
    every = final_rows(store, request.rerun, environment_id)
    return still_final(plan, every), searches_of(request, plan, every, environment_id)


def searches_of(
    request: Request, plan: Plan, finals: Mapping[tuple[str, int], str], environment_id: str
) -> RateSearches:
    """Return the searches of a run, with the final rows that the store holds of them."""
    rows: dict[tuple[str, int], Mapping[str, Any]] = {}
    if request.experiment.find_rate and finals:
        columns = ["run_id", "point_id", "trial", "environment_id", *FACTS]
        stored = load(request.results.dir).select(columns).sort_by("run_id").to_pylist()
        here = [row for row in stored if row["environment_id"] == environment_id]
        found = facts_of(here).items()
        # what was infeasible for lack of devices may run when they are back
        rows = {k: row for k, row in found if k in finals and row["status"] != "infeasible"}
    return RateSearches(request.experiment, plan, rows)


def _trials_of(request: Request, plan: Plan) -> set[tuple[str, int]]:
    """Return the trials that a run writes rows of, those that cannot run here, too, and its searches."""
    every = range(request.experiment.trials)
    outside = {(point_id, trial) for point_id in plan.infeasible for trial in every}
    return {planned.key for planned in plan.trials} | outside | searches_in(plan)


def searches_in(plan: Plan) -> set[tuple[str, int]]:
    """Return what stands for each search of a plan among the trials that drivers share."""
    return {(plan.points[index].id, WHOLE) for index in plan.searched}


def _drivers(elsewhere: Mapping[tuple[str, int], Lease]) -> str:
    return ", ".join({lease.run_id: str(lease) for lease in elsewhere.values()}.values())


def final_rows(store: Store, rerun: str, environment_id: str) -> dict[tuple[str, int], str]:
    """Return the status of every trial that need not run again here, by point id and trial.

    Args:
        store: the results folder.
        rerun: which final rows to measure again: none, failed, unstable or all.
        environment_id: of these devices; rows of others do not count.
    """
    return {
        (point_id, trial): status
        for (point_id, trial, where), (status, verdict) in store.finals().items()
        if where == environment_id and not _measured_again(rerun, status, verdict)
    }


def _measured_again(rerun: str, status: str, verdict: str | None) -> bool:
    if rerun == "unstable":
        return status in FAILURES or verdict == "unstable"
    return rerun == "all" or (rerun == "failed" and status in FAILURES)


# ---------------------------------------------------------------- start


@contextlib.contextmanager
def start_run(
    context: RunContext, command: Sequence[str], stop: StopRequest
) -> Iterator[StartedRun]:
    """Create the run's folders and start Ray on this machine where no cluster was joined.

    At the end Ray is stopped and the manifest says how the run ended. Ray is not started when every
    trial has its row.

    Args:
        context: from `open_run`.
        command: words of the command line, kept in the run's manifest.
        stop: asks the run to stop; not heard during the end.
    """
    run_id = context.lease.lease.run_id
    writer = context.store.start_run(manifest(context.request, context.plan, command), run_id)
    context.lease.on_lost = stop.request
    state, resources = "failed", contextlib.ExitStack()
    try:
        session = _connect(context, resources)
        stop.check()  # Ray may have dropped the exception of a signal
        rows = [row for node in context.cluster.facts for row in node.rows(context.environment_id)]
        writer.write_environment(rows)
        yield StartedRun(writer, session)
        state = "finished"
    except KeyboardInterrupt:
        state = "interrupted"
        raise
    finally:
        with stop.held(), contextlib.suppress(ResultsError):  # a full disk is reported already
            resources.close()
            writer.finish(state)


def _connect(context: RunContext, resources: contextlib.ExitStack) -> Session | None:
    """Return the cluster to measure on, started here where none was joined; None without trials."""
    session, request = context.cluster.session, context.request
    if not context.missing:
        session_folders.remove_abandoned()  # of a run that was killed after its last row
        return session
    if session is not None:
        _import_ahead()
        return session
    dashboard = request.cluster.dashboard
    started = sessions.connect(None, request.devices, dashboard, _import_ahead)
    return resources.enter_context(started)


def manifest(request: Request, plan: Plan, command: Sequence[str]) -> dict[str, Any]:
    """Return what the run's manifest says of the request."""
    experiment = request.experiment
    return {
        "experiment": experiment.name,
        "question": experiment.question,
        "command": list(command),
        "preset": experiment.preset,
        "trials": experiment.trials,
        "seed": experiment.seed,
        "points": [point.id for point in plan.points],
    }


def _import_ahead() -> None:
    """Import what rows, snapshots and the table need, before anything is measured."""
    from raybench.cluster import reservation  # noqa: F401
    from raybench.execute import runner  # noqa: F401
    from raybench.report.terminal import table  # noqa: F401 - with the analysis behind it

    # pyarrow imports pandas when it first converts values
    build("environment", [{"hostname": ""}], {})
    import scipy.special  # noqa: F401 - what intervals import on first use


# ---------------------------------------------------------------- execute


def execute(
    context: RunContext, started: StartedRun, on_event: Listener, stop: StopRequest
) -> bool:
    """Measure every trial without a final row.

    Args:
        context: from `open_run`.
        started: from `start_run`.
        on_event: receives every event; so do the metrics of a cluster.
        stop: asks the run to stop.

    Returns:
        True when a row of the plan is a failure, or a point lost its devices.

    Raises:
        KeyboardInterrupt: when the run was asked to stop; its rows are kept.
        HeadLost: when the cluster's head node went away; rows that were written are kept.
        ResultsError: when rows cannot be written.
    """
    # heavy: see _import_ahead
    from raybench.execute.runner import LOST, ExperimentRunner, RowTarget

    session, writer, plan = started.session, started.writer, context.plan
    if session is not None and (session.attached or session.dashboard_url):
        metrics = RunMetrics(context.request.experiment.name, len(plan.trials))
        on_event = to_all([on_event, export_to(metrics)])
    shares = any(planned.point.is_share for planned in context.missing)
    rates = context.store.rates(context.environment_id) if shares else {}
    target = RowTarget(
        writer,
        context.environment_id,
        context.finals,
        context.searches,
        context.elsewhere.keys(),
        rates,
    )
    pool = None if session is None else _device_pool(context, session)
    with watching(session.head if session else "", stop.request):
        tally = ExperimentRunner(context.request, plan, target, pool, on_event, stop).execute()
    return any(tally.get(status) for status in (*FAILURES, LOST))


def _device_pool(context: RunContext, session: Session) -> DevicePool:
    from raybench.cluster.reservation import reserve
    from raybench.execute.runner import DevicePool

    settings = context.request.cluster
    return DevicePool(
        session.devices,
        nodes.machine_kinds(context.cluster.facts),
        lambda wanted: reserve(session.nodes, wanted, settings.start_timeout_s, settings.placement),
    )


def export_to(metrics: RunMetrics) -> Listener:
    """Return a listener that passes events on to Ray's metrics."""

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
