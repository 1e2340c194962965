"""Build small ONNX graphs for tests."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def graph_of(nodes, inputs, outputs, weights=None) -> onnx.ModelProto:
    """Return a model of opset 17; inputs and outputs are (name, element type, shape)."""
    tensors = [numpy_helper.from_array(values, name) for name, values in (weights or {}).items()]
    infos = [
        [helper.make_tensor_value_info(*value) for value in values] for values in (inputs, outputs)
    ]
    graph = helper.make_graph(nodes, "test", *infos, tensors)
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def tiny_bert(batch="batch", sequence="sequence", table=50) -> onnx.ModelProto:
    """Return a classifier of token ids: table lookup, masked mean, Gemm, Softmax."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["words"]),
        helper.make_node("Cast", ["mask"], ["weight"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["weight", "last"], ["column"]),
        helper.make_node("Mul", ["words", "column"], ["masked"]),
        helper.make_node("ReduceMean", ["masked"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("Gemm", ["mean", "w"], ["logits"], transB=1),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    weights = {
        "table": rng.standard_normal((table, 8)).astype(np.float32),
        "w": rng.standard_normal((4, 8)).astype(np.float32),
        "last": np.array([2], np.int64),
    }
    inputs = [
        ("ids", TensorProto.INT64, [batch, sequence]),
        ("mask", TensorProto.INT64, [batch, sequence]),
    ]
    return graph_of(nodes, inputs, [("probabilities", TensorProto.FLOAT, [batch, 4])], weights)


def tiny_conv(batch: int | str = "N", reshape: tuple[int, ...] | None = None) -> onnx.ModelProto:
    """Return a 3x8x8 convolution, flattened by a Reshape to `reshape` or by Flatten."""
    flat = (
        helper.make_node("Reshape", ["y", "shape"], ["output"])
        if reshape
        else helper.make_node("Flatten", ["y"], ["output"], axis=1)
    )
    nodes = [helper.make_node("Conv", ["data", "w"], ["y"], kernel_shape=[3, 3]), flat]
    weights = {"w": np.ones((2, 3, 3, 3), np.float32)}
    if reshape:
        weights["shape"] = np.array(reshape, np.int64)
    outputs = [("output", TensorProto.FLOAT, [batch, 72])]
    return graph_of(nodes, [("data", TensorProto.FLOAT, [batch, 3, 8, 8])], outputs, weights)
