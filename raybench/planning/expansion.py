"""Expands the axes of an experiment to its points."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

from raybench.errors import ConfigError, nearest
from raybench.experiment import ANY, AXES, LENGTHS, NO_PIPELINE, Point
from raybench.models.zoo import RECIPES
from raybench.planning.builds import refuse_builds, with_builds
from raybench.planning.lengths import cell_lengths, refuse_lengths

if TYPE_CHECKING:
    from collections.abc import Mapping

    from raybench.experiment import Experiment

MOST_TRIALS = 50_000
"""Most trials of a run: several days of the shortest ones."""


def worker_counts(devices: int) -> tuple[int, ...]:
    """Return the meaning of `workers: auto` on this many devices: 1, 2, 4 ... and all."""
    powers = [2**i for i in range(devices.bit_length()) if 2**i <= devices]
    return tuple(dict.fromkeys([*powers, devices])) if devices else ()


def _workers(entry: int | str, devices: int) -> tuple[int, ...]:
    """Return the numbers of workers that a value of the axis stands for; 1 without a device."""
    if isinstance(entry, int):
        return (entry,)
    return (worker_counts(devices) or (1,)) if entry == "auto" else (devices or 1,)


def expand(
    experiment: Experiment, devices: Mapping[str, int], identities: Mapping[str, str]
) -> tuple[Point, ...]:
    """Return all points of the experiment without repeats, in the order of its file.

    A point whose load is a share of capacity comes after that in closed loop, which is added where the
    file has none.

    Args:
        experiment: with every engine resolved.
        devices: number of devices of each kind, for `workers: auto`.
        identities: `model_identity` of each model on the axis.

    Raises:
        ConfigError: when nothing is left after `exclude`, a value is repeated in an axis, or there are
            more trials than a run can hold.
    """
    points: dict[str, Point] = {}
    _refuse_many(experiment)
    refuse_builds(experiment)
    refuse_lengths(experiment)
    _refuse_unknown_models(experiment, identities)
    for grid in experiment.grids:
        _refuse_repeats(grid)
        for cell in _cells(experiment, grid, devices):
            if not any(_matches(cell, rule) for rule in experiment.exclude):
                for point in with_builds(experiment, _point(experiment, cell, identities)):
                    if point.is_share:
                        points.setdefault(point.closed.id, point.closed)
                    points.setdefault(point.id, point)
    if not points:
        raise ConfigError(
            f"Experiment {experiment.name!r} has no points: its axes are empty or exclude drops "
            "every combination. Give each axis a value or loosen exclude."
        )
    return tuple(points.values())


def _refuse_unknown_models(experiment: Experiment, identities: Mapping[str, str]) -> None:
    """Refuse rules of `exclude` that name neither a model of the experiment nor one of the zoo."""
    known = {*identities, *RECIPES}
    for name in (name for rule in experiment.exclude for name in rule.get("model", ())):
        # a rule that several experiments share may name files and named models of the others
        elsewhere = name.endswith(".onnx") or "/" in name or ":" in name
        if name not in known and not elsewhere:
            raise ConfigError(
                f"exclude names model {name!r}, which is unknown. {nearest(name, known)}"
            )


def _refuse_many(experiment: Experiment) -> None:
    """Refuse grids that nobody could measure, before they fill the memory."""
    cells = sum(math.prod(len(values) for values in grid.values()) for grid in experiment.grids)
    if cells * experiment.trials * experiment.builds > MOST_TRIALS:
        builds = f" of {experiment.builds:,} builds" if experiment.builds > 1 else ""
        raise ConfigError(
            f"Experiment {experiment.name!r} has {cells:,} combinations in {experiment.trials:,} trials{builds}, "
            f"and a run takes {MOST_TRIALS:,} at most. Shorten an axis, or split the experiment."
        )


def _refuse_repeats(grid: Mapping[str, tuple[Any, ...]]) -> None:
    for axis, values in grid.items():
        seen: set[Any] = set()
        for value in values:
            if value in seen:
                raise ConfigError(
                    f"grid.{axis} holds {value!r} twice, and a point is measured once. "
                    "Name it once; use trials=N to repeat points."
                )
            seen.add(value)


def _cells(
    experiment: Experiment, grid: Mapping[str, tuple[Any, ...]], devices: Mapping[str, int]
) -> list[dict[str, Any]]:
    """Return the values of all axes for each cell of a grid."""
    cells: list[dict[str, Any]] = []
    others = [axis for axis in AXES if axis not in ("workers", "accelerator")]
    for values in itertools.product(*(grid[axis] for axis in others)):
        cell = dict(zip(others, values, strict=True))
        cell |= cell_lengths(cell)
        kind = experiment.engines[cell["engine"]].device
        for accelerator in _accelerators(kind, grid["accelerator"], devices):
            count = devices.get(kind if accelerator == ANY else f"{kind}/{accelerator}", 0)
            cells += [
                {**cell, "workers": workers, "device": kind, "accelerator": accelerator}
                for entry in grid["workers"]
                for workers in _workers(entry, count)
            ]
    return cells


def _accelerators(
    kind: str, written: tuple[str, ...], devices: Mapping[str, int]
) -> tuple[str, ...]:
    """Return the GPU types an axis stands for; `auto` is every type if there are several."""
    if kind != "gpu":
        return (ANY,)
    types = sorted(key.partition("/")[2] for key in devices if key.startswith(f"{kind}/"))
    every = types if len(types) > 1 else [ANY]
    names = (name for entry in written for name in (every if entry == "auto" else [entry]))
    return tuple(dict.fromkeys(names))


def _matches(cell: Mapping[str, Any], rule: Mapping[str, tuple[Any, ...]]) -> bool:
    return all(cell[axis] in values for axis, values in rule.items())


def _point(experiment: Experiment, cell: Mapping[str, Any], identities: Mapping[str, str]) -> Point:
    choice = experiment.engines[cell["engine"]]
    largest = cell["batch_size"] == "max"
    return Point(
        model=cell["model"],
        model_identity=identities[cell["model"]],
        model_settings=experiment.model,
        precision=cell["precision"],
        batch_size=1 if largest else cell["batch_size"],
        workers=cell["workers"],
        engine=choice.name,
        engine_options=choice.options,
        inflight=cell["inflight"],
        transfers=cell["transfers"],
        device=choice.device,
        memory_limit_bytes=experiment.memory_limit_bytes,
        measure=experiment.measure,
        preset=experiment.preset,
        largest=largest,
        accelerator=cell["accelerator"] if choice.device == "gpu" else ANY,
        load=cell["load"],
        instances=cell["instances"],
        power_limit_w=cell["power_limit_w"],
        **{axis: cell[axis] for axis in LENGTHS},
        pipeline=cell["pipeline"],
        cores=None if cell["pipeline"] == NO_PIPELINE else cell["cores"] or 1,
    )
