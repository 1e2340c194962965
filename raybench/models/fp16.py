"""The fp16 graph: half precision inside, except where it would ruin the result.

Inputs and outputs are fp32. In fp32 stay, with the casts around them, the values inside
normalisations made of single ops, those that a run of the fp32 graph finds out of range, and the
last softmax: small probabilities do not exist in half precision. The graph is then checked by
rounding each half tensor, on other items than those that are streamed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.models.batches import calibration_batches
from raybench.models.conversion import Conversion
from raybench.models.cpu_run import run
from raybench.models.element_types import scopes
from raybench.models.fidelity import fidelity
from raybench.models.half_check import rounded
from raybench.models.half_graph import half_graph
from raybench.models.norm_patterns import values_in_norms
from raybench.models.value_ranges import out_of_range

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    import onnx

    from raybench.models.conversion import Fp32Graph

    Array = np.ndarray[Any, Any]

CHECK_ITEMS = 2
POOR_DB = 20.0
"""Below it the row says so: rounding costs networks that suit half precision 36 dB and better."""


def to_fp16(source: Fp32Graph, target: Path) -> Conversion:
    """Write the graph in half precision to `target` and return how it was made."""
    import onnx

    inputs = calibration_batches(source.inputs, source.ranges, 1, CHECK_ITEMS, source.given)[0]
    top = scopes(_load(source))
    values = values_in_norms(top) | _last_softmax(top.graph, source.softmax_outputs)
    nodes: set[str] = set()
    notes = []
    try:
        wide, nodes = out_of_range(_load(source), inputs, source.big)
        values |= wide
    except Exception as error:  # noqa: BLE001 - whatever ONNX Runtime raises must not cost the row
        notes.append(f"Which values exceed half precision is not known: {_line(error)}")
    model, kept = half_graph(_load(source), values, nodes)
    onnx.save_model(
        model,
        target,
        save_as_external_data=source.big,
        location=f"{target.name}.data" if source.big else None,
    )
    rounded_db: float | None = None
    try:
        rounded_db = _rounded_sqnr_db(source, target, inputs)
    except Exception as error:  # noqa: BLE001 - likewise
        notes.append(f"The fp16 graph was not checked by rounding: {_line(error)}")
    else:
        if rounded_db is None:
            notes.append(
                "The fp16 graph was not checked by rounding: the fp32 graph has no finite output."
            )
        elif rounded_db < POOR_DB:
            notes.append(
                f"Rounding to half alone brings the outputs to {rounded_db:.1f} dB of fp32: "
                "this network does not suit fp16."
            )
    return Conversion(kept_fp32_ops=kept, rounded_sqnr_db=rounded_db, notes=tuple(notes))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _load(source: Fp32Graph) -> onnx.ModelProto:
    import onnx

    return onnx.load(source.path)


def _last_softmax(graph: onnx.GraphProto, outputs: Collection[str]) -> set[str]:
    """Return the values from the softmax to the output that it makes."""
    makers = {output: node for node in graph.node for output in node.output}
    values = set(outputs)
    for name in outputs:
        node = makers.get(name)
        while node is not None and node.op_type != "Softmax":
            values.add(node.input[0])
            node = makers.get(node.input[0])
    return values


def _rounded_sqnr_db(source: Fp32Graph, half: Path, inputs: dict[str, Array]) -> float | None:
    """Return the fidelity of the rounded fp16 graph; None if no fp32 output is finite."""
    import onnx

    names = [value.name for value in onnx.load(half, load_external_data=False).graph.output]
    reference = run(_load(source), inputs, names, source.big)
    outputs = run(rounded(onnx.load(half)), inputs, names, source.big)
    comparable = {
        name: values
        for name, values in reference.items()
        if values.dtype.kind in "fiub"
        and values.shape == outputs[name].shape
        and np.isfinite(values).all()
    }
    found = fidelity(comparable, outputs, source.softmax_outputs)
    return found.sqnr_db if found else None
