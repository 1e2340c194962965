"""Findings of the 2017 study, and whether the rows confirm them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, TypeAlias

from raybench.analysis.batch import BatchCurve, batch_curve
from raybench.analysis.cell_ratios import ratio
from raybench.analysis.estimate import UNKNOWN, Estimate, estimate
from raybench.analysis.gaps import in_words
from raybench.analysis.marks import marks_of
from raybench.analysis.study2017.data import MODELS, StudyView, by_age, printed_fp32

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from raybench.analysis.cells import Cell

Key: TypeAlias = tuple[str | int | None, ...]
"""A network and, where a finding depends on them, the two sizes compared."""
REPRODUCED, NOT_REPRODUCED, NOT_TESTABLE = "reproduced", "not reproduced", "not testable here"


@dataclass(frozen=True)
class FindingEvidence:
    """One ratio that a finding is based on.

    Attributes:
        what: a description, e.g. "googlenet int8 / fp32, batch 128, NVIDIA H200".
        study: the study's figure; None if it has none.
        here: the figure from rows, with its 95 % bounds if there are enough trials.
        holds: whether it meets the criterion; None if it cannot be decided.
        marks: of the rows behind it.
        batch_size: of both sides; None where the sizes are what is compared.
        devices: their names, the newer first.
        on_cores: the rows are of CPU cores, which are no match for the study's GPUs.
        beside: what the study's figure is of; None if it has none for these sizes.
    """

    what: str
    study: float | None
    here: Estimate
    holds: bool | None
    marks: tuple[str, ...]
    batch_size: int | None = None
    devices: str | None = None
    on_cores: bool = False
    beside: str | None = None


@dataclass(frozen=True)
class Finding:
    """A finding of the study, and whether the rows confirm it.

    Attributes:
        name: short and stable: int8_gain, scaling, fp32_generation, int8_generation,
            batch_rises, memory_end.
        statement: what the study found, paraphrased.
        criterion: when it counts as reproduced.
        verdict: REPRODUCED, NOT_REPRODUCED or NOT_TESTABLE.
        reason: one sentence with the figures or with what is missing.
        evidence: the ratios it is based on.
        marks: of any row behind it.
    """

    name: str
    figures: tuple[int, ...]
    statement: str
    criterion: str
    verdict: str
    reason: str
    evidence: tuple[FindingEvidence, ...]
    marks: tuple[str, ...]


GAIN = (2.5, 3.5)
"""Ratios that count as about 3 times."""
LINEAR = 0.95
"""Least efficiency that counts as linear scaling; the study has 0.994 and 0.999."""
BOTH = 4.0
"""Least gain of int8 and a generation together; the study has 4.43 and 5.09."""


def findings(here: StudyView, theirs: StudyView) -> tuple[Finding, ...]:
    """Return all findings, from the cells of the rows and of the study itself."""
    return (
        _finding(
            "int8_gain",
            (1,),
            "INT8 is about 3 times as fast as FP32 on the same device.",
            f"Every ratio is between {GAIN[0]} and {GAIN[1]}.",
            _with_study(_gains(here), dict(_gains(theirs))),
            "No network has a number in both fp32 and int8.",
        ),
        _finding(
            "scaling",
            (2, 3),
            "Throughput grows linearly with the number of devices.",
            f"At the largest number of devices the efficiency is {LINEAR} or more.",
            _with_study(_speedups(here), _ratios(theirs, "workers")),
            "No network has numbers for two numbers of workers in int8.",
        ),
        _finding(
            "fp32_generation",
            (4, 5),
            "The newer device is faster in FP32.",
            "The device with the higher printed fp32 peak is faster.",
            _with_study(_newer(here), dict(_newer(theirs))),
            "It takes two kinds of device with printed fp32 peaks, each with numbers in fp32.",
        ),
        _finding(
            "int8_generation",
            (4, 5),
            "INT8 on the newer device is more than 4 times FP32 on the older one.",
            f"The ratio is {BOTH:g} or more.",
            _with_study(_newer_int8(here), dict(_newer_int8(theirs))),
            "It takes two kinds of device with printed fp32 peaks, the newer with int8.",
        ),
        _finding(
            "batch_rises",
            (6,),
            "Throughput rises with the batch size, and ever more slowly.",
            "No step up is a loss beyond noise, and the last doubling gains less than the first.",
            _with_study(_rises(here), _ratios(theirs, "batch_size")),
            "No network has numbers for three batch sizes in int8.",
        ),
        _finding(
            "memory_end",
            (6,),
            "GoogLeNet runs out of memory at a batch at which AlexNet still runs.",
            "GoogLeNet's memory ends at a smaller batch than AlexNet's.",
            _with_study(_memory(here), dict(_memory(theirs))),
            "No batch size ran out of memory in one network and ran in the other.",
        ),
    )


def _with_study(
    evidence: list[tuple[Key, FindingEvidence]], study: Mapping[Key, FindingEvidence]
) -> list[FindingEvidence]:
    """Return the evidence from the rows, each with the study's figure for the same comparison."""
    return [_beside(one, study.get(key)) for key, one in evidence]


def _beside(one: FindingEvidence, theirs: FindingEvidence | None) -> FindingEvidence:
    """Add the study's figure if it is of the same batch, else words on what differs."""
    if theirs is None or theirs.here.value is None:
        return one
    if one.batch_size == theirs.batch_size:
        return replace(one, study=theirs.here.value, beside=theirs.devices)
    words = f"{theirs.here.value:.3f} at batch {theirs.batch_size}, {theirs.devices}"
    return replace(one, beside=f"{words}: another batch, not compared")


def _ratios(theirs: StudyView, factor: str) -> dict[Key, FindingEvidence]:
    """Return the study's ratio between any two sizes of a factor, by network and sizes."""
    ratios: dict[Key, FindingEvidence] = {}
    for model in MODELS:
        for device in theirs.devices:
            good = [cell for cell in theirs.along(factor, model, device) if cell.ok]
            for base, cell in combinations(good, 2):
                one = _evidence(model, cell, base, lambda _: True)
                ratios[_sized(model, factor, cell, base)] = one
    return ratios


def _sized(model: str, factor: str, cell: Cell, base: Cell) -> Key:
    if factor == "workers":
        return model, cell.workers, base.workers
    return model, cell.series.batch_size, base.series.batch_size


def _finding(
    name: str,
    figures: tuple[int, ...],
    statement: str,
    criterion: str,
    evidence: list[FindingEvidence],
    otherwise: str,
) -> Finding:
    decided = [one for one in evidence if one.holds is not None]
    if not decided:
        verdict, reason = NOT_TESTABLE, _undecided(evidence) or otherwise
    else:
        verdict = REPRODUCED if all(one.holds for one in decided) else NOT_REPRODUCED
        reason = "; ".join(_described(one) for one in decided) + "."
    marks = marks_of(decided)
    return Finding(name, figures, statement, criterion, verdict, reason, tuple(evidence), marks)


def _undecided(evidence: list[FindingEvidence]) -> str | None:
    """Return why evidence decides nothing; None without evidence."""
    if any("simulated" in one.marks for one in evidence):
        return "Simulated rows say nothing of hardware."
    if any(one.on_cores for one in evidence):
        cores = "; ".join(_described(one) for one in evidence)
        return f"The study is of GPUs, these rows are of CPU cores: {cores}."
    return None


def _described(one: FindingEvidence) -> str:
    value, lo, hi = one.here
    if value is None:
        return one.what
    theirs = ""
    if one.study is not None:
        theirs = f", in the study {one.study:.3f} ({one.beside})"
    elif one.beside is not None:
        theirs = f" (the study has {one.beside})"
    if lo is None:
        return f"{one.what}: {value:.3f}{theirs}"
    return f"{one.what}: {value:.2f} [{lo:.2f}, {hi:.2f}]{theirs}"


def _evidence(what: str, cell: Cell, base: Cell, holds: Callable[[float], bool]) -> FindingEvidence:
    span = ratio(cell, base)
    marks = marks_of((cell, base))
    on_cores = any(one.newest.get("device_kind") == "cpu" for one in (cell, base))
    verdict = None if on_cores or "simulated" in marks else holds(span.value)
    batches = {cell.series.batch_size, base.series.batch_size}
    return FindingEvidence(
        what=what,
        study=None,
        here=estimate(span),
        holds=verdict,
        marks=marks,
        batch_size=batches.pop() if len(batches) == 1 else None,
        devices=" / ".join(dict.fromkeys(str(c.series.device) for c in (cell, base))),
        on_cores=on_cores,
    )


def _pair(here: StudyView, model: str, device: str | None) -> tuple[Cell | None, Cell | None]:
    """Return the cells of one worker in fp32 and int8 that have a number."""
    group = {c.series.precision: c for c in here.along("precision", model, device) if c.ok}
    return group.get("fp32"), group.get("int8")


def _gains(here: StudyView) -> list[tuple[Key, FindingEvidence]]:
    evidence: list[tuple[Key, FindingEvidence]] = []
    for model in MODELS:
        for device in here.devices:
            fp32, int8 = _pair(here, model, device)
            if fp32 is not None and int8 is not None:
                what = f"{model} int8 / fp32, batch {int8.series.batch_size}, {device}"
                one = _evidence(what, int8, fp32, lambda x: GAIN[0] <= x <= GAIN[1])
                evidence.append(((model,), one))
    return evidence


def _speedups(here: StudyView) -> list[tuple[Key, FindingEvidence]]:
    evidence: list[tuple[Key, FindingEvidence]] = []
    for model in MODELS:
        for device in here.devices:
            good = [cell for cell in here.along("workers", model, device) if cell.ok]
            if len(good) > 1:
                n, least = good[-1].workers or 1, good[0].workers or 1
                what = f"{model} speedup of {n} over {least}, batch {good[0].series.batch_size}, {device}"
                one = _evidence(what, good[-1], good[0], lambda x, k=n / least: x / k >= LINEAR)  # type: ignore[misc]
                evidence.append((_sized(model, "workers", good[-1], good[0]), one))
    return evidence


def _generations(here: StudyView) -> list[tuple[str, str | None, str | None]]:
    """Return network, older device, newer device for neighbours by printed fp32 peak."""
    printed = [device for device in here.devices if printed_fp32(device) is not None]
    pairs = []
    for model in MODELS:
        ordered = [device for device in by_age(here, model) if device in printed]
        pairs += [
            (model, *pair) for pair in pairwise(ordered) if len({*map(printed_fp32, pair)}) > 1
        ]
    return pairs


def _newer(here: StudyView) -> list[tuple[Key, FindingEvidence]]:
    evidence: list[tuple[Key, FindingEvidence]] = []
    for model, older, newer in _generations(here):
        before, after = _pair(here, model, older)[0], _pair(here, model, newer)[0]
        if before is not None and after is not None and _same_batch(before, after):
            what = f"{model} fp32, {newer} / {older}, batch {after.series.batch_size}"
            evidence.append(((model,), _evidence(what, after, before, lambda x: x > 1)))
    return evidence


def _newer_int8(here: StudyView) -> list[tuple[Key, FindingEvidence]]:
    evidence: list[tuple[Key, FindingEvidence]] = []
    for model, older, newer in _generations(here):
        before, after = _pair(here, model, older)[0], _pair(here, model, newer)[1]
        if before is not None and after is not None and _same_batch(before, after):
            what = f"{model} int8 of {newer} / fp32 of {older}, batch {after.series.batch_size}"
            evidence.append(((model,), _evidence(what, after, before, lambda x: x >= BOTH)))
    return evidence


def _same_batch(a: Cell, b: Cell) -> bool:
    return a.series.batch_size == b.series.batch_size


def _batch_curves(here: StudyView, model: str) -> list[tuple[str | None, BatchCurve, list[Cell]]]:
    groups = [(device, here.along("batch_size", model, device)) for device in here.devices]
    return [(device, batch_curve(group), group) for device, group in groups if len(group) > 1]


def _rises(here: StudyView) -> list[tuple[Key, FindingEvidence]]:
    evidence: list[tuple[Key, FindingEvidence]] = []
    for model in MODELS:
        for device, curve, group in _batch_curves(here, model):
            good = [cell for cell in group if cell.ok]
            if curve.flattens is None:
                continue
            sizes = f"batch {curve.largest_batch_size} over {good[0].series.batch_size}"
            what = f"{model} {sizes}, {device}"
            holds = bool(curve.rises and curve.flattens)
            one = _evidence(what, good[-1], good[0], lambda _, holds=holds: holds)  # type: ignore[misc]
            evidence.append((_sized(model, "batch_size", good[-1], good[0]), one))
    return evidence


def _memory(here: StudyView) -> list[tuple[Key, FindingEvidence]]:
    """Compare on each device the batches at which the memory of each network ended."""
    ends: dict[str | None, dict[str, BatchCurve]] = defaultdict(dict)
    for model in MODELS:
        for device, curve, _ in _batch_curves(here, model):
            ends[device][model] = curve
    evidence: list[tuple[Key, FindingEvidence]] = []
    for device, curve_of in ends.items():
        if len(curve_of) == len(MODELS):
            batches = ", ".join(f"{model} {_end(curve_of[model])}" for model in MODELS)
            marks = marks_of(curve_of.values())
            first = _ends_first(curve_of["googlenet"], curve_of["alexnet"])
            groups = (here.along("batch_size", model, device) for model in MODELS)
            on_cores = any(c.newest.get("device_kind") == "cpu" for g in groups for c in g)
            holds = None if on_cores or "simulated" in marks else first
            what = f"{batches}, {device}"
            one = FindingEvidence(what, None, UNKNOWN, holds, marks, on_cores=on_cores)
            evidence.append((("googlenet",), one))
    return evidence


def _ends_first(large: BatchCurve, small: BatchCurve) -> bool | None:
    """Tell whether `large` ended first; None if neither ended at a batch that the other ran."""
    if _ran_beyond(small, large.memory_end_batch_size):
        return True
    return False if _ran_beyond(large, small.memory_end_batch_size) else None


def _ran_beyond(curve: BatchCurve, end: int | None) -> bool:
    return end is not None and (curve.largest_batch_size or 0) >= end


def _end(curve: BatchCurve) -> str:
    if curve.memory_end_batch_size is None:
        return f"ran at batch {in_words(curve.largest_batch_size or 0)}"
    return f"ended at batch {in_words(curve.memory_end_batch_size)}"
