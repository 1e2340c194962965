"""paper: the figures and findings of the 2017 study, each beside what rows say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from raybench.analysis.cells import Cell, cells, marks_of, ratio, without_numbers
from raybench.analysis.study2017.data import MODELS, Here, by_age, study, study_trials
from raybench.analysis.study2017.findings import (
    NOT_REPRODUCED,
    NOT_TESTABLE,
    REPRODUCED,
    Evidence,
    Finding,
    findings,
)
from raybench.analysis.tables import as_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pyarrow as pa


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


def paper(trials: pa.Table) -> Paper:
    """The study's figures and findings beside the rows of a `trials` table."""
    made = [cell for cell in cells(trials) if cell.series.model in MODELS]
    here = Here(made)
    theirs = Here(cells(study_trials()))
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
    return Paper(figures, findings(here, theirs))


_FIGURES = (
    (1, "FP32 against INT8, one device", "precision", ("googlenet", "alexnet")),
    (2, "GoogLeNet INT8 on one device to all", "workers", ("googlenet",)),
    (3, "AlexNet INT8 on one device to all", "workers", ("alexnet",)),
    (4, "GoogLeNet on two generations, FP32 and INT8", "generation", ("googlenet",)),
    (5, "AlexNet on two generations, FP32 and INT8", "generation", ("alexnet",)),
    (6, "INT8 throughput over the batch size", "batch_size", ("alexnet", "googlenet")),
)


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


def _bars(side: Here, axis: str, models: Iterable[str]) -> tuple[Bar, ...]:
    along = "precision" if axis == "generation" else axis
    found: list[Bar] = []
    for model in models:
        groups = [side.along(along, model, device) for device in by_age(side, model)]
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


def _lacking(here: Here, axis: str, models: Sequence[str]) -> tuple[str, ...]:
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


def _no_precisions(here: Here, model: str, wanted: Sequence[str]) -> list[str]:
    told = []
    for device in here.devices:
        group = here.along("precision", model, device)
        there = {cell.series.precision for cell in group if cell.ok}
        lost = [name for name in wanted if name not in there]
        if lost:
            told.append(f"{model} on {device}: no number in {' and '.join(lost)}.")
    return told


def _too_few(here: Here, model: str, axis: str, what: str, way_out: str) -> list[str]:
    most = max(
        (sum(c.ok for c in here.along(axis, model, device)) for device in here.devices), default=0
    )
    return [f"{model}: {most} {what} in int8. Measure {way_out}."] if most < 2 else []


__all__ = [
    "NOT_REPRODUCED",
    "NOT_TESTABLE",
    "REPRODUCED",
    "Bar",
    "Evidence",
    "Figure",
    "Finding",
    "Paper",
    "paper",
    "study",
    "study_trials",
]
