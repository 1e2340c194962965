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
from raybench.models.graph.graph_walk import initializers, tensors, walk
from raybench.models.graph.normal_form import normalise
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


def test_nodes_are_put_in_the_order_of_the_data() -> None:
    model = if_model()
    expected = run(model, x=np.ones((2, 4), np.float32))[0]
    kinds = [node.op_type for node in normalise(copy_of(model)).graph.node]
    graph = copy_of(model).graph
    del model.graph.node[:]
    model.graph.node.extend(reversed(graph.node))
    model = normalise(model)
    assert [node.op_type for node in model.graph.node] == kinds
    np.testing.assert_array_equal(run(model, x=np.ones((2, 4), np.float32))[0], expected)


def test_a_graph_that_reads_its_own_result_is_refused() -> None:
    nodes = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    with pytest.raises(ValueError, match="node 'a' needs its own result"):
        normalise(graph_of(nodes, X, [("b", F, None)]))
    with pytest.raises(ValueError, match="own result"):
        normalise(graph_of([helper.make_node("Identity", ["y"], ["y"])], X, Y))


def test_a_branch_may_name_its_result_as_the_node_around_it_does() -> None:
    model = if_model()
    for attribute in model.graph.node[-1].attribute:
        attribute.g.node[-1].output[0] = attribute.g.output[0].name = "y"
    kinds = [node.op_type for node in model.graph.node if node.op_type != "Constant"]
    assert [node.op_type for node in normalise(model).graph.node] == kinds


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


# --- folding --------------------------------------------------------------------------------------

W = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)


def product(*nodes: onnx.NodeProto, **weights: np.ndarray) -> onnx.ModelProto:
    """A product of x and `w`, which nodes make from constants."""
    return graph_of([*nodes, helper.make_node("MatMul", ["x", "w"], ["y"])], X, Y, weights)


FOLDED = {
    "transpose": product(helper.make_node("Transpose", ["v"], ["w"]), v=W),
    "identity": product(helper.make_node("Identity", ["v"], ["w"]), v=W),
    "half weights": product(
        helper.make_node("Cast", ["v"], ["w"], to=F), v=W.astype(np.float16)
    ),
    "computed shape": product(
        helper.make_node("Concat", ["a", "a"], ["b"], axis=0),
        helper.make_node("Mul", ["b", "two"], ["shape"]),
        helper.make_node("Reshape", ["v", "shape"], ["w"]),
        v=W.ravel(), a=np.array([2]), two=np.array(2),
    ),
    "arithmetic": product(
        helper.make_node("Sqrt", ["v"], ["root"]),
        helper.make_node("Div", ["root", "v"], ["part"]),
        helper.make_node("Sub", ["part", "v"], ["w"]),
        v=np.abs(W),
    ),
    "range": product(
        helper.make_node("Range", ["zero", "end", "one"], ["r"]),
        helper.make_node("Cast", ["r"], ["f"], to=F),
        helper.make_node("Reshape", ["f", "shape"], ["w"]),
        zero=np.array(0), end=np.array(16), one=np.array(1), shape=np.array([4, 4]),
    ),
    "two outputs": product(
        helper.make_node("Split", ["v"], ["w", "rest"], axis=1), v=np.hstack([W, W])
    ),
}  # fmt: skip
KEPT = {
    "a product": product(helper.make_node("MatMul", ["v", "v"], ["w"]), v=W),
    "a power": product(helper.make_node("Pow", ["v", "v"], ["w"]), v=np.abs(W)),
    "random": product(helper.make_node("RandomUniform", [], ["w"], shape=[4, 4], seed=1.0)),
    "quantised": product(
        helper.make_node("DequantizeLinear", ["v", "s"], ["w"]),
        v=(10 * W).astype(np.int8), s=np.array(0.1, np.float32),
    ),
    "growth": graph_of(
        [
            helper.make_node("Expand", ["one", "shape"], ["big"]),
            helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0),
            helper.make_node("Mul", ["x", "sum"], ["y"]),
        ],
        X, Y, {"one": np.ones(1, np.float32), "shape": np.array([1 << 40])},
    ),
    "division by zero": product(
        helper.make_node("Div", ["v", "zero"], ["w"]), v=W, zero=np.zeros(1, np.float32)
    ),
    "nonsense": product(
        helper.make_node("Reshape", ["v", "shape"], ["w"]), v=W, shape=np.array([3, 5])
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FOLDED)
def test_what_is_computed_from_constants_alone_is_a_constant(case: str) -> None:
    x = np.ones((2, 4), np.float32)
    expected = run(FOLDED[case], x=x)[0]
    model = normalise(copy_of(FOLDED[case]))
    assert [node.op_type for node in model.graph.node] == ["MatMul"]
    assert [tensor.name for tensor in model.graph.initializer] == ["w"]
    np.testing.assert_array_equal(run(model, x=x)[0], expected)
    assert normalise(copy_of(model)) == model


@pytest.mark.parametrize("case", KEPT)
def test_a_node_stays_that_is_not_the_same_everywhere_or_would_grow(case: str) -> None:
    model = normalise(copy_of(KEPT[case]))
    kinds = [node.op_type for node in model.graph.node]
    assert kinds == [node.op_type for node in KEPT[case].graph.node]


def test_constants_are_folded_inside_branches() -> None:
    model = if_model()
    branches = [attribute.g for attribute in model.graph.node[-1].attribute]
    for number, inner in enumerate(branches):
        inner.node[1].input[1] = f"wide{number}"
        name = inner.node[0].output[0]
        shape = helper.make_node("Reshape", [name, "outer"], [f"wide{number}"])
        inner.node.insert(1, shape)
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 4]), "outer"))
    expected = run(model, x=np.ones((2, 4), np.float32))[0]
    model = normalise(model)
    assert "Reshape" not in {node.op_type for node in walk(model.graph)}
    assert [tensor.name for tensor in model.graph.initializer] == ["limit"]
    np.testing.assert_array_equal(run(model, x=np.ones((2, 4), np.float32))[0], expected)


def test_nothing_is_fused() -> None:
    norm = [np.ones(2, np.float32) for _ in range(4)]
    model = tiny_conv()
    weights = dict(zip(("scale", "bias", "mean", "variance"), norm, strict=True))
    model.graph.node.insert(1, helper.make_node("BatchNormalization", ["y", *weights], ["normal"]))
    model.graph.node[2].input[0] = "normal"
    model.graph.initializer.extend(
        numpy_helper.from_array(values, name) for name, values in weights.items()
    )
    kinds = [node.op_type for node in normalise(model).graph.node]
    assert kinds == ["Conv", "BatchNormalization", "Flatten"]


def test_weights_that_nothing_reads_are_dropped() -> None:
    model = tiny_conv()
    model.graph.initializer.append(numpy_helper.from_array(W, "unread"))
    assert [tensor.name for tensor in normalise(model).graph.initializer] == ["w"]


def test_weights_in_files_are_not_read_to_fold_them() -> None:
    model = copy_of(FOLDED["transpose"])
    tensor = next(each for each in model.graph.initializer if each.name == "v")
    onnx.external_data_helper.set_external_data(tensor, "w.bin")
    tensor.ClearField("raw_data")
    assert [node.op_type for node in normalise(model).graph.node] == ["Transpose", "MatMul"]


@pytest.mark.parametrize("kind", ["Div", "Mod", "ReduceSum", "ReduceProd", "Max", "Clip", "Round"])
def test_folded_values_are_those_of_onnx_runtime(kind: str) -> None:
    whole = kind != "Round"
    values = np.array([[-7, -2, 3, 7], [5, -5, 4, -4]], np.int64 if whole else np.float32)
    values = values if whole else values / 2
    names = {"Div": 2, "Mod": 2, "Max": 2, "Clip": 2}.get(kind, 1)
    constants = {"a": values, "b": np.array(2, values.dtype)}
    nodes = [
        helper.make_node(kind, list(constants)[:names], ["k"]),
        helper.make_node("Cast", ["k"], ["f"], to=F),
        helper.make_node("Add", ["x", "f"], ["y"]),
    ]
    model = graph_of(nodes, [("x", F, [])], [("y", F, None)], constants)
    expected = run(model, x=np.zeros((), np.float32))[0]
    model = normalise(model)
    assert [node.op_type for node in model.graph.node] == ["Add"]
    np.testing.assert_array_equal(run(model, x=np.zeros((), np.float32))[0], expected)


def test_an_output_that_is_an_input_is_computed_under_a_name_of_its_own() -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    shape, identity = ["N", 4], np.eye(4, dtype=np.float32)
    model = graph_of(nodes, [("x", F, shape)], [("y", F, shape), ("x", F, shape)], {"w": identity})
    model = normalise(model)
    assert [value.name for value in model.graph.output] == ["y", "x.output"]
    x = np.ones((2, 4), np.float32)
    assert [value.tolist() for value in run(model, x=x)] == [x.tolist()] * 2
