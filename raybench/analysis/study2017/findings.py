"""findings: what the 2017 study found, and whether rows say the same."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from raybench.analysis.batch import Ladder, ladder
from raybench.analysis.cells import Cell, marks_of, number, ratio, union
from raybench.analysis.study2017.data import MODELS, Here, by_age, printed_fp32

if TYPE_CHECKING:
    from collections.abc import Callable

REPRODUCED, NOT_REPRODUCED, NOT_TESTABLE = "reproduced", "not reproduced", "not testable here"


@dataclass(frozen=True)
class Evidence:
    """One ratio on which a finding stands.

    Attributes:
        what: in words, e.g. "googlenet int8 / fp32, batch 128, NVIDIA H200".
        study: the study's figure; None when it has none.
        here: the figure from rows, with its 95 % bounds where there are trials enough.
        holds: None when it cannot be told.
    """

    what: str
    study: float | None
    here: float | None
    here_lo: float | None
    here_hi: float | None
    holds: bool | None
    marks: tuple[str, ...]


@dataclass(frozen=True)
class Finding:
    """A finding of the study and what the rows say of it.

    Attributes:
        name: short and stable: int8_gain, scaling, fp32_generation, int8_generation,
            batch_rises, memory_end.
        statement: what the study found, in our words.
        criterion: when it counts as reproduced.
        verdict: REPRODUCED, NOT_REPRODUCED or NOT_TESTABLE.
        reason: one sentence with the figures, or with what is missing.
        evidence: ratio by ratio.
        marks: of any row behind it.
    """

    name: str
    figures: tuple[int, ...]
    statement: str
    criterion: str
    verdict: str
    reason: str
    evidence: tuple[Evidence, ...]
    marks: tuple[str, ...]


GAIN = (2.5, 3.5)
"""What counts as about 3 times."""
LINEAR = 0.95
"""Efficiency from which scaling counts as linear; the study's own is 0.994 and 0.999."""
BOTH = 4.0
"""Gain of int8 and a generation together; the study's own is 4.43 and 5.09."""


def findings(here: Here, theirs: Here) -> tuple[Finding, ...]:
    """All findings, from the cells of rows and from those of the study itself."""
    return (
        _found(
            "int8_gain",
            (1,),
            "INT8 is about 3 times as fast as FP32 on the same device.",
            f"Every ratio is between {GAIN[0]} and {GAIN[1]}.",
            _with_study(_gains, here, theirs),
            "No network has a number in both fp32 and int8.",
        ),
        _found(
            "scaling",
            (2, 3),
            "Throughput grows linearly with the number of devices.",
            f"At the largest number of devices the efficiency is {LINEAR} or more.",
            _with_study(_speedups, here, theirs),
            "No network has numbers for two numbers of workers in int8.",
        ),
        _found(
            "fp32_generation",
            (4, 5),
            "The newer device is faster in FP32.",
            "The device with the higher printed fp32 peak is faster.",
            _with_study(_newer, here, theirs),
            "It takes two kinds of device with printed fp32 peaks, each with numbers in fp32.",
        ),
        _found(
            "int8_generation",
            (4, 5),
            "INT8 on the newer device is more than 4 times FP32 on the older one.",
            f"The ratio is {BOTH:g} or more.",
            _with_study(_newer_int8, here, theirs),
            "It takes two kinds of device with printed fp32 peaks, the newer with int8.",
        ),
        _found(
            "batch_rises",
            (6,),
            "Throughput rises with the batch size, and ever more slowly.",
            "No step up is a loss beyond noise, and the last doubling gains less than the first.",
            _with_study(_rises, here, theirs),
            "No network has numbers for three batch sizes in int8.",
        ),
        _found(
            "memory_end",
            (6,),
            "GoogLeNet runs out of memory at a batch at which AlexNet still runs.",
            "GoogLeNet's memory ends at a smaller batch than AlexNet's.",
            _with_study(_memory, here, theirs),
            "No batch size ran out of memory in one network and ran in the other.",
        ),
    )


def _with_study(
    look: Callable[[Here], list[tuple[str, Evidence]]], here: Here, theirs: Here
) -> list[Evidence]:
    """What the rows say, each beside the study's figure for the same network."""
    known = {model: told.here for model, told in look(theirs)}
    return [replace(told, study=known.get(model)) for model, told in look(here)]


def _found(
    name: str,
    figures: tuple[int, ...],
    statement: str,
    criterion: str,
    evidence: list[Evidence],
    otherwise: str,
) -> Finding:
    told = [one for one in evidence if one.holds is not None]
    if not told:
        simulated = any("simulated" in one.marks for one in evidence)
        verdict = NOT_TESTABLE
        reason = "Simulated rows say nothing of hardware." if simulated else otherwise
    else:
        verdict = REPRODUCED if all(one.holds for one in told) else NOT_REPRODUCED
        reason = "; ".join(_words(one) for one in told) + "."
    marks = union(one.marks for one in told)
    return Finding(name, figures, statement, criterion, verdict, reason, tuple(evidence), marks)


def _words(one: Evidence) -> str:
    if one.here is None:
        return one.what
    theirs = "" if one.study is None else f", in the study {one.study:.3f}"
    if one.here_lo is None:
        return f"{one.what}: {one.here:.3f}{theirs}"
    return f"{one.what}: {one.here:.2f} [{one.here_lo:.2f}, {one.here_hi:.2f}]{theirs}"


def _evidence(what: str, cell: Cell, base: Cell, holds: Callable[[float], bool]) -> Evidence:
    span = ratio(cell, base)
    marks = marks_of((cell, base))
    told = None if "simulated" in marks else holds(span.value)
    return Evidence(what, None, span.value, span.lo, span.hi, told, marks)


def _pair(here: Here, model: str, device: str | None) -> tuple[Cell | None, Cell | None]:
    """Fp32 and int8 of one worker, the numbers there are."""
    group = {c.series.precision: c for c in here.along("precision", model, device) if c.ok}
    return group.get("fp32"), group.get("int8")


def _gains(here: Here) -> list[tuple[str, Evidence]]:
    found = []
    for model in MODELS:
        for device in here.devices:
            fp32, int8 = _pair(here, model, device)
            if fp32 is not None and int8 is not None:
                what = f"{model} int8 / fp32, batch {int8.series.batch_size}, {device}"
                one = _evidence(what, int8, fp32, lambda x: GAIN[0] <= x <= GAIN[1])
                found.append((model, one))
    return found


def _speedups(here: Here) -> list[tuple[str, Evidence]]:
    found = []
    for model in MODELS:
        for device in here.devices:
            good = [cell for cell in here.along("workers", model, device) if cell.ok]
            if len(good) > 1:
                n, least = good[-1].workers or 1, good[0].workers or 1
                what = f"{model} speedup of {n} over {least}, batch {good[0].series.batch_size}, {device}"
                one = _evidence(what, good[-1], good[0], lambda x, k=n / least: x / k >= LINEAR)  # type: ignore[misc]
                found.append((model, one))
    return found


def _generations(here: Here) -> list[tuple[str, str | None, str | None]]:
    """Network, older device, newer device: neighbours by their printed fp32 peaks."""
    known = [device for device in here.devices if printed_fp32(device) is not None]
    found = []
    for model in MODELS:
        ordered = [device for device in by_age(here, model) if device in known]
        found += [
            (model, *pair) for pair in pairwise(ordered) if len({*map(printed_fp32, pair)}) > 1
        ]
    return found


def _newer(here: Here) -> list[tuple[str, Evidence]]:
    found = []
    for model, older, newer in _generations(here):
        before, after = _pair(here, model, older)[0], _pair(here, model, newer)[0]
        if before is not None and after is not None and _same_batch(before, after):
            what = f"{model} fp32, {newer} / {older}, batch {after.series.batch_size}"
            found.append((model, _evidence(what, after, before, lambda x: x > 1)))
    return found


def _newer_int8(here: Here) -> list[tuple[str, Evidence]]:
    found = []
    for model, older, newer in _generations(here):
        before, after = _pair(here, model, older)[0], _pair(here, model, newer)[1]
        if before is not None and after is not None and _same_batch(before, after):
            what = f"{model} int8 of {newer} / fp32 of {older}, batch {after.series.batch_size}"
            found.append((model, _evidence(what, after, before, lambda x: x >= BOTH)))
    return found


def _same_batch(a: Cell, b: Cell) -> bool:
    return a.series.batch_size == b.series.batch_size


def _ladders(here: Here, model: str) -> list[tuple[str | None, Ladder, list[Cell]]]:
    groups = [(device, here.along("batch_size", model, device)) for device in here.devices]
    return [(device, ladder(group), group) for device, group in groups if len(group) > 1]


def _rises(here: Here) -> list[tuple[str, Evidence]]:
    found = []
    for model in MODELS:
        for device, curve, group in _ladders(here, model):
            good = [cell for cell in group if cell.ok]
            if curve.flattens is None:
                continue
            sizes = f"batch {curve.largest_batch_size} over {good[0].series.batch_size}"
            what = f"{model} {sizes}, {device}"
            holds = bool(curve.rises and curve.flattens)
            one = _evidence(what, good[-1], good[0], lambda _, holds=holds: holds)  # type: ignore[misc]
            found.append((model, one))
    return found


def _memory(here: Here) -> list[tuple[str, Evidence]]:
    """On each device the batch at which each network's memory ended, where that tells."""
    ends: dict[str | None, dict[str, Ladder]] = defaultdict(dict)
    for model in MODELS:
        for device, curve, _ in _ladders(here, model):
            ends[device][model] = curve
    found = []
    for device, of in ends.items():
        if len(of) == len(MODELS):
            words = ", ".join(f"{model} {_end(of[model])}" for model in MODELS)
            marks = union(curve.marks for curve in of.values())
            told = _ends_first(of["googlenet"], of["alexnet"])
            holds = None if "simulated" in marks else told
            what = f"{words}, {device}"
            found.append(("googlenet", Evidence(what, None, None, None, None, holds, marks)))
    return found


def _ends_first(large: Ladder, small: Ladder) -> bool | None:
    """None when neither ended at a batch at which the other one ran."""
    if _ran_beyond(small, large.memory_end_batch_size):
        return True
    return False if _ran_beyond(large, small.memory_end_batch_size) else None


def _ran_beyond(curve: Ladder, end: int | None) -> bool:
    return end is not None and (curve.largest_batch_size or 0) >= end


def _end(curve: Ladder) -> str:
    if curve.memory_end_batch_size is None:
        return f"ran at batch {number(curve.largest_batch_size or 0)}"
    return f"ended at batch {number(curve.memory_end_batch_size)}"
