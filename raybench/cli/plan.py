"""`raybench plan`: shows the points of an experiment and the time they take; starts nothing."""

from __future__ import annotations

from rich.console import Console

from raybench.config.compose import read
from raybench.execute.discovery import discover
from raybench.execute.progress_lines import describe_plan, title
from raybench.execute.run import plan_request


def command(words: list[str]) -> int:
    """Print the plan of the experiment; return 0."""
    draft = read(words)
    with discover(draft.cluster) as cluster:
        request = draft.resolve(cluster.devices, cluster.unavailable)
        plan = plan_request(request, cluster)
    seed, isolation = request.experiment.seed, request.cluster.isolation
    console = Console(highlight=False)
    for line in (
        *describe_plan(request, plan, len(plan.trials)),
        f"In this order (seed {seed}), isolation {isolation}:",
        *(f"  {planned.point.id}  {title(planned)}" for planned in plan.trials),
    ):
        console.print(line, markup=False, soft_wrap=True)
    return 0
