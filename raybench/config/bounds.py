"""Bounds of an experiment, on latency and on power: what may be asked of it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from raybench.errors import ConfigError
from raybench.experiment import CLOSED, MOST_ITEMS_PER_S

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from raybench.config.settings import Settings
    from raybench.experiment import MeasureSettings

LONGEST_MS = 1e7
PERCENTILES = (50.0, 99.9)
PERCENTILE_DEFAULT = 99.0


def with_bound(
    settings: Settings, measure: MeasureSettings, grids: Sequence[Mapping[str, tuple[Any, ...]]]
) -> MeasureSettings:
    """Return the settings of the measurement with the bound; `slo_ms` stands for `measure.slo_ms`.

    Raises:
        ConfigError: for a bound, percentile or demand that cannot be, a search without a bound, or a
            bound that nothing is measured against.
    """
    bound = measure.slo_ms if settings.slo_ms is None else settings.slo_ms
    own = settings.percentile != PERCENTILE_DEFAULT
    percentile = settings.percentile if own else measure.slo_percentile
    if settings.slo_ms is not None and not 0 < bound <= LONGEST_MS:
        raise ConfigError(
            f"slo_ms takes milliseconds above 0 and up to {LONGEST_MS:,.0f}, not {bound:g}. Correct "
            "the value."
        )
    low, high = PERCENTILES
    if not low <= percentile <= high:
        raise ConfigError(
            f"percentile takes a number from {low:g} to {high:g}, not {percentile:g}. Write percentile=99."
        )
    demand = settings.demand
    if demand is not None and not 0 < demand <= MOST_ITEMS_PER_S:
        raise ConfigError(f"demand takes items/s above 0, not {demand:g}. Correct the value.")
    if settings.find_rate and any("max" in grid["batch_size"] for grid in grids):
        raise ConfigError(
            "A search for the highest rate takes numbers as batch_size, not max. Write batch_size=8."
        )
    loads = {load for grid in grids for load in grid["load"]}
    _check_use(settings, bound, loads)
    return replace(measure, slo_ms=bound, slo_percentile=percentile)


def _check_use(settings: Settings, bound: float, loads: set[Any]) -> None:
    if settings.find_rate and not bound:
        raise ConfigError(
            "A search for the highest rate needs a latency bound. Write for example slo_ms=15 percentile=99."
        )
    if settings.find_rate and CLOSED not in loads:
        raise ConfigError(
            "A search for the highest rate starts from the closed loop. Leave load out, or add closed to it."
        )
    if settings.slo_ms and not settings.find_rate and loads == {CLOSED}:
        raise ConfigError(
            f"slo_ms={bound:g} bounds latencies in open loop, and every point is in closed loop. Write "
            "experiment=slo, or give a load such as load=0.8."
        )
    if settings.demand is not None and not settings.find_rate:
        raise ConfigError(
            "demand is answered by a search for the highest rate. Write experiment=slo slo_ms=15."
        )
    if not math.isfinite(bound):
        raise ConfigError(f"slo_ms must be a finite number, not {bound}.")


def rack_power(watts: float | None, grids: Sequence[Mapping[str, tuple[Any, ...]]]) -> float | None:
    """Return the power of a rack, of which a ladder of power limits says what it serves.

    Raises:
        ConfigError: for a power that cannot be, or without power limits.
    """
    if watts is None:
        return None
    if not 0 < watts < math.inf:
        raise ConfigError(f"rack_power_w takes watts above 0, not {watts:g}. Correct the value.")
    if all(limit is None for grid in grids for limit in grid["power_limit_w"]):
        raise ConfigError(
            "rack_power_w is answered by a ladder of power limits. Write experiment=power, or "
            "power_limit_w=[300,400,500]."
        )
    return watts
