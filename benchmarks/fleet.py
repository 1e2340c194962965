"""Does `raybench accept` reject what is slow, as often as theory allows, and nothing else?

Simulated fleets of 128 devices in 16 racks of 8, three trials of each device, judged by the code that
judges rows (`raybench.stats.population`), devices and racks in one family:

- fleets without a slow device have any reject in at most 1 % (within chance where every device stands
  exactly at the tolerance, which is the least favourable case; with other noises than the normal, too, in a fleet that is sound);
- one device at 0.97, 0.95 and 0.93 is found as often as the noncentral t distribution says, and one at
  the tolerance itself is accepted in at most 5 %;
- a rack of 8 at 0.95 is rejected as a rack, and no other; one card at half its rate does not condemn its rack;
- with too few trials a device is undecided, and the number of trials that is then named decides in 80 %
  of fleets.

    python benchmarks/fleet.py [--fleets 1000]

Exit code 1 when a line fails. 1,000 fleets take a minute on a 2-core VM.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from _table import markdown
from scipy import stats

from raybench.stats import population

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEVICES, RACK = 128, 8
TOLERANCE = 0.03
GROUPS = np.arange(DEVICES) // RACK
FAMILY = DEVICES + DEVICES // RACK
SURE = 4.0
"""Standard errors of a share by which it may differ from theory by chance."""


@dataclass(frozen=True)
class Noise:
    """How rates vary.

    Attributes:
        trial: standard deviation between trials of a device, of the logarithm.
        device: standard deviation between sound devices.
        tails: degrees of freedom of the noise between trials, which is Student's t.
    """

    trial: float = 0.003
    device: float = 0.003
    tails: float = math.inf

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """Return noise between trials with the standard deviation `trial`."""
        if math.isinf(self.tails):
            return self.trial * rng.standard_normal(shape)
        scale = math.sqrt((self.tails - 2) / self.tails)
        return self.trial * scale * rng.standard_t(self.tails, shape)


@dataclass(frozen=True)
class Judged:
    """The verdicts on one fleet: which devices and racks were rejected, which devices accepted."""

    rejected: NDArray[np.bool_]
    accepted: NDArray[np.bool_]
    racks: NDArray[np.bool_]
    devices: population.Contrasts


def judge(
    rng: np.random.Generator,
    noise: Noise,
    slow: dict[int, float] | None = None,
    trials: int = 3,
    tolerance: float = TOLERANCE,
) -> Judged:
    """Return the verdicts on a fleet with these slow devices, whose ratios are exact."""
    true = noise.device * rng.standard_normal(DEVICES)
    for device, ratio in (slow or {}).items():
        true[device] = math.log(ratio)
    logs = true[:, None] + noise.draw(rng, (DEVICES, trials))
    fleet = population.moments(list(logs))
    devices = population.to_population(fleet)
    racks = population.groups_to_population(fleet, GROUPS)
    p = np.concatenate([population.p_values(c, tolerance) for c in (devices, racks)])
    rejected = population.holm(p)
    return Judged(
        rejected[:DEVICES], population.accepted(devices, tolerance), rejected[DEVICES:], devices
    )


def clean_rows(fleets: int) -> list[tuple[list[str], bool]]:
    """Return how often a fleet without a slow device has any reject."""
    least = Noise(device=0.0)
    cases = [
        ("sound, spread 0.3 %", Noise(), TOLERANCE),
        ("sound, spread 0.3 %, noise 1 %", Noise(0.01, 0.003), TOLERANCE),
        ("sound, spread 1 %, noise 0.5 %", Noise(0.005, 0.01), TOLERANCE),
        ("every device at the tolerance", least, 0.0),
        (
            "sound, spread 0.5 %, noise 1 % with heavy tails (t, 5 df)",
            Noise(0.01, 0.005, 5.0),
            TOLERANCE,
        ),
        ("every device at the tolerance, heavy tails", Noise(0.003, 0.0, 5.0), 0.0),
    ]
    rows = []
    for seed, (name, noise, tolerance) in enumerate(cases):
        rng = np.random.default_rng([1, seed])
        count = fleets if tolerance else 4 * fleets  # 1 % is to be kept apart from 2
        found = [judge(rng, noise, tolerance=tolerance) for _ in range(count)]
        share = float(np.mean([one.rejected.any() or one.racks.any() for one in found]))
        whole = float(np.mean([one.accepted.all() for one in found]))
        chance = SURE * math.sqrt(0.01 * 0.99 / count) if tolerance == 0 else 0.0
        bound = tolerance > 0 or math.isinf(noise.tails)
        fine = share <= 0.01 + chance or not bound
        allowed = "at most 1 %" if bound else "no bound: not normal"
        shown = f"{whole:.1%}" if tolerance else "-"
        rows.append(([name, f"{share:.2%}", allowed, shown, _word(fine)], fine))
    return rows


def power(ratio: float, noise: Noise, trials: int) -> float:
    """Return the chance of a reject as the first of Holm's steps: one-sided t, pooled noise."""
    error = noise.trial * math.sqrt((1 + math.pi / (2 * DEVICES)) / trials)
    df = DEVICES * (trials - 1)
    critical = stats.t.ppf(1 - population.FALSE_REJECTS / FAMILY, df)
    away = (math.log1p(-TOLERANCE) - math.log(ratio)) / error
    return float(1 - stats.nct.cdf(critical, df, away))


def found_rows(fleets: int) -> list[tuple[list[str], bool]]:
    """Return how often one slow device is found, beside theory."""
    rows = []
    for noise in (Noise(0.003, 0.0), Noise(0.01, 0.0)):
        for seed, ratio in enumerate((0.97, 0.96, 0.95, 0.94, 0.93)):
            rng = np.random.default_rng([2, seed, round(1000 * noise.trial)])
            found = [judge(rng, noise, {5: ratio}) for _ in range(fleets)]
            share = float(np.mean([one.rejected[5] for one in found]))
            theory = power(ratio, noise, 3)
            wrong = float(np.mean([np.delete(one.rejected, 5).any() for one in found]))
            taken = float(np.mean([one.accepted[5] for one in found]))
            chance = SURE * math.sqrt(max(theory * (1 - theory), 1 / fleets) / fleets)
            fine = abs(share - theory) <= chance
            fine &= wrong <= 0.01 and (ratio > 0.97 or taken <= 0.05 + SURE * 0.007)
            name = f"{ratio} among {DEVICES}, noise {noise.trial:.1%}"
            cells = [
                name,
                f"{share:.1%}",
                f"{theory:.1%}",
                f"{taken:.1%}",
                f"{wrong:.1%}",
                _word(fine),
            ]
            rows.append((cells, fine))
    return rows


def rack_rows(fleets: int) -> list[tuple[list[str], bool]]:
    """Return how often a slow rack is rejected as a rack, and a rack for one card."""
    rng = np.random.default_rng(3)
    slow = dict.fromkeys(range(16, 24), 0.95)
    found = [judge(rng, Noise(), slow) for _ in range(fleets)]
    named = float(np.mean([one.racks[2] for one in found]))
    wrong = float(np.mean([np.delete(one.racks, 2).any() for one in found]))
    card = [judge(rng, Noise(), {40: 0.5}) for _ in range(fleets)]
    condemned = float(np.mean([one.racks.any() for one in card]))
    alone = float(np.mean([one.rejected[40] and one.rejected.sum() == 1 for one in card]))
    return [
        (["rack of 8 at 0.95: named as a rack", f"{named:.1%}", _word(named >= 0.99)], named >= 0.99),
        (["another rack named", f"{wrong:.1%}", _word(wrong <= 0.01)], wrong <= 0.01),
        (["one card at 0.5: its rack named", f"{condemned:.1%}", _word(condemned <= 0.01)], condemned <= 0.01),
        (["that card alone rejected", f"{alone:.1%}", _word(alone >= 0.99)], alone >= 0.99),
    ]  # fmt: skip


def trials_rows(fleets: int) -> list[tuple[list[str], bool]]:
    """Return what too few trials give, and how often the number that is named decides."""
    rows = []
    noise = Noise(0.01, 0.0)
    for ratio in (0.95, 0.96, 0.985):
        rng = np.random.default_rng([4, round(1000 * ratio)])
        few = [judge(rng, noise, {5: ratio}, trials=2) for _ in range(fleets)]
        open_share = float(np.mean([not (one.rejected[5] or one.accepted[5]) for one in few]))
        exact = population.Contrasts(
            np.array([math.log(ratio)]), *(values[5:6] for values in _known(few[0].devices, noise))
        )
        (needed,) = population.trials_to_decide(exact, TOLERANCE, FAMILY)
        assert needed is not None
        many = [judge(rng, noise, {5: ratio}, trials=needed) for _ in range(fleets)]
        decided = float(
            np.mean([one.rejected[5] if ratio < 0.97 else one.accepted[5] for one in many])
        )
        fine = decided >= 0.80 - SURE * math.sqrt(0.16 / fleets)
        cells = [f"{ratio}, noise 1 %, 2 trials", f"{open_share:.1%}", str(needed), f"{decided:.1%}", _word(fine)]  # fmt: skip
        rows.append((cells, fine))
    return rows


def _known(contrasts: population.Contrasts, noise: Noise) -> list[NDArray[np.float64]]:
    """Return variances and degrees of freedom as they are when the noise is known exactly."""
    per_trial = np.full(DEVICES, noise.trial**2 * (1 + math.pi / (2 * DEVICES)))
    return [per_trial, contrasts.fixed, contrasts.trials, np.full(DEVICES, float(DEVICES))]


def _word(fine: bool) -> str:
    return "yes" if fine else "NO"


def main() -> int:
    """Print the tables; return 1 when a line fails."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--fleets", type=int, default=1000)
    fleets = parser.parse_args().fleets
    tables = [
        (["fleet", "any reject", "allowed", "every device accepted", "right"], clean_rows(fleets)),
        (["slow device", "found", "theory", "accepted", "another rejected", "right"], found_rows(fleets)),
        (["racks", "share", "right"], rack_rows(fleets)),
        (["device", "undecided", "trials named", "then decided", "right"], trials_rows(fleets)),
    ]  # fmt: skip
    for heads, rows in tables:
        print(*markdown(heads, [cells for cells, _ in rows], ", ".join(heads[1:-1])), sep="\n")
        print()
    return 0 if all(fine for _, rows in tables for _, fine in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
