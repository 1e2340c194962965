"""Planning: the plan of a request, after everything that can be refused has been."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raybench.errors import ClusterError, EngineUnavailable
from raybench.experiment import expand
from raybench.models import source
from raybench.planning.plan import plan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from raybench.config.compose import Request
    from raybench.experiment import Experiment
    from raybench.planning.plan import Plan


def make_plan(request: Request, there_is: str) -> Plan:
    """The plan of a request, after everything that can be refused has been.

    Args:
        request: complete.
        there_is: the devices in words, for a refusal.

    Raises:
        UsageError: an unknown or broken model, or no point that can run on these devices.
    """
    experiment = request.experiment
    names = dict.fromkeys(name for grid in experiment.grids for name in grid["model"])
    for name in names:
        source.check(name, experiment.model)
    identities = {name: source.identity(name, experiment.model) for name in names}
    points = expand(experiment, request.devices, identities)
    made = plan(experiment, points, request.devices, request.cluster.isolation)
    if not made.steps:
        raise ClusterError(
            f"No point of {experiment.name!r} can run: {next(iter(made.infeasible.values()))} "
            f"{there_is}."
        )
    return made


def check_engines(experiment: Experiment, facts: Sequence[Mapping[str, Any]]) -> None:
    """Refuse engines that cannot run on a node that would have to run them.

    Args:
        experiment: with every engine settled.
        facts: about each node, from `Session.facts` or `nodes.here`.

    Raises:
        EngineUnavailable: naming node, library and way out.
    """
    for choice in experiment.engines.values():
        for node in facts:
            reason = node["missing"].get(choice.name)
            if reason is not None and node["offers"].get(choice.device, 0):
                where = f"On node {node['hostname']}: " if len(facts) > 1 else ""
                raise EngineUnavailable(f"{where}{reason}")
