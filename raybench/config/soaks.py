"""A soak: what may be asked of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raybench.errors import ConfigError
from raybench.experiment import CLOSED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from raybench.config.settings import Settings
    from raybench.experiment import MeasureSettings

MOST_ROWS = 100_000
"""Most rows of a soak and worker; each is a file of its own."""


def checked_soak(
    settings: Settings, measure: MeasureSettings, grids: Sequence[Mapping[str, tuple[Any, ...]]]
) -> MeasureSettings:
    """Return the settings of the measurement as they are, unless a soak cannot be measured so.

    Raises:
        ConfigError: for what needs the time of every batch, which a soak does not keep, and for times
            that do not fit one another.
    """
    every_s = measure.row_every_s
    if not every_s:
        return measure
    if every_s < measure.block_s:
        raise ConfigError(
            f"measure.row_every_s={every_s:g} is below measure.block_s={measure.block_s:g}, and a row "
            "is of whole blocks. Raise row_every_s, or lower block_s."
        )
    if measure.max_s / every_s > MOST_ROWS:
        raise ConfigError(
            f"measure.row_every_s={every_s:g} gives over {MOST_ROWS:,} rows in measure.max_s="
            f"{measure.max_s:g}. Raise row_every_s."
        )
    needs = {
        "results.samples=all": settings.results.samples == "all",
        "find_rate=true": settings.find_rate,
        "load in open loop": any(load != CLOSED for grid in grids for load in grid["load"]),
        "instances above 1": any(number != 1 for grid in grids for number in grid["instances"]),
    }
    for name, asked in needs.items():
        if asked:
            raise ConfigError(
                f"A soak (measure.row_every_s={every_s:g}) keeps sums in place of the time of every "
                f"batch, and {name} needs these times. Leave one of them out."
            )
    return measure
