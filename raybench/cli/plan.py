"""`raybench plan`: shows the points of an experiment and the time they take; measures nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.config.compose import read
from raybench.execute.discovery import discover
from raybench.execute.progress_lines import describe_plan
from raybench.execute.run import plan_request, stored
from raybench.execute.trial_names import TrialNames
from raybench.planning.preparations import builds_ahead, preparations
from raybench.report.terminal.console import open_console, print_line
from raybench.text import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.planning.plan import PlannedTrial


def command(words: list[str]) -> int:
    """Print the plan of the experiment; return 0."""
    draft = read(words)
    with discover(draft.cluster) as cluster:
        request = draft.resolve(cluster.devices, cluster.unavailable)
        plan = plan_request(request, cluster)
        finals, searches = stored(request, cluster, plan)
    seed, isolation = request.experiment.seed, request.cluster.isolation
    console, names = open_console(), TrialNames(plan)
    missing = [planned for planned in plan.trials if planned.key not in finals]
    for line in (
        *describe_plan(request, plan, missing, searches.ahead()),
        *_to_build(missing),
        *[f"In this order (seed {seed}), isolation {isolation}:"] * bool(missing),
        *(f"  {planned.point.id}  {names.name(planned)}" for planned in missing),
    ):
        print_line(console, line)
    return 0


def _to_build(missing: Sequence[PlannedTrial]) -> list[str]:
    """Return a line with the number of engine plans that these trials need, if they need any.

    Only the node that measures knows which of them its cache has.
    """
    number = sum(builds_ahead(planned.point) for planned in preparations(missing))
    if not number:
        return []
    searched = any(p.point.largest and builds_ahead(p.point) for p in missing)
    more = ", and more to find the largest batch" * searched
    return [
        f"Needs {counted(number, 'engine plan')}{more}; those in the cache are not built again."
    ]
