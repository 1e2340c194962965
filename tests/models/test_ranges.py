from __future__ import annotations

import numpy as np
import onnx
from helpers.tiny_graphs import graph_of
from onnx import TensorProto, helper, numpy_helper

from raybench.models.graph.normal_form import normalise
from raybench.models.shapes.ranges import index_limits

F, I64 = TensorProto.FLOAT, TensorProto.INT64
IDS, FLAG = ("ids", I64, ["N", 4]), ("flag", TensorProto.BOOL, [])


def table(rows: int) -> np.ndarray:
    return np.ones((rows, 2), np.float32)


def limits(nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray]) -> dict[str, int]:
    model = normalise(graph_of(nodes, [IDS, FLAG], [("y", F, None)], weights))
    return index_limits(model, ["ids", "flag"])


def branch(
    name: str, *nodes: onnx.NodeProto, kind: int = F, **weights: np.ndarray
) -> onnx.GraphProto:
    output = helper.make_tensor_value_info(name, kind, None)
    tensors = [numpy_helper.from_array(values, key) for key, values in weights.items()]
    return helper.make_graph(nodes, name, [], [output], tensors)


def test_a_table_in_a_constant_node_limits_its_indices() -> None:
    value = numpy_helper.from_array(table(1000))
    nodes = [
        helper.make_node("Constant", [], ["E"], value=value),
        helper.make_node("Gather", ["E", "ids"], ["y"]),
    ]
    assert limits(nodes, {}) == {"ids": 1000}


def test_a_table_in_a_branch_limits_the_indices_of_the_outer_graph() -> None:
    inside = helper.make_node("Gather", ["E", "column"], ["t"])
    other = helper.make_node("Gather", ["G", "column"], ["e"])
    nodes = [
        helper.make_node("Squeeze", ["ids"], ["column"]),
        helper.make_node(
            "If",
            ["flag"],
            ["y"],
            then_branch=branch("t", inside, E=table(30)),
            else_branch=branch("e", other, G=table(20)),
        ),
    ]
    assert limits(nodes, {}) == {"ids": 20}


def test_indices_that_come_out_of_a_branch_are_followed() -> None:
    then = branch("t", helper.make_node("Identity", ["ids"], ["t"]), kind=I64)
    otherwise = branch("e", helper.make_node("Squeeze", ["ids"], ["e"]), kind=I64)
    nodes = [
        helper.make_node("If", ["flag"], ["i"], then_branch=then, else_branch=otherwise),
        helper.make_node("Gather", ["E", "i"], ["y"]),
    ]
    assert limits(nodes, {"E": table(9)}) == {"ids": 9}


def test_indices_that_a_loop_is_given_are_followed_into_its_body() -> None:
    infos = [("i", I64, []), ("c", TensorProto.BOOL, []), ("carried", I64, ["N", 4])]
    inputs = [helper.make_tensor_value_info(*info) for info in infos]
    outputs = [
        helper.make_tensor_value_info(*info)
        for info in (("c2", TensorProto.BOOL, []), ("again", I64, None), ("found", F, None))
    ]
    body = [
        helper.make_node("Identity", ["c"], ["c2"]),
        helper.make_node("Identity", ["carried"], ["again"]),
        helper.make_node("Gather", ["E", "carried"], ["found"]),
    ]
    loop = helper.make_graph(body, "body", inputs, outputs)
    nodes = [helper.make_node("Loop", ["count", "flag", "ids"], ["last", "y"], body=loop)]
    assert limits(nodes, {"E": table(7), "count": np.array(2)}) == {"ids": 7}


def test_parts_of_an_input_are_still_indices() -> None:
    nodes = [
        helper.make_node("Split", ["ids"], ["a", "b"], axis=1),
        helper.make_node("Concat", ["b", "a"], ["c"], axis=1),
        helper.make_node("Identity", ["E"], ["same"]),
        helper.make_node("Gather", ["same", "c"], ["y"]),
    ]
    assert limits(nodes, {"E": table(6)}) == {"ids": 6}
