"""The factors that stay the same while the number of workers grows."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from operator import attrgetter
from typing import Any

from raybench.experiment import CLOSED, DECLARED, parse_load


@dataclass(frozen=True)
class Series:
    """Every factor of a point but its number of workers; columns of `trials`.

    Attributes:
        balancer: "shared"; None for a queue each and in closed loop, which has none.
        power_limit_w: that the devices were set to; None where it was left as it was.
        prompt: tokens that a decoder reads at once; None for other models.
        context: tokens in the cache of a decoder's step; None for other models.
        new_tokens: after which its positions begin again; None for other models.
        cores: that feed each device; None without a pipeline.
    """

    model: str | None
    precision: str | None
    batch_size: int | None
    engine: str | None
    engine_version: str | None
    engine_options: str | None
    device: str | None
    inflight: int | None
    transfers: bool | None
    memory_limit_bytes: int | None
    preset: str | None
    simulated: bool | None
    environment_id: str | None
    method_version: int | None
    inputs: str | None
    load: str | None
    instances: int | None
    mps: bool | None
    balancer: str | None
    power_limit_w: float | None
    prompt: int | None
    context: int | None
    new_tokens: int | None
    pipeline: str | None
    cores: int | None

    @property
    def is_open(self) -> bool:
        """Whether items arrive at a rate of their own: throughput is what was offered, not what can be."""
        return self.load not in (None, CLOSED)


SERIES = tuple(field.name for field in fields(Series))
_WIDEST_FIRST = {"fp32": "0", "tf32": "1", "bf16": "2", "fp16": "3"}
_PRECISION, _LOAD = SERIES.index("precision"), SERIES.index("load")
_factors = attrgetter(*SERIES)


def without(series: Series, *factors: str) -> Series:
    """Return a copy with these factors set to None, as a key for series that differ in them."""
    return replace(series, **dict.fromkeys(factors))


def sort_key(series: Series) -> tuple[Any, ...]:
    """Return a key that sorts by factor: the widest precision first, loads by rate, None last."""
    values = list(_factors(series))
    values[_PRECISION] = _WIDEST_FIRST.get(series.precision or "", series.precision)
    values[_LOAD] = None if series.load is None else load_key(series.load)
    return tuple((value is None, 0 if value is None else value) for value in values)


def load_key(load: str) -> tuple[int, float, str]:
    """Return a key that sorts closed loop first, then shares of the capacity, then rates."""
    offered = parse_load(load)
    if offered is None:
        return 3, 0.0, load
    if not offered.is_open:
        return 0, 0.0, load
    if offered.share is not None:
        return 1, offered.share, load
    return 2, offered.items_per_s or 0.0, load


def device_name(stored: str) -> str:
    """Return the name of a device to print, from the name that rows hold."""
    first, space, rest = stored.partition(" ")
    return f"declared {rest}" if first == DECLARED and space else stored
