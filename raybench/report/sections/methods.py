"""Section on how it was measured, as a paragraph for a paper.

Every sentence is derived from the rows and their environments; what these do not contain is left
out, never guessed.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from raybench.analysis.grouping import BETWEEN
from raybench.analysis.series import device_name, load_key
from raybench.experiment import AS_IS, CLOSED, QUANTISED, SYNTHETIC
from raybench.report.document import Paragraph, Section
from raybench.report.labels import load_label
from raybench.text import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from raybench.report.analyses import Answers
    from raybench.report.document import Part

    Row = Mapping[str, Any]

_COLUMNS = (
    "status", "engine", "engine_version", "device", "preset", "method_version", "window_s",
    "warmup_s", "block_s", "ci_level", "inflight", "transfers", "precision", "dialect",
    "config_json", "simulated", "memory_limit_bytes", "environment_id", "inputs",
    "reduced_ops", "device_kind", "flags", "load", "balancer",
)  # fmt: skip

_MANY = 3
"""Loads of a kind of which the text names each."""


def methods(answers: Answers) -> Section:
    """Return the paragraph, and where the rows are."""
    trials = answers.source.trials
    names = [name for name in _COLUMNS if name in trials.column_names]
    rows = [row for row in trials.select(names).to_pylist() if row["status"] == "ok"]
    parts: list[Part] = []
    if rows:
        sentences = (
            *_place(answers, rows),
            *_stream(rows),
            *_window(rows),
            *_repeats(answers),
            *_graphs(rows),
            *_care(rows),
        )
        parts.append(Paragraph(" ".join(sentences)))
    folders = ", ".join(answers.source.folders)
    parts.append(
        Paragraph(
            f"{folders}: Parquet tables trials, workers, blocks and environment; read them with "
            "raybench.load. The figures lie beside this page, in the folder figures, as SVG and "
            "PNG.",
            "note",
            "Rows.",
        )
    )
    return Section("methods", "Methods", parts)


def _place(answers: Answers, rows: Sequence[Row]) -> Iterator[str]:
    """Yield what ran where, from the rows and the facts of their environments."""
    engines = _all(f"{row['engine']} {row.get('engine_version') or ''}".strip() for row in rows)
    versions = _all(row.get("method_version") for row in rows)
    used = {row.get("environment_id") for row in rows}
    facts = [r for r in answers.source.environment.to_pylist() if r["environment_id"] in used]
    release = _all(fact.get("raybench_version") for fact in facts)
    devices = _all(row.get("device") and device_name(row["device"]) for row in rows)
    yield (
        f"Inference throughput was measured with raybench {release}".rstrip()
        + f" (method version {versions}) on {devices} with {engines}."
    )
    named = {
        "CPU": "cpu_model", "GPU": "gpu_name", "driver": "driver_version",
        "power limit (W)": "power_limit_w", "operating system": "os", "kernel": "kernel",
        "Python": "python_version", "Ray": "ray_version",
    }  # fmt: skip
    hosts = [f"{title} {_all(f.get(name) for f in facts)}" for title, name in named.items()
            if any(fact.get(name) for fact in facts)]  # fmt: skip
    if hosts:
        yield f"Hosts: {', '.join(hosts)}."


def _stream(rows: Sequence[Row]) -> Iterator[str]:
    depths = {row.get("inflight") for row in rows} - {None}
    one = depths == {1}
    fed = (
        f", with {_all(sorted(depths))} batch{'' if one else 'es'} submitted and not yet collected"
    )
    loads = list(dict.fromkeys(row.get("load") or CLOSED for row in rows))
    if CLOSED in loads:
        yield (
            "Each worker owned one device and one engine and was fed a closed-loop stream of "
            f"{_batches(rows)} from a seeded pool{fed if depths else ''}."
        )
    if opened := [row for row in rows if (row.get("load") or CLOSED) != CLOSED]:
        yield (
            f"In open loop ({_offered(opened)}) {_served(rows)}, in batches of what had arrived"
            f"{fed if depths else ''}; latencies are those of items, from the intended arrival to the "
            "end of the batch."
        )
    # a core has no bus that anything could cross
    copies = {row.get("transfers") for row in rows if row.get("device_kind") != "cpu"} - {None}
    if copies == {True}:
        yield "Inputs and outputs crossed the bus inside the timed stream."
    elif copies == {False}:
        yield "Inputs and outputs stayed on the device."
    elif copies:
        yield "Whether inputs and outputs crossed the bus inside the timed stream is a factor."


def _served(rows: Sequence[Row]) -> str:
    """Return how items came to the workers."""
    balancers = {row.get("balancer") for row in rows} - {None}
    split = "each worker served a seeded schedule of arrivals with an equal share of the rate"
    shared = "the workers shared one queue with a seeded schedule of arrivals"
    if balancers == {"shared"}:
        return shared
    return f"{split}, or {shared}" if "shared" in balancers else split


def _offered(rows: Sequence[Row]) -> str:
    """Write the loads that were offered; of many of a kind only the lowest and the highest."""
    loads = sorted({str(row["load"]) for row in rows}, key=load_key)
    kinds: dict[str, list[str]] = {}
    for load in loads:
        kinds.setdefault(load.partition("(")[0] if "(" in load else "share", []).append(load)
    return _all(
        text
        for same in kinds.values()
        for text in (
            [f"{len(same)} loads from {load_label(same[0])} to {load_label(same[-1])}"]
            if len(same) > _MANY
            else map(load_label, same)
        )
    )


def _sources(rows: Sequence[Row]) -> list[str]:
    """Return where inputs came from; rows of older versions do not say, and had synthetic ones."""
    return list(dict.fromkeys(row.get("inputs") or SYNTHETIC for row in rows))


def _batches(rows: Sequence[Row]) -> str:
    files = [source for source in _sources(rows) if source != SYNTHETIC]
    real = f"batches of real inputs ({', '.join(files)})"
    if not files:
        return "synthetic batches"
    return real if len(files) == len(_sources(rows)) else f"synthetic batches, or {real},"


def _window(rows: Sequence[Row]) -> Iterator[str]:
    settings = [_measure(row.get("config_json")) for row in rows]

    def chosen(name: str, factor: float = 1.0) -> str:
        values = {factor * s[name] for s in settings if name in s}
        return _all(f"{value:g}" for value in sorted(values))

    if warmup := _range(rows, "warmup_s"):
        agree = chosen("warmup_agree", 100)
        until = f", until two successive windows agreed within {agree} %," if agree else ""
        late = sum("warmup_not_converged" in (row.get("flags") or ()) for row in rows)
        never = (
            f" In {late} of {counted(len(rows), 'trial')} they never did." if until and late else ""
        )
        yield f"An adaptive warm-up{until} was discarded ({warmup} s).{never}"
    if window := _range(rows, "window_s"):
        block = _range(rows, "block_s") or "about 1"
        yield (
            f"Throughput is all items over one window common to all workers ({window} s), cut into "
            f"blocks of {block} s whose edges are completions of batches; within a trial its 95 % "
            "interval is the wider of an AR(1)-corrected and a batch-means t interval of the block "
            "rates."
        )
    if target := chosen("target", 100):
        yield (
            f"The stream ended when the half-width of that interval was within {target} % of the "
            f"mean at {chosen('looks_in_a_row')} looks in a row, after {chosen('min_s')} s at the "
            f"earliest and {chosen('max_s')} s at the latest (preset "
            f"{_all(row.get('preset') for row in rows)})."
        )
    if window:
        yield "No block of the window was left out."


def _measure(config: str | None) -> dict[str, Any]:
    try:
        settings = json.loads(config or "{}").get("measure")
    except (ValueError, AttributeError):
        return {}
    return settings if isinstance(settings, dict) else {}


def _repeats(answers: Answers) -> Iterator[str]:
    entries = [e for e in answers.scaling.entries if e.items_per_s.value is not None]
    once = not any(entry.interval == BETWEEN for entry in entries)
    if counts := _all(sorted({entry.builds for entry in entries if entry.builds})):
        yield (
            f"Plans were built {counts} times, apart from one another, and each was measured; intervals of "
            "such points are t intervals over the builds, and ratios of points that ran the same plans are "
            "taken plan by plan. The spread was parted by analysis of variance of logarithms."
        )
    elif once:
        yield "Each point was measured once, so that nothing is said of the next time."
        return
    if not once:
        counts = _all(sorted({entry.trials for entry in entries if not entry.builds}))
        yield (
            f"Points were repeated in {counts} trials of fresh processes; intervals between trials are "
            "t intervals of the trial means, and those of ratios are Welch intervals of their "
            "logarithms (95 %)."
        )
    if any(curve.law is not None for curve in answers.scaling.curves):
        yield (
            "The universal scalability law was fitted by non-negative least squares, its intervals "
            "by parametric bootstrap over trial means."
        )


def _graphs(rows: Sequence[Row]) -> Iterator[str]:
    precisions = {row.get("precision") for row in rows}
    quantised = [row for row in rows if row.get("precision") in QUANTISED]
    if quantised:
        dialects = _all(row.get("dialect") for row in quantised)
        named = f" ({dialects})" if dialects else ""
        data = "items of the same source"
        if _sources(quantised) == [SYNTHETIC]:
            data = "seeded synthetic data"
        rests = {"int8": "fp32", "int8_fp16": "fp16"}
        rest = _all(f"{rests[name]} in {name}" for name in QUANTISED if name in precisions)
        yield (
            f"int8 graphs carry explicit quantisation{named} calibrated with {data}; the rest of them "
            f"computes in {rest}."
        )
    if precisions - {"fp32", AS_IS}:
        yield (
            "All precisions are made from the same fp32 graph; fidelity is the signal to "
            "quantisation noise ratio of the outputs against it."
        )
    if AS_IS in precisions:
        yield (
            f"Rows of precision {AS_IS} are of files that come in a reduced precision: they ran "
            f"unchanged ({_as_is_ops(rows)}), there is no fp32 graph to compare them with, and what "
            "precision an engine computes them in is its own choice."
        )


def _as_is_ops(rows: Sequence[Row]) -> str:
    ops = (
        op for row in rows if row.get("precision") == AS_IS for op in row.get("reduced_ops") or ()
    )
    return ", ".join(dict.fromkeys(ops)) or "operators unknown"


def _care(rows: Sequence[Row]) -> Iterator[str]:
    yield (
        "A point is stable when it met its precision target and nothing in its evidence speaks "
        "against it, unverified when its preset was too short to claim so, and unstable otherwise."
    )
    for name, text in (
        ("simulated", "simulated: their timings come from a formula"),
        ("memory_limit_bytes", "measured with less memory than the device has"),
    ):
        count = sum(bool(row.get(name)) for row in rows)
        if count:
            part = "All" if count == len(rows) else f"{count} of {len(rows)}"
            yield f"{part} trials are {text}."


def _all(values: Iterable[Any]) -> str:
    """Write the different values as `a, b and c`."""
    texts = [str(v) for v in dict.fromkeys(values) if v not in (None, "")]
    if len(texts) < 2:
        return texts[0] if texts else ""
    return f"{', '.join(texts[:-1])} and {texts[-1]}"


def _range(rows: Sequence[Row], name: str) -> str:
    values = [row[name] for row in rows if row.get(name) is not None]
    if not values:
        return ""
    low, high = f"{min(values):.3g}", f"{max(values):.3g}"
    return low if low == high else f"{low} to {high}"
