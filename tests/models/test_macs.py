from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from helpers.tiny_graphs import graph_of
from onnx import TensorProto, helper, numpy_helper

from raybench.experiment import ModelSettings
from raybench.models import zoo
from raybench.models.graph.macs import count
from raybench.models.graph.normal_form import normalise
from raybench.models.prepare import prepare

if TYPE_CHECKING:
    from pathlib import Path

TABLE = {  # parameters, MACs of one item, nodes
    "alexnet": (60_965_224, 724_406_816, 22),
    "lenet": (61_706, 416_520, 13),
    "googlenet": (6_998_552, 1_582_671_872, 142),
    "resnet50": (25_530_472, 4_089_184_256, 123),
    "bert_base": (109_482_244, 11_174_215_680, 406),
    "vit_b16": (86_567_660, 17_563_828_224, 409),
    "minilm_l6": (22_565_376 + 4, 1_434_451_968, 207),  # and GELU's numbers, the scale of attention
    "minilm_l6_ragged": (22_565_376 + 7, 1_434_451_968, 219),  # and the numbers of its masks
    "whisper_base": (20_590_592 + 4, 43_683_840_000, 207),
    "yolov8s": (11_156_544 + 8_400 * 3 + 5, 14_301_312_000, 240),  # and anchors, strides, scales
    "dlrm": (26 * 100_000 * 16 + 475_985, 486_032, 23),
    "gemm": (2048**2, 2**31, 18),
    "copy": (0, 0, 1),
}
F = TensorProto.FLOAT


@pytest.mark.parametrize("name", TABLE)
def test_every_network_has_the_published_size(name: str) -> None:
    model = zoo.RECIPES[name].model(None)
    counts = count(model)
    assert (counts.parameters, counts.macs_per_item, len(model.graph.node)) == TABLE[name]
    assert counts.unknown == ()


def test_tables_are_what_only_gathers_read() -> None:
    sizes = {name: count(zoo.RECIPES[name].model(None)).memory.table_parameters for name in TABLE}
    words = {
        "minilm_l6": (30_522 + 2) * 384,
        "minilm_l6_ragged": (30_522 + 2) * 384,
        "bert_base": (30_522 + 2) * 768,
        "dlrm": 26 * 100_000 * 16,
    }
    assert sizes == {**dict.fromkeys(TABLE, 0), **words}


def test_a_table_that_is_also_multiplied_with_is_read_as_a_whole() -> None:
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("Transpose", ["table"], ["turned"]),
        helper.make_node("MatMul", ["rows", "turned"], ["y"]),
    ]
    model = graph_of(nodes, [("ids", TensorProto.INT64, ["N"])], [("y", F, ["N", 10])],
                     {"table": np.ones((10, 4), np.float32)})  # fmt: skip
    assert count(model).memory.table_parameters == 0


def test_activations_are_what_operators_hand_on_for_an_item_without_views() -> None:
    of_lenet = 2 * 6 * 28 * 28 + 6 * 14 * 14 + 2 * 16 * 10 * 10 + 16 * 5 * 5
    of_lenet += 2 * 120 + 2 * 84 + 2 * 10
    assert count(zoo.RECIPES["lenet"].model(None)).memory.activations == of_lenet
    nodes = [
        helper.make_node("NonZero", ["x"], ["where"]),
        helper.make_node("Cast", ["where"], ["y"], to=F),
    ]
    model = graph_of(nodes, [("x", F, ["N", 4])], [("y", F, ["N", "?"])], {})
    assert count(model).memory.activations is None


def test_a_transposed_gemm_and_a_transposed_convolution() -> None:
    nodes = [
        helper.make_node("ConvTranspose", ["x", "k"], ["up"]),
        helper.make_node("Flatten", ["up"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "w"], ["y"], transB=1),
    ]
    weights = {"k": np.ones((2, 3, 2, 2), np.float32), "w": np.ones((5, 3 * 5 * 5), np.float32)}
    model = graph_of(nodes, [("x", F, ["N", 2, 4, 4])], [("y", F, ["N", 5])], weights)
    assert count(model).macs_per_item == 2 * 4 * 4 * 3 * 2 * 2 + 75 * 5


def test_what_cannot_be_counted_is_named_and_never_zero() -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["where"]),
        helper.make_node("Cast", ["where"], ["open"], to=F),
        helper.make_node("MatMul", ["open", "open2"], ["y"], name="first"),
        helper.make_node("Einsum", ["x", "x"], ["z"], name="second", equation="ab,cb->ac"),
        helper.make_node("Transpose", ["open"], ["open2"]),
    ]
    nodes = [nodes[0], nodes[1], nodes[4], nodes[2], nodes[3]]
    counts = count(graph_of(nodes, [("x", F, ["N", 4])], [("y", F, None), ("z", F, None)]))
    assert counts.unknown == ("first", "second")
    assert counts.macs_per_item is None


def test_integer_constants_are_no_parameters() -> None:
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    model = graph_of(
        nodes, [("x", F, ["N", 4])], [("y", F, None)], {"shape": np.array([0, 2, 2], np.int64)}
    )
    assert count(model).parameters == 0


def test_products_of_constants_do_not_count() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        helper.make_node("Transpose", ["w"], ["t"]),
        helper.make_node("MatMul", ["w", "t"], ["anchors"]),
    ]
    weights = {"w": np.ones((4, 4), np.float32)}
    model = graph_of(nodes, [("x", F, ["N", 4])], [("y", F, None), ("anchors", F, None)], weights)
    assert count(model).macs_per_item == 16


def test_a_product_of_all_items_with_all_is_unknown_for_one_item() -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"]),
        helper.make_node("MatMul", ["x", "t"], ["y"], name="sim"),
    ]
    counts = count(graph_of(nodes, [("x", F, ["N", 4])], [("y", F, None)]))
    assert (counts.macs_per_item, counts.unknown) == (None, ("sim",))


def branch(name: str, shape: tuple[int, ...], x: str = "x") -> onnx.GraphProto:
    """A branch that multiplies `x` by its own weights."""
    weights = numpy_helper.from_array(np.ones(shape, np.float32), f"{name}.w")
    nodes = [helper.make_node("MatMul", [x, f"{name}.w"], [name])]
    return helper.make_graph(
        nodes, name, [], [helper.make_tensor_value_info(name, F, None)], [weights]
    )


def if_of(then: onnx.GraphProto, otherwise: onnx.GraphProto) -> onnx.ModelProto:
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["top"], keepdims=0),
        helper.make_node("Cast", ["top"], ["cond"], to=TensorProto.BOOL),
        helper.make_node("If", ["cond"], ["y"], "either", then_branch=then, else_branch=otherwise),
    ]
    return graph_of(nodes, [("x", F, ["N", 100])], [("y", F, None)])


def test_weights_and_products_in_subgraphs_count() -> None:
    counts = count(if_of(branch("t", (100, 70)), branch("e", (100, 70))))
    assert (counts.parameters, counts.macs_per_item) == (2 * 7000, 7000)


def test_branches_of_different_cost_are_unknown_not_zero() -> None:
    counts = count(if_of(branch("t", (100, 70)), branch("e", (100, 50))))
    assert (counts.parameters, counts.macs_per_item, counts.unknown) == (12000, None, ("either",))


def test_the_note_of_a_row_names_what_cannot_be_counted(tmp_path: Path) -> None:
    path = tmp_path / "if.onnx"
    onnx.save_model(if_of(branch("t", (100, 70)), branch("e", (100, 50))), path)
    model = prepare(str(path), ModelSettings(), "fp32", None, tmp_path / "cache")
    assert model.macs_per_item is None
    assert model.count_notes == ("MACs are unknown: those of node 'either' cannot be counted.",)


def test_weights_in_constant_nodes_are_parameters() -> None:
    value = numpy_helper.from_array(np.ones((4, 8), np.float32))
    nodes = [
        helper.make_node("Constant", [], ["w"], value=value),
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Gemm", ["h", "w"], ["y"], transB=1),
    ]
    counts = count(normalise(graph_of(nodes, [("x", F, ["N", 4])], [("y", F, None)])))
    assert (counts.parameters, counts.macs_per_item) == (32, 64)


def test_a_recurrent_layer_multiplies_inputs_and_states_at_every_step() -> None:
    nodes = [helper.make_node("LSTM", ["x", "W", "R"], ["y"], hidden_size=6)]
    weights = {"W": np.ones((1, 24, 4), np.float32), "R": np.ones((1, 24, 6), np.float32)}
    model = graph_of(nodes, [("x", F, [5, "N", 4])], [("y", F, None)], weights)
    assert count(model).macs_per_item == 5 * 24 * (4 + 6)


def test_sizes_that_the_graph_computes_itself_are_found() -> None:
    nodes = [  # what an exporter writes for x.flatten(1) @ w, through a size that passes a float
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Cast", ["shape"], ["sizes"], to=F),
        helper.make_node("Slice", ["sizes", "one", "end"], ["rest"]),
        helper.make_node("Cast", ["rest"], ["whole"], to=TensorProto.INT64),
        helper.make_node("ReduceProd", ["whole"], ["product"], keepdims=1),
        helper.make_node("Reshape", ["product", "none"], ["single"]),
        helper.make_node("Unsqueeze", ["single", "zero"], ["length"]),
        helper.make_node("Slice", ["shape", "zero", "one"], ["items"]),
        helper.make_node("Concat", ["items", "length"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["h"]),
        helper.make_node("Shape", ["h"], ["again"]),
        helper.make_node("Reshape", ["h", "again"], ["same"]),
        helper.make_node("MatMul", ["same", "v"], ["y"]),
    ]
    sizes = {"zero": np.array([0]), "one": np.array([1]), "end": np.array([3])}
    sizes["none"] = np.array([], np.int64)
    weights = {"w": np.ones((20, 8), np.float32), "v": np.ones((8, 3), np.float32)}
    model = graph_of(nodes, [("x", F, ["N", 4, 5])], [("y", F, None)], {**sizes, **weights})
    assert count(model).macs_per_item == 20 * 8 + 8 * 3
