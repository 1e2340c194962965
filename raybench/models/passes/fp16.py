"""The fp16 graph: half precision inside, except where it would ruin the result.

Inputs and outputs are fp32. Of what is between, these stay fp32: values inside normalisations made
of single ops, values that a run of the fp32 graph finds out of range, and a last softmax or sigmoid.
The graph is then checked by rounding each half tensor, on other items than those that are streamed
(real ones are the same, in another order); where that is poor, the nodes that lose most go to fp32,
too, and where it stays poor, all but the products of matrices.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.machine import cgroup, sysfs
from raybench.models.conversion import Conversion
from raybench.models.fidelity import fidelity
from raybench.models.graph.cpu_run import run
from raybench.models.graph.element_types import scopes
from raybench.models.items.batches import calibration_batches
from raybench.models.passes.half_check import losing_nodes, rounded
from raybench.models.passes.half_graph import half_graph
from raybench.models.passes.norm_patterns import values_in_norms
from raybench.models.passes.value_ranges import value_ranges

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

    from raybench.models.conversion import Fp32Graph
    from raybench.models.passes.half_graph import HalfGraph
    from raybench.models.passes.value_ranges import ValueRanges

    Array = np.ndarray[Any, Any]

_ITEMS = (2, 1)
"""Items of the check; one if the graph does not run with two."""

_GOOD_DB = 30.0
"""Below it more ops are tried in fp32. Networks that suit half precision have 40 dB and more."""

_GAIN_DB = 6.0
"""Less is not worth the time of more ops in fp32."""

_ROUNDS, _STEP_DB = 3, 1.0
"""Rounds of the search, which ends with one that gains less."""

_POOR_DB = 20.0
"""Below it the row says that the network does not suit half precision."""

_MEMORY = 5
"""Times the fp32 weights that the check holds at most (measured on vit_b16: 1.6 GiB in all)."""

_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum", "LSTM", "GRU", "RNN", "Attention")
_LAST = ("Softmax", "LogSoftmax", "Sigmoid")
_MOVING = ("Identity", "Cast", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Attempt:
    """A graph and what the check by rounding says of it.

    Attributes:
        half: the graph.
        sqnr_db: fidelity of the outputs that can be compared; None if there are none.
        resized: outputs whose shape depends on the values and differs from that in fp32.
    """

    half: HalfGraph
    sqnr_db: float | None
    resized: tuple[str, ...]

    def notes(self) -> tuple[str, ...]:
        """Return what the row must say, a sentence each."""
        found = [
            f"Half precision changes the size of output {name!r}, which depends on the values."
            for name in self.resized
        ]
        if self.sqnr_db is None and not found:
            found.append(
                "The fp16 graph was not checked by rounding: no fp32 output is a finite signal, one of "
                "float numbers that are not drawn at random."
            )
        if self.sqnr_db is not None and self.sqnr_db < _POOR_DB:
            found.append(
                f"Rounding to half alone brings the outputs to {self.sqnr_db:.1f} dB of fp32, and the "
                "further ops that were tried in fp32 did not help: this graph does not suit fp16."
            )
        return tuple(found)


def to_fp16(source: Fp32Graph, target: Path) -> Conversion:
    """Write the graph in half precision to `target` and return how it was made."""
    values = _always_fp32(source)
    try:
        _refuse_without_memory(source)
        return _checked(source, target, values)
    except Exception as error:  # whatever ONNX Runtime raises must not cost the row
        logger.info("The fp16 graph was not checked by rounding", exc_info=error)
        half = half_graph(_load(source), values)
        _save(half.model, source, target)
        note = f"The fp16 graph was not checked by rounding: {' '.join(str(error).split())[:200]}"
        return Conversion(kept_fp32_ops=half.kept, fp32_nodes=half.nodes, notes=(note,))


def _always_fp32(source: Fp32Graph) -> set[str]:
    top = scopes(_load(source))
    return values_in_norms(top) | _last_probabilities(top.graph)


def _refuse_without_memory(source: Fp32Graph) -> None:
    """Raise MemoryError where the check would end this process for want of memory."""
    weights = sum(file.stat().st_size for file in source.path.parent.iterdir())
    limits = (
        sysfs.available_bytes((sysfs.ROOT / "proc/meminfo").read_text()),
        cgroup.limits().memory_bytes,
    )
    needed, free = _MEMORY * weights, min((x for x in limits if x is not None), default=None)
    if free is not None and needed > free:
        raise MemoryError(
            f"that takes about {needed / 2**30:.1f} GiB of memory and {free / 2**30:.1f} are free"
        )


def _checked(source: Fp32Graph, target: Path, values: set[str]) -> Conversion:
    """Write the best graph found that has at least these values in fp32."""
    inputs, ranges = _examine(source)
    values |= ranges.unfit
    least = set(values)
    best = attempt = _attempt(source, inputs, ranges, values)
    for _ in range(_ROUNDS):
        before_db = attempt.sqnr_db
        if before_db is None or before_db >= _GOOD_DB:
            break
        more = losing_nodes(
            lambda: _load(source), attempt.half, inputs, ranges.elements, source.big
        )
        if more <= values:
            break
        values |= more
        attempt = _attempt(source, inputs, ranges, values)
        if attempt.sqnr_db is None or attempt.sqnr_db < before_db + _STEP_DB:
            break
        if best.sqnr_db is not None and attempt.sqnr_db >= best.sqnr_db + _GAIN_DB:
            best = attempt
    if best.sqnr_db is not None and best.sqnr_db < _POOR_DB:
        exact = ranges.exact | _all_but_products(_load(source).graph)
        attempt = _attempt(source, inputs, replace(ranges, exact=exact), least)
        if attempt.sqnr_db is not None and attempt.sqnr_db >= best.sqnr_db + _GAIN_DB:
            best = attempt
    _save(best.half.model, source, target)
    return Conversion(
        kept_fp32_ops=best.half.kept,
        fp32_nodes=best.half.nodes,
        rounded_sqnr_db=best.sqnr_db,
        notes=best.notes(),
    )


def _all_but_products(graph: onnx.GraphProto) -> frozenset[str]:
    """Return the first outputs of the nodes that are no products of matrices: these gain most."""
    return frozenset(node.output[0] for node in graph.node if node.op_type not in _PRODUCTS)


def _examine(source: Fp32Graph) -> tuple[dict[str, Array], ValueRanges]:
    """Return the items of the check and what the fp32 graph makes of them."""
    for items in _ITEMS:
        inputs = calibration_batches(source.inputs, source.ranges, 1, items, source.given)[0]
        try:
            return inputs, value_ranges(lambda: _load(source), inputs, source.big)
        except Exception:
            if items == _ITEMS[-1]:
                raise
    raise AssertionError  # the last one returns or raises


def _attempt(
    source: Fp32Graph, inputs: dict[str, Array], ranges: ValueRanges, values: set[str]
) -> _Attempt:
    """Convert with these values in fp32, and run the result with each half tensor rounded."""
    half = half_graph(_load(source), values, ranges.exact)
    outputs = run(lambda: rounded(half.model), inputs, list(ranges.outputs), source.big)
    numbers = {
        name: expected
        for name, expected in ranges.outputs.items()
        if name not in source.drawn_outputs
        and expected.dtype.kind in "fiub"
        and np.isfinite(expected).all()
    }
    resized = tuple(name for name in numbers if numbers[name].shape != outputs[name].shape)
    comparable = {
        name: values
        for name, values in numbers.items()
        if name not in resized and values.dtype.kind == "f"
    }
    found = fidelity(comparable, outputs, source.softmax_outputs)
    return _Attempt(half, found.sqnr_db if found else None, resized)


def _last_probabilities(graph: onnx.GraphProto) -> set[str]:
    """Return the values from a last softmax or sigmoid to the output that it makes.

    Small probabilities do not exist in half precision, and outputs are fp32 anyway.
    """
    makers = {output: node for node in graph.node for output in node.output}
    values = set()
    for value in graph.output:
        path, node = [value.name], makers.get(value.name)
        while node is not None and node.op_type in _MOVING:
            path.append(node.input[0])
            node = makers.get(node.input[0])
        if node is not None and node.op_type in _LAST:
            values.update(path)
    return values


def _load(source: Fp32Graph) -> onnx.ModelProto:
    import onnx

    return onnx.load(source.path)


def _save(model: onnx.ModelProto, source: Fp32Graph, target: Path) -> None:
    import onnx

    location = f"{target.name}.data" if source.big else None
    onnx.save_model(model, target, save_as_external_data=source.big, location=location)
