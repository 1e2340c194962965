"""Report: from results folders to a page, Markdown and the files of its figures."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from raybench.errors import ResultsError
from raybench.report import html, markdown, sections, source
from raybench.report.answers import Question, ask
from raybench.report.document import Document
from raybench.report.methods import methods
from raybench.results.schema import FAILURES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.report.answers import Answers

PAGE, TEXT = "report.html", "report.md"


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        page: the page.
        files: everything, the page first.
        failed: points that ended in a failure, not in a number or an outcome.
        notes: what could not be read, a sentence each.
    """

    page: Path
    files: tuple[Path, ...]
    failed: int
    notes: tuple[str, ...]


def report(
    folders: Sequence[str],
    out: str | None = None,
    *,
    title: str | None = None,
    question: Question | None = None,
) -> Written:
    """Write the report of some results folders.

    Args:
        folders: as experiments wrote them.
        out: folder for the report; None for `report` in the first of the folders.
        title: of the page; None makes one of what was measured.
        question: what the reader wants beyond the usual.

    Raises:
        ResultsError: no folder holds a finished trial, or `out` cannot be written.
        ConfigError: the question names what the rows do not have.
    """
    answers = ask(source.read(folders), question or Question())
    document = make(answers, title)
    target = Path(out) if out is not None else Path(answers.source.folders[0], "report")
    failed = sum(entry.status in FAILURES for entry in answers.scaling.entries)
    return Written(target / PAGE, _write(document, target), failed, answers.source.notes)


def make(answers: Answers, title: str | None = None) -> Document:
    """The document: verdicts first, how it was measured last."""
    study = sections.study(answers)
    return Document(
        title or _title(answers),
        _subtitle(answers),
        [
            sections.verdicts(answers),
            sections.key_table(answers),
            sections.scaling(answers),
            sections.precision(answers),
            sections.batch(answers),
            sections.devices(answers),
            *([study] if study else []),
            sections.evidence(answers),
            sections.environment(answers),
            methods(answers),
        ],
    )


def _title(answers: Answers) -> str:
    models = _names(answers, "model")
    devices = _names(answers, "device")
    what = ", ".join(models) if len(models) < 4 else f"{len(models)} models"
    where = ", ".join(devices) if len(devices) < 3 else f"{len(devices)} devices"
    return f"Inference throughput of {what or 'nothing'}" + (f" on {where}" if where else "")


def _subtitle(answers: Answers) -> list[str]:
    trials = answers.source.trials
    known = set(trials.column_names)

    def distinct(name: str) -> list[str]:
        if name not in known:
            return []
        return [str(v) for v in dict.fromkeys(trials[name].to_pylist()) if v is not None]

    began = sorted(distinct("started_at"))
    when = ""
    if began:
        first, last = began[0][:10], began[-1][:10]
        when = f"{first}." if first == last else f"{first} to {last}."
    points = len(answers.scaling.entries)
    asked = f"Experiment {', '.join(distinct('experiment'))}. " if distinct("experiment") else ""
    return [
        f"{asked}{points} points, {trials.num_rows} trials, engine {', '.join(distinct('engine'))}. "
        f"{when}".strip()
    ]


def _names(answers: Answers, factor: str) -> list[str]:
    values = dict.fromkeys(getattr(e.series, factor) for e in answers.scaling.entries)
    return [str(value) for value in values if value is not None]


def _write(document: Document, target: Path) -> tuple[Path, ...]:
    """The files, whole or not at all; figures of an earlier report are replaced or removed."""
    figures = target / "figures"
    contents: dict[Path, bytes] = {}
    for figure in document.figures:
        contents[figures / f"{figure.name}.svg"] = _encoded(figure.svg)
        contents[figures / f"{figure.name}.png"] = figure.png
    page = {target / PAGE: _encoded(html.page(document))}
    contents = {**page, target / TEXT: _encoded(markdown.markdown(document)), **contents}
    try:
        figures.mkdir(parents=True, exist_ok=True)
        for path, data in contents.items():
            _replace(path, data)
    except OSError as error:
        raise ResultsError(
            f"Report folder {str(target)!r} cannot be written ({error.strerror or error}). "
            "Name another one with out=DIR."
        ) from error
    return tuple(contents)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _replace(path: Path, data: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".report-")
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    os.chmod(name, 0o644)
    os.replace(name, path)
