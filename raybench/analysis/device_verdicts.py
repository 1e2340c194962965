"""What is said of each device, rack and host of a fleet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from raybench.analysis.estimate import UNKNOWN, Estimate
from raybench.analysis.fleet import TOGETHER
from raybench.analysis.series import Series  # noqa: TC001 - get_type_hints reads it
from raybench.analysis.tables import as_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

ACCEPT, UNDECIDED, REJECT = "accept", "undecided", "reject"
OUTCOMES = (REJECT, UNDECIDED, ACCEPT)


@dataclass(frozen=True)
class DeviceVerdict:
    """One device at one point, alone or with all others.

    Attributes:
        name: host and number in words.
        series: factors of the point, with the product name as `device`.
        part: compute, memory or link, for a point that shows one alone; else None.
        trials: of this device.
        items_per_s: geometric mean over them.
        to_population: over the middle of all devices; of two, over the other one.
        to_baseline: over the baseline.
        to_group: over the middle of its own rack or host, where that was rejected.
        verdict: of `OUTCOMES`.
        slow_group: the rejected rack or host that explains the device, as it is not slower within it.
        smallest_visible: shortfall that would be found in 80 % of fleets.
        trials_needed: that would decide, if undecided; None for more than 1,000 or never.
        cause: what differs from the others; None if accepted.
        outputs_changed: whether this device computed other bits for the same batch after a window than
            before it, in any trial; it is then rejected whatever its rate.
    """

    name: str
    hostname: str | None
    rack: str | None
    gpu_uuid: str | None
    series: Series
    situation: str
    part: str | None
    trials: int
    items_per_s: float
    to_population: Estimate
    to_baseline: Estimate
    verdict: str
    smallest_visible: float | None
    to_group: Estimate = UNKNOWN
    slow_group: str | None = None
    trials_needed: int | None = None
    cause: str | None = None
    outputs_changed: bool = False

    @property
    def ratio(self) -> Estimate:
        """The worse of the ratios to population and baseline."""
        known = [one for one in (self.to_population, self.to_baseline) if one.value is not None]
        return min(known, key=lambda one: one.value or 0.0)


@dataclass(frozen=True)
class GroupVerdict:
    """One rack or host at one point that is slower than the others beyond the tolerance.

    Attributes:
        kind: rack or host.
        devices: of the group.
        to_population: mean of its devices over the middle of all.
    """

    kind: str
    name: str
    devices: int
    series: Series
    situation: str
    to_population: Estimate
    cause: str


@dataclass(frozen=True)
class JudgedDevice:
    """All verdicts of one device.

    Attributes:
        name: host and number in words.
        verdict: the worst of them.
        worst: the verdict that decides: of the worst ones alone before together, then the one with
            the lowest ratio.
        slow_in: parts in which it was rejected, where points show one alone.
        sound_in: parts in which it was accepted.
        sound_alone: whether it was accepted alone at the point that it was rejected at together.
    """

    name: str
    verdict: str
    worst: DeviceVerdict
    slow_in: tuple[str, ...]
    sound_in: tuple[str, ...]
    sound_alone: bool


@dataclass(frozen=True)
class AgreedBits:
    """What the outputs say of the devices.

    Attributes:
        known: devices whose outputs were hashed before and after a window.
        changed: names of devices whose outputs changed in a trial.
        compared: devices whose outputs could be compared with those of others.
        warnings: which devices differ from others and each repeat their own bits, a sentence each.
    """

    known: int = 0
    changed: tuple[str, ...] = ()
    compared: int = 0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Acceptance:
    """The verdicts on a fleet.

    Attributes:
        devices: one for each device, by name.
        groups: racks and hosts that were rejected, racks first.
        verdicts: one for each device, point and situation.
        tolerance: share that a device may be slower.
        hypotheses: that were judged together.
        unjudged: devices without a verdict, since nothing can be compared with them.
        failed_trials: without a number, on devices that are not known.
        missing: what could not be said and why, a sentence each.
        bits: what the outputs say of the devices.
    """

    devices: tuple[JudgedDevice, ...]
    groups: tuple[GroupVerdict, ...]
    verdicts: tuple[DeviceVerdict, ...]
    tolerance: float
    hypotheses: int
    unjudged: tuple[str, ...]
    failed_trials: int
    missing: tuple[str, ...]
    bits: AgreedBits

    def count(self, verdict: str) -> int:
        """Return how many devices have a verdict."""
        return sum(one.verdict == verdict for one in self.devices)

    @property
    def exit_code(self) -> int:
        """1 for a rejected device, host or rack; 3 for anything open; 0 when all are accepted."""
        if self.count(REJECT) or self.groups or self.bits.changed:
            return 1
        return 3 if self.count(UNDECIDED) or self.unjudged or self.failed_trials else 0

    def as_table(self) -> pa.Table:
        """Return a row for each device, point and situation."""
        return as_table(DeviceVerdict, self.verdicts)


def summed(name: str, verdicts: Sequence[DeviceVerdict]) -> JudgedDevice:
    """Return all verdicts of a device together."""

    def badness(verdict: DeviceVerdict) -> tuple[int, bool, float]:
        beside_others = verdict.situation == TOGETHER
        return OUTCOMES.index(verdict.verdict), beside_others, verdict.ratio.value or 0.0

    worst = min(verdicts, key=badness)
    slow = {v.part for v in verdicts if v.part and v.verdict == REJECT and not v.outputs_changed}
    sound = {v.part for v in verdicts if v.part and v.verdict == ACCEPT} - slow
    sound_alone = worst.verdict == REJECT and any(
        verdict.verdict == ACCEPT and verdict.series == worst.series for verdict in verdicts
    )
    return JudgedDevice(
        name, worst.verdict, worst, tuple(sorted(slow)), tuple(sorted(sound)), sound_alone
    )
