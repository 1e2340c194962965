"""Lengths in tokens on the axes: which models have them, and what they are where the axis says `auto`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raybench.errors import ConfigError
from raybench.experiment import LENGTHS
from raybench.models.zoo import lengths_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from raybench.experiment import Experiment


def cell_lengths(cell: Mapping[str, Any]) -> dict[str, int | None]:
    """Return the lengths of a cell's model; None for those that it does not have."""
    usual = lengths_of(cell["model"])
    return {
        axis: None if axis not in usual else usual[axis] if cell[axis] == "auto" else cell[axis]
        for axis in LENGTHS
    }


def refuse_lengths(experiment: Experiment) -> None:
    """Refuse a length that no model of the experiment has, or that is given in two ways.

    Raises:
        ConfigError: naming the axis and the models that have it.
    """
    models = dict.fromkeys(name for grid in experiment.grids for name in grid["model"])
    for axis in LENGTHS:
        given = next((v for grid in experiment.grids for v in grid[axis] if v != "auto"), None)
        owners = [name for name in models if axis in lengths_of(name)]
        if given is not None and not owners:
            raise ConfigError(
                f"{axis}={given} is a length in tokens that {_named(models)} not have. Leave it out, or "
                f"use model={_EXAMPLES[axis]}."
            )
        if axis in experiment.model.shapes and owners:
            size = experiment.model.shapes[axis]
            raise ConfigError(
                f"model.shapes.{axis}={size} is an axis for {owners[0]!r}. Write {axis}={size} instead."
            )


_EXAMPLES = {
    "prompt": "decoder_125m_prefill",
    "context": "decoder_125m_step",
    "new_tokens": "decoder_125m_step",
}


def _named(models: Mapping[str, None]) -> str:
    names = [repr(name) for name in models]
    return f"{names[0]} does" if len(names) == 1 else f"{', '.join(names)} do"
