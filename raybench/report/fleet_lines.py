"""The verdicts on a fleet in words: slow racks and hosts first, then devices, then all others."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from raybench.analysis.accelerators import arithmetic_unit, peak
from raybench.analysis.device_verdicts import ACCEPT, OUTCOMES, REJECT, UNDECIDED
from raybench.analysis.fleet import SITUATIONS, TOGETHER
from raybench.analysis.same_bits import CHANGED
from raybench.report.formatting import number
from raybench.report.labels import Naming
from raybench.stats.population import FALSE_REJECTS
from raybench.text import agreeing, counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.analysis.device_verdicts import Acceptance, DeviceVerdict, JudgedDevice
    from raybench.analysis.estimate import Estimate

TITLES = ("device", "to the others", "to the baseline", "verdict", "trials", "at", "cause")
RIGHT = (False, True, True, False, True, False, False)
LISTED = {REJECT: 64, UNDECIDED: 32, ACCEPT: 16}
"""Devices of a verdict that have lines of their own; of more accepted ones none has."""


@dataclass(frozen=True)
class FleetLine:
    """One line of the table: a rack, a host, a device, or several devices that need no more words.

    Attributes:
        cells: in the order of `TITLES`.
        verdict: of `OUTCOMES`, for its colour.
    """

    cells: tuple[str, ...]
    verdict: str


def titles(acceptance: Acceptance) -> tuple[str, ...]:
    """Return the titles of the columns; of two devices each is compared with the other."""
    first, others, *rest = TITLES
    return first, "to the other" if len(acceptance.devices) == 2 else others, *rest


def fleet_lines(acceptance: Acceptance) -> list[FleetLine]:
    """Return the lines of the table."""
    naming = Naming([verdict.series for verdict in acceptance.verdicts])
    lines = _groups(acceptance, naming)
    explained = Counter(one.worst.slow_group for one in acceptance.devices if _is_explained(one))
    for name, count in explained.items():
        kind = str(name).split()[0]
        why = f"as the {kind}, not slower within it"
        lines.append(_line(f"{counted(count, 'device')} of {name}", verdict=REJECT, cause=why))
    for verdict in OUTCOMES:
        devices = [one for one in acceptance.devices if one.verdict == verdict]
        devices = sorted((one for one in devices if not _is_explained(one)), key=_ratio)
        most = LISTED[verdict]
        shown = devices[:most] if len(devices) <= most or verdict != ACCEPT else []
        lines += [_device(one, naming) for one in shown]
        if devices[len(shown) :]:
            lines.append(_others(devices[len(shown) :], verdict))
    return lines


def _is_explained(one: JudgedDevice) -> bool:
    """Return whether a device is rejected with its rack or host, and no slower within it."""
    return one.verdict == REJECT and one.worst.slow_group is not None


def _ratio(one: JudgedDevice) -> float:
    return one.worst.ratio.value or 0.0


def heading(acceptance: Acceptance) -> list[str]:
    """Return what was judged, and what can be seen at all."""
    verdicts = acceptance.verdicts
    hosts = len({verdict.hostname for verdict in verdicts})
    naming = Naming([verdict.series for verdict in verdicts])
    points = len({verdict.series for verdict in verdicts})
    several = f"{counted(points, 'point')}, " if points > 1 else ""
    situations = [name for name in SITUATIONS if any(v.situation == name for v in verdicts)]
    trials = sorted({verdict.trials for verdict in verdicts})
    each = f"{trials[0]} to {trials[-1]} trials" if len(trials) > 1 else counted(trials[0], "trial")
    lines = [
        f"{counted(len(acceptance.devices), 'device')} on {counted(hosts, 'host')}: "
        f"{several}{naming.same}; {' and '.join(situations)}, {each} of each.",
        f"Tolerance {100 * acceptance.tolerance:g} %: rejected is what is slower by more beyond doubt, "
        "accepted what is not.",
    ]
    visible = sorted(v.smallest_visible for v in verdicts if v.smallest_visible is not None)
    if visible:
        middle = visible[len(visible) // 2]
        lines.append(f"A shortfall of {100 * middle:.1f} % would be found in 80 of 100 fleets.")
    return [*lines, *_part_rates(acceptance)]


_PARTS = ("compute", "memory", "link")
GEMM_OPERATIONS, COPY_BYTES = 2**32, 2**20
"""Of an item of `gemm`, and of one of `copy` each way: the report does not read models."""


def _part_rates(acceptance: Acceptance) -> list[str]:
    """Return in a sentence what the middle device reaches where a point shows a part of it alone."""
    if len({verdict.series.device for verdict in acceptance.verdicts}) > 1:
        return []
    rates: dict[tuple[str, str | None], list[DeviceVerdict]] = defaultdict(list)
    for verdict in sorted(acceptance.verdicts, key=lambda v: SITUATIONS.index(v.situation)):
        if verdict.part is None or verdict.series.simulated:
            continue
        same = rates[verdict.part, verdict.series.precision]
        if not same or (same[0].series, same[0].situation) == (verdict.series, verdict.situation):
            same.append(verdict)
    ordered = sorted(rates, key=lambda key: (_PARTS.index(key[0]), str(key[1])))
    words = [_part_rate(median(v.items_per_s for v in rates[k]), rates[k][0]) for k in ordered]
    return [f"The middle device reaches {', '.join(words)}."] if words else []


def _part_rate(items_per_s: float, verdict: DeviceVerdict) -> str:
    """Return a rate in the unit of what it is limited by, e.g. "48.13 GB/s each way over its link"."""
    gb_per_s = items_per_s * COPY_BYTES / 1e9
    if verdict.part == "link":
        return f"{number(gb_per_s)} GB/s each way over its link"
    if verdict.part == "memory":
        return f"{number(2 * gb_per_s)} GB/s of memory, read and written"
    precision, tera = verdict.series.precision, items_per_s * GEMM_OPERATIONS / 1e12
    printed, unit = peak(verdict.series.device, precision), arithmetic_unit(precision)
    share = "" if printed is None else f" ({100 * tera / printed.value:.0f} % of the printed peak)"
    rate = f"{number(tera)} {unit}" if tera >= 1 else f"{number(1e3 * tera)} G{unit[1:]}"
    return f"{rate} in {precision}{share}"


def closing(acceptance: Acceptance, *, gaps: bool = True) -> list[str]:
    """Return the count of each verdict, what would decide the open ones, and what is missing.

    Args:
        acceptance: the verdicts.
        gaps: whether what is missing is wanted, too.
    """
    counts = ", ".join(f"{acceptance.count(v)} {_PAST[v]}" for v in OUTCOMES)
    bound = f"{100 * FALSE_REJECTS:g} %"
    lines = [
        f"{counts}. A sound fleet has any reject in under {bound} of cases "
        f"({acceptance.hypotheses} tests, Holm's method)."
    ]
    open_devices = {one.name for one in acceptance.devices if one.verdict == UNDECIDED}
    undecided = [
        v for v in acceptance.verdicts if v.verdict == UNDECIDED and v.name in open_devices
    ]
    needed = [v.trials_needed for v in undecided if v.trials_needed is not None]
    if needed:
        usual = sorted(needed)[(4 * len(needed)) // 5 if len(needed) > 4 else -1]
        more = sum(count > usual for count in needed)
        lines.append(
            f"To decide: measure again with trials={usual}"
            + (f" ({more} {agreeing(more, 'needs', 'need')} more)." if more else ".")
        )
    never = len(undecided) - len(needed)
    if never:
        lines.append(
            f"{counted(never, 'verdict')} so near the tolerance that 1,000 trials would not decide: "
            "choose another tolerance."
        )
    lines += _bits(acceptance)
    if any(v.series.simulated for v in acceptance.verdicts):
        lines.append("SIMULATED: timings come from a model, not from hardware.")
    return [*lines, *(acceptance.missing if gaps else ())]


def _bits(acceptance: Acceptance) -> list[str]:
    """Return whether the devices compute the same bits; nothing where no outputs were hashed."""
    bits = acceptance.bits
    unjudged = [name for name in bits.changed if name in acceptance.unjudged]
    lines = [f"{name} is not judged by its rate, but {CHANGED}." for name in unjudged]
    if bits.known:
        same = bits.known - len(bits.changed)
        lines.append(
            f"Same bits before and after every trial: {same} of {counted(bits.known, 'device')}"
            + (f"; {bits.compared} compared with one another." if bits.compared else ".")
        )
    return [*lines, *bits.warnings]


def group_sentences(acceptance: Acceptance) -> list[str]:
    """Return a sentence on each slow rack and host."""
    naming = Naming([verdict.series for verdict in acceptance.verdicts])
    return [
        f"{name}: {ratio} of the others ({at}). {why}."
        for name, ratio, _, _, _, at, why in (line.cells for line in _groups(acceptance, naming))
    ]


_PAST = {REJECT: "rejected", UNDECIDED: "undecided", ACCEPT: "accepted"}


def interval(estimate: Estimate) -> str:
    """Write a ratio with its interval to three decimals; empty if unknown."""
    value, lo, hi = estimate
    if value is None:
        return ""
    return f"{value:.3f}" if lo is None or hi is None else f"{value:.3f} [{lo:.3f}, {hi:.3f}]"


def place(verdict: DeviceVerdict, naming: Naming) -> str:
    """Return at which point, and whether alone, a verdict was found."""
    return f"{naming.title(verdict.series)}, {verdict.situation}"


def _groups(acceptance: Acceptance, naming: Naming) -> list[FleetLine]:
    """Return a line for each slow rack and host, alone where it was found so, at its slowest point."""
    worst: dict[tuple[str, str], FleetLine] = {}
    ordered = sorted(
        acceptance.groups,
        key=lambda group: (group.situation == TOGETHER, group.to_population.value or 0.0),
    )
    for group in ordered:
        name = f"{group.kind} {group.name}, {counted(group.devices, 'device')}"
        line = _line(
            name,
            interval(group.to_population),
            verdict=REJECT,
            at=f"{naming.title(group.series)}, {group.situation}",
            cause=group.cause,
        )
        worst.setdefault((group.kind, group.name), line)
    keys = dict.fromkeys((group.kind, group.name) for group in acceptance.groups)
    return [worst[key] for key in keys]


def _device(one: JudgedDevice, naming: Naming) -> FleetLine:
    worst = one.worst
    return _line(
        one.name,
        interval(worst.to_population),
        interval(worst.to_baseline),
        verdict=worst.verdict,
        trials=str(worst.trials),
        at=place(worst, naming),
        cause=cause(one),
    )


def cause(one: JudgedDevice) -> str:
    """Return why a device is not accepted, with the parts in which it is slow or sound."""
    worst = one.worst
    parts = []
    if one.slow_in:
        parts.append(f"slow in {', '.join(one.slow_in)}")
    if one.slow_in and one.sound_in:
        parts.append(f"not in {', '.join(one.sound_in)}")
    if one.sound_alone:
        parts.append("sound alone, slow beside the others")
    text = worst.cause or ""
    if worst.trials_needed is not None and worst.trials > 1:
        text += f"; trials={worst.trials_needed} would decide"
    return ": ".join(filter(None, (", ".join(parts), text)))


def _others(devices: Sequence[JudgedDevice], verdict: str) -> FleetLine:
    ratios = [one.worst.to_population.value for one in devices]
    known = [ratio for ratio in ratios if ratio is not None]
    to_baseline = [v for one in devices if (v := one.worst.to_baseline.value) is not None]
    return _line(
        f"{counted(len(devices), 'other device')}",
        _range(known),
        _range(to_baseline),
        verdict=verdict,
    )


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.3f} to {max(values):.3f}" if values else ""


def _line(
    name: str, population: str = "", baseline: str = "", *, verdict: str, **more: str
) -> FleetLine:
    """Return a line; `more` holds trials, at and cause, where known."""
    rest = (more.get(title, "") for title in ("trials", "at", "cause"))
    return FleetLine((name, population, baseline, verdict, *rest), verdict)
