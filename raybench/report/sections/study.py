"""Section on the 2017 study: its findings and figures beside the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybench.report import columns
from raybench.report.document import Paragraph, Section
from raybench.report.figures.study import comparable, figures
from raybench.report.sections.sentences import marked, missing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.analysis.study2017.findings import Finding
    from raybench.report.analyses import Answers
    from raybench.report.document import Part, Table, Tone

TONES: dict[str, Tone] = {"reproduced": "good", "not reproduced": "bad"}
"""Tone of each verdict that decides something."""


def study(answers: Answers) -> Section | None:
    """Return verdicts and figures; None if no figure can be drawn."""
    paper = answers.paper
    if not any(map(comparable, paper.figures)):
        return None
    parts: list[Part] = [_verdict(finding) for finding in paper.findings]
    parts += figures(paper)
    if any(finding.evidence for finding in paper.findings):
        parts.append(_evidence(paper.findings))
    gaps = [
        f"Figure {figure.number}: {sentence}"
        for figure in paper.figures
        if not comparable(figure)
        for sentence in figure.missing
    ]
    return Section("study", "The 2017 study", [*parts, *missing(gaps)])


def _verdict(finding: Finding) -> Paragraph:
    text = f"{finding.statement.rstrip('.')}. {marked(finding.reason, finding.marks)}"
    return Paragraph(
        f"{text} Criterion: {finding.criterion}",
        TONES.get(finding.verdict, "missing"),
        f"{finding.verdict.capitalize()}.",
    )


def _evidence(findings: Sequence[Finding]) -> Table:
    pairs = [(finding, one) for finding in findings for one in finding.evidence]
    outcomes = {True: "holds", False: "does not hold", None: "cannot be decided"}
    cores = "CPU cores, no GPU"
    return columns.table(
        "study-evidence",
        "The ratios on which the verdicts stand. The study's stands beside one of the same network, "
        "precisions, batch and number of devices, and nowhere else.",
        columns.texts("finding", [f.name.replace("_", " ") for f, _ in pairs], "factor"),
        columns.texts("ratio", [one.what for _, one in pairs]),
        columns.fixed("study", "", [one.study for _, one in pairs], 3),
        columns.texts("the study's is of", [one.beside for _, one in pairs]),
        columns.fixed("here", "", [one.here.value for _, one in pairs], 3),
        columns.bounds("95 %", [one.here for _, one in pairs], 3),
        columns.texts(
            "criterion",
            [cores if one.on_cores else outcomes[one.holds] for _, one in pairs],
            "factor",
        ),
        columns.marks([one for _, one in pairs]),
    )
