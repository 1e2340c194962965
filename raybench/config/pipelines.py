"""A pipeline: what may be asked of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raybench.errors import ConfigError
from raybench.experiment import CLOSED, NO_PIPELINE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from raybench.config.settings import Settings

MOST_INFLIGHT = 128
"""Batches in flight; a pool of inputs has 256 batches at most."""


def check_pipelines(settings: Settings, grids: Sequence[Mapping[str, tuple[Any, ...]]]) -> None:
    """Refuse what a pipeline cannot feed, and cores that feed nothing.

    Raises:
        ConfigError: naming what does not go together.
    """
    fed = [grid for grid in grids if set(grid["pipeline"]) != {NO_PIPELINE}]
    for grid in grids:
        if grid not in fed and set(grid["cores"]) != {None}:
            raise ConfigError(
                f"cores={_written(grid['cores'])} are those that feed a device from a pipeline, and there is "
                "none. Add pipeline=jpeg, or leave cores out."
            )
    for grid in fed:
        for name, refused in _refused(settings, grid).items():
            if refused is not None:
                raise ConfigError(f"A pipeline and {name} do not go together: {refused}")


def _refused(settings: Settings, grid: Mapping[str, tuple[Any, ...]]) -> dict[str, str | None]:
    """Return why each of these cannot be fed; None where it is not asked for."""
    checks = {
        "a load in open loop": (
            any(load != CLOSED for load in grid["load"]) or settings.find_rate,
            "images are decoded ahead, not as they arrive. Leave load and find_rate out.",
        ),
        "transfers=off": (
            False in grid["transfers"],
            "without transfers no input reaches the device. Use transfers=on.",
        ),
        "instances above 1": (
            any(number != 1 for number in grid["instances"]),
            "the cores feed one engine a device. Use instances=1.",
        ),
        "a soak": (
            settings.measure.row_every_s > 0,
            "a soak keeps no time of every batch. Leave measure.row_every_s out.",
        ),
        f"inflight={max(grid['inflight'])}": (
            max(grid["inflight"]) > MOST_INFLIGHT,
            f"every batch on its way has a buffer, and there are few. Use at most {MOST_INFLIGHT}.",
        ),
        "cluster.isolation=gpu": (
            settings.cluster.isolation == "gpu",
            "points that run at once would decode on the same cores. Use cluster.isolation=node.",
        ),
        "scaling.baseline=pairs": (
            settings.scaling.baseline == "pairs",
            "pairs leave no fixed cores to decode on. Use scaling.baseline=one or solo.",
        ),
    }
    return {name: why if asked else None for name, (asked, why) in checks.items()}


def _written(cores: tuple[Any, ...]) -> str:
    texts = ["none" if number is None else str(number) for number in cores]
    return texts[0] if len(texts) == 1 else f"[{','.join(texts)}]"
