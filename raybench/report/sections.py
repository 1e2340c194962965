"""sections: the parts of a report from its answers, each with its figures, tables and gaps."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from raybench.report import grid
from raybench.report.document import Paragraph, Section, Tally
from raybench.report.figures import batch as batch_figures
from raybench.report.figures import devices as device_figures
from raybench.report.figures import efficiency as efficiency_figures
from raybench.report.figures import evidence as evidence_figures
from raybench.report.figures import precision as precision_figures
from raybench.report.figures import scaling as scaling_figures
from raybench.report.figures import study as study_figures
from raybench.report.labels import Naming
from raybench.report.numbers import TIMES, number, ratio
from raybench.report.sparkline import sparkline
from raybench.results.schema import FAILURES, OUTCOMES, VERDICTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from raybench.analysis.evidence import Trace
    from raybench.analysis.points import Series
    from raybench.analysis.scaling import Entry
    from raybench.report.answers import Answers
    from raybench.report.document import Part, Table, Tone

_MOST_FINDINGS = 6
_EVIDENCE_FIGURES = 3
_TONES: dict[str, Tone] = {"reproduced": "good", "not reproduced": "bad"}


def verdicts(answers: Answers) -> Section:
    """What a hurried reader takes away: how much can be trusted, and what was found."""
    entries = answers.scaling.entries
    tally = Counter(_verdict(entry) for entry in entries)
    order = (*VERDICTS, "ok", *OUTCOMES[1:], *FAILURES)
    parts: list[Part] = [Tally([(word, tally[word]) for word in order if tally[word]])]
    parts += _warnings(entries)
    for lead, name, tone, sentences in _findings(answers):
        parts += [Paragraph(s, tone, lead) for s in sentences[:_MOST_FINDINGS]]
        if len(sentences) > _MOST_FINDINGS:
            more = len(sentences) - _MOST_FINDINGS
            parts.append(Paragraph(f"{more} more under {name}.", "note", lead))
    parts += [Paragraph(note, "missing", "Rows") for note in answers.source.notes]
    return Section("verdicts", "Verdicts", parts)


def _warnings(entries: Sequence[Entry]) -> Iterator[Paragraph]:
    numbers = [entry for entry in entries if entry.items_per_s is not None]
    if not numbers:
        yield Paragraph(
            "No point has a number, so there is nothing to draw or compare; the table below says "
            "why of each.", "bad", "No figures.",
        )  # fmt: skip
    simulated = sum("simulated" in entry.marks for entry in numbers)
    if simulated:
        which = (
            "All points are"
            if simulated == len(numbers)
            else f"{simulated} of {len(numbers)} points are"
        )
        yield Paragraph(f"{which} simulated: timings come from a formula, not from hardware.",
                        "bad", "SIMULATED.")  # fmt: skip
    capped = sum("capped" in entry.marks for entry in numbers)
    if capped:
        yield Paragraph(f"{capped} of {len(numbers)} points ran with less memory than the device has.",
                        "open", "Memory limited.")  # fmt: skip
    unstable = sum(entry.verdict == "unstable" for entry in numbers)
    if unstable:
        yield Paragraph(
            f"{unstable} of {len(numbers)} points are contradicted by their own evidence; "
            "rerun=unstable measures them again.", "bad", "Unstable.",
        )  # fmt: skip
    failed = sum(entry.status in FAILURES for entry in entries)
    if failed:
        yield Paragraph(
            f"{failed} of {len(entries)} points failed; the table says which and why, and "
            "rerun=failed measures them again.", "bad", "Failed.",
        )  # fmt: skip


def _findings(answers: Answers) -> Iterator[tuple[str, str, Tone, list[str]]]:
    """Lead, section, tone and sentences."""
    curves, ladders = answers.scaling.curves, answers.batch.ladders
    naming = Naming([curve.series for curve in curves])
    found = [_named(naming, c.series, _marked(c.finding, c.marks)) for c in curves]
    yield "Scaling.", "Scaling", "open", found
    yield "Precision.", "Precision", "open", _gains(answers)
    naming = Naming([ladder.series for ladder in ladders], without=("batch_size",))
    found = [_named(naming, x.series, _marked(x.finding, x.marks)) for x in ladders]
    yield "Batch.", "Batch", "open", found
    yield "Devices.", "Devices", "open", _devices(answers)
    for finding in answers.paper.findings:
        tone = _TONES.get(finding.verdict)
        if tone is not None:
            lead = f"2017 study, {finding.verdict}."
            words = f"{finding.statement.rstrip('.')}. {finding.reason}"
            yield lead, "The 2017 study", tone, [_marked(words, finding.marks)]


def _named(naming: Naming, series: Series, sentence: str) -> str:
    """The sentence with the name of its series in front, unless it has it."""
    label = naming.label(series)
    return sentence if not label or sentence.startswith(label) else f"{label}: {sentence}"


def _marked(sentence: str, marks: Iterable[str]) -> str:
    told = [mark for mark in ("simulated", "unstable") if mark in set(marks)]
    return f"{sentence} ({', '.join(told)})" if told and sentence else sentence


def _gains(answers: Answers) -> list[str]:
    gains = [
        g for g in answers.precision.gains if g.ratio is not None and g.series.precision != "fp32"
    ]
    naming = Naming([g.series for g in gains], without=("precision", "model"))
    found = []
    for g in gains:
        where = ", ".join(
            x for x in (str(g.series.model), naming.label(g.series), _on(g.workers)) if x
        )
        kept = "" if g.fidelity_sqnr_db is None else f", at {g.fidelity_sqnr_db:.0f} dB to it"
        pace = ratio(g.ratio or 0.0, g.ratio_lo, g.ratio_hi)
        found.append(_marked(f"{g.series.precision} runs at {pace} fp32{kept}: {where}.", g.marks))
    return found


def _devices(answers: Answers) -> list[str]:
    sides = [s for s in answers.generation.sides if s.ratio is not None and s.name != s.base]
    naming = Naming(
        [s.series for s in sides], without=("model", "device", "engine_version", "environment_id")
    )
    return [
        _marked(
            f"{s.name} runs at {ratio(s.ratio or 0.0, s.ratio_lo, s.ratio_hi)} {s.base}: "
            + ", ".join(x for x in (str(s.series.model), str(s.series.precision) if "precision" not in naming.varying else "", naming.label(s.series), _on(s.workers)) if x)
            + ".",
            s.marks,
        )
        for s in sides
    ]  # fmt: skip


def _on(workers: int | None) -> str:
    return "" if workers is None else f"{workers} worker{'s' if workers != 1 else ''}"


def key_table(answers: Answers) -> Section:
    """Every point, one line each."""
    entries = answers.scaling.entries
    naming = Naming([entry.series for entry in entries])
    same = f"In all: {naming.same}. " if naming.same else ""
    curves = {curve.series for curve in answers.scaling.curves}
    grown = [
        e if e.series in curves else replace(e, speedup=None, efficiency=None) for e in entries
    ]
    table = grid.table(
        "points",
        f"{same}± is half the 95 % interval: between trials where there are several, within the "
        "trial where there is one. Latency is that of a batch in a closed loop, median over trials.",
        *grid.factors(naming, [entry.series for entry in entries]),
        grid.counts("workers", [entry.workers for entry in entries]),
        grid.numbers("items", "/s", [entry.items_per_s for entry in entries]),
        grid.spread(entries),
        grid.verdicts(entries),
        grid.fixed("speedup", TIMES, [e.speedup for e in grown], 3),
        grid.fixed("efficiency", "%", [e.efficiency for e in grown], 1, 100),
        grid.numbers("p50", "ms", [entry.latency_p50_ms for entry in entries]),
        grid.numbers("p99", "ms", [entry.latency_p99_ms for entry in entries]),
        grid.fixed("over fp32", TIMES, [entry.over_fp32 for entry in entries], 3),
        grid.fixed("fidelity", "dB", [entry.fidelity_sqnr_db for entry in entries], 1),
        grid.repeats(entries),
    )
    return Section("table", "Key table", [table, *_without_number(naming, entries)])


def _without_number(naming: Naming, entries: Sequence[Entry]) -> Iterator[Part]:
    """Why some points have no number."""
    some = [entry for entry in entries if entry.items_per_s is None]
    if some:
        yield grid.table(
            "reasons",
            "Points without a number, and why.",
            *grid.factors(naming, [entry.series for entry in some]),
            grid.counts("workers", [entry.workers for entry in some]),
            grid.verdicts(some),
            grid.repeats(some),
            grid.words("why", [entry.reason for entry in some]),
        )


def scaling(answers: Answers) -> Section:
    """Throughput over workers."""
    found = answers.scaling
    curves = {curve.series for curve in found.curves}
    entries = [e for e in found.entries if e.series in curves]
    parts: list[Part] = list(scaling_figures.figures(found))
    if entries:
        parts += [_scaling_table(entries), _curves(answers)]
        parts += _laws(answers)
    missing = [*found.missing, *(m for c in found.curves for m in c.missing)]
    if not found.curves:
        missing.append(
            "No series has a number for two or more numbers of workers. Run experiment=scaling, "
            "or the same points with workers=[1,2]."
        )
    return Section("scaling", "Scaling", [*parts, *_once(missing, "missing", "Not said.")])


def _scaling_table(entries: Sequence[Entry]) -> Table:
    naming = Naming([entry.series for entry in entries])
    bases = sorted({str(e.base_workers) for e in entries if e.base_workers is not None})
    return grid.table(
        "speedups",
        f"Speedup against {' or '.join(bases) or 'no'} worker{'s' if bases != ['1'] else ''} of the "
        "same series; intervals are 95 %, from the logarithms of the trial means.",
        *grid.factors(naming, [entry.series for entry in entries]),
        grid.counts("workers", [entry.workers for entry in entries]),
        grid.numbers("items", "/s", [entry.items_per_s for entry in entries]),
        grid.verdicts(entries),
        grid.fixed("speedup", TIMES, [e.speedup for e in entries], 3),
        grid.bounds("95 %", entries, "speedup", 3),
        grid.fixed("efficiency", "%", [e.efficiency for e in entries], 1, 100),
        grid.fixed("over solo", TIMES, [e.solo_speedup for e in entries], 3),
        grid.bounds("95 %", entries, "solo_speedup", 3),
        grid.fixed("interference", "%", [e.interference_loss for e in entries], 1, 100),
        grid.fixed("imbalance", "%", [e.imbalance for e in entries], 1, 100),
        grid.words("slowest", [e.slowest_worker for e in entries]),
        grid.words("bound by", [", ".join(e.bound_by).replace("_", " ") for e in entries]),
    )


def _curves(answers: Answers) -> Table:
    curves = answers.scaling.curves
    naming = Naming([curve.series for curve in curves])
    held = [" ".join(f"{b.workers} workers: {b.evidence}" for b in c.bounds) for c in curves]
    return grid.table(
        "curves",
        "What each series says as a whole, and what its flags and telemetry tell of its bounds.",
        *grid.factors(naming, [curve.series for curve in curves]),
        grid.words("finding", [_marked(curve.finding, curve.marks) for curve in curves]),
        grid.words("held back by", held),
    )


def _laws(answers: Answers) -> Iterator[Part]:
    curves = [c for c in answers.scaling.curves if c.law is not None]
    if not curves:
        return
    laws = [c.law for c in curves if c.law is not None]
    last = [law.predictions[-1] for law in laws]
    naming = Naming([c.series for c in curves])
    yield grid.table(
        "laws",
        "Universal scalability law, gamma N / (1 + sigma (N - 1) + kappa N (N - 1)), with 95 % intervals; the "
        "prediction stops at twice what was measured.",
        *grid.factors(naming, [c.series for c in curves]),
        grid.numbers("gamma", "items/s", [law.gamma for law in laws]),
        grid.fixed("contention sigma", "", [law.sigma for law in laws], 5),
        grid.bounds("95 %", laws, "sigma", 5),
        grid.fixed("coherency kappa", "", [law.kappa for law in laws], 6),
        grid.bounds("95 %", laws, "kappa", 6),
        grid.fixed("peak at", "workers", [law.peak_workers for law in laws], 0),
        grid.counts("predicted for", [p.workers for p in last]),
        grid.numbers("items", "/s", [p.items_per_s for p in last]),
        grid.bounds("95 %", last, "items_per_s", 0),
    )


def precision(answers: Answers) -> Section:
    """Each precision beside fp32."""
    gains = answers.precision.gains
    parts: list[Part] = list(precision_figures.figures(answers.precision))
    if gains:
        naming = Naming([g.series for g in gains])
        parts.append(
            grid.table(
                "gains",
                "Ratio to fp32 with all else equal, beside the fidelity of the outputs to fp32.",
                *grid.factors(naming, [g.series for g in gains]),
                grid.words("dialect", [g.dialect for g in gains]),
                grid.counts("workers", [g.workers for g in gains]),
                grid.numbers("items", "/s", [g.items_per_s for g in gains]),
                grid.spread(gains),
                grid.fixed("over fp32", TIMES, [g.ratio for g in gains], 3),
                grid.bounds("95 %", gains, "ratio", 3),
                grid.fixed("peaks", TIMES, [g.peak_ratio for g in gains], 2),
                grid.fixed("SQNR", "dB", [g.fidelity_sqnr_db for g in gains], 1),
                grid.fixed("cosine", "", [g.fidelity_cosine for g in gains], 5),
                grid.verdicts(gains),
            )
        )
    missing = list(answers.precision.missing)
    if not gains and not missing:
        missing = ["No point was measured in two precisions. Run experiment=precision."]
    return Section("precision", "Precision", [*parts, *_once(missing, "missing", "Not said.")])


def batch(answers: Answers) -> Section:
    """Throughput over the batch."""
    ladders = answers.batch.ladders
    parts: list[Part] = list(batch_figures.figures(answers.batch))
    if ladders:
        naming = Naming([x.series for x in ladders], without=("batch_size",))
        parts.append(
            grid.table(
                "ladders",
                "The knee is the smallest batch within 5 % of the best throughput.",
                *grid.factors(naming, [x.series for x in ladders]),
                grid.counts("workers", [x.workers for x in ladders]),
                grid.counts("knee", [x.knee_batch_size for x in ladders]),
                grid.counts("best batch", [x.best_batch_size for x in ladders]),
                grid.numbers("best", "items/s", [x.best_items_per_s for x in ladders]),
                grid.counts("largest that ran", [x.largest_batch_size for x in ladders]),
                grid.counts("memory ends at", [x.memory_end_batch_size for x in ladders]),
                grid.words("finding", [_marked(x.finding, x.marks) for x in ladders]),
            )
        )
    missing = [*answers.batch.missing, *(m for x in ladders for m in x.missing)]
    if not ladders and not missing:
        missing = ["No point was measured at two batch sizes. Run experiment=batch_size."]
    return Section("batch", "Batch", [*parts, *_once(missing, "missing", "Not said.")])


def devices(answers: Answers) -> Section:
    """Devices side by side, and what share of each is used."""
    sides = answers.generation.sides
    parts: list[Part] = list(device_figures.figures(answers.generation))
    if sides:
        naming = Naming([s.series for s in sides], without=("engine_version", "environment_id"))
        parts.append(
            grid.table(
                "sides",
                f"The same points by {answers.generation.by.replace('_', ' ')}; "
                f"ratios to {answers.generation.names[0]}.",
                *grid.factors(naming, [s.series for s in sides]),
                grid.counts("workers", [s.workers for s in sides]),
                grid.numbers("items", "/s", [s.items_per_s for s in sides]),
                grid.spread(sides),
                grid.fixed("ratio", TIMES, [s.ratio for s in sides], 3),
                grid.bounds("95 %", sides, "ratio", 3),
                grid.numbers("p99", "ms", [s.latency_p99_ms for s in sides]),
                grid.numbers("items", "/J", [s.items_per_j for s in sides]),
                grid.verdicts(sides),
            )
        )
    parts += efficiency_figures.figures(answers.efficiency)
    parts += _efficiency_table(answers)
    missing = [*answers.generation.missing, *answers.efficiency.missing]
    if not sides and not answers.generation.missing:
        missing.insert(
            0, "Only one device was measured. Give the folders of several to one report."
        )
    return Section("devices", "Devices", [*parts, *_once(missing, "missing", "Not said.")])


def _efficiency_table(answers: Answers) -> Iterator[Part]:
    uses = [
        u
        for u in answers.efficiency.uses
        if u.achieved_tflops or u.items_per_j or u.usd_per_million_items
    ]
    if not uses:
        return
    naming = Naming([u.series for u in uses])
    yield grid.table(
        "uses",
        "Achieved arithmetic counts 2 operations a multiply-accumulate; for int8 these are integer "
        "operations. Peaks are dense, as the maker prints them.",
        *grid.factors(naming, [u.series for u in uses]),
        grid.counts("workers", [u.workers for u in uses]),
        grid.numbers("achieved", "TFLOP/s", [u.achieved_tflops for u in uses]),
        grid.numbers("peak", "TFLOP/s", [u.peak_tflops for u in uses]),
        grid.fixed("share", "%", [u.mfu for u in uses], 1, 100),
        grid.fixed("at clock", "%", [u.mfu_clock for u in uses], 1, 100),
        grid.numbers("power", "W", [u.avg_power_w for u in uses]),
        grid.numbers("items", "/J", [u.items_per_j for u in uses]),
        grid.numbers("energy", "J/item", [u.j_per_item for u in uses]),
        grid.fixed("cost", "USD per million", [u.usd_per_million_items for u in uses], 4),
        grid.words("source of the peak", [u.peak_source for u in uses]),
    )


def study(answers: Answers) -> Section | None:
    """The 2017 study beside the rows; nothing when no figure of it can be drawn."""
    if not any(figure.here for figure in answers.paper.figures):
        return None
    findings = answers.paper.findings
    parts: list[Part] = [
        Paragraph(f"{f.statement.rstrip('.')}. {_marked(f.reason, f.marks)} Criterion: {f.criterion}",
                  _TONES.get(f.verdict, "missing"), f"{f.verdict.capitalize()}.")
        for f in findings
    ]  # fmt: skip
    parts += study_figures.figures(answers.paper)
    missing = [
        f"Figure {f.number}: {sentence}" for f in answers.paper.figures if not f.here
        for sentence in f.missing
    ]  # fmt: skip
    return Section("study", "The 2017 study", [*parts, *_once(missing, "missing", "Not said.")])


def evidence(answers: Answers) -> Section:
    """The blocks behind every point, and the doubtful ones drawn large."""
    entries = [e for e in answers.scaling.entries if e.items_per_s is not None]
    pairs = [(e, _traces(answers, e)) for e in entries]
    pairs = [(e, some) for e, some in pairs if some]
    if not pairs:
        return Section("evidence", "Evidence", [
            Paragraph("No blocks are stored beside these rows.", "missing", "Not said.")
        ])  # fmt: skip
    naming = Naming([e.series for e, _ in pairs])
    doubtful = sorted(pairs, key=lambda pair: _doubt(pair[0]), reverse=True)[:_EVIDENCE_FIGURES]
    parts: list[Part] = [
        Paragraph(
            "Throughput block by block, trials side by side, warm-up on grey ground. Each line has "
            "its own scale, at least 2 % of its value high. The points with the most against them "
            "are drawn large first."
        )
    ]
    for k, (entry, some) in enumerate(doubtful, 1):
        name = ", ".join(
            x
            for x in (naming.label(entry.series) or str(entry.series.model), _on(entry.workers))
            if x
        )
        flags = f" Flags: {', '.join(entry.flags)}." if entry.flags else ""
        words = f"Verdict: {entry.verdict or 'none'}.{flags}"
        parts.append(evidence_figures.figure(k, name, some, entry.marks, words))
    parts.append(_evidence_table(naming, pairs))
    return Section("evidence", "Evidence", parts)


def _traces(answers: Answers, entry: Entry) -> Sequence[Trace]:
    return answers.traces.get((entry.point_id or "", entry.series.environment_id), ())


def _doubt(entry: Entry) -> tuple[int, float]:
    """Worst verdict first, then the widest interval."""
    lo, hi, mean = entry.items_per_s_lo, entry.items_per_s_hi, entry.items_per_s
    width = 0.0 if lo is None or hi is None or not mean else (hi - lo) / mean
    return (entry.verdict == "unstable") * 2 + (entry.verdict != "stable"), width


def _evidence_table(naming: Naming, pairs: Sequence[tuple[Entry, Sequence[Trace]]]) -> Table:
    entries = [entry for entry, _ in pairs]

    def lines(field: str, label: str, css: str) -> list[str]:
        return [sparkline(some, field, label, css) for _, some in pairs]

    return grid.table(
        "evidence-table",
        "Blocks of every point.",
        *grid.factors(naming, [entry.series for entry in entries]),
        grid.counts("workers", [entry.workers for entry in entries]),
        grid.drawings("items/s", lines("items_per_s", "items per second over time", "")),
        grid.drawings("SM clock", lines("sm_clock_mhz", "SM clock over time", "c2")),
        grid.drawings("temperature", lines("temp_c", "temperature over time", "c3")),
        grid.spread(entries),
        grid.verdicts(entries),
        grid.words("flags", [", ".join(entry.flags).replace("_", " ") for entry in entries]),
    )


def environment(answers: Answers) -> Section:
    """What it was measured on: facts as rows, environments as columns."""
    rows = answers.source.environment.to_pylist()
    used = {e.series.environment_id for e in answers.scaling.entries}
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["environment_id"] in used:
            groups.setdefault(row["environment_id"], []).append(row)
    if not groups:
        return Section("environment", "Environment", [
            Paragraph("No environment is stored beside these rows.", "missing", "Not said.")
        ])  # fmt: skip
    facts = [name for name in answers.source.environment.column_names if name not in _HIDDEN]
    values = {
        fact: [_distinct(row.get(fact) for row in some) for some in groups.values()]
        for fact in facts
    }
    kept = [fact for fact in facts if any(values[fact])]
    names = [name[:8] for name in groups]
    table = grid.table(
        "environments",
        "Facts of each environment, by the beginning of its id; values of several hosts or devices "
        "stand beside each other.",
        grid.words("fact", [fact.replace("_", " ") for fact in kept]),
        *(grid.words(name, [values[f][k] for f in kept]) for k, name in enumerate(names)),
    )
    return Section("environment", "Environment", [table])


_HIDDEN = ("run_id", "environment_id", "schema_version", "node_id", "topology_json", "gpu_uuid")


def _distinct(values: Iterable[Any]) -> str:
    found = dict.fromkeys(_said(value) for value in values)
    return ", ".join(word for word in found if word)


def _said(value: Any) -> str:
    if value is None or value == []:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " ".join(f"{name}={word}" for name, word in value)
    return number(value) if isinstance(value, float) else str(value)


def _once(sentences: Iterable[str], tone: Tone, lead: str) -> list[Part]:
    """Each sentence once, and not more of them than anyone reads."""
    unique = list(dict.fromkeys(sentence for sentence in sentences if sentence))
    parts: list[Part] = [Paragraph(sentence, tone, lead) for sentence in unique[:10]]
    if len(unique) > 10:
        parts.append(Paragraph(f"And {len(unique) - 10} more of the kind.", "note"))
    return parts


def _verdict(entry: Entry) -> str:
    return (entry.verdict or "ok") if entry.status == "ok" else entry.status
