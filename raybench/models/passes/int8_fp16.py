"""The int8_fp16 graph: the Q/DQ of the int8 graph, and the types of the fp16 graph for all else.

Q/DQ stand where int8 has them, with its ranges; every other operator computes in the type that it has
in the fp16 graph. So the scales are half, too, which ONNX allows from opset 19 on: a strongly typed
engine then merges Q/DQ into the int8 operator between them, whose other side is half. Scales in fp32
would need a cast there, and the operator would compute in half.

A library that chooses types by itself (TensorRT 8.6) reads half scales as fp32, and knows no operator
of opset 18 or later. It gets the int8 graph itself, beside this one, with leave to use half.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raybench.errors import Unsupported
from raybench.models.conversion import UNTYPED, Conversion, save
from raybench.models.graph.cpu_run import run
from raybench.models.graph.graph_walk import walk
from raybench.models.graph.value_origins import ROUNDING
from raybench.models.passes.half_check import check_rounded, on_few_items, refuse_without_memory
from raybench.models.passes.half_graph import half_graph

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    import onnx

    from raybench.models.conversion import Fp32Graph
    from raybench.models.passes.half_graph import HalfGraph

_HALF_SCALES_OPSET = 19
_LEAST_SCALE = 2.0**-17
"""Half rounds a smaller scale by more than 2^-8 of it."""

_COST_DB = 3.0
"""Loss to int8 with an fp32 rest from which the row says what half precision costs."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Int8Parts:
    """What an int8_fp16 graph is made of.

    Attributes:
        path: the int8 graph.
        int8: how it was made.
        fp16: how the fp16 graph was made.
    """

    path: Path
    int8: Conversion
    fp16: Conversion


def to_int8_fp16(parts: Int8Parts, source: Fp32Graph, target: Path) -> Conversion:
    """Write the graph to `target`, and the int8 graph beside it; return how they were made.

    Raises:
        Unsupported: the graph's opset is too old and cannot be raised.
    """
    import onnx

    half = _half(_raised(onnx.load(parts.path), source.big), parts.fp16.fp32_nodes)
    save(half.model, target, source.big)
    save(onnx.load(parts.path), target.with_name(UNTYPED), source.big)
    sqnr_db, notes = _checked(parts, source, half.model)
    return Conversion(
        calibration=parts.int8.calibration,
        kept_fp32_ops=tuple(kind for kind in half.kept if kind not in ROUNDING),
        fp32_nodes=parts.fp16.fp32_nodes,
        rounded_sqnr_db=sqnr_db,
        judged_sqnr_db=parts.int8.judged_sqnr_db,
        notes=notes,
    )


def _half(model: onnx.ModelProto, fp32_nodes: Collection[str]) -> HalfGraph:
    """Convert all of an int8 graph to half but these nodes and what dequantises for them.

    A pair whose scale half would spoil stays in fp32, too, with the nodes that read it; biases of
    32 bits, whose scales are that small, do so without them.
    """
    makers = {node.output[0]: node for node in walk(model.graph) if node.output}
    spoilt = _spoilt_scales(model)
    kept: set[str] = set()
    for node in walk(model.graph):
        read = [makers[name] for name in node.input if name in makers]
        pairs = [maker for maker in read if maker.op_type == "DequantizeLinear"]
        in_fp32 = node.name in fp32_nodes or any(pair.input[1] in spoilt for pair in pairs[:2])
        if in_fp32 or (node.op_type in ROUNDING and node.input[1] in spoilt):
            kept.add(node.output[0])
        if in_fp32:
            kept.update(pair.output[0] for pair in pairs)
    return half_graph(model, (), kept)


def _spoilt_scales(model: onnx.ModelProto) -> set[str]:
    """Return the names of the scales whose largest loses more than an int8 value has digits for."""
    from onnx import TensorProto, numpy_helper

    pairs = [node for node in walk(model.graph) if node.op_type in ROUNDING]
    scales = {node.input[1] for node in pairs}
    return {
        tensor.name
        for tensor in model.graph.initializer
        if tensor.name in scales
        and tensor.data_type == TensorProto.FLOAT
        and numpy_helper.to_array(tensor).max(initial=0.0) < _LEAST_SCALE
    }


def _raised(model: onnx.ModelProto, big: bool) -> onnx.ModelProto:
    """Return the graph in an opset whose scales may be half."""
    from onnx import version_converter

    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset >= _HALF_SCALES_OPSET:
        return model
    advice = f"Export it with opset {_HALF_SCALES_OPSET}, or use precision=int8 or fp16."
    if big:
        raise Unsupported(
            f"int8_fp16 needs opset {_HALF_SCALES_OPSET} and this large graph has {opset}. {advice}"
        )
    try:
        return version_converter.convert_version(model, _HALF_SCALES_OPSET)
    except Exception as error:  # the converter's own classes
        reason = " ".join(str(error).split()).rsplit(" failed: ", 1)[-1][:200]  # without its line
        raise Unsupported(
            f"int8_fp16 needs opset {_HALF_SCALES_OPSET} and this graph has {opset}, which ONNX's "
            f"converter cannot raise ({reason}). {advice}"
        ) from error


def _checked(
    parts: Int8Parts, source: Fp32Graph, model: onnx.ModelProto
) -> tuple[float | None, tuple[str, ...]]:
    """Return the fidelity by rounding, and what the row must say, a sentence each."""
    import onnx

    names = [value.name for value in model.graph.output]
    try:
        refuse_without_memory(source)
        inputs, expected = on_few_items(
            source, lambda inputs: run(source.load, inputs, names, source.big)
        )
        half = check_rounded(model, source, inputs, expected)
        int8 = check_rounded(onnx.load(parts.path), source, inputs, expected)
    except Exception as error:  # whatever ONNX Runtime raises must not cost the row
        logger.info("The int8_fp16 graph was not checked by rounding", exc_info=error)
        text = " ".join(str(error).split())[:200]
        return None, (f"The int8_fp16 graph was not checked by rounding: {text}",)
    if half.sqnr_db is None or int8.sqnr_db is None or half.sqnr_db > int8.sqnr_db - _COST_DB:
        return half.sqnr_db, ()
    note = (
        f"Half precision beside int8 brings the outputs to {half.sqnr_db:.1f} dB of fp32 where int8 "
        f"with an fp32 rest has {int8.sqnr_db:.1f} dB."
    )
    return half.sqnr_db, (note,)
