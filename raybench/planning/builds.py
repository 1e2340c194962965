"""Separately built plans of a point: which points have several, and what cannot have any."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from raybench.engines import registry
from raybench.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.experiment import Experiment, Point


def refuse_builds(experiment: Experiment) -> None:
    """Refuse several builds where they say nothing, or where their number of points is not known.

    Raises:
        ConfigError: naming what stands against them.
    """
    count = experiment.builds
    if count == 1:
        return
    names = list(dict.fromkeys(choice.name for choice in experiment.engines.values()))
    if not any(_differ(name) for name in names):
        raise ConfigError(
            f"builds={count} would measure the same plan {count} times: {_alike(names)}. Leave builds out, "
            "or use engine=tensorrt."
        )
    if experiment.find_rate:
        raise ConfigError(
            f"builds={count} and find_rate=true do not go together: each build has a highest rate of its "
            "own. Leave one of them out."
        )
    if any("max" in grid["batch_size"] for grid in experiment.grids):
        raise ConfigError(
            f"builds={count} needs batches that are known: batch_size=max may end at another one for each "
            "build. Name the batch that was found."
        )


def with_builds(experiment: Experiment, point: Point) -> list[Point]:
    """Return the point with each of its builds; with one where all of them are alike."""
    count = experiment.builds if _differ(point.engine) else 1
    return [replace(point, build=build) for build in range(count)]


def builds_remarks(experiment: Experiment, points: Sequence[Point]) -> tuple[str, ...]:
    """Return what to say before the start of engines that are measured with one build."""
    alike = [name for name in dict.fromkeys(p.engine for p in points) if not _differ(name)]
    if experiment.builds == 1 or not alike:
        return ()
    return (f"builds={experiment.builds} measures one build here: {_alike(alike)}.",)


def _differ(engine: str) -> bool:
    return registry.get(engine).traits.builds_differ


def _alike(engines: Sequence[str]) -> str:
    named = " and ".join(repr(name) for name in engines)
    many = len(engines) > 1
    return (
        f"engine{'s' if many else ''} {named} {'choose' if many else 'chooses'} no kernels by timing them, so "
        "that a plan built again is the same"
    )
