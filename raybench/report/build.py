"""Building a report: from results folders to a page, Markdown and the files of figures."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from raybench.analysis.series import device_name
from raybench.errors import ResultsError
from raybench.paths import write_atomically
from raybench.report import markdown
from raybench.report import page as html
from raybench.report.analyses import Question, ask
from raybench.report.document import Document
from raybench.report.row_limit import limit_rows
from raybench.report.sections.acceptance import acceptance
from raybench.report.sections.applications import applications
from raybench.report.sections.batch import batch
from raybench.report.sections.bounded import bounded
from raybench.report.sections.choices import choices
from raybench.report.sections.decoding import decoding
from raybench.report.sections.devices import devices
from raybench.report.sections.environment import environment
from raybench.report.sections.feeding import feeding
from raybench.report.sections.interference import interference
from raybench.report.sections.methods import methods
from raybench.report.sections.packing import packing
from raybench.report.sections.points import points
from raybench.report.sections.power import power
from raybench.report.sections.precision import precision
from raybench.report.sections.scaling import scaling
from raybench.report.sections.study import study
from raybench.report.sections.timeline import timeline
from raybench.report.sections.trend import trend
from raybench.report.sections.verdicts import verdicts
from raybench.results.folders import read_folders
from raybench.results.storage import is_address
from raybench.text import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.report.analyses import Answers

PAGE, TEXT = "report.html", "report.md"
_OURS = re.compile(
    r"((scaling|precision|batch|bounded|packing|feeding|pairs|power|latency|pareto|devices|fleet|trend|applications|decoding|roofline|study|evidence)-\d+|peak|energy)\.(svg|png)"
)
"""Names of figure files that an earlier report may have written."""


@dataclass(frozen=True)
class Written:
    """The files of a report.

    Attributes:
        page: the HTML page.
        files: all files, the page first.
        notes: what could not be read, a sentence each.
    """

    page: Path
    files: tuple[Path, ...]
    notes: tuple[str, ...]


def report(
    folders: Sequence[str],
    out: str | None = None,
    *,
    title: str | None = None,
    question: Question | None = None,
) -> Written:
    """Write the report of one or more results folders.

    Args:
        folders: as experiments wrote them.
        out: folder for the report; None for `report` in the first of the folders, or in the
            working folder where that one is in an object store.
        title: of the page; None derives one from what was measured.
        question: options of the report.

    Raises:
        ResultsError: no folder holds a finished trial, or `out` cannot be written.
        ConfigError: the question names something that the rows do not have.
    """
    target = _target(folders[0], out)
    answers = ask(read_folders(folders), question or Question())
    document = make(answers, title)
    return Written(target / PAGE, _write(document, target), answers.source.notes)


def _target(first: str, out: str | None) -> Path:
    if out is None:
        return Path("report") if is_address(first) else Path(first, "report")
    if is_address(out):
        raise ResultsError(
            f"out={out!r} is no folder of this machine, where a report is written. Write out=DIR."
        )
    return Path(out)


def make(answers: Answers, title: str | None = None) -> Document:
    """Return the document, verdicts first and methods last."""
    every = (verdicts, points, applications, decoding, scaling, bounded, packing, feeding, interference, power, precision, batch, choices, devices, acceptance, trend, study, timeline,
             environment, methods)  # fmt: skip
    sections = [section(answers) for section in every]
    present = [one for one in sections if one is not None]
    return limit_rows(Document(title or _title(answers), _subtitle(answers), present))


def _title(answers: Answers) -> str:
    models, devices = _names(answers, "model"), _names(answers, "device")
    what = ", ".join(models) if len(models) < 4 else f"{len(models)} models"
    where = ", ".join(devices) if len(devices) < 3 else f"{len(devices)} devices"
    return f"Inference throughput of {what or 'nothing'}" + (f" on {where}" if where else "")


def _subtitle(answers: Answers) -> str:
    """Return the experiment, the number of points and trials, and the dates."""
    trials = answers.source.trials
    days = sorted(str(v)[:10] for v in trials["started_at"].to_pylist() if v is not None)
    when = " to ".join(dict.fromkeys((days[0], days[-1]))) + "." if days else ""
    experiments = ", ".join(dict.fromkeys(filter(None, trials["experiment"].to_pylist())))
    experiment = f"Experiment {experiments}." if experiments else ""
    engines = ", ".join(_names(answers, "engine"))
    size = f"{counted(len(answers.scaling.entries), 'point')}, {counted(trials.num_rows, 'trial')}, engine {engines}."
    return " ".join(part for part in (experiment, size, when) if part)


def _names(answers: Answers, factor: str) -> list[str]:
    values = dict.fromkeys(getattr(e.series, factor) for e in answers.scaling.entries)
    names = [str(value) for value in values if value is not None]
    return [device_name(name) for name in names] if factor == "device" else names


def _write(document: Document, target: Path) -> tuple[Path, ...]:
    """Write every file atomically; remove figures of an earlier report that are not replaced."""
    figures = target / "figures"
    contents: dict[Path, bytes] = {}
    for figure in document.figures:
        contents[figures / f"{figure.name}.svg"] = _encoded(figure.svg)
        contents[figures / f"{figure.name}.png"] = figure.png
    page = {target / PAGE: _encoded(html.page(document))}
    contents = {**page, target / TEXT: _encoded(markdown.markdown(document)), **contents}
    try:
        figures.mkdir(parents=True, exist_ok=True)
        for path in figures.iterdir():
            if _OURS.fullmatch(path.name) and path not in contents:
                path.unlink()
        for path, data in contents.items():
            write_atomically(path, data)
    except OSError as error:
        raise ResultsError(
            f"Report folder {str(target)!r} cannot be written ({error.strerror or error}). "
            "Name another one with out=DIR."
        ) from error
    return tuple(contents)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "replace")
