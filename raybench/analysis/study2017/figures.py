"""The figures and findings of the 2017 study, each beside the rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from raybench.analysis.cell_ratios import ratio_to
from raybench.analysis.cells import Cell, cells
from raybench.analysis.estimate import UNKNOWN, Estimate
from raybench.analysis.gaps import without_numbers
from raybench.analysis.marks import marks_of
from raybench.analysis.study2017.data import MODELS, StudyView, by_age, study, study_trials
from raybench.analysis.study2017.findings import Finding, findings
from raybench.analysis.tables import as_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pyarrow as pa


@dataclass(frozen=True)
class StudyBar:
    """One bar or point of a figure: the study's, or the same point measured here.

    Attributes:
        status: ok or out_of_memory in the study; any status of a row here.
        relative: ratio to the base of its figure and model: fp32 in Figure 1, one device in 2
            and 3, the oldest device in fp32 in 4 and 5, the smallest batch in 6.
        marks: see `marks.MARKS`; none in the study.
        on_cores: measured on CPU cores.
    """

    model: str
    device: str | None
    precision: str
    batch_size: int
    workers: int
    status: str
    items_per_s: Estimate = UNKNOWN
    relative: Estimate = UNKNOWN
    verdict: str | None = None
    flags: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    on_cores: bool = False


@dataclass(frozen=True)
class StudyFigure:
    """One figure of the study beside the same figure from rows.

    Attributes:
        number: 1 to 6.
        title: what it shows.
        axis: the factor along which its bars vary: precision, workers, generation or batch_size.
        study: the study's bars.
        here: the bars measured here along the same axis, with this machine's devices and batch
            sizes; empty if there are none.
        missing: what is missing to draw it, a sentence each.
    """

    number: int
    title: str
    axis: str
    study: tuple[StudyBar, ...]
    here: tuple[StudyBar, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Paper:
    """The study beside the measured rows: six figures, six findings."""

    figures: tuple[StudyFigure, ...]
    findings: tuple[Finding, ...]

    def as_table(self) -> pa.Table:
        """Return a row for each finding, without its evidence."""
        return self.findings_table()

    def findings_table(self) -> pa.Table:
        """Return name, statement, verdict, reason and marks of each finding."""
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
    """Return the study's figures and findings beside the rows of a `trials` table."""
    here = StudyView([cell for cell in cells(trials) if cell.series.model in MODELS])
    theirs = StudyView(cells(study_trials()))
    figures = tuple(
        StudyFigure(
            number=number,
            title=title,
            axis=axis,
            study=_study_bars(number),
            here=_bars(here, axis, models),
            missing=_lacking(here, axis, models),
        )
        for number, title, axis, models in _FIGURES
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


def _study_bars(figure: int) -> tuple[StudyBar, ...]:
    """Return the bars as the study prints them; ratios are to the first of the network."""
    bars = [bar for bar in study().to_pylist() if bar["figure"] == figure]
    base: dict[str, float] = {}
    for bar in bars:
        base.setdefault(bar["model"], bar["images_per_s"])
    return tuple(
        StudyBar(
            model=bar["model"],
            device=bar["device"],
            precision=bar["precision"],
            batch_size=bar["batch_size"],
            workers=bar["workers"],
            status=bar["outcome"],
            items_per_s=Estimate(bar["images_per_s"]),
            relative=Estimate(bar["images_per_s"] or None).over(base[bar["model"]]),
        )
        for bar in bars
    )


def _bars(view: StudyView, axis: str, models: Iterable[str]) -> tuple[StudyBar, ...]:
    along = "precision" if axis == "generation" else axis
    bars: list[StudyBar] = []
    for model in models:
        groups = [view.along(along, model, device) for device in by_age(view, model)]
        if axis == "precision":  # a device with one precision has no gain to show
            groups = [g for g in groups if len({cell.series.precision for cell in g}) > 1]
        base = _base(groups) if axis == "generation" else None
        for group in groups:
            own = base or _base([group])
            bars += [_bar(cell, own) for cell in group]
    return tuple(bars)


def _base(groups: Sequence[Sequence[Cell]]) -> Cell | None:
    """Return the cell that ratios refer to: the first with a number, in fp32 if there is one."""
    good = [cell for group in groups for cell in group if cell.ok]
    full = [cell for cell in good if cell.series.precision == "fp32"]
    return next(iter(full or good), None)


def _bar(cell: Cell, base: Cell | None) -> StudyBar:
    relative = ratio_to(cell, base)
    series = cell.series
    return StudyBar(
        model=series.model or "",
        device=series.device,
        precision=series.precision or "",
        batch_size=series.batch_size or 0,
        workers=cell.workers or 0,
        status=cell.status,
        items_per_s=cell.estimate,
        relative=relative,
        verdict=cell.verdict,
        flags=cell.flags,
        marks=cell.marks if relative.value is None else marks_of((cell, base)),
        on_cores=cell.newest.get("device_kind") == "cpu",
    )


def _lacking(here: StudyView, axis: str, models: Sequence[str]) -> tuple[str, ...]:
    sentences = list(without_numbers(here.cells))
    if sentences:
        return (sentences[0] if here.cells else "No row of alexnet or googlenet.",)
    for model in models:
        if axis == "precision":
            sentences += _no_precisions(here, model, ("fp32", "int8"))
        elif axis == "generation":  # an older device may have no int8, as the study's had none
            sentences += _no_precisions(here, model, ("fp32",))
        elif axis == "workers":
            sentences += _too_few(here, model, "workers", "numbers of workers", "workers=auto")
        else:
            sentences += _too_few(here, model, "batch_size", "batch sizes", "experiment=batch_size")
    if axis == "generation" and len(here.devices) < 2:
        sentences.append("One kind of device only. Run it on another and give both folders.")
    return tuple(sentences)


def _no_precisions(here: StudyView, model: str, wanted: Sequence[str]) -> list[str]:
    sentences = []
    for device in here.devices:
        group = here.along("precision", model, device)
        measured = {cell.series.precision for cell in group if cell.ok}
        lost = [name for name in wanted if name not in measured]
        if lost:
            sentences.append(f"{model} on {device}: no number in {' and '.join(lost)}.")
    return sentences


def _too_few(here: StudyView, model: str, axis: str, what: str, remedy: str) -> list[str]:
    most = max(
        (sum(c.ok for c in here.along(axis, model, device)) for device in here.devices), default=0
    )
    return [f"{model}: {most} {what} in int8. Measure {remedy}."] if most < 2 else []
