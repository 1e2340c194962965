"""Floats made of narrow values are found wherever they come from; integers that stay such are none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.tiny_graphs import graph_of
from onnx import TensorProto, helper
from onnx.helper import make_node

from raybench.models.graph.graph_types import graph_types
from raybench.models.graph.normal_form import normalise

F, I8, U8, I32, I64 = (
    TensorProto.FLOAT,
    TensorProto.INT8,
    TensorProto.UINT8,
    TensorProto.INT32,
    TensorProto.INT64,
)
BOOL = TensorProto.BOOL
W8 = np.arange(64, dtype=np.int8).reshape(8, 8)
W = W8.astype(np.float32)
TENSORS = {
    "W8": W8,
    "W": W,
    "mask": (W8 % 2).astype(np.uint8),
    "few": np.arange(8, dtype=np.uint8),
    "s": np.float32(0.1),
    "zero": np.float32(0),
    "turns": np.array(2),
}
PRODUCT = make_node("MatMul", ["x", "w"], ["y"])
IDS = make_node("Cast", ["x"], ["ids"], to=I64)


def cast(source: str, target: str, to: int) -> Any:
    return make_node("Cast", [source], [target], to=to)


def body(nodes: list[Any], inputs: list[Any], outputs: list[Any]) -> Any:
    values = [
        [helper.make_tensor_value_info(name, kind, dims) for name, kind, dims in each]
        for each in (inputs, outputs)
    ]
    return helper.make_graph(nodes, "body", *values)


STATE = [("h", F, ["N", 8])]
SCANNED = body(
    [cast("q", "qf", F), make_node("MatMul", ["h", "qf"], ["ho"])],
    [*STATE, ("q", I8, [8])],
    [("ho", F, ["N"])],
)
CHOSEN = [
    body([make_node("Identity", ["W8"], [name])], [], [(name, I8, [8, 8])])
    for name in ("then", "else")
]
LOOPED = body(
    [
        cast("h", "h8", I8),
        cast("h8", "hf", F),
        make_node("MatMul", ["hf", "W"], ["ho"]),
        make_node("Identity", ["go"], ["on"]),
    ],
    [("i", I64, []), ("go", BOOL, []), *STATE],
    [("on", BOOL, []), ("ho", F, ["N", 8])],
)
CARRIED = body(
    [
        cast("h8", "hf", F),
        make_node("MatMul", ["hf", "W"], ["ho"]),
        cast("ho", "ho8", I8),
        make_node("Identity", ["go"], ["on"]),
    ],
    [("i", I64, []), ("go", BOOL, []), ("h8", I8, ["N", 8])],
    [("on", BOOL, []), ("ho8", I8, ["N", 8]), ("ho", F, ["N", 8])],
)
IS_POSITIVE = [
    make_node("ReduceMax", ["x"], ["top"], keepdims=0),
    make_node("Greater", ["top", "zero"], ["positive"]),
]

NARROW = {
    "looked_up": (
        [IDS, make_node("Gather", ["W8", "ids"], ["rows"]), cast("rows", "f", F),
         make_node("Mul", ["f", "s"], ["y"])],
        "Constant:int8 weights",
    ),
    "added": ([cast("W8", "f", F), make_node("Add", ["x", "f"], ["y"])], "Constant:int8 weights"),
    "scanned": (
        [make_node("Scan", ["x", "W8"], ["y"], "scan", body=SCANNED, num_scan_inputs=1)],
        "Constant:int8 weights",
    ),
    "chosen": (
        [*IS_POSITIVE,
         make_node("If", ["positive"], ["w8"], "if", then_branch=CHOSEN[0], else_branch=CHOSEN[1]),
         cast("w8", "w", F), make_node("Add", ["x", "w"], ["y"])],
        "Constant:int8 weights",
    ),
    "rounded": ([cast("x", "x8", I8), cast("x8", "y", F)], "Cast:int8"),
    "rounded_like": (
        [make_node("CastLike", ["x", "W8"], ["x8"]), make_node("CastLike", ["x8", "x"], ["y"])],
        "CastLike:int8",
    ),
    "rounded_and_wider": (
        [cast("x", "x8", U8), cast("x8", "xi", I32), make_node("Neg", ["xi"], ["n"]),
         cast("n", "y", F)],
        "Cast:int8",
    ),
    "rounded_in_a_loop": (
        [make_node("Loop", ["", "", "x"], ["y"], "loop", body=LOOPED)],
        "Cast:int8",
    ),
    "rounded_for_the_next_turn": (
        [make_node("Greater", ["x", "zero"], ["start"]), cast("start", "start8", I8),
         make_node("Loop", ["turns", "", "start8"], ["last", "y"], "loop", body=CARRIED)],
        "Cast:int8",
    ),
    "half_of_no_tensor": (
        [make_node("Shape", ["x"], ["n"]),
         make_node("ConstantOfShape", ["n"], ["h"],
                   value=helper.make_tensor("v", TensorProto.FLOAT16, [1], [0.1])),
         cast("h", "f", F), make_node("Add", ["x", "f"], ["y"])],
        "Cast:float16",
    ),
    "product_of_integers": (
        [cast("x", "xi", I32), cast("W", "wi", I32), make_node("MatMul", ["xi", "wi"], ["yi"]),
         cast("yi", "y", F)],
        "MatMul:int32",
    ),
}  # fmt: skip

WHOLE = {
    "mask_of_bytes": [cast("mask", "m", F), make_node("Mul", ["W", "m"], ["w"]), PRODUCT],
    "looked_up_mask": [IDS, make_node("Gather", ["mask", "ids"], ["m"]), cast("m", "y", F)],
    "few_numbers": [cast("few", "f", F), make_node("Sub", ["x", "f"], ["y"])],
    "indices": [
        IDS, make_node("Gather", ["W8", "ids"], ["to"]), cast("to", "place", I64),
        make_node("Gather", ["W", "place"], ["y"]),
    ],
    "choice": [
        make_node("Greater", ["x", "zero"], ["on"]), cast("on", "m", F), cast("m", "m8", U8),
        cast("m8", "mf", F), make_node("Mul", ["x", "mf"], ["y"]),
    ],
    "bytes_of_bools": [
        make_node("Greater", ["x", "zero"], ["on"]), cast("on", "m8", U8), cast("m8", "y", F)
    ],
    "truncated": [cast("x", "whole", I32), cast("whole", "y", F)],
    "bytes_as_output": [make_node("Add", ["x", "s"], ["y"]), cast("x", "image", U8)],
    "bools_of_bytes": [
        cast("x", "x8", U8), cast("x8", "on", BOOL), cast("on", "y", F)
    ],
}  # fmt: skip


def reduced_ops(nodes: list[Any], kind: int = F) -> tuple[str, ...]:
    weights = {name: np.asarray(value) for name, value in TENSORS.items()}
    model = graph_of(nodes, [("x", kind, ["N", 8])], [("y", F, None)], weights)
    return graph_types(normalise(model, fold=False)).reduced_ops


@pytest.mark.parametrize("way", NARROW)
def test_floats_made_of_narrow_values_are_no_fp32(way: str) -> None:
    nodes, label = NARROW[way]
    assert reduced_ops(nodes) == (label,)


@pytest.mark.parametrize("way", WHOLE)
def test_masks_indices_and_whole_numbers_stay_fp32(way: str) -> None:
    assert reduced_ops(WHOLE[way]) == ()


@pytest.mark.parametrize("kind", [I8, U8, I32, I64, BOOL])
def test_integers_that_are_fed_are_inputs_and_not_rounded(kind: int) -> None:
    assert reduced_ops([cast("x", "xf", F), make_node("MatMul", ["xf", "W"], ["y"])], kind) == ()
