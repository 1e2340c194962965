from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers.tiny_graphs import graph_of, tiny_conv
from onnx import TensorProto, helper, numpy_helper

from raybench.experiment import ModelSettings
from raybench.models import zoo
from raybench.models.normal_form import initializers, normalise, tensors, walk
from raybench.models.prepare import prepare

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

F, I64 = TensorProto.FLOAT, TensorProto.INT64
X, Y = [("x", F, ["N", 4])], [("y", F, ["N", 4])]


def run(model: onnx.ModelProto, **inputs: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, inputs)


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def if_model() -> onnx.ModelProto:
    """A graph whose weights stand in Constant nodes of the branches of an If."""
    branches = []
    for factor in (2.0, 3.0):
        value = numpy_helper.from_array(np.full(4, factor, np.float32))
        name = f"w{factor:.0f}"
        nodes = [
            helper.make_node("Constant", [], [name], value=value),
            helper.make_node("Mul", ["x", name], [f"{name}.y"]),
        ]
        output = helper.make_tensor_value_info(f"{name}.y", F, None)
        branches.append(helper.make_graph(nodes, "branch", [], [output]))
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["top"], keepdims=0),
        helper.make_node("Constant", [], ["limit"], value_float=0.5),
        helper.make_node("Greater", ["top", "limit"], ["cond"]),
        helper.make_node("If", ["cond"], ["y"], then_branch=branches[0], else_branch=branches[1]),
    ]
    return graph_of(nodes, X, Y)


@pytest.mark.parametrize("name", zoo.names())
def test_the_zoo_is_written_in_normal_form(name: str) -> None:
    model = zoo.RECIPES[name].model(None)
    before = model.SerializeToString(deterministic=True)
    assert normalise(model).SerializeToString(deterministic=True) == before


def test_constants_of_every_kind_become_initialisers() -> None:
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("v", F, [2], [5.0, 7.0]),
        helper.make_tensor("i", I64, [2], [1, 3]),
        [4],
    )
    values = {
        "a": {"value": numpy_helper.from_array(np.arange(4, dtype=np.float32))},
        "b": {"value_float": 2.0},
        "c": {"value_floats": [1.0, 2.0, 3.0, 4.0]},
        "d": {"sparse_value": sparse},
    }
    nodes = [helper.make_node("Constant", [], [key], **value) for key, value in values.items()]
    sums = ["x", "a", "b", "c", "d"]
    nodes += [helper.make_node("Sum", sums, ["s"]), helper.make_node("Expand", ["s", "e"], ["y"])]
    nodes.insert(0, helper.make_node("Constant", [], ["e"], value_ints=[1, 4]))
    nodes.insert(0, helper.make_node("Constant", [], ["unused"], value_string="text"))
    model = normalise(graph_of(nodes, X, Y))
    assert [node.op_type for node in model.graph.node] == ["Sum", "Expand"]
    stored = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    assert stored["d"].tolist() == [0, 5, 0, 7]
    assert (stored["b"].shape, stored["e"].dtype) == ((), np.int64)
    total = stored["a"] + stored["b"] + stored["c"] + stored["d"]
    assert run(model, x=np.zeros((1, 4), np.float32))[0][0].tolist() == total.tolist()


def test_constants_in_subgraphs_become_initialisers_of_the_subgraph() -> None:
    model = if_model()
    expected = run(model, x=np.ones((2, 4), np.float32))[0]
    model = normalise(model)
    assert "Constant" not in {node.op_type for node in walk(model.graph)}
    assert {each.name for each in initializers(model.graph)} == {"w2", "w3", "limit"}
    assert [each.name for each in model.graph.initializer] == ["limit"]
    np.testing.assert_array_equal(run(model, x=np.ones((2, 4), np.float32))[0], expected)


def test_a_constant_that_is_an_output_is_still_computed() -> None:
    nodes = [
        helper.make_node("Constant", [], ["k"], value_floats=[1.0, 2.0]),
        helper.make_node("Relu", ["x"], ["y"]),
    ]
    model = normalise(graph_of(nodes, X, [*Y, ("k", F, [2])]))
    assert run(model, x=np.ones((1, 4), np.float32))[1].tolist() == [1, 2]


def test_every_node_has_a_name_of_its_own() -> None:
    model = if_model()
    for node in model.graph.node[1:]:
        node.name = "same"
    names = [node.name for node in walk(normalise(model).graph)]
    assert len(set(names)) == len(names) == 5
    assert "same" in names
    assert "" not in names


def test_normal_form_is_a_function_of_the_graph_and_final() -> None:
    once, again = normalise(if_model()), normalise(if_model())
    assert once.SerializeToString(deterministic=True) == again.SerializeToString(deterministic=True)
    assert normalise(copy_of(once)) == once


def test_local_functions_are_inlined() -> None:
    inner = [
        helper.make_node("Constant", [], ["two"], value_float=2.0),
        helper.make_node("Mul", ["v", "two"], ["w"]),
    ]
    opset = [helper.make_opsetid("", 17)]
    model = graph_of([helper.make_node("Twice", ["x"], ["y"], domain="own")], X, Y)
    model.functions.append(helper.make_function("own", "Twice", ["v"], ["w"], inner, opset))
    model.opset_import.append(helper.make_opsetid("own", 1))
    model = normalise(model)
    assert [node.op_type for node in model.graph.node] == ["Mul"]
    assert run(model, x=np.ones((1, 4), np.float32))[0].tolist() == [[2.0] * 4]


def test_weights_listed_as_inputs_are_no_inputs() -> None:
    model = tiny_conv()
    model.ir_version = 3
    model.graph.input.append(helper.make_tensor_value_info("w", F, [2, 3, 3, 3]))
    model = normalise(model)
    assert [value.name for value in model.graph.input] == ["data"]
    assert run(model, data=np.ones((1, 3, 8, 8), np.float32))[0].shape == (1, 72)


def test_a_convolution_without_kernel_shape_gets_that_of_its_weights() -> None:
    model = tiny_conv()
    del model.graph.node[0].attribute[:]
    assert normalise(model).graph.node[0].attribute[0].ints == [3, 3]


def test_every_stored_tensor_is_found() -> None:
    assert {each.name for each in tensors(if_model().graph)} == {""}
    assert len(list(tensors(if_model().graph))) == 2


def test_a_prepared_file_is_in_normal_form(saved: Callable[..., str], cache: Path) -> None:
    model = prepare(saved(if_model()), ModelSettings(), "fp32", None, cache)
    graph = onnx.load(model.path).graph
    assert "Constant" not in {node.op_type for node in walk(graph)}
