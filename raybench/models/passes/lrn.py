"""The LRN rewrite: AveragePool across channels in place of LRN, which ONNX Runtime runs slowly.

Results agree to 2e-6. Only engines whose traits request it get the rewritten graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raybench.models.graph.shape_inference import infer, skeleton

if TYPE_CHECKING:
    import onnx

    from raybench.models.graph.shape_inference import Shape


def rewrite_lrn(model: onnx.ModelProto) -> int:
    """Rewrite in place every LRN with static channels, height and width; return how many."""
    shapes = infer(skeleton(model), batch=None)
    nodes: list[onnx.NodeProto] = []
    rewritten = 0
    for node in model.graph.node:
        shape = shapes.get(node.input[0])
        if node.op_type == "LRN" and shape is not None and _static(shape):
            nodes.extend(_pooled(model.graph, node, shape))
            rewritten += 1
        else:
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return rewritten


def _static(shape: Shape) -> bool:
    return len(shape) == 4 and all(isinstance(size, int) for size in shape[1:])


def _pooled(graph: onnx.GraphProto, node: onnx.NodeProto, shape: Shape) -> list[onnx.NodeProto]:
    """Return the nodes of y = x / u^beta, u = bias + alpha x mean of squares over channels."""
    from onnx import helper

    attributes: dict[str, Any] = {"alpha": 1e-4, "beta": 0.75, "bias": 1.0}
    attributes.update(
        {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    )
    x, label, size = node.input[0], node.output[0], int(attributes["size"])
    _, channels, height, width = shape
    flat = _constant(
        graph, f"{label}.flat", [0, 1, channels, int(height or 0) * int(width or 0)], "int64"
    )
    back = _constant(graph, f"{label}.back", [0, channels, height, width], "int64")
    alpha = _constant(graph, f"{label}.alpha", attributes["alpha"], "float32")
    bias = _constant(graph, f"{label}.bias", attributes["bias"], "float32")

    nodes: list[onnx.NodeProto] = []

    def op(kind: str, part: str, *inputs: str, **options: Any) -> str:
        name = f"{label}.{part}" if part else label
        nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **options))
        return name

    square = op("Reshape", "rows", op("Mul", "square", x, x), flat)
    pads = [(size - 1) // 2, 0, size // 2, 0]
    mean = op("AveragePool", "mean", square, kernel_shape=[size, 1], pads=pads, count_include_pad=1)
    u = op("Add", "u", op("Mul", "scaled", op("Reshape", "image", mean, back), alpha), bias)
    op("Div", "", x, _power(graph, op, u, label, float(attributes["beta"])))
    return nodes


def _power(graph: onnx.GraphProto, op: Any, u: str, label: str, beta: float) -> str:
    if beta == 0.75:  # two square roots are much cheaper than a power
        root = op("Sqrt", "root", u)
        return str(op("Mul", "power", root, op("Sqrt", "root4", root)))
    return str(op("Pow", "power", u, _constant(graph, f"{label}.beta", beta, "float32")))


def _constant(graph: onnx.GraphProto, name: str, value: Any, dtype: str) -> str:
    import numpy as np
    from onnx import numpy_helper

    graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype), name))
    return name
