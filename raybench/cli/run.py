"""Run: one command from the request to the table, and the two that only look."""

from __future__ import annotations

import contextlib
import gc
import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console

from raybench.cli.progress import Lines, LiveLine, duration, export_to, title
from raybench.cluster import nodes
from raybench.cluster import session as sessions
from raybench.cluster.metrics import RunMetrics
from raybench.errors import ClusterError, ResultsError
from raybench.execute.events import to_all
from raybench.execute.signals import Signals
from raybench.execute.stop_request import StopRequest
from raybench.machine import environment
from raybench.planning.plan import check_engines, make_plan, still_final
from raybench.results.schema import FAILURES
from raybench.results.store import Store, build
from raybench.stats import intervals

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import ExitStack

    from raybench.cluster.session import Session
    from raybench.config.settings import Request
    from raybench.execute.events import Listener
    from raybench.execute.runner import DevicePool, RowTarget
    from raybench.machine.node_facts import NodeFacts
    from raybench.planning.plan import Plan


def run(request: Request, joined: Session | None, stack: ExitStack) -> int:
    """Measure everything in the request that has no final row yet; print the table.

    Args:
        request: complete.
        joined: the cluster, when it had to be joined to compose the request.
        stack: owns the cluster from here on.

    Returns:
        0 when no row of the plan is a failure and no point lost its devices, else 1.
    """
    plan = make_plan(
        request.experiment,
        request.devices,
        request.cluster.isolation,
        sessions.describe_devices(joined, request.devices),
    )
    store = Store(request.results.dir)
    facts = _facts(request, joined)
    check_engines(request.experiment, facts)
    differences = nodes.differences(facts)
    if differences and request.cluster.uniform == "require":
        raise ClusterError(
            f"The nodes differ ({'. '.join(differences)}). Make them equal, leave some out with "
            "cluster.select, or measure all the same with cluster.uniform=warn."
        )
    environment_id = environment.environment_id(
        *(node.identity for node in nodes.with_devices(facts))
    )
    store.tidy()
    finals = still_final(plan, _finals(store, request, environment_id))
    console = Console(highlight=False)
    missing = [planned for planned in plan.trials if planned.key not in finals]
    _announce(console, request, plan, len(missing))
    if joined is not None and joined.attached:
        _announce_nodes(console, joined, differences)
    started = store.start_run(_manifest(request, plan))
    session = joined
    if session is None and missing:
        cluster = request.cluster
        session = stack.enter_context(
            sessions.connect(None, request.devices, cluster.dashboard, _load_ahead)
        )
        gc.freeze()  # what has been loaded stays: nobody need search it while points are measured
    elif missing:
        _load_ahead()
    gc.enable()
    started.write_environment([row for node in facts for row in node.rows(environment_id)])
    if session is not None and session.dashboard_url:
        token = "  asks for the token that `ray get-auth-token` prints" * session.asks_for_token
        console.print(f"Dashboard  {session.dashboard_url}{token}", markup=False, soft_wrap=True)
    stop = StopRequest()
    stack.enter_context(Signals(stop))  # after Ray has set its own handlers
    on_event = _listener(request, plan, console, session, stack)
    from raybench.execute.runner import LOST, RowTarget  # loaded by now, beside Ray's start

    target = RowTarget(started, environment_id, finals)
    pool = _device_pool(request, session, nodes.machine_kinds(facts))
    tally = _execute(request, plan, target, pool, on_event, stop)
    stack.pop_all().close()  # the live line and Ray end before the table
    store.tidy()
    _table(request, plan, environment_id)
    return 1 if any(tally.get(status) for status in (*FAILURES, LOST)) else 0


def _load_ahead() -> None:
    """Import what rows, looks and the table would wait for, before anything is measured."""
    from raybench.cluster import reservation  # noqa: F401
    from raybench.execute import runner  # noqa: F401
    from raybench.report.terminal import table  # noqa: F401 - with the analysis behind it

    # pyarrow looks for pandas when it is first given values
    build("environment", [{"hostname": ""}], {})
    intervals.t_quantile(0.975, 9)  # with scipy behind it


def _device_pool(
    request: Request, session: Session | None, node_kinds: Mapping[str, str]
) -> DevicePool | None:
    """Return the devices of the cluster; None without one, when nothing is to be measured."""
    if session is None:
        return None
    from raybench.cluster.reservation import reserve
    from raybench.execute.runner import DevicePool

    cluster = request.cluster
    return DevicePool(
        session.devices,
        node_kinds,
        lambda wanted: reserve(session.nodes, wanted, cluster.start_timeout_s, cluster.placement),
    )


def _execute(
    request: Request,
    plan: Plan,
    target: RowTarget,
    pool: DevicePool | None,
    on_event: Listener,
    stop: StopRequest,
) -> Mapping[str, int]:
    from raybench.execute.runner import ExperimentRunner

    try:
        tally = ExperimentRunner(request, plan, target, pool, on_event, stop).execute()
    except BaseException as error:
        with contextlib.suppress(ResultsError):  # the full disk has been reported already
            target.run.finish("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
        raise
    target.run.finish("finished")
    return tally


def _listener(
    request: Request, plan: Plan, console: Console, session: Session | None, stack: ExitStack
) -> Listener:
    if console.is_terminal:
        show = stack.enter_context(LiveLine(plan, console)).on_event
    else:
        show = Lines(plan, console).on_event
    if session is None or not (session.attached or session.dashboard_url):
        return show
    return to_all([show, export_to(RunMetrics(request.experiment.name, len(plan.trials)))])


def _facts(request: Request, joined: Session | None) -> list[NodeFacts]:
    """Return the facts about each node."""
    if joined is not None:
        return joined.facts
    return [nodes.local_facts(request.devices)]


def _finals(store: Store, request: Request, environment_id: str) -> dict[tuple[str, int], str]:
    """Steps that need not run again here, by (point_id, trial), with their status."""
    return {
        (point_id, trial): status
        for (point_id, trial, where), (status, verdict) in store.finals().items()
        if where == environment_id and not _again(request.rerun, status, verdict)
    }


def _again(rerun: str, status: str, verdict: str | None) -> bool:
    """Whether a final row is to be measured again."""
    if rerun == "unstable":
        return status in FAILURES or verdict == "unstable"
    return rerun == "all" or (rerun == "failed" and status in FAILURES)


def _manifest(request: Request, plan: Plan) -> dict[str, Any]:
    experiment = request.experiment
    return {
        "experiment": experiment.name,
        "question": experiment.question,
        "command": sys.argv[1:],
        "preset": experiment.preset,
        "trials": experiment.trials,
        "seed": experiment.seed,
        "points": [point.id for point in plan.points],
    }


def _announce(console: Console, request: Request, plan: Plan, missing: int) -> None:
    experiment = request.experiment
    held = ", ".join(f"{n} {kind}" for kind, n in request.devices.items() if n and "/" not in kind)
    console.print(f"{experiment.name}: {experiment.question}", markup=False, soft_wrap=True)
    console.print(
        f"{len(plan.points)} points, {experiment.trials} trial(s) each, preset {experiment.preset}, "
        f"devices: {held}",
        markup=False,
    )
    if missing < len(plan.trials):
        console.print(
            f"{len(plan.trials) - missing} of {len(plan.trials)} trials have their rows in "
            f"{request.results.dir}; rerun=all measures them again.",
            markup=False,
        )
    if missing:
        share = missing / len(plan.trials)
        least, most = plan.shortest_s * share, plan.longest_s * share
        console.print(f"{duration(least)} to {duration(most)} to go.", markup=False)
    for reason in dict.fromkeys(plan.infeasible.values()):
        console.print(f"Infeasible here: {reason}", markup=False, soft_wrap=True)


def _announce_nodes(console: Console, joined: Session, differences: list[str]) -> None:
    for node in joined.nodes:
        console.print(f"Node {node.hostname}: {node.describe_devices()}", markup=False)
    for line in differences:
        console.print(f"Nodes differ in {line}", markup=False, soft_wrap=True)


def _table(request: Request, plan: Plan, environment_id: str) -> None:
    from raybench.analysis.repeatability import repeats
    from raybench.analysis.scaling import scaling
    from raybench.report.terminal.table import print_table
    from raybench.results.load import load, select

    ids = [point.id for point in plan.points]
    folder = request.results.dir
    rows, workers = (
        select(load(folder, table), ids, environment_id) for table in ("trials", "workers")
    )
    steps = [f'python -c "import raybench; print(raybench.load({folder!r}))"']
    if request.experiment.preset == "quick":
        steps.insert(0, "preset=standard gives intervals and a verdict (minutes a point)")
    if "unstable" in rows["verdict"].to_pylist():
        steps.insert(0, "rerun=unstable measures the unstable points again, on a quieter machine")
    sys.stdout.write("\n")
    print_table(
        scaling(rows, workers),
        trials=repeats(rows),
        where=f"{folder}/trials (Parquet)",
        next_steps=steps,
    )


def show_plan(request: Request, joined: Session | None) -> None:
    """Print the points and the least time that they take; start nothing."""
    if joined is None:
        check_engines(request.experiment, [nodes.local_facts(request.devices)])
    plan = make_plan(
        request.experiment,
        request.devices,
        request.cluster.isolation,
        sessions.describe_devices(joined, request.devices),
    )
    console = Console(highlight=False)
    _announce(console, request, plan, len(plan.trials))
    seed, isolation = request.experiment.seed, request.cluster.isolation
    console.print(f"In this order (seed {seed}), isolation {isolation}:", markup=False)
    for step in plan.trials:
        console.print(f"  {step.point.id}  {title(step)}", markup=False, soft_wrap=True)


def show(folder: str) -> None:
    """Print the table of a results folder."""
    from raybench.analysis.repeatability import repeats
    from raybench.analysis.scaling import scaling
    from raybench.report.terminal.table import print_table
    from raybench.results.load import load

    rows = load(folder)
    made = scaling(rows, load(folder, "workers"))
    print_table(made, trials=repeats(rows), where=f"{folder}/trials (Parquet)")
