"""Comparison of an engine's outputs with those of the fp32 graph: every output, or why not.

The graph's outputs for a few items are enough where an output holds the items of the batch one after
another, on whatever axis. Whether it does is not believed but seen: the fp32 graph runs on two
numbers of items, one axis must grow with them, and the values of the items that both runs share must
agree. Any other output (a mean over the batch, detections of all items in one list) is compared as a
whole, for which the fp32 graph runs on the engine's own batch.

A comparison is a by-product: nothing that fails in it costs a row its measurement.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.experiment import AS_IS
from raybench.models.fidelity import CAP_DB, Fidelity, fidelity, same_floats
from raybench.models.graph.cpu_run import run_graph
from raybench.models.reference import first_inputs, reference_outputs, reference_runs

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from raybench.models.items.batches import BatchPool
    from raybench.models.model import Model

    Array = np.ndarray[Any, Any]
    Pair = tuple[Array, Array]

ITEMS, FEWER = 8, 2
"""Items of the first batch that the fp32 graph computes, a thousand numbers each for a classifier, and
of the run beside it that shows which axis they are on."""

WHOLE_BATCH = 64
"""Largest batch that the fp32 graph computes as a whole, where an output needs it: seconds."""

LEAST_EQUAL = 0.5
"""Share of an output's whole numbers from which an fp32 graph on an engine is the same graph."""

_WHOLE_NUMBERS = "iub"

SAME_DB = 40.0
"""Fidelity from which two runs of the fp32 graph agree; by different kernels it is above 100 dB."""

LOST_DB = 10.0
"""Loss of an int8 graph, against what it had when it was made, from which a row says why."""

NO_FP32 = "The file runs as it is: there is no fp32 graph to compare its outputs with."
NO_OUTPUTS = "The engine returned no outputs, so nothing says whether it computes the model."
"""Notes of a row."""

INFINITE = (
    "the fp32 graph's own is not finite for these inputs. Set model.ranges or model.inputs to values "
    "that the model takes"
)
DRAWS = "the graph draws random numbers, from which it follows"
VARIES = "the fp32 graph's own differs from run to run, as where a graph draws random numbers"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OutputComparison:
    """How the outputs compare with those of the fp32 graph.

    Attributes:
        fidelity: of the output that is furthest off; None if none could be compared.
        notes: which outputs were not compared and why, a sentence each.
        reference_finite: False if none could be compared because the fp32 graph's own outputs are
            not finite.
    """

    fidelity: Fidelity | None = None
    notes: tuple[str, ...] = ()
    reference_finite: bool = True


def compare(
    outputs: Mapping[str, Array], model: Model, batches: BatchPool, cache_dir: Path
) -> OutputComparison:
    """Compare an engine's outputs for batch 0 of the pool with those of the fp32 graph.

    Args:
        outputs: whole outputs by name.
        model: that the engine runs.
        batches: its inputs.
        cache_dir: the node's cache, which keeps the fp32 outputs.
    """
    if not outputs:
        return OutputComparison(notes=(NO_OUTPUTS,))
    if model.precision == AS_IS or model.no_reference:
        return OutputComparison(notes=(model.no_reference or NO_FP32,))
    try:
        pairs, notes = _pairs(outputs, model, batches, cache_dir)
    except Exception as error:  # noqa: BLE001 - whatever ONNX Runtime raises
        return failed("whose run on ONNX Runtime failed", error)
    found, more = _fidelities(pairs, model)
    equal = _equal_shares(pairs)
    if any(near.sqnr_db < SAME_DB for near in found.values()) or any(x < 1 for x in equal.values()):
        for name in _varying(model, batches, cache_dir) & {*found, *equal}:
            found.pop(name, None)
            equal.pop(name, None)
            more.append(_left_out(name, VARIES))
    for name, share in equal.items():
        if share < 1:
            more.append(
                f"Of output {name!r}, whole numbers, {share:.1%} are equal to those of fp32."
            )
        if share == 1 or (share < LEAST_EQUAL and model.precision == "fp32"):
            found[name] = Fidelity(CAP_DB, 1.0) if share == 1 else Fidelity(-CAP_DB, 0.0)
    finite = bool(found) or all(_finite(expected) for expected, _ in pairs.values())
    more += _explain_loss(found, model, batches, cache_dir)
    return _worst(found, [*notes, *more], finite)


def failed(what: str, error: Exception) -> OutputComparison:
    """Return the comparison of outputs that could not be compared at all."""
    message = " ".join(str(error).split()) or type(error).__name__
    logger.info("The outputs were not compared with fp32", exc_info=error)
    return OutputComparison(
        notes=(f"The outputs were not compared with fp32, {what}: {message[:300]}",)
    )


def prepare_reference(model: Model, batches: BatchPool, cache_dir: Path) -> None:
    """Compute ahead the fp32 outputs that every comparison needs; what fails is named later."""
    if model.precision == AS_IS or model.no_reference:
        return
    try:
        reference_runs(model, batches, _counts(model, batches), cache_dir)
    except Exception as error:
        logger.info("The fp32 outputs of %s were not computed", model.name, exc_info=error)


def _counts(model: Model, batches: BatchPool) -> tuple[int, ...]:
    """Return on how many items the fp32 graph runs first: on the whole batch if it is small."""
    divisible = any(spec.batch_axis is not None for spec in (*batches.specs, *model.state_inputs))
    small = batches.batch_size <= ITEMS or not divisible
    return (batches.batch_size,) if small else (ITEMS, FEWER)


def _pairs(
    outputs: Mapping[str, Array], model: Model, batches: BatchPool, cache_dir: Path
) -> tuple[dict[str, Pair], list[str]]:
    """Return what is compared, fp32 and engine by output, and a sentence for each that is not."""
    size = batches.batch_size
    counts = _counts(model, batches)
    runs = _runs_of_items(model, batches, cache_dir) if counts == (ITEMS, FEWER) else {}
    pairs = {
        name: pair
        for name, (many, few) in runs.items()
        if name in outputs
        and name not in model.drawn_outputs
        and (pair := _first_items(many, few, outputs[name], size)) is not None
    }
    whole: dict[str, Array] = {}
    missing = not runs or len(pairs) < len(runs)
    if missing and (size <= WHOLE_BATCH or counts == (size,)):
        whole = reference_outputs(model, batches, size, cache_dir)
    odd = any(name in whole and whole[name].shape != outputs[name].shape for name in outputs)
    varying: frozenset[str] = frozenset()
    if odd or len(pairs) < len(runs):
        varying = _varying(model, batches, cache_dir)
    notes = []
    for name in runs or whole:
        if name in pairs:
            continue
        drawn = DRAWS if name in model.drawn_outputs else None
        reason = drawn or (VARIES if name in varying else _why_not(name, outputs, whole, size))
        if reason is None:
            pairs[name] = whole[name], outputs[name]
        else:
            notes.append(_left_out(name, reason))
    return pairs, notes


def _left_out(name: str, reason: str) -> str:
    return f"Output {name!r} was not compared with fp32: {reason}."


def _varying(model: Model, batches: BatchPool, cache_dir: Path) -> frozenset[str]:
    """Return the outputs that differ between two runs of the fp32 graph on the same items."""
    counts = (min(FEWER, *_counts(model, batches)),) * 2
    try:
        first, second = reference_runs(model, batches, counts, cache_dir)
    except Exception as error:  # a graph that takes no other batch than the engine's
        logger.info("The fp32 graph was not run twice", exc_info=error)
        return frozenset()
    return frozenset(
        name
        for name, values in first.items()
        if values.shape != second[name].shape or not _agree(values, second[name])
    )


def _runs_of_items(model: Model, batches: BatchPool, cache_dir: Path) -> dict[str, Pair]:
    """Return the fp32 outputs of `ITEMS` items and of `FEWER`.

    Empty for a graph that runs with no batch but the engine's, if that can be run as a whole.
    """
    try:
        many, few = reference_runs(model, batches, (ITEMS, FEWER), cache_dir)
    except Exception as error:
        if batches.batch_size > WHOLE_BATCH:
            raise
        logger.info("The fp32 graph was not run on single items", exc_info=error)
        return {}
    return {name: (values, few[name]) for name, values in many.items()}


def _first_items(many: Array, few: Array, actual: Array, batch_size: int) -> Pair | None:
    """Return the first items of fp32 and engine, shape (items, ...).

    None for an output that does not hold the items of the batch one after another.

    Args:
        many: fp32 output of `ITEMS` items.
        few: fp32 output of `FEWER` items.
        actual: the engine's output.
        batch_size: items in it.
    """
    if not many.ndim == few.ndim == actual.ndim or not few.size:
        return None
    if many.shape == few.shape == actual.shape and _agree(many, few):
        return many, actual  # it has no batch, as the position of the next token
    grown = [axis for axis in range(many.ndim) if many.shape[axis] != few.shape[axis]]
    if len(grown) != 1:
        return None
    (axis,) = grown
    per_item = many.shape[axis] // ITEMS
    shapes = [_with(many.shape, axis, per_item * n) for n in (ITEMS, FEWER, batch_size)]
    if [many.shape, few.shape, actual.shape] != shapes:
        return None
    items = [np.moveaxis(values, axis, 0) for values in (many, few, actual)]
    if not _agree(items[0][: len(items[1])], items[1]):
        return None
    return items[0], items[2][: len(items[0])]


def _with(shape: tuple[int, ...], axis: int, size: int) -> tuple[int, ...]:
    return (*shape[:axis], size, *shape[axis + 1 :])


def _agree(one: Array, other: Array) -> bool:
    if not one.size or not (_finite(one) and _finite(other)):
        return True  # the caller compares no such output, and says so
    near = fidelity({"": one}, {"": other}, ())
    return near is not None and near.sqnr_db >= SAME_DB


def _why_not(
    name: str, outputs: Mapping[str, Array], whole: Mapping[str, Array], batch_size: int
) -> str | None:
    """Return why an output cannot be compared as a whole; None if it can."""
    if name not in outputs:
        return f"the engine returned no output of this name, only {sorted(outputs)}"
    if not whole:
        return (
            "it is no list of the batch's items, and fp32 outputs of a whole batch are computed "
            f"only up to batch_size={WHOLE_BATCH}"
        )
    expected, actual = list(whole[name].shape), list(outputs[name].shape)
    if expected != actual:
        return f"its shape is {actual} and in fp32 {expected}, so it depends on the values"
    return None if whole[name].size else "it is empty for these inputs"


def _fidelities(pairs: Mapping[str, Pair], model: Model) -> tuple[dict[str, Fidelity], list[str]]:
    """Return the fidelity of each output whose fp32 values are finite, and name the others."""
    found: dict[str, Fidelity] = {}
    notes = []
    for name, (expected, actual) in pairs.items():
        if expected.dtype.kind in _WHOLE_NUMBERS:
            continue
        if not _finite(expected):
            notes.append(_left_out(name, INFINITE))
            continue
        near = fidelity({name: expected}, {name: actual}, model.softmax_outputs)
        if near is not None:
            found[name] = near
    return found, notes


def _equal_shares(pairs: Mapping[str, Pair]) -> dict[str, float]:
    """Return the share of equal elements of each output of whole numbers: no signal, but indices."""
    return {
        name: float(np.mean(expected == actual))
        for name, (expected, actual) in pairs.items()
        if expected.dtype.kind in _WHOLE_NUMBERS
    }


def _worst(found: Mapping[str, Fidelity], notes: list[str], finite: bool) -> OutputComparison:
    """Return the lowest fidelity, and name the output that it is of."""
    if not found:
        return OutputComparison(None, tuple(notes), finite)
    worst = min(found, key=lambda name: found[name].sqnr_db)
    if len(found) > 1 and found[worst].sqnr_db < SAME_DB:
        notes.append(f"The fidelity is that of output {worst!r}, the lowest of {len(found)}.")
    cosine = min(near.cosine for near in found.values())
    return OutputComparison(replace(found[worst], cosine=cosine), tuple(notes))


def _explain_loss(
    found: Mapping[str, Fidelity], model: Model, batches: BatchPool, cache_dir: Path
) -> list[str]:
    """Return a note if an int8 graph is far less near to fp32 than it was when it was made.

    The same graph runs on ONNX Runtime, on the same items: either the engine computes it otherwise,
    or these items leave the ranges that its calibration saw.
    """
    judged_db = model.conversion.judged_sqnr_db
    if judged_db is None or not found:
        return []
    here_db = min(near.sqnr_db for near in found.values())
    if here_db > judged_db - LOST_DB:
        return []
    try:
        there_db = _by_onnx_runtime(found, model, batches, cache_dir)
    except Exception as error:
        logger.info("The int8 graph was not run on ONNX Runtime", exc_info=error)
        return []
    if there_db is not None and there_db - here_db >= LOST_DB:
        return [
            f"This engine computes this graph otherwise: {here_db:.1f} dB to fp32 here, "
            f"{there_db:.1f} dB by ONNX Runtime for the same items."
        ]
    return [
        f"The int8 graph was {judged_db:.1f} dB from fp32 on its calibration's items and is "
        f"{here_db:.1f} dB on these: their values leave the ranges that it was made for."
    ]


def _by_onnx_runtime(
    names: Collection[str], model: Model, batches: BatchPool, cache_dir: Path
) -> float | None:
    """Return the fidelity of a model's own graph on ONNX Runtime for the first items, dB."""
    count = min(ITEMS, batches.batch_size)
    expected = reference_outputs(model, batches, count, cache_dir)
    order, (values,) = run_graph(model.path, [first_inputs(model, batches, count)])
    actual = dict(zip(order, values, strict=True))
    same = same_floats({name: expected[name] for name in names}, actual)
    near = fidelity(same, actual, model.softmax_outputs)
    return None if near is None else near.sqnr_db


def _finite(values: Array) -> bool:
    return values.dtype.kind not in "fc" or bool(np.isfinite(values).all())
