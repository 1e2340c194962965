"""The hypotheses about a fleet: each device, rack and host at each point, rejected together."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from raybench.analysis.fleet import natural_key
from raybench.stats import population

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from raybench.analysis.fleet import Fleet, FleetPoint
    from raybench.analysis.rate_baseline import RateBaseline
    from raybench.stats.population import Bools, Contrasts, Ints, Moments

GROUPS = ("rack", "host")
"""Kinds of groups, the larger first: the first slow one of a device is the one that is named."""


class Grouping(NamedTuple):
    """The devices of a point by rack or host; `of` is -1 for a device in no group."""

    kind: str
    names: tuple[str, ...]
    of: Ints
    contrasts: Contrasts


@dataclass
class JudgedPoint:
    """A point with its hypotheses.

    Attributes:
        devices: moments of their rates.
        population: each device against the others; None for a single one.
        baseline: each device against the baseline; None without one.
        sound: facts of the devices of the baseline; None without one.
        rejected: which hypotheses were, by the identity of their contrasts.
        plans: hashes of the plans that the baseline ran; empty without one.
    """

    point: FleetPoint
    devices: Moments
    population: Contrasts | None
    baseline: Contrasts | None
    groupings: tuple[Grouping, ...]
    sound: Mapping[str, Any] | None
    rejected: dict[int, Bools]
    plans: tuple[str, ...] = ()

    def hypotheses(self) -> list[Contrasts]:
        """Return everything that is judged here: devices, then racks and hosts."""
        own = [one for one in (self.population, self.baseline) if one is not None]
        return [*own, *(grouping.contrasts for grouping in self.groupings)]


def judge(one: Fleet, point: FleetPoint, baseline: RateBaseline | None) -> JudgedPoint:
    """Return the hypotheses about a point, none of them rejected yet.

    Raises:
        ConfigError: a baseline of another chip, precision or engine version.
    """
    devices = population.moments(list(point.logs))
    several = len(point.devices) > 1
    rate = None if baseline is None else baseline.rate_of(point)
    return JudgedPoint(
        point,
        devices,
        population.to_population(devices) if several else None,
        None if rate is None
        else population.to_baseline(devices, rate.log_rate, rate.variance, rate.df),
        tuple(_groupings(one, point, devices)) if several else (),
        None if rate is None else rate.facts,
        {},
        () if rate is None else rate.plans,
    )  # fmt: skip


def _groupings(one: Fleet, point: FleetPoint, devices: Moments) -> list[Grouping]:
    """Return racks and hosts that can be judged: two or more groups of two or more devices."""
    keys: dict[str, Callable[[int], str | None]] = {
        "rack": lambda device: one.devices[device].rack,
        "host": lambda device: one.devices[device].hostname,
    }
    found: list[Grouping] = []
    for kind in GROUPS:
        name_of = [keys[kind](device) for device in point.devices]
        sizes = Counter(name for name in name_of if name is not None)
        names = sorted((name for name, size in sizes.items() if size > 1), key=natural_key)
        number = {name: k for k, name in enumerate(names)}
        of = np.array([number.get(name or "", -1) if name else -1 for name in name_of])
        if len(names) > 1 and not any(_same(of, other.of) for other in found):
            contrasts = population.groups_to_population(devices, of)
            found.append(Grouping(kind, tuple(names), of, contrasts))
    return found


def _same(a: Ints, b: Ints) -> bool:
    """Return whether two groupings put the same devices together."""
    pairs = set(zip(a.tolist(), b.tolist(), strict=True))
    return len(pairs) == len(set(a.tolist())) == len(set(b.tolist()))


def reject(judged: Sequence[JudgedPoint], tolerance: float) -> None:
    """Reject hypotheses of all points together."""
    families = [contrasts for each in judged for contrasts in each.hypotheses()]
    p = np.concatenate([population.p_values(contrasts, tolerance) for contrasts in families])
    sizes = np.cumsum([len(contrasts.df) for contrasts in families])[:-1]
    rejected = dict(zip(map(id, families), np.split(population.holm(p), sizes), strict=True))
    for each in judged:
        each.rejected = {id(c): rejected[id(c)] for c in each.hypotheses()}
