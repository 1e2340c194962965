"""Leads a request to its rows: plan, start the cluster, execute, read the rows."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from raybench.cluster import nodes
from raybench.cluster import session as sessions
from raybench.cluster.head_watch import watching
from raybench.cluster.metrics import RunMetrics
from raybench.errors import ClusterError, ResultsError
from raybench.execute.discovery import check_engines
from raybench.execute.events import (
    PhaseChanged,
    ProgressUpdated,
    RowWritten,
    TrialSkipped,
    TrialStarted,
    to_all,
)
from raybench.planning.plan import make_plan, still_final
from raybench.results.schema import FAILURES
from raybench.results.store import Store, build

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pyarrow as pa

    from raybench.cluster.session import Session
    from raybench.config.settings import Request
    from raybench.execute.discovery import DiscoveredCluster
    from raybench.execute.events import Event, Listener
    from raybench.execute.runner import DevicePool
    from raybench.execute.stop_request import StopRequest
    from raybench.planning.plan import Plan, PlannedTrial
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
        finals: status of every trial that need not be measured again, by point id and trial.
        differences: versions in which the nodes differ, one line each.
    """

    request: Request
    cluster: DiscoveredCluster
    plan: Plan
    store: Store
    environment_id: str
    finals: Mapping[tuple[str, int], str]
    differences: Sequence[str]

    @property
    def missing(self) -> list[PlannedTrial]:
        """Trials that have no final row yet."""
        return [planned for planned in self.plan.trials if planned.key not in self.finals]


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
    return make_plan(request.experiment, request.devices, isolation, cluster.describe())


def open_run(request: Request, cluster: DiscoveredCluster) -> RunContext:
    """Plan a run and check everything that can be refused before it starts.

    Raises:
        UsageError: for models, engines, nodes or a results folder that cannot be used.
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
    finals = still_final(plan, final_rows(store, request.rerun, environment_id))
    context = RunContext(request, cluster, plan, store, environment_id, finals, differences)
    if context.missing and cluster.session is None:
        sessions.check_unconnected()
    return context


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
def start_run(context: RunContext, command: Sequence[str]) -> Iterator[StartedRun]:
    """Create the run's folders and start Ray on this machine where no cluster was joined.

    Ray is stopped at the end. It is not started when every trial has its row.

    Args:
        context: from `open_run`.
        command: words of the command line, kept in the run's manifest.
    """
    request = context.request
    writer = context.store.start_run(manifest(request, context.plan, command))
    with contextlib.ExitStack() as stack:
        session = context.cluster.session
        if session is None and context.missing:
            dashboard = request.cluster.dashboard
            session = stack.enter_context(
                sessions.connect(None, request.devices, dashboard, _import_ahead)
            )
        elif context.missing:
            _import_ahead()
        rows = [row for node in context.cluster.facts for row in node.rows(context.environment_id)]
        writer.write_environment(rows)
        yield StartedRun(writer, session)


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
    target = RowTarget(writer, context.environment_id, context.finals)
    pool = None if session is None else _device_pool(context, session)
    try:
        with watching(session.head if session else "", stop.request):
            tally = ExperimentRunner(context.request, plan, target, pool, on_event, stop).execute()
    except BaseException as error:
        with contextlib.suppress(ResultsError):  # the full disk has been reported already
            writer.finish("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
        raise
    writer.finish("finished")
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


# ---------------------------------------------------------------- show


@dataclass(frozen=True)
class Run:
    """Rows of an experiment's points on these devices, with those of earlier runs.

    Attributes:
        folder: the results folder.
        rows: the `trials` table: one row a point and trial.
        workers: the `workers` table: one row a worker.
        failed: whether a row is a failure, or a point lost its devices.
        preset: name of the preset that was used.
    """

    folder: str
    rows: pa.Table
    workers: pa.Table
    failed: bool
    preset: str

    def table(self) -> str:
        """Return the table that the command line prints after a run."""
        text = io.StringIO()
        self.print_table(text)
        return text.getvalue()

    def print_table(self, file: IO[str] | None = None) -> None:
        """Print the table, in colour and fitted to the width when it goes to a terminal.

        Args:
            file: where to print; None is the standard output.
        """
        from raybench.analysis.repeatability import repeats
        from raybench.analysis.scaling import scaling
        from raybench.report.terminal.table import print_table

        next_steps = [f'python -c "import raybench; print(raybench.load({self.folder!r}))"']
        if self.preset == "quick":
            next_steps.insert(0, "preset=standard gives intervals and a verdict (minutes a point)")
        if _worth_repeating(self.rows):
            next_steps.insert(
                0, "rerun=unstable measures the unstable points again, on a quieter machine"
            )
        print_table(
            scaling(self.rows, self.workers),
            file,
            trials=repeats(self.rows),
            where=f"{self.folder}/trials (Parquet)",
            next_steps=next_steps,
        )


def _worth_repeating(rows: pa.Table) -> bool:
    """Return whether a point is unstable for another reason than its outputs."""
    from raybench.measure.flags import OF_OUTPUTS

    columns = zip(rows["verdict"].to_pylist(), rows["flags"].to_pylist(), strict=True)
    return any(
        verdict == "unstable" and not OF_OUTPUTS & set(flags or ()) for verdict, flags in columns
    )


def close_run(context: RunContext, failed: bool) -> Run:
    """Tidy the results folder and return the rows of the run's points."""
    from raybench.results.load import load, select

    context.store.tidy()
    ids = [point.id for point in context.plan.points]
    folder = context.request.results.dir
    rows, workers = (
        select(load(folder, table), ids, context.environment_id) for table in ("trials", "workers")
    )
    return Run(folder, rows, workers, failed, context.request.experiment.preset)
