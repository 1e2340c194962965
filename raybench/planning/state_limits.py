"""What a model whose state stays on the device cannot be given: arrivals, and content for its state."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from raybench.errors import ConfigError, ModelError
from raybench.experiment import CLOSED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from raybench.experiment import ModelSettings, Point
    from raybench.models.source import CheckedModel


def refuse_given_state(name: str, settings: ModelSettings, checked: CheckedModel) -> None:
    """Refuse values and real inputs for what only a model's own outputs renew.

    Raises:
        ModelError: naming the input.
    """
    kept = [tensor.input for tensor in checked.state]
    given = next((entry for entry in kept if entry in settings.values), None)
    if given is not None:
        raise ModelError(
            f"model.values.{given} is for an input of {name!r} that its own outputs renew: no batch holds it. "
            f"Leave it out, or set where it begins by model.ranges.{given}=[LOW, HIGH]."
        )
    if kept and settings.inputs:
        raise ModelError(
            f"model.inputs={settings.inputs!r} holds items for batches, and {name!r} goes on by itself with "
            f"what {kept[0]!r} and others hold on the device. Leave it out."
        )


def refuse_arrivals(points: Iterable[Point], checked: Mapping[str, CheckedModel]) -> None:
    """Refuse an open loop for a model each of whose batches goes on where the one before has ended.

    Raises:
        ConfigError: with what to leave out of the grid.
    """
    for point in points:
        if point.load != CLOSED and checked[point.model].state:
            rule = shlex.quote(f"exclude=[{{model: {point.model}, load: {point.load}}}]")
            raise ConfigError(
                f"load={point.load}: each batch of model {point.model!r} goes on where the one before has "
                "ended, so items cannot arrive on their own. Use load=closed; in a grid with other models, "
                f"set {rule}."
            )
