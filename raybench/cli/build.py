"""`raybench build`: puts graphs and plans of an experiment into this machine's cache; measures nothing."""

from __future__ import annotations

from dataclasses import replace

from raybench.cluster.session import local_devices
from raybench.config.compose import read
from raybench.execute.build_ahead import BuiltAhead, build_ahead, to_build, with_gpus_elsewhere
from raybench.execute.discovery import DiscoveredCluster
from raybench.execute.trial_names import TrialNames
from raybench.models.cache import cache_dir
from raybench.planning.plan import make_plan
from raybench.report.terminal.console import open_console, print_line
from raybench.results.schema import FAILURES
from raybench.text import counted


def command(words: list[str]) -> int:
    """Build what the points of an experiment need, one after another, in this process.

    Returns:
        0, or 1 when something failed, or nothing could be built.

    Raises:
        EngineUnavailable: an engine needs a GPU for that, and there is none here.
    """
    draft = read(words)
    cluster = DiscoveredCluster(None, local_devices(draft.cluster.gpus, draft.cluster.cpus))
    request = draft.resolve(cluster.devices, cluster.unavailable)
    devices = with_gpus_elsewhere(request.devices, request.experiment)
    isolation = request.cluster.isolation
    plan = make_plan(request.experiment, devices, isolation, cluster.describe())
    console, planned = open_console(), to_build(plan)
    if any(point.largest for point in plan.points):
        print_line(console, "Left out: batch_size=max, which is found by trying on the device.")
    if not planned:
        print_line(console, "There is nothing to build.")
        return 0
    names = TrialNames(replace(plan, trials=planned))
    done = []
    for one in build_ahead(planned, request.experiment.seed):
        done.append(one)
        name = names.name(replace(one.planned, purpose="measure"))
        print_line(console, f"{name}: {_outcome(one)}")
    plans = len({one.files for one in done if one.files})
    print_line(console, f"{counted(plans, 'plan')} in {cache_dir()}")
    statuses = {one.error.status if one.error else "built" for one in done}
    return int("built" not in statuses or not statuses.isdisjoint(FAILURES))


def _outcome(one: BuiltAhead) -> str:
    if one.error is not None:
        return f"{one.error.status}. {one.error}"
    if not one.files:
        return f"graph ready, {one.seconds:.1f} s"
    how = "found" if one.found else f"built, {one.seconds:.1f} s"
    return f"plan {how}, {one.plan_bytes / 1e6:.1f} MB"
