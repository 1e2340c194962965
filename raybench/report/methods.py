"""methods: how it was measured, as a paragraph that can go into a paper."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from raybench.analysis.scaling import BETWEEN
from raybench.report.document import Paragraph, Section

if TYPE_CHECKING:
    from collections.abc import Iterable

    from raybench.report.answers import Answers
    from raybench.report.document import Part

_COLUMNS = (
    "status", "engine", "engine_version", "device", "preset", "trial", "method_version",
    "window_s", "warmup_s", "block_s", "ci_method", "inflight", "transfers", "precision",
    "dialect", "model_identity", "config_json", "simulated", "load_mode",
)  # fmt: skip


def methods(answers: Answers) -> Section:
    """The paragraph, and where the rows are."""
    trials = answers.source.trials
    names = [name for name in _COLUMNS if name in trials.column_names]
    rows = trials.select(names).to_pylist()
    good = [row for row in rows if row["status"] == "ok"]
    parts: list[Part] = []
    if good:
        sentences = (
            *_stream(good),
            *_window(good),
            *_repeats(answers),
            *_graphs(good),
            *_care(answers, good),
        )
        parts.append(Paragraph(" ".join(sentences)))
    folders = ", ".join(answers.source.folders)
    parts.append(
        Paragraph(
            f"{folders}: Parquet tables trials, workers, blocks and environment; read them with "
            "raybench.load. Figures are in the folder figures beside this page, as SVG and PNG.",
            "note",
            "Rows.",
        )
    )
    return Section("methods", "Methods", parts)


def _stream(rows: list[dict[str, Any]]) -> list[str]:
    engines = _all(f"{row['engine']} {row['engine_version'] or ''}".strip() for row in rows)
    versions = _all(row["method_version"] for row in rows)
    modes = _all(row.get("inflight") for row in rows)
    copies: set[Any] = {row.get("transfers") for row in rows} - {None}
    how = {
        frozenset({True}): " Inputs and outputs crossed the bus inside the timed stream.",
        frozenset({False}): " Inputs and outputs stayed on the device.",
    }.get(frozenset(copies), "")
    return [
        f"Inference throughput was measured with raybench (method version {versions}) on "
        f"{_all(row['device'] for row in rows)} with {engines}. Each worker owned one device and "
        "one engine and was fed a closed-loop stream of synthetic batches from a seeded pool, with "
        f"{modes} batches submitted and not yet collected.{how}"
    ]


def _window(rows: list[dict[str, Any]]) -> list[str]:
    settings = [_measure(row.get("config_json")) for row in rows]
    target = _all(f"{100 * s['target']:g} %" for s in settings if "target" in s)
    stop = (
        f" The stream ended when the half-width of the 95 % interval was within {target} of the "
        "mean at consecutive looks, or at its time limit."
        if target
        else ""
    )
    sentences = []
    if warmup := _range(rows, "warmup_s"):
        sentences.append(f"An adaptive warm-up ({warmup} s) was discarded.")
    if window := _range(rows, "window_s"):
        sentences.append(
            f"Throughput is all items over one window common to all workers ({window} s), cut into "
            f"blocks of {_range(rows, 'block_s') or 'about 1'} s whose edges are completions of "
            f"batches; within a trial its interval is the wider of an AR(1)-corrected and a "
            f"batch-means t interval of the block rates.{stop} No block of the window was left out."
        )
    return sentences


def _measure(config: str | None) -> dict[str, Any]:
    try:
        found = json.loads(config or "{}").get("measure")
    except (ValueError, AttributeError):
        return {}
    return found if isinstance(found, dict) else {}


def _repeats(answers: Answers) -> list[str]:
    entries = [e for e in answers.scaling.entries if e.items_per_s is not None]
    counts = _all(e.trials for e in sorted(entries, key=lambda e: e.trials))
    if not any(e.interval == BETWEEN for e in entries):
        return ["Each point was measured once, so that nothing is said of the next time."]
    sentences = [
        f"Points were repeated in {counts} trials of fresh processes; intervals between trials are "
        "t intervals of the trial means, and those of ratios are Welch intervals of their "
        "logarithms (95 %)."
    ]
    if any(curve.law is not None for curve in answers.scaling.curves):
        sentences.append(
            "The universal scalability law was fitted by non-negative least squares, its intervals "
            "by parametric bootstrap over trial means."
        )
    return sentences


def _graphs(rows: list[dict[str, Any]]) -> list[str]:
    precisions = {row["precision"] for row in rows}
    sentences = []
    if "int8" in precisions:
        dialects = _all(row.get("dialect") for row in rows if row["precision"] == "int8")
        named = f" ({dialects})" if dialects else ""
        sentences.append(
            f"int8 graphs carry explicit quantisation{named} calibrated with seeded synthetic data."
        )
    if precisions - {"fp32"}:
        sentences.append(
            "All precisions are made from the same fp32 graph; fidelity is the signal to "
            "quantisation noise ratio of the outputs against it."
        )
    return sentences


def _care(answers: Answers, rows: list[dict[str, Any]]) -> list[str]:
    sentences = [
        "A point is stable when it met its precision target and nothing in its evidence speaks "
        "against it, unverified when its preset was too short to claim so, and unstable otherwise."
    ]
    simulated = sum(bool(row.get("simulated")) for row in rows)
    if simulated:
        part = "All" if simulated == len(rows) else f"{simulated} of {len(rows)}"
        sentences.append(f"{part} trials are simulated: their timings come from a formula.")
    return sentences


def _all(values: Iterable[Any]) -> str:
    """Distinct values in words: `a, b and c`."""
    words = [str(v) for v in dict.fromkeys(values) if v not in (None, "")]
    if len(words) < 2:
        return words[0] if words else ""
    return f"{', '.join(words[:-1])} and {words[-1]}"


def _range(rows: list[dict[str, Any]], name: str) -> str:
    values = [row[name] for row in rows if row.get(name) is not None]
    if not values:
        return ""
    low, high = f"{min(values):.3g}", f"{max(values):.3g}"
    return low if low == high else f"{low} to {high}"
