"""A check of fp16 graphs without a GPU: what rounding each half tensor costs.

ONNX Runtime's CPU kernels compute half operators in fp32 and round little, so they are no judge.
Here every half weight and every half output of a node is rounded to half, in an fp32 graph whose
optimisations are off, so that the casts stay. Sums inside one operator stay fp32, as engines on
GPUs compute them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.models.graph.cpu_run import run
from raybench.models.graph.element_types import scopes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import onnx

    from raybench.models.passes.half_graph import HalfGraph

    Array = np.ndarray[Any, Any]

HALF_STEP = 2.0**-11
"""Relative rounding error of half precision."""

_AT_ONCE = 1 << 26
"""Elements of values that are held at a time."""

_STEP_DB = 6.0
"""A node that loses less is not worth its casts."""

_NODES = 8
"""Nodes that a round of the search adds at most."""


def rounded(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the fp32 graph that computes what an fp16 graph does."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    result = onnx.ModelProto()
    result.CopyFrom(model)
    for scope in reversed(list(scopes(result, foreign=True).walk())):
        graph = scope.graph
        for tensor in graph.initializer:
            if tensor.data_type == TensorProto.FLOAT16:
                values = numpy_helper.to_array(tensor).astype("float32")
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        for value in (*graph.input, *graph.output):
            if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
                value.type.tensor_type.elem_type = TensorProto.FLOAT
        nodes = []
        for node in graph.node:
            _in_fp32(node)
            nodes.append(node)
            for port, name in enumerate(node.output):
                if scope.types.get(name) == TensorProto.FLOAT16:
                    exact, half = f"{name}/exact", f"{name}/rounded"
                    node.output[port] = exact
                    nodes.append(helper.make_node("Cast", [exact], [half], to=TensorProto.FLOAT16))
                    nodes.append(helper.make_node("Cast", [half], [name], to=TensorProto.FLOAT))
        del graph.node[:]
        graph.node.extend(nodes)
        graph.ClearField("value_info")
    return result


def _in_fp32(node: onnx.NodeProto) -> None:
    """Let a node write fp32 where an attribute says that it writes half."""
    from onnx import TensorProto, numpy_helper

    for attribute in node.attribute:
        if attribute.name in ("to", "dtype") and attribute.i == TensorProto.FLOAT16:
            attribute.i = TensorProto.FLOAT
        if attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT16:
            values = numpy_helper.to_array(attribute.t).astype("float32")
            attribute.t.CopyFrom(numpy_helper.from_array(values, attribute.t.name))


def losing_nodes(
    fp32: Callable[[], onnx.ModelProto],
    half: HalfGraph,
    inputs: Mapping[str, Array],
    elements: Mapping[str, int],
    big: bool,
) -> set[str]:
    """Return the float inputs and outputs of the nodes that lose most by rounding.

    A node's loss is the SQNR of its worst input less that of its output.

    Args:
        fp32: reads the fp32 graph.
        half: the fp16 graph.
        inputs: a few items.
        elements: number of elements of each value to look at.
        big: whether the fp32 graph exceeds what one protobuf holds.
    """
    nodes = list(fp32().graph.node)
    written = {name for node in half.model.graph.node for name in node.output}
    names = [name for node in nodes for name in node.output if name in elements]
    halves = {name: name + half.suffix if name + half.suffix in written else name for name in names}
    sqnr = {}
    for part in _parts(names, elements):
        reference = run(fp32, inputs, part, big)
        actual = run(lambda: rounded(half.model), inputs, [halves[n] for n in part], big)
        sqnr.update({name: _sqnr_db(reference[name], actual[halves[name]]) for name in part})
    losses = {}
    for index, node in enumerate(nodes):
        before = [sqnr[name] for name in node.input if name in sqnr]
        after = [sqnr[name] for name in node.output if name in sqnr]
        if before and after:
            losses[index] = min(before) - min(after)
    worst = sorted(losses, key=lambda index: -losses[index])[:_NODES]
    around = [nodes[i] for i in worst if losses[i] >= _STEP_DB]
    return {name for node in around for name in (*node.input, *node.output) if name in sqnr}


def _parts(names: list[str], elements: Mapping[str, int]) -> Iterator[list[str]]:
    """Return the names in groups of bounded size."""
    part: list[str] = []
    for name in names:
        if part and sum(elements[each] for each in part) + elements[name] > _AT_ONCE:
            yield part
            part = []
        part.append(name)
    if part:
        yield part


def _sqnr_db(expected: Array, actual: Array) -> float:
    """Return the SQNR of a value about its mean, or about 0 where it varies less than half can show.

    The result is from -200 to 200 dB.
    """
    if expected.shape != actual.shape:
        return -200.0
    wide = expected.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        noise, energy = np.sum((wide - actual) ** 2), np.sum(wide**2)
        signal = energy - np.sum(wide) ** 2 / max(wide.size, 1)
        if signal < energy * HALF_STEP**2:
            signal = energy
        ratio = signal / noise if noise else np.inf
        return float(np.clip(np.nan_to_num(10 * np.log10(ratio), nan=-200.0), -200.0, 200.0))
