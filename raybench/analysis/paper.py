"""paper: every finding of the 2017 study, checked against rows.

R. Xu, F. Han, N. Dandapanthu, "Deep Learning Inference on P40 GPUs", Dell EMC HPC Innovation Lab,
March 2017. Its bars are in data/p40_2017.csv.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass, replace
from importlib.resources import files
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from raybench.analysis.accelerators import peak
from raybench.analysis.batch import Ladder, ladder
from raybench.analysis.frame import as_table
from raybench.analysis.points import (
    Cell,
    cells,
    kin,
    marks_of,
    number,
    ratio,
    union,
    without_numbers,
)
from raybench.experiment import METHOD_VERSION
from raybench.results.schema import SCHEMA_VERSION, SCHEMAS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

REPRODUCED, NOT_REPRODUCED, NOT_TESTABLE = "reproduced", "not reproduced", "not testable here"


@dataclass(frozen=True)
class Bar:
    """One bar or point of a figure: the study's, or the same place measured here.

    Attributes:
        relative: to the base of its figure and model: fp32 in Figure 1, one device in 2 and 3,
            the oldest device in fp32 in 4 and 5, the smallest batch in 6.
        status: ok or out_of_memory in the study; any status of a row here.
        marks: see `points.MARKS`; none in the study.
    """

    model: str
    device: str | None
    precision: str
    batch_size: int
    workers: int
    status: str
    items_per_s: float | None = None
    items_per_s_lo: float | None = None
    items_per_s_hi: float | None = None
    relative: float | None = None
    relative_lo: float | None = None
    relative_hi: float | None = None
    verdict: str | None = None
    flags: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Figure:
    """One figure of the study beside the same figure from rows.

    Attributes:
        number: 1 to 6.
        title: what it shows.
        axis: the factor along which its bars stand: precision, workers, generation or batch_size.
        study: the study's bars.
        here: the bars measured here, of the same axis; the devices and batch sizes are this
            machine's. Empty when there are none.
        missing: what is not there to draw it, a sentence each.
    """

    number: int
    title: str
    axis: str
    study: tuple[Bar, ...]
    here: tuple[Bar, ...]
    missing: tuple[str, ...]


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


@dataclass(frozen=True)
class Paper:
    """The study beside what was measured: six figures, six findings."""

    figures: tuple[Figure, ...]
    findings: tuple[Finding, ...]

    def as_table(self) -> pa.Table:
        """A row a finding, without its evidence."""
        return self.findings_table()

    def findings_table(self) -> pa.Table:
        """A row a finding: name, verdict, reason, marks."""
        return as_table(
            _Verdict,
            [_Verdict(f.name, f.statement, f.verdict, f.reason, f.marks) for f in self.findings],
        )


@dataclass(frozen=True)
class _Verdict:
    name: str
    statement: str
    verdict: str
    reason: str
    marks: tuple[str, ...]


# --- the study ------------------------------------------------------------------------------------

MODELS = ("alexnet", "googlenet")
BATCH = 128
"""Of Figures 1 to 5."""
_COLUMNS = {
    "figure": pa.int64(),
    "model": pa.string(),
    "device": pa.string(),
    "precision": pa.string(),
    "batch_size": pa.int64(),
    "workers": pa.int64(),
    "images_per_s": pa.float64(),
    "speedup": pa.float64(),
    "outcome": pa.string(),
}


def study() -> pa.Table:
    """The study's bars, a row each, with its units and the speedup as it is printed there."""
    text = (files("raybench.analysis") / "data" / "p40_2017.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    columns = {
        name: pa.array([row[name] or None for row in rows]).cast(kind)
        for name, kind in _COLUMNS.items()
    }
    return pa.table(columns)


def study_trials() -> pa.Table:
    """The study's bars as a `trials` table, one trial each, to be fed to any analysis.

    Figures 2 and 3 print another rate for one P40 than the other figures do: they are an
    environment of their own.
    """
    bars = study().to_pylist()
    rows = [_as_trial(bar) for bar in bars]
    once = {tuple(row[name] for name in ("environment_id", "point_id")): row for row in rows}
    columns = {
        field.name: pa.array([row.get(field.name) for row in once.values()], field.type)
        for field in SCHEMAS["trials"]
    }
    return pa.table(columns, schema=SCHEMAS["trials"])


def _as_trial(bar: dict[str, Any]) -> dict[str, Any]:
    scaling = bar["figure"] in (2, 3)
    factors = {
        name: bar[name] for name in ("model", "device", "precision", "batch_size", "workers")
    }
    ran = bar["outcome"] == "ok"
    return {
        **factors,
        "run_id": "study2017",
        "point_id": "-".join(str(value) for value in factors.values()),
        "environment_id": "study2017-scaling" if scaling else "study2017",
        "trial": 0,
        "schema_version": SCHEMA_VERSION,
        "method_version": METHOD_VERSION,
        "experiment": "paper",
        "engine": "tensorrt",
        "engine_version": "2.0 EA",
        "device_kind": "gpu",
        "status": bar["outcome"],
        "reason": None if ran else "The study's own run ended for want of memory.",
        "items_per_s": bar["images_per_s"],
    }


# --- what of the rows stands beside which figure --------------------------------------------------


def paper(trials: pa.Table) -> Paper:
    """The study's figures and findings beside the rows of a `trials` table."""
    made = [cell for cell in cells(trials) if cell.series.model in MODELS]
    here = _Here(made)
    theirs = _Here(cells(study_trials()))
    figures = tuple(
        Figure(
            number=place,
            title=title,
            axis=axis,
            study=_study_bars(place),
            here=_bars(here, axis, models),
            missing=_lacking(here, axis, models),
        )
        for place, title, axis, models in _FIGURES
    )
    return Paper(figures, _findings(here, theirs))


_FIGURES = (
    (1, "FP32 against INT8, one device", "precision", ("googlenet", "alexnet")),
    (2, "GoogLeNet INT8 on one device to all", "workers", ("googlenet",)),
    (3, "AlexNet INT8 on one device to all", "workers", ("alexnet",)),
    (4, "GoogLeNet on two generations, FP32 and INT8", "generation", ("googlenet",)),
    (5, "AlexNet on two generations, FP32 and INT8", "generation", ("alexnet",)),
    (6, "INT8 throughput over the batch size", "batch_size", ("alexnet", "googlenet")),
)


class _Here:
    """Cells of the study's two networks, as each of its figures takes them.

    Rows may hold several engines, presets and environments. A figure takes, of each network and
    device, the one group with all else equal that has the most bars for it; of equals the one at
    the study's batch, then the newest.
    """

    def __init__(self, made: Sequence[Cell]) -> None:
        self.made = made
        self.devices = tuple(dict.fromkeys(c.series.device for c in made if c.ok))

    def along(self, axis: str, model: str, device: str | None) -> list[Cell]:
        """The group for an axis: precision, workers or batch_size; in the order of the axis."""
        groups: dict[Any, list[Cell]] = defaultdict(list)
        for cell in self.made:
            series = cell.series
            if series.model == model and series.device == device and _in_figure(cell, axis):
                left_open = () if axis == "workers" else (axis,)
                point = None if axis == "workers" else cell.workers
                groups[kin(series, *left_open), point].append(cell)
        best = max(groups.values(), key=_worth, default=[])
        return sorted(best, key=lambda c: (c.workers or 0, c.series.batch_size or 0, not c.ok))


def _in_figure(cell: Cell, axis: str) -> bool:
    """Figures 1, 4 and 5 are of one worker in fp32 and int8; the others of int8."""
    if axis == "precision":
        return cell.workers == 1 and cell.series.precision in ("fp32", "int8")
    if axis == "batch_size":
        return cell.workers == 1 and cell.series.precision == "int8"
    return cell.series.precision == "int8"


def _worth(group: list[Cell]) -> tuple[int, bool, int, str]:
    good = [cell for cell in group if cell.ok]
    newest = max(str(cell.said.get("run_id", "")) for cell in group)
    batch = group[0].series.batch_size
    return len(good), batch == BATCH, batch or 0, newest


def _study_bars(figure: int) -> tuple[Bar, ...]:
    """As the study prints them; relative to the first bar of the network."""
    bars = [bar for bar in study().to_pylist() if bar["figure"] == figure]
    base: dict[str, float] = {}
    for bar in bars:
        base.setdefault(bar["model"], bar["images_per_s"])
    return tuple(
        Bar(
            model=bar["model"],
            device=bar["device"],
            precision=bar["precision"],
            batch_size=bar["batch_size"],
            workers=bar["workers"],
            status=bar["outcome"],
            items_per_s=bar["images_per_s"],
            relative=bar["images_per_s"] / base[bar["model"]] if bar["images_per_s"] else None,
        )
        for bar in bars
    )


def _bars(side: _Here, axis: str, models: Iterable[str]) -> tuple[Bar, ...]:
    along = "precision" if axis == "generation" else axis
    found: list[Bar] = []
    for model in models:
        groups = [side.along(along, model, device) for device in _by_age(side, model)]
        if axis == "precision":  # a device with one precision has no gain to show
            groups = [g for g in groups if len({cell.series.precision for cell in g}) > 1]
        base = _base(groups) if axis == "generation" else None
        for group in groups:
            own = base or _base([group])
            found += [_bar(cell, own) for cell in group]
    return tuple(found)


def _base(groups: Sequence[Sequence[Cell]]) -> Cell | None:
    """What bars are relative to: the first with a number, and of a precision figure fp32."""
    good = [cell for group in groups for cell in group if cell.ok]
    whole = [cell for cell in good if cell.series.precision == "fp32"]
    return next(iter(whole or good), None)


def _bar(cell: Cell, base: Cell | None) -> Bar:
    span = ratio(cell, base) if cell.ok and base is not None else None
    series = cell.series
    return Bar(
        model=series.model or "",
        device=series.device,
        precision=series.precision or "",
        batch_size=series.batch_size or 0,
        workers=cell.workers or 0,
        status=cell.status,
        items_per_s=cell.mean,
        items_per_s_lo=cell.lo,
        items_per_s_hi=cell.hi,
        relative=span.value if span else None,
        relative_lo=span.lo if span and base is not cell else None,
        relative_hi=span.hi if span and base is not cell else None,
        verdict=cell.verdict,
        flags=cell.flags,
        marks=marks_of((cell, base)) if span else cell.marks,
    )


def _by_age(side: _Here, model: str) -> list[str | None]:
    """Devices from the lowest printed fp32 peak on, else from the slowest in fp32 on."""

    def age(device: str | None) -> tuple[bool, float, float]:
        group = side.along("precision", model, device)
        rate = min((cell.mean or 0.0 for cell in group if cell.ok), default=0.0)
        printed = _fp32(device)
        return printed is None, printed or 0.0, rate

    return sorted(side.devices, key=age)


def _lacking(here: _Here, axis: str, models: Sequence[str]) -> tuple[str, ...]:
    told = list(without_numbers(here.made))
    if told:
        return ("No row of alexnet or googlenet." if not here.made else told[0],)
    for model in models:
        if axis == "precision":
            told += _no_precisions(here, model, ("fp32", "int8"))
        elif axis == "generation":  # an older device may have no int8, as the study's had none
            told += _no_precisions(here, model, ("fp32",))
        elif axis == "workers":
            told += _too_few(here, model, "workers", "numbers of workers", "workers=auto")
        else:
            told += _too_few(here, model, "batch_size", "batch sizes", "experiment=batch_size")
    if axis == "generation" and len(here.devices) < 2:
        told.append("One kind of device only. Run it on another and give both folders.")
    return tuple(told)


def _no_precisions(here: _Here, model: str, wanted: Sequence[str]) -> list[str]:
    told = []
    for device in here.devices:
        group = here.along("precision", model, device)
        there = {cell.series.precision for cell in group if cell.ok}
        lost = [name for name in wanted if name not in there]
        if lost:
            told.append(f"{model} on {device}: no number in {' and '.join(lost)}.")
    return told


def _too_few(here: _Here, model: str, axis: str, what: str, way_out: str) -> list[str]:
    most = max(
        (sum(c.ok for c in here.along(axis, model, device)) for device in here.devices), default=0
    )
    return [f"{model}: {most} {what} in int8. Measure {way_out}."] if most < 2 else []


# --- findings -------------------------------------------------------------------------------------

GAIN = (2.5, 3.5)
"""What counts as about 3 times."""
LINEAR = 0.95
"""Efficiency from which scaling counts as linear; the study's own is 0.994 and 0.999."""
BOTH = 4.0
"""Gain of int8 and a generation together; the study's own is 4.43 and 5.09."""


def _findings(here: _Here, theirs: _Here) -> tuple[Finding, ...]:
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
    look: Callable[[_Here], list[tuple[str, Evidence]]], here: _Here, theirs: _Here
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


def _pair(here: _Here, model: str, device: str | None) -> tuple[Cell | None, Cell | None]:
    """Fp32 and int8 of one worker, the numbers there are."""
    group = {c.series.precision: c for c in here.along("precision", model, device) if c.ok}
    return group.get("fp32"), group.get("int8")


def _gains(here: _Here) -> list[tuple[str, Evidence]]:
    found = []
    for model in MODELS:
        for device in here.devices:
            fp32, int8 = _pair(here, model, device)
            if fp32 is not None and int8 is not None:
                what = f"{model} int8 / fp32, batch {int8.series.batch_size}, {device}"
                one = _evidence(what, int8, fp32, lambda x: GAIN[0] <= x <= GAIN[1])
                found.append((model, one))
    return found


def _speedups(here: _Here) -> list[tuple[str, Evidence]]:
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


def _generations(here: _Here) -> list[tuple[str, str | None, str | None]]:
    """Network, older device, newer device: neighbours by their printed fp32 peaks."""
    known = [device for device in here.devices if _fp32(device) is not None]
    found = []
    for model in MODELS:
        ordered = [device for device in _by_age(here, model) if device in known]
        found += [(model, *pair) for pair in pairwise(ordered) if len({*map(_fp32, pair)}) > 1]
    return found


def _fp32(device: str | None) -> float | None:
    printed = peak(device, "fp32")
    return None if printed is None else printed.value


def _newer(here: _Here) -> list[tuple[str, Evidence]]:
    found = []
    for model, older, newer in _generations(here):
        before, after = _pair(here, model, older)[0], _pair(here, model, newer)[0]
        if before is not None and after is not None and _same_batch(before, after):
            what = f"{model} fp32, {newer} / {older}, batch {after.series.batch_size}"
            found.append((model, _evidence(what, after, before, lambda x: x > 1)))
    return found


def _newer_int8(here: _Here) -> list[tuple[str, Evidence]]:
    found = []
    for model, older, newer in _generations(here):
        before, after = _pair(here, model, older)[0], _pair(here, model, newer)[1]
        if before is not None and after is not None and _same_batch(before, after):
            what = f"{model} int8 of {newer} / fp32 of {older}, batch {after.series.batch_size}"
            found.append((model, _evidence(what, after, before, lambda x: x >= BOTH)))
    return found


def _same_batch(a: Cell, b: Cell) -> bool:
    return a.series.batch_size == b.series.batch_size


def _ladders(here: _Here, model: str) -> list[tuple[str | None, Ladder, list[Cell]]]:
    groups = [(device, here.along("batch_size", model, device)) for device in here.devices]
    return [(device, ladder(group), group) for device, group in groups if len(group) > 1]


def _rises(here: _Here) -> list[tuple[str, Evidence]]:
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


def _memory(here: _Here) -> list[tuple[str, Evidence]]:
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
