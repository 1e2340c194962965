"""A verdict on every device of a fleet: against the others, and against a baseline.

Racks and hosts are judged as well, and a slow one is named before its devices. All hypotheses
together have one bound on false rejects; the statistics are those of `stats.population`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.analysis.causes import NOT_SEEN, FleetFacts, cause, usual_facts
from raybench.analysis.device_verdicts import (
    ACCEPT,
    REJECT,
    UNDECIDED,
    Acceptance,
    DeviceVerdict,
    GroupVerdict,
    summed,
)
from raybench.analysis.estimate import UNKNOWN, Estimate
from raybench.analysis.fleet import ALONE, TOGETHER, Fleet, fleet, natural_key, several_alone
from raybench.analysis.fleet_hypotheses import GROUPS, JudgedPoint, judge, reject
from raybench.analysis.same_bits import agreed_bits, with_changed
from raybench.errors import ConfigError
from raybench.stats import population
from raybench.text import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from raybench.analysis.rate_baseline import RateBaseline
    from raybench.stats.population import Contrasts

TOLERANCE = 0.03
MOST_TOLERANCE = 0.9
MANY_DEVICES = 64
"""Above it, what is usual of devices is that of all of them, the one that is explained included."""
_PARTS = {("gemm", False): "compute", ("copy", False): "memory", ("copy", True): "link"}
"""What a point is limited by, by its model and whether batches cross a link, which a core has not.

With transfers a GPU's gemm is limited by either, so that it shows no part alone.
"""


def accept(
    trials: pa.Table,
    workers: pa.Table,
    environment: pa.Table,
    *,
    baseline: RateBaseline | None = None,
    tolerance: float = TOLERANCE,
) -> Acceptance:
    """Judge every device of some rows.

    Args:
        trials: as `raybench.load` returns it, of one or more folders.
        workers: of the same folders.
        environment: of the same folders; names causes.
        baseline: what a sound device reaches; needed where there is one device only.
        tolerance: share that a device may be slower than the middle of all, and than the baseline.

    Raises:
        ConfigError: a tolerance out of range, no trial that counts, a single device without a
            baseline, or a baseline of another chip, precision or engine version.
    """
    if not 0 <= tolerance <= MOST_TOLERANCE:
        raise ConfigError(
            f"tolerance takes a share from 0 to {MOST_TOLERANCE}, not {tolerance!r}. Correct the value."
        )
    one = fleet(trials, workers)
    judged = _judged(one, baseline)
    reject(judged, tolerance)
    family = sum(len(c.df) for each in judged for c in each.hypotheses())
    facts = FleetFacts(one, workers, environment)
    verdicts: list[DeviceVerdict] = []
    groups: list[GroupVerdict] = []
    for each in judged:
        sayings = _PointVerdicts(one, each, facts, tolerance, family)
        groups += sayings.groups()
        verdicts += sayings.devices()
    place = {device.name: k for k, device in enumerate(one.devices)}
    bits = agreed_bits(one, trials, workers, environment)
    verdicts = [with_changed(each) if each.name in bits.changed else each for each in verdicts]
    by_device = sorted(verdicts, key=lambda verdict: place[verdict.name])
    devices = [summed(name, list(of)) for name, of in groupby(by_device, key=lambda v: v.name)]
    unjudged = tuple(
        each.name for each in one.devices if each.name not in {d.name for d in devices}
    )
    return Acceptance(
        devices=tuple(devices),
        groups=tuple(_ordered(groups)),
        verdicts=tuple(by_device),
        tolerance=tolerance,
        hypotheses=family,
        unjudged=unjudged,
        failed_trials=len(one.failed),
        missing=(
            *_unjudged(one, unjudged),
            *_missing(one, judged, baseline),
            *_other_plans(judged, workers["engine_sha256"].to_pylist()),
        ),
        bits=bits,
    )


def _judged(one: Fleet, baseline: RateBaseline | None) -> list[JudgedPoint]:
    """Return the points with something to judge; refuse rows without one."""
    if not one.points:
        raise ConfigError(
            "No device to judge: no good trial in which a device ran alone or with all others. "
            "Measure with raybench experiment=accept."
        )
    every = [judge(one, point, baseline) for point in one.points]
    judged = [each for each in every if each.hypotheses()]
    if not judged:
        _refuse(one, baseline)
    return judged


def accept_devices_alone(
    trials: pa.Table, workers: pa.Table, environment: pa.Table
) -> Acceptance | None:
    """Return the verdicts on a fleet whose devices were measured alone; None for other rows.

    Args:
        trials: as `raybench.load` returns it, of one or more folders.
        workers: of the same folders.
        environment: of the same folders.
    """
    several = several_alone(fleet(trials, workers))
    return accept(trials, workers, environment) if several else None


def _ordered(groups: Sequence[GroupVerdict]) -> list[GroupVerdict]:
    return sorted(groups, key=lambda group: (GROUPS.index(group.kind), natural_key(group.name)))


def _refuse(one: Fleet, baseline: RateBaseline | None) -> None:
    if baseline is not None:
        raise ConfigError(
            "The baseline has none of the points of these rows. Write one of the same experiment "
            "with raybench baseline DIR out=FILE."
        )
    name = one.devices[one.points[0].devices[0]].name
    raise ConfigError(
        f"One device ({name}) has no others to be compared with. Give baseline=FILE, which raybench "
        "baseline DIR out=FILE writes from rows of a sound device, or rows of more devices."
    )


class _PointVerdicts:
    """The verdicts at one point, in words."""

    def __init__(
        self, one: Fleet, judged: JudgedPoint, facts: FleetFacts, tolerance: float, family: int
    ) -> None:
        self._fleet, self._judged = one, judged
        self._tolerance, self._family = tolerance, family
        self._own = [c for c in (judged.population, judged.baseline) if c is not None]
        self._rejected = np.any([judged.rejected[id(c)] for c in self._own], axis=0)
        self._accepted = np.all([population.accepted(c, tolerance) for c in self._own], axis=0)
        decided = bool(self._accepted.all())
        self._facts = [] if decided and not judged.groupings else facts.at(judged.point)
        pairs = zip(self._facts, self._accepted, strict=False)
        self._sound = [facts for facts, ok in pairs if ok]
        # summed up once: a thousand devices may have to be explained, each by a thousand others
        usual_of = self._sound or (self._facts if len(self._facts) > MANY_DEVICES else [])
        self._usual = [usual_facts(usual_of)] if usual_of else []
        self._within = self._within_groups()

    def groups(self) -> list[GroupVerdict]:
        """Return the racks and hosts that are slower than the others.

        A host in a slow rack is left out, unless it is slower than its rack as well.
        """
        point, found = self._judged.point, []
        slowest_rack = np.zeros(len(point.devices))
        for grouping in self._judged.groupings:
            logs = grouping.contrasts.log_ratio
            ratios = _estimates(grouping.contrasts)
            for k in np.flatnonzero(self._judged.rejected[id(grouping.contrasts)]).tolist():
                inside = grouping.of == k
                if logs[k] > slowest_rack[inside].max() + math.log1p(-self._tolerance):
                    continue
                slowest_rack[inside] = logs[k]
                own, others = (
                    [self._facts[place] for place in np.flatnonzero(which).tolist()]
                    for which in (inside, ~inside)
                )
                group = GroupVerdict(
                    kind=grouping.kind,
                    name=grouping.names[k],
                    devices=len(own),
                    series=point.series,
                    situation=point.situation,
                    to_population=ratios[k],
                    cause=cause(own, others),
                )
                found.append(group)
        return found

    def devices(self) -> list[DeviceVerdict]:
        """Return a verdict for each device."""
        judged, point = self._judged, self._judged.point
        count = len(point.devices)
        to_population = _estimates(judged.population) if judged.population else [UNKNOWN] * count
        to_baseline = _estimates(judged.baseline) if judged.baseline else [UNKNOWN] * count
        visible = np.max(
            [population.smallest_visible(c, self._tolerance, self._family) for c in self._own],
            axis=0,
        )
        needed = self._trials_to_decide()
        over_link = bool(point.series.transfers) and point.kind != "cpu"
        part = _PARTS.get((point.series.model or "", over_link))
        verdicts = []
        for k, place in enumerate(point.devices):
            device = self._fleet.devices[place]
            verdict = DeviceVerdict(
                name=device.name,
                hostname=device.hostname,
                rack=device.rack,
                gpu_uuid=device.uuid,
                series=point.series,
                situation=point.situation,
                part=part,
                trials=int(judged.devices.count[k]),
                items_per_s=math.exp(judged.devices.mean[k]),
                to_population=to_population[k],
                to_baseline=to_baseline[k],
                verdict=self._verdict(k),
                smallest_visible=None if visible[k] >= 1 else float(visible[k]),
            )
            verdicts.append(self._explained(verdict, k, needed.get(k)))
        return verdicts

    def _trials_to_decide(self) -> dict[int, int | None]:
        """Return of each undecided device how many trials would decide all of its tests."""
        places = np.flatnonzero(~self._rejected & ~self._accepted).tolist()
        counts = [
            population.trials_to_decide(c.at(places), self._tolerance, self._family)
            for c in self._own
        ]
        return {k: _most(of) for k, of in zip(places, zip(*counts, strict=True), strict=True)}

    def _verdict(self, k: int) -> str:
        if self._rejected[k]:
            return REJECT
        return ACCEPT if self._accepted[k] else UNDECIDED

    def _explained(self, verdict: DeviceVerdict, k: int, needed: int | None) -> DeviceVerdict:
        """Return a verdict with its cause, and an open one with what would decide it."""
        if verdict.verdict == ACCEPT:
            return verdict
        name, ratio, slower = self._within.get(k, (None, UNKNOWN, True))
        return replace(
            verdict,
            to_group=ratio,
            slow_group=None if slower else name,
            trials_needed=needed,
            cause=self._cause(k),
        )

    def _cause(self, k: int) -> str:
        """Return what differs from sound devices, else from the baseline, where that says more."""
        judged = self._judged
        others = self._usual or [facts for j, facts in enumerate(self._facts) if j != k]
        of_baseline: list[Mapping[str, Any]] = [] if judged.sound is None else [judged.sound]
        to_others = judged.population is not None and judged.rejected[id(judged.population)][k]
        first, second = (others, of_baseline) if to_others else (of_baseline, others)
        words = [cause([self._facts[k]], side) for side in (first, second) if side]
        return next((text for text in words if text != NOT_SEEN), NOT_SEEN)

    def _within_groups(self) -> dict[int, tuple[str, Estimate, bool]]:
        """Return of each device in a rejected group: its name, the ratio within, whether slower."""
        found: dict[int, tuple[str, Estimate, bool]] = {}
        devices = self._judged.devices
        for grouping in self._judged.groupings:
            for k in np.flatnonzero(self._judged.rejected[id(grouping.contrasts)]).tolist():
                members = np.flatnonzero(grouping.of == k)
                contrasts = population.to_population(
                    population.Moments(
                        devices.mean[members], devices.variance[members], devices.count[members]
                    )
                )
                level = population.FALSE_REJECTS / self._family
                slower = population.p_values(contrasts, self._tolerance) <= level
                ratios = _estimates(contrasts)
                for place, ratio, slow in zip(members.tolist(), ratios, slower, strict=True):
                    name = f"{grouping.kind} {grouping.names[k]}"
                    found.setdefault(place, (name, ratio, bool(slow)))
        return found


def _most(needed: Sequence[int | None]) -> int | None:
    """Return the number of trials that decides all of several tests; None where one cannot be."""
    known = [count for count in needed if count is not None]
    return max(known) if len(known) == len(needed) else None


def _estimates(contrasts: Contrasts) -> list[Estimate]:
    ratios = np.exp(contrasts.log_ratio)
    lo, hi = contrasts.ends()
    known = contrasts.df > 0
    return [
        Estimate(float(v), float(a), float(b)) if ok else Estimate(float(v))
        for v, a, b, ok in zip(ratios, lo, hi, known, strict=True)
    ]


def _unjudged(one: Fleet, unjudged: Sequence[str]) -> list[str]:
    """Return what keeps a fleet from being accepted although no device is rejected."""
    sentences = []
    if unjudged:
        names = ", ".join(unjudged[:5]) + (f" and {len(unjudged) - 5} more" * (len(unjudged) > 5))
        sentences.append(
            f"Not judged: {names}. No other device of that product was measured at the same point, "
            "nor is it in a baseline."
        )
    if one.failed:
        sentences.append(
            f"{counted(len(one.failed), 'trial')} without a number, on devices that are then unknown. "
            f"The first: {one.failed[0]}"
        )
    return sentences


def _other_plans(judged: Sequence[JudgedPoint], plans: Sequence[str | None]) -> list[str]:
    """Return that the baseline ran other plans, whose speed differs by chance."""
    other = 0
    for each in judged:
        own = {plans[row] for rows in each.point.rows for row in rows} - {None}
        other += bool(each.plans and own and own.isdisjoint(each.plans))
    if not other:
        return []
    return [
        f"{counted(other, 'point')} ran another plan than the baseline's: where a builder chooses kernels by "
        "timing them, plans of one graph differ by chance. Measure with the cache of the baseline's node "
        "(RAYBENCH_CACHE), or builds=3 to see by how much."
    ]


def _missing(
    one: Fleet, judged: Sequence[JudgedPoint], baseline: RateBaseline | None
) -> tuple[str, ...]:
    sentences = []
    if not any(each.point.situation == ALONE for each in judged):
        sentences.append(
            "No device was measured alone: a neighbour may have slowed it. "
            "Measure with scaling.baseline=solo."
        )
    elif len(one.devices) > 1 and not any(p.situation == TOGETHER for p in one.points):
        sentences.append(
            "No trial of all devices together: what they share is not tried. Measure workers=auto."
        )
    short = {
        device
        for each in judged
        for device, logs in zip(each.point.devices, each.point.logs, strict=True)
        if len(logs) < 2
    }
    if short:
        sentences.append(
            f"{counted(len(short), 'device')} with a single trial at a point, which says nothing of its "
            "noise. Measure with trials=3."
        )
    unmatched = sum(each.baseline is None for each in judged)
    if baseline is not None and unmatched:
        sentences.append(
            f"{counted(unmatched, 'point')} of {len(judged)} not in the baseline: judged by the others "
            "alone."
        )
    unstable = sum(each.point.unstable for each in judged)
    if unstable:
        sentences.append(
            f"{counted(unstable, 'trial')} with the verdict unstable: their spread counts as noise."
        )
    return tuple(sentences)
