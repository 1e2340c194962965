"""Section for a reader in a hurry: how far the numbers can be trusted, and the findings."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from raybench.analysis.untrained import untrained_sentence
from raybench.report.columns import verdict
from raybench.report.document import Paragraph, Section, Tally
from raybench.report.fleet_lines import closing
from raybench.report.formatting import ratio
from raybench.report.labels import Naming, joined, precision_label, workers_label
from raybench.report.sections.sentences import marked
from raybench.report.sections.study import TONES
from raybench.report.symbols import count_marks
from raybench.results.schema import FAILURES, OUTCOMES, VERDICTS
from raybench.text import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from raybench.analysis.curves import ScalingEntry
    from raybench.analysis.estimate import Estimate
    from raybench.report.analyses import Answers
    from raybench.report.document import Part, Tone


class _Rated(Protocol):
    """Anything with a throughput."""

    @property
    def items_per_s(self) -> Estimate: ...


T = TypeVar("T", bound=_Rated)

_MOST_FINDINGS = 6
_LEADS: dict[str, tuple[str, Tone, str]] = {
    "simulated": ("SIMULATED.", "bad", ""),
    "capped": ("Memory limited.", "open", ""),
    "unstable": ("Unstable.", "bad", " rerun=unstable measures them again."),
    "unverified": ("Unverified.", "open", " preset=standard claims more."),
}
"""Lead, tone and advice for each mark."""


def verdicts(answers: Answers) -> Section:
    """Return the number of points of each verdict, caveats, and the findings."""
    entries = answers.scaling.entries
    tally = Counter(verdict(entry) for entry in entries)
    order = (*VERDICTS, "ok", *OUTCOMES[1:], *FAILURES)
    parts: list[Part] = [Tally([(word, tally[word]) for word in order if tally[word]])]
    parts += _warnings(entries)
    for lead, title, sentences in (
        ("Scaling.", "Scaling", _curves(answers)),
        ("Precision.", "Precision", _gains(answers)),
        ("Batch.", "Batch", _ladders(answers)),
        ("Devices.", "Devices", _sides(answers)),
    ):
        parts += [Paragraph(sentence, "open", lead) for sentence in sentences[:_MOST_FINDINGS]]
        if len(sentences) > _MOST_FINDINGS:
            more = f"{len(sentences) - _MOST_FINDINGS} more under {title}."
            parts.append(Paragraph(more, "note", lead))
    if answers.acceptance is not None:
        counts, _, _ = closing(answers.acceptance)[0].partition(".")
        tone: Tone = "good" if answers.acceptance.exit_code == 0 else "bad"
        parts.append(Paragraph(f"{counts}; see Every device.", tone, "Fleet."))
    parts += _study(answers)
    random = untrained_sentence(answers.source.trials)
    parts += [Paragraph(random, "open", "Weights.")] if random else []
    parts += [Paragraph(note, "missing", "Rows.") for note in answers.source.notes]
    return Section("verdicts", "Verdicts", parts)


def _warnings(entries: Sequence[ScalingEntry]) -> Iterator[Paragraph]:
    numbers = [entry for entry in entries if entry.items_per_s.value is not None]
    if not numbers:
        yield Paragraph(
            "No point has a number, so there is nothing to draw or compare; the table below says "
            "why of each.", "bad", "No figures.",
        )  # fmt: skip
    own = [_Own(entry) for entry in numbers]
    for mark, text in count_marks(own).items():
        lead, tone, advice = _LEADS[mark]
        yield Paragraph(f"{text[0].upper()}{text[1:]}.{advice}", tone, lead)
    failed = sum(entry.status in FAILURES for entry in entries)
    if failed:
        yield Paragraph(
            f"{failed} of {counted(len(entries), 'point')} failed; the table says which and why, and "
            "rerun=failed measures them again.", "bad", "Failed.",
        )  # fmt: skip


class _Own:
    """An entry's own marks, without those of what its ratios refer to."""

    def __init__(self, entry: ScalingEntry) -> None:
        own = {entry.verdict}
        self.marks = tuple(
            mark for mark in entry.marks if mark in own or mark not in ("unstable", "unverified")
        )


def _curves(answers: Answers) -> list[str]:
    curves = answers.scaling.curves
    naming = Naming([curve.series for curve in curves])
    return [_named(naming, c) for c in curves]


def _ladders(answers: Answers) -> list[str]:
    ladders = answers.batch.ladders
    naming = Naming([ladder.series for ladder in ladders], without=("batch_size",))
    return [_named(naming, ladder) for ladder in ladders]


def _named(naming: Naming, one: Any) -> str:
    """Return a finding with the label of its series in front, unless it begins with it."""
    label = naming.label(one.series)
    sentence = marked(one.finding, one.marks)
    return sentence if not label or sentence.startswith(label) else f"{label}: {sentence}"


def _gains(answers: Answers) -> list[str]:
    gains = [
        g
        for g in answers.precision.gains
        if g.ratio.value is not None and g.series.precision != "fp32"
    ]
    naming = Naming([g.series for g in gains], without=("precision", "model"))
    sentences = []
    for g in _fastest_first(gains, lambda g: (g.series.model, g.series.precision)):
        where = joined(str(g.series.model), naming.label(g.series), workers_label(g.workers))
        kept = "" if g.fidelity_sqnr_db is None else f", at {g.fidelity_sqnr_db:.0f} dB to it"
        pace = ratio(g.ratio)
        precision = precision_label(g.series.precision, g.quantised_macs_frac)
        sentences.append(marked(f"{precision} runs at {pace} fp32{kept}: {where}.", g.marks))
    return sentences


def _sides(answers: Answers) -> list[str]:
    sides = [
        s for s in answers.generation.results if s.ratio.value is not None and s.name != s.base
    ]
    without = ("model", "device", "precision", "engine_version", "environment_id")
    naming = Naming([s.series for s in sides], without=without)
    sentences = []
    for s in _fastest_first(sides, lambda s: (s.name, s.series.model, s.series.precision)):
        where = joined(str(s.series.model), str(s.series.precision), naming.label(s.series),
                       workers_label(s.workers))  # fmt: skip
        pace = ratio(s.ratio)
        sentences.append(marked(f"{s.name} runs at {pace} {s.base}: {where}.", s.marks))
    return sentences


def _fastest_first(items: Sequence[T], kind: Callable[[T], Any]) -> list[T]:
    """Return the fastest item of each kind first, then all others."""
    fastest: dict[Any, Any] = {}
    for item in sorted(items, key=lambda one: -(one.items_per_s.value or 0.0)):
        fastest.setdefault(kind(item), item)
    first = list(map(id, fastest.values()))
    return sorted(items, key=lambda one: id(one) not in first)


def _study(answers: Answers) -> Iterator[Paragraph]:
    """Yield the findings of the study that could be decided; its own section has the others."""
    for finding in answers.paper.findings:
        if finding.verdict in TONES:
            text = f"{finding.statement.rstrip('.')}. {finding.reason}"
            lead = f"2017 study, {finding.verdict}."
            yield Paragraph(marked(text, finding.marks), TONES[finding.verdict], lead)
