"""paper: every finding of the 2017 study, checked against rows.

R. Xu, F. Han, N. Dandapanthu, "Deep Learning Inference on P40 GPUs", Dell EMC HPC Innovation Lab,
March 2017. Its bars are in data/p40_2017.csv.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from raybench.analysis.frame import as_table

if TYPE_CHECKING:
    import pyarrow as pa

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


def study() -> pa.Table:
    """The study's bars, a row each, with its units and the speedup as it is printed there."""
    raise NotImplementedError


def study_trials() -> pa.Table:
    """The study's bars as a `trials` table, one trial each, to be fed to any analysis."""
    raise NotImplementedError


def paper(trials: pa.Table) -> Paper:
    """The study's figures and findings beside the rows of a `trials` table."""
    return Paper((), ())
