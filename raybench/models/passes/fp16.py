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

from raybench.models.conversion import Conversion, save
from raybench.models.graph.element_types import scopes
from raybench.models.passes.half_check import (
    check_rounded,
    losing_nodes,
    on_few_items,
    refuse_without_memory,
)
from raybench.models.passes.half_graph import half_graph
from raybench.models.passes.norm_patterns import values_in_norms
from raybench.models.passes.value_ranges import value_ranges

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import onnx

    from raybench.models.conversion import Fp32Graph
    from raybench.models.passes.half_graph import HalfGraph
    from raybench.models.passes.value_ranges import ValueRanges

    Array = np.ndarray[Any, Any]

_GOOD_DB = 30.0
"""Below it more ops are tried in fp32. Networks that suit half precision have 40 dB and more."""

_GAIN_DB = 6.0
"""Less is not worth the time of more ops in fp32."""

_ROUNDS, _STEP_DB = 3, 1.0
"""Rounds of the search, which ends with one that gains less."""

_POOR_DB = 20.0
"""Below it the row says that the network does not suit half precision."""

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
        refuse_without_memory(source)
        return _checked(source, target, values)
    except Exception as error:  # whatever ONNX Runtime raises must not cost the row
        logger.info("The fp16 graph was not checked by rounding", exc_info=error)
        half = half_graph(source.load(), values)
        save(half.model, target, source.big)
        note = f"The fp16 graph was not checked by rounding: {' '.join(str(error).split())[:200]}"
        return Conversion(kept_fp32_ops=half.kept, fp32_nodes=half.nodes, notes=(note,))


def _always_fp32(source: Fp32Graph) -> set[str]:
    top = scopes(source.load())
    return values_in_norms(top) | _last_probabilities(top.graph)


def _checked(source: Fp32Graph, target: Path, values: set[str]) -> Conversion:
    """Write the best graph found that has at least these values in fp32."""
    inputs, ranges = on_few_items(
        source, lambda inputs: value_ranges(source.load, inputs, source.big)
    )
    values |= ranges.unfit
    least = set(values)
    best = attempt = _attempt(source, inputs, ranges, values)
    for _ in range(_ROUNDS):
        before_db = attempt.sqnr_db
        if before_db is None or before_db >= _GOOD_DB:
            break
        more = losing_nodes(source.load, attempt.half, inputs, ranges.elements, source.big)
        if more <= values:
            break
        values |= more
        attempt = _attempt(source, inputs, ranges, values)
        if attempt.sqnr_db is None or attempt.sqnr_db < before_db + _STEP_DB:
            break
        if best.sqnr_db is not None and attempt.sqnr_db >= best.sqnr_db + _GAIN_DB:
            best = attempt
    if best.sqnr_db is not None and best.sqnr_db < _POOR_DB:
        exact = ranges.exact | _all_but_products(source.load().graph)
        attempt = _attempt(source, inputs, replace(ranges, exact=exact), least)
        if attempt.sqnr_db is not None and attempt.sqnr_db >= best.sqnr_db + _GAIN_DB:
            best = attempt
    save(best.half.model, target, source.big)
    return Conversion(
        kept_fp32_ops=best.half.kept,
        fp32_nodes=best.half.nodes,
        rounded_sqnr_db=best.sqnr_db,
        notes=best.notes(),
    )


def _all_but_products(graph: onnx.GraphProto) -> frozenset[str]:
    """Return the first outputs of the nodes that are no products of matrices: these gain most."""
    return frozenset(node.output[0] for node in graph.node if node.op_type not in _PRODUCTS)


def _attempt(
    source: Fp32Graph, inputs: dict[str, Array], ranges: ValueRanges, values: set[str]
) -> _Attempt:
    """Convert with these values in fp32, and run the result with each half tensor rounded."""
    half = half_graph(source.load(), values, ranges.exact)
    check = check_rounded(half.model, source, inputs, ranges.outputs)
    return _Attempt(half, check.sqnr_db, check.resized)


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
