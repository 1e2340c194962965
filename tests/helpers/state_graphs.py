"""Build a small graph that renews inputs."""

from __future__ import annotations

import numpy as np
import onnx
from helpers.tiny_graphs import graph_of
from onnx import TensorProto, helper

from raybench.experiment import ModelSettings
from raybench.models.prepare import prepare
from raybench.models.state import StateTensor, write_state

HEADS, LENGTH, WIDTH, WORDS, TRACE = 2, 5, 4, 11, 3
STATE = (
    StateTensor("token", "next_token"),
    StateTensor("position", "next_position"),
    StateTensor("past_key", "new_key", 2),
    StateTensor("past_value", "new_value", 2),
    StateTensor("trace", "new_trace", 0),
)
KEPT = frozenset({"logits", "next_position"})


def step_graph(fed: bool = False) -> onnx.ModelProto:
    """Return a step of a decoder's shape: token and position, two rings alike and one of another axis.

    Args:
        fed: whether there is an input that every batch has of its own.
    """
    rng = np.random.default_rng(0)
    weights = {
        "table": rng.standard_normal((WORDS, WIDTH)).astype(np.float32),
        "head": rng.standard_normal((HEADS * WIDTH, WORDS)).astype(np.float32),
        "one": np.array([1], np.int64),
        "two": np.array([2], np.int64),
        "flat": np.array([-1, HEADS * WIDTH], np.int64),
        "small": np.array(0.1, np.float32),
    }
    nodes = [
        ("Gather", ["table", "token"], "word", {}),
        ("Unsqueeze", ["word", "one"], "query", {}),
        ("Cast", ["position"], "place", {"to": TensorProto.FLOAT}),
        ("Mul", ["place", "small"], "turn", {}),
        ("Sin", ["turn"], "turned", {}),
        ("ReduceSum", ["past_key", "two"], "keys", {"keepdims": 1}),
        ("ReduceMean", ["past_value"], "values", {"axes": [2], "keepdims": 1}),
        ("Add", ["keys", "query"], "sum", {}),
        ("Add", ["sum", "turned"], "moved", {}),
        ("Sin", ["moved"], "new_key", {}),
        ("Mul", ["new_key", "values"], "weighed", {}),
        ("Add", ["weighed", "query"], "read", {}),
        ("Tanh", ["read"], "new_value", {}),
        ("ReduceMean", ["trace"], "traced", {"axes": [0, 2], "keepdims": 0}),
        ("Reshape", ["new_value", "flat"], "row", {}),
        ("Unsqueeze", ["traced", "one"], "column", {}),
        ("Add", ["row", "column"], "features", {}),
        ("MatMul", ["features", "head"], "logits", {}),
        ("ArgMax", ["logits"], "next_token", {"axis": 1, "keepdims": 1}),
        ("Add", ["position", "one"], "next_position", {}),
        ("Unsqueeze", ["features", "zero"], "new_trace", {}),
    ]
    weights["zero"] = np.array([0], np.int64)
    ring = ["N", HEADS, LENGTH, WIDTH]
    inputs = [
        ("token", TensorProto.INT64, ["N", 1]),
        ("position", TensorProto.INT64, [1]),
        ("past_key", TensorProto.FLOAT, ring),
        ("past_value", TensorProto.FLOAT, ring),
        ("trace", TensorProto.FLOAT, [TRACE, "N", HEADS * WIDTH]),
    ]
    if fed:
        inputs.append(("bias", TensorProto.FLOAT, ["N", WORDS]))
        nodes[17] = ("MatMul", ["features", "head"], "unbiased", {})
        nodes.insert(18, ("Add", ["unbiased", "bias"], "logits", {}))
    row = ["N", HEADS, 1, WIDTH]
    outputs = [
        ("logits", TensorProto.FLOAT, ["N", WORDS]),
        ("next_token", TensorProto.INT64, ["N", 1]),
        ("next_position", TensorProto.INT64, [1]),
        ("new_key", TensorProto.FLOAT, row),
        ("new_value", TensorProto.FLOAT, row),
        ("new_trace", TensorProto.FLOAT, [1, "N", HEADS * WIDTH]),
    ]
    made = [helper.make_node(op, given, [name], **more) for op, given, name, more in nodes]
    graph = graph_of(made, inputs, outputs, weights)
    write_state(graph, STATE, tuple(sorted(KEPT)))
    return graph


def delay_graph() -> onnx.ModelProto:
    """Return a delay line: the second state becomes the first, as it was, and outputs are views of both."""
    nodes = [
        ("Identity", ["first"], "next_second", {}),
        ("Tanh", ["x"], "next_first", {}),
        ("Reshape", ["second", "rows"], "seen", {}),
        ("Add", ["first", "second"], "sum", {}),
    ]
    made = [helper.make_node(op, given, [name], **more) for op, given, name, more in nodes]
    row = [(TensorProto.FLOAT, ["N", WIDTH])]
    inputs = [(name, *row[0]) for name in ("x", "first", "second")]
    outputs = [(name, *row[0]) for name in ("seen", "sum", "next_first", "next_second")]
    graph = graph_of(made, inputs, outputs, {"rows": np.array([-1, WIDTH], np.int64)})
    state = (StateTensor("first", "next_first"), StateTensor("second", "next_second"))
    write_state(graph, state, ())
    return graph


def step_model(folder, fed=False):
    """Return the model of `step_graph`, from a file."""
    path = folder / f"step_{fed}.onnx"
    onnx.save(step_graph(fed), path)
    ranges = {"token": [0, WORDS - 1], "position": [LENGTH, LENGTH]}
    return prepare(str(path), ModelSettings(ranges=ranges), "fp32", None, folder / "cache")
