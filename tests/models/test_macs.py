from __future__ import annotations

import numpy as np
import pytest
from helpers.tiny_graphs import graph_of
from onnx import TensorProto, helper

from raybench.models import zoo
from raybench.models.macs import count

TABLE = {  # parameters, MACs of one item, nodes
    "alexnet": (60_965_224, 724_406_816, 22),
    "googlenet": (6_998_552, 1_582_671_872, 142),
    "resnet50": (25_530_472, 4_089_184_256, 123),
    "bert_base": (109_482_244, 11_174_215_680, 406),
    "vit_b16": (86_567_660, 17_563_828_224, 409),
}
F = TensorProto.FLOAT


@pytest.mark.parametrize("name", TABLE)
def test_every_network_has_the_published_size(name: str) -> None:
    model = zoo.RECIPES[name].model(None)
    counts = count(model)
    assert (counts.parameters, counts.macs_per_item, len(model.graph.node)) == TABLE[name]
    assert counts.unknown == ()


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
