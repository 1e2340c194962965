"""What a graph computes in, whatever exporter reduced it and wherever in the graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from helpers.tiny_graphs import graph_of, tiny_bert, tiny_conv
from onnx import TensorProto, helper
from onnx.helper import make_node, make_opsetid

from raybench.errors import ModelError, Unsupported
from raybench.experiment import ModelSettings
from raybench.models.graph.graph_types import graph_types
from raybench.models.graph.normal_form import normalise
from raybench.models.passes.precision import refuse_unproven
from raybench.models.prepare import prepare
from raybench.models.source import check

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from raybench.models.graph.graph_types import GraphTypes
    from raybench.models.model import Model

F, F16 = TensorProto.FLOAT, TensorProto.FLOAT16
X, Y = [("x", F, ["N", 8])], [("y", F, ["N", 8])]
W8 = np.arange(64, dtype=np.int8).reshape(8, 8)
W, B = W8.astype(np.float32), np.zeros(8, np.float32)
ONE, ZERO, ZERO_U = np.float32(0.1), np.int8(0), np.uint8(0)
SCALES = {"s": ONE, "z": ZERO, "zu": ZERO_U}


def graph(nodes: list[Any], weights: dict[str, Any], **changes: Any) -> onnx.ModelProto:
    model = graph_of(nodes, X, Y, {name: np.asarray(w) for name, w in weights.items()})
    model.opset_import.append(make_opsetid("com.microsoft", 1))
    model.opset_import.append(make_opsetid("com.example", 1))
    return model


def types(nodes: list[Any], weights: dict[str, Any]) -> GraphTypes:
    return graph_types(normalise(graph(nodes, weights), fold=False))


def ms(kind: str, inputs: list[str], **attributes: Any) -> onnx.NodeProto:
    return make_node(kind, inputs, ["y"], "it", domain="com.microsoft", **attributes)


DQ_X = [
    make_node("QuantizeLinear", ["x", "s", "zu"], ["xq"]),
    make_node("DequantizeLinear", ["xq", "s", "zu"], ["xd"]),
]
DQ_W = make_node("DequantizeLinear", ["W8", "s", "z"], ["wd"])
HALF_X = make_node("Cast", ["x"], ["xh"], to=F16)
FLOAT_Y = make_node("Cast", ["yh"], ["y"], to=F)


@pytest.mark.parametrize(
    ("nodes", "weights", "ops", "precision"),
    [
        ([make_node("MatMul", ["x", "W"], ["y"])], {"W": W}, (), "fp32"),
        ([ms("DynamicQuantizeMatMul", ["x", "W8", "s"])], {"W8": W8, "s": ONE},
         ("DynamicQuantizeMatMul:int8",), "int8"),
        ([ms("QAttention", ["x", "W8", "b", "s", "s"])], {"W8": W8, "b": B, "s": ONE},
         ("QAttention:int8",), "int8"),
        ([make_node("QuantMatMul", ["x", "W8"], ["y"], domain="com.example")], {"W8": W8},
         ("QuantMatMul:int8",), "int8"),
        ([ms("MatMulNBits", ["x", "W8", "s"], bits=4, K=8, N=8)], {"W8": W8, "s": ONE},
         ("MatMulNBits:int4 weights",), "mixed"),
        ([*DQ_X, DQ_W, make_node("MatMul", ["xd", "wd"], ["y"])], {"W8": W8, **SCALES},
         ("MatMul:int8",), "int8"),
        ([*DQ_X, DQ_W, make_node("Transpose", ["wd"], ["wt"], perm=[1, 0]),
          make_node("Gemm", ["xd", "wt", "b"], ["y"])], {"W8": W8, "b": B, **SCALES},
         ("Gemm:int8",), "int8"),
        ([DQ_W, make_node("MatMul", ["x", "wd"], ["y"])], {"W8": W8, "s": ONE, "z": ZERO},
         ("MatMul:int8 weights",), "int8_weights"),
        ([make_node("Cast", ["W8"], ["wf"], to=F), make_node("Mul", ["wf", "s"], ["ws"]),
          make_node("MatMul", ["x", "ws"], ["y"])], {"W8": W8, "s": ONE},
         ("MatMul:int8 weights",), "int8_weights"),
        ([*DQ_X, make_node("Relu", ["xd"], ["y"])], SCALES,
         ("DequantizeLinear:int8", "QuantizeLinear:int8"), "rounded"),
        ([HALF_X, make_node("Constant", [], ["W"], value=onnx.numpy_helper.from_array(W.astype(np.float16))),
          make_node("MatMul", ["xh", "W"], ["yh"]), FLOAT_Y], {}, ("MatMul:float16",), "fp16"),
        ([HALF_X, ms("FastGelu", ["xh"]), make_node("Identity", ["y"], ["y2"])], {},
         ("FastGelu:float16",), "fp16"),
        ([make_node("Cast", ["x"], ["x8"], to=TensorProto.FLOAT8E4M3FN),
          make_node("Cast", ["x8"], ["y"], to=F)], {}, ("Cast:float8",), "rounded"),
        ([make_node("Cast", ["x"], ["xb"], to=TensorProto.BFLOAT16),
          make_node("Relu", ["xb"], ["yh"]), FLOAT_Y], {}, ("Relu:bfloat16",), "bf16"),
        ([make_node("Cast", ["x"], ["xd"], to=TensorProto.DOUBLE), make_node("Erf", ["xd"], ["yh"]),
          FLOAT_Y], {}, (), "fp32"),
        ([make_node("Shape", ["x"], ["n"]), make_node("Cast", ["W8"], ["k"], to=TensorProto.INT64),
          make_node("Relu", ["x"], ["y"])], {"W8": W8}, (), "fp32"),
    ],
)  # fmt: skip
def test_operators_are_found_with_the_type_that_they_compute_in(
    nodes: list[Any], weights: dict[str, Any], ops: tuple[str, ...], precision: str
) -> None:
    found = types(nodes, weights)
    assert found.reduced_ops == ops
    assert found.precision == precision


def in_branch(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    """A graph whose nodes of interest, from x to t, are in one branch of an If."""
    t, e = (helper.make_tensor_value_info(name, F, None) for name in "te")
    then = helper.make_graph(nodes, "then", [], [t])
    other = helper.make_graph([make_node("Identity", ["x"], ["e"])], "else", [], [e])
    choose = make_node("If", ["c"], ["y"], "choose", then_branch=then, else_branch=other)
    return graph([choose], {"c": np.array(True), "W8": W8, "b": B, **SCALES})


def test_subgraphs_are_read_and_named() -> None:
    found = graph_types(
        normalise(
            in_branch(
                make_node("Cast", ["x"], ["h"], to=F16),
                make_node("Relu", ["h"], ["r"], "half"),
                make_node("Cast", ["r"], ["t"], to=F),
            )
        )
    )
    assert found.precision == "fp16"
    assert found.first is not None
    assert found.first.in_words == (
        "node 'half' in a subgraph of If 'choose' (Relu) computes in float16"
    )
    outside = in_branch(DQ_W, *DQ_X, make_node("MatMul", ["xd", "wd"], ["t"], "mm"))
    assert graph_types(normalise(outside)).reduced_ops == ("MatMul:int8",)


def test_the_share_of_the_macs_is_that_with_integers_on_both_sides() -> None:
    half_and_half = [
        *DQ_X, DQ_W, make_node("MatMul", ["xd", "wd"], ["m"]),
        make_node("MatMul", ["m", "W"], ["n"]), make_node("MatMul", ["n", "wd"], ["y"]),
    ]  # fmt: skip
    found = types(half_and_half, {"W8": W8, "W": W, **SCALES})
    assert found.quantised_macs_frac == pytest.approx(1 / 3)
    assert types([make_node("MatMul", ["x", "W"], ["y"])], {"W": W}).quantised_macs_frac == 0
    hidden = types([ms("DynamicQuantizeMatMul", ["x", "W8", "s"])], {"W8": W8, "s": ONE})
    assert hidden.quantised_macs_frac is None
    beside = [*half_and_half[:-1], ms("FusedMatMul", ["n", "W"])]
    assert types(beside, {"W8": W8, "W": W, **SCALES}).quantised_macs_frac is None


def test_a_graph_of_int8_and_half_has_a_name_and_other_mixtures_are_mixed() -> None:
    half = [
        HALF_X,
        make_node("MatMul", ["xh", "Wh"], ["mh"]),
        make_node("Cast", ["mh"], ["n"], to=F),
    ]
    int8 = [*DQ_X, DQ_W, make_node("MatMul", ["xd", "wd"], ["m"])]
    sums = [make_node("Add", ["m", "n"], ["y"])]
    found = types([*half, *int8, *sums], {"Wh": W.astype(np.float16), "W8": W8, **SCALES})
    assert found.reduced_ops == ("MatMul:float16", "MatMul:int8")
    assert found.precision == "int8_fp16"
    double = [
        make_node("Cast", ["x"], ["x64"], to=TensorProto.DOUBLE),
        make_node("MatMul", ["x64", "W64"], ["m64"]),
    ]
    weights = {"Wh": W.astype(np.float16), "W8": W8, "W64": W.astype(np.float64), **SCALES}
    assert types([*half, *int8, *double, *sums], weights).precision == "mixed"


def test_a_product_with_int8_weights_alone_is_a_product_of_floats() -> None:
    one_of_two = [
        *DQ_X, DQ_W, make_node("MatMul", ["xd", "wd"], ["m"]),
        make_node("Gemm", ["m", "wd"], ["y"]),
    ]  # fmt: skip
    found = types(one_of_two, {"W8": W8, **SCALES})
    assert found.floats == ("Gemm",)
    assert found.quantised_macs_frac == 0.5


def test_a_quantised_product_of_constants_has_no_part_in_the_share() -> None:
    found = types(
        [
            *DQ_X, DQ_W, make_node("MatMul", ["xd", "wd"], ["m"]),
            make_node("MatMul", ["wd", "wd"], ["anchors"]), make_node("MatMul", ["m", "W"], ["y"]),
        ],
        {"W8": W8, "W": W, **SCALES},
    )  # fmt: skip
    assert found.quantised_macs_frac == 0.5


def test_branches_of_which_one_runs_are_no_more_than_the_whole() -> None:
    branches = {}
    for name in ("then_branch", "else_branch"):
        product = make_node("MatMul", ["xd", "wd"], [f"{name}_y"], name)
        made = helper.make_tensor_value_info(f"{name}_y", F, None)
        branches[name] = helper.make_graph([product], name, [], [made])
    nodes = [*DQ_X, DQ_W, make_node("If", ["c"], ["y"], "choose", **branches)]
    found = types(nodes, {"c": np.array(True), "W8": W8, **SCALES})
    assert len(found.nodes) == 2
    assert found.quantised_macs_frac == 1.0


def test_layers_that_leave_out_their_first_output_count_each() -> None:
    found = types(
        [
            *DQ_X, DQ_W, make_node("MatMul", ["xd", "wd"], ["m"]),
            make_node("Unsqueeze", ["m", "one"], ["m3"]),
            make_node("LSTM", ["m3", "LW", "LR"], ["", "h"], hidden_size=2),
            make_node("LSTM", ["m3", "LW", "LR"], ["", "g"], hidden_size=2),
            make_node("Add", ["h", "g"], ["y"]),
        ],
        {"W8": W8, **SCALES, **THEIRS},
    )  # fmt: skip
    matmul, lstm = 8 * 8, 8 * 8 + 8 * 2
    assert found.quantised_macs_frac == pytest.approx(matmul / (matmul + 2 * lstm))


# --- files ----------------------------------------------------------------------------------------


def dynamic() -> onnx.ModelProto:
    return graph([ms("DynamicQuantizeMatMul", ["x", "W8", "s"])], {"W8": W8, "s": ONE})


def test_a_file_that_comes_reduced_is_refused_and_runs_as_it_is_by_the_advice(
    saved: Callable[..., str], cache: Path
) -> None:
    path = saved(dynamic())
    with pytest.raises(ModelError) as caught:
        check(path, ModelSettings(), ["as_is", "int8"])
    assert "node 'it' (DynamicQuantizeMatMul) computes in int8" in str(caught.value)
    assert "run the file as it is by precision=as_is" in str(caught.value)
    check(path, ModelSettings(), ["as_is"])
    model = prepare(path, ModelSettings(), "as_is", None, cache, rewrite_lrn=True)
    assert (model.precision, model.dialect) == ("as_is", None)
    assert model.reduced_ops == ("DynamicQuantizeMatMul:int8",)
    assert model.quantised_macs_frac is model.macs_per_item is None
    nodes = [(node.op_type, node.name) for node in onnx.load(model.path).graph.node]
    assert nodes == [("DynamicQuantizeMatMul", "it")]


def test_weights_restored_from_integers_are_not_folded_away(
    saved: Callable[..., str], cache: Path
) -> None:
    restored = [
        make_node("Cast", ["W8"], ["wf"], to=F), make_node("Mul", ["wf", "s"], ["ws"]),
        make_node("MatMul", ["x", "ws"], ["y"], "mm"),
    ]  # fmt: skip
    path = saved(graph(restored, {"W8": W8, "s": ONE}))
    with pytest.raises(ModelError, match=r"node 'mm' \(MatMul\) has int8 weights"):
        check(path, ModelSettings())
    model = prepare(path, ModelSettings(), "as_is", None, cache)
    kinds = [node.op_type for node in onnx.load(model.path).graph.node]
    assert kinds == ["Cast", "Mul", "MatMul"]


def test_an_fp32_graph_has_nothing_to_run_as_it_is(saved: Callable[..., str]) -> None:
    for name in (saved(tiny_conv()), "alexnet"):
        with pytest.raises(ModelError, match=r"computes in fp32.*Use precision=fp32"):
            check(name, ModelSettings(), ["fp32", "as_is"])


def test_half_inputs_are_taken_as_they_are(saved: Callable[..., str], cache: Path) -> None:
    half = graph_of(
        [make_node("Relu", ["x"], ["y"])], [("x", F16, ["N", 4])], [("y", F16, ["N", 4])]
    )
    model = prepare(saved(half), ModelSettings(), "as_is", None, cache)
    assert (model.inputs[0].dtype, model.reduced_ops) == ("float16", ("Relu:float16",))


UNCHANGED = {
    "none": [make_node("Relu", ["x"], ["y"])],
    "LSTM": [
        make_node("Unsqueeze", ["x", "one"], ["x3"]),
        make_node("LSTM", ["x3", "LW", "LR"], ["h"], hidden_size=2),
        make_node("ReduceSum", ["h", "one"], ["y"]),
    ],
    "ConvTranspose": [
        make_node("Reshape", ["x", "to"], ["x4"]),
        make_node("ConvTranspose", ["x4", "TW"], ["c"]),
        make_node("Flatten", ["c"], ["y"]),
    ],
}
THEIRS = {
    "one": np.array([1]), "to": np.array([-1, 8, 1, 1]), "TW": np.ones((8, 2, 1, 1), np.float32),
    "LW": np.ones((1, 8, 8), np.float32), "LR": np.ones((1, 8, 2), np.float32),
}  # fmt: skip


@pytest.mark.parametrize("dialect", ["s8s8", "u8s8"])
@pytest.mark.parametrize("kind", UNCHANGED)
def test_a_pass_that_changes_nothing_is_unsupported(
    kind: str, dialect: str, saved: Callable[..., str], cache: Path
) -> None:
    path = saved(graph(UNCHANGED[kind], THEIRS))
    with pytest.raises(Unsupported, match=f"operators with weights: {kind}.*Use precision=fp32"):
        prepare(path, ModelSettings(), "int8", dialect, cache)


def test_a_graph_that_does_not_compute_in_what_it_was_made_for_is_unsupported() -> None:
    lstm = types(UNCHANGED["LSTM"], THEIRS)
    with pytest.raises(Unsupported, match=r"compute in int8: .*\(LSTM\) have no int8 form"):
        refuse_unproven("int8", lstm)
    rounded = types([*DQ_X, make_node("Relu", ["xd"], ["y"])], SCALES)
    with pytest.raises(
        Unsupported, match=r"compute in int8: none of its operators multiplies by weights"
    ):
        refuse_unproven("int8", rounded)
    moved = types([make_node("Identity", ["x"], ["y"])], {})
    with pytest.raises(Unsupported, match="compute in fp16: its operators only move values"):
        refuse_unproven("fp16", moved)
    with pytest.raises(Unsupported, match=r"compute in fp16: .*\(Mul\) stay in fp32"):
        refuse_unproven("fp16", types([make_node("Relu", ["x"], ["y"])], {}), ["Mul"])
    weights_alone = types([DQ_W, make_node("MatMul", ["x", "wd"], ["y"])], {"W8": W8, **SCALES})
    with pytest.raises(Unsupported, match=r"int8 graph .* would compute in MatMul:int8 weights"):
        refuse_unproven("int8", weights_alone)


def test_a_prepared_model_says_what_it_computes_in(
    saved: Callable[..., str], cache: Path, prepared: Callable[..., Model]
) -> None:
    path, sequence = saved(tiny_bert()), ModelSettings(shapes={"sequence": 16})
    fp32 = prepare(path, sequence, "fp32", None, cache)
    assert (fp32.reduced_ops, fp32.quantised_macs_frac) == ((), 0.0)
    tf32 = prepare(path, sequence, "tf32", None, cache)
    assert (tf32.reduced_ops, tf32.quantised_macs_frac) == (None, 0.0)
    int8 = prepare(path, sequence, "int8", "s8s8", cache)
    assert (int8.reduced_ops, int8.quantised_macs_frac) == (("Gemm:int8",), 1.0)
    half = prepare(path, sequence, "fp16", None, cache)
    assert half.reduced_ops is not None
    assert "Gemm:float16" in half.reduced_ops
    assert half.quantised_macs_frac == 0.0
    googlenet = prepared("googlenet", "int8", "u8s8", rewrite_lrn=True)
    assert googlenet.reduced_ops is not None
    assert {"Conv:int8", "Gemm:int8"} <= set(googlenet.reduced_ops)
    assert googlenet.quantised_macs_frac == 1.0


def test_half_by_castlike_is_found_as_half_by_cast_is() -> None:
    like = [
        make_node("CastLike", ["x", "half"], ["r"]),
        make_node("CastLike", ["r", "W"], ["s"]),
        make_node("MatMul", ["s", "W"], ["y"]),
    ]
    found = types(like, {"W": W, "half": np.float16(1)})
    assert found.precision == "rounded"
    assert found.first is not None
    assert found.first.in_words == "node 'r' (CastLike) rounds to float16"


CODES = W8.view(np.uint8) % 8
MADE_OF_INTEGERS = {
    "castlike": [make_node("CastLike", ["W8", "x"], ["wf"]), make_node("Mul", ["wf", "s"], ["w"])],
    "bits": [
        make_node("BitShift", ["codes", "two"], ["shifted"], direction="RIGHT"),
        make_node("Cast", ["shifted"], ["w"], to=F),
    ],
    "parts": [
        make_node("Split", ["W8"], ["a", "b"], axis=0),
        make_node("Concat", ["b", "a"], ["c"], axis=0),
        make_node("Cast", ["c"], ["w"], to=F),
    ],
    "sign_and_size": [
        make_node("Cast", ["W8"], ["wf"], to=F),
        make_node("Abs", ["wf"], ["size"]),
        make_node("Sign", ["wf"], ["sign"]),
        make_node("Mul", ["size", "sign"], ["w"]),
    ],
    "code_book": [
        make_node("Cast", ["codes"], ["index"], to=TensorProto.INT32),
        make_node("Gather", ["B", "index"], ["w"]),
    ],
}


@pytest.mark.parametrize("way", MADE_OF_INTEGERS)
def test_weights_are_found_however_they_are_made_of_integers(way: str) -> None:
    nodes = [*MADE_OF_INTEGERS[way], make_node("MatMul", ["x", "w"], ["y"])]
    found = types(nodes, {"W8": W8, "codes": CODES, "B": B, "two": np.uint8(2), "s": ONE})
    assert found.reduced_ops == ("MatMul:int8 weights",)


def test_a_table_of_integers_is_weights_and_a_mask_is_none() -> None:
    table = [
        make_node("Cast", ["x"], ["ids"], to=TensorProto.INT64),
        make_node("Gather", ["W8", "ids"], ["rows"]),
        make_node("Cast", ["rows"], ["y"], to=F),
    ]
    assert types(table, {"W8": W8}).reduced_ops == ("Constant:int8 weights",)
    mask = [
        make_node("Cast", ["codes"], ["on"], to=TensorProto.BOOL),
        make_node("Where", ["on", "W", "zero"], ["w"]),
        make_node("MatMul", ["x", "w"], ["y"]),
    ]
    assert types(mask, {"codes": CODES, "W": W, "zero": np.float32(0)}).reduced_ops == ()


def test_activations_that_are_cast_to_int8_and_back_are_rounded() -> None:
    there, back = (
        make_node("Cast", ["x"], ["i"], to=TensorProto.INT8),
        make_node("Cast", ["i"], ["f"], to=F),
    )
    found = types([there, back, make_node("MatMul", ["f", "W"], ["y"])], {"W": W})
    assert (found.precision, found.reduced_ops) == ("rounded", ("Cast:int8",))
    mask = [
        make_node("Greater", ["x", "s"], ["above"]),
        make_node("Cast", ["above"], ["i"], to=TensorProto.UINT8),
        make_node("Cast", ["i"], ["y"], to=F),
    ]
    assert types(mask, {"s": ONE}).reduced_ops == ()


def test_products_of_floats_in_other_domains_are_named_where_the_share_is_unknown(
    saved: Callable[..., str], cache: Path
) -> None:
    nodes = [
        *DQ_X,
        DQ_W,
        make_node("MatMul", ["xd", "wd"], ["h"]),
        ms("FusedMatMul", ["h", "W"], transB=1),
    ]
    weights = {"W8": W8, "W": W, **SCALES}
    mixed = types(nodes, weights)
    assert mixed.precision == "int8"
    assert mixed.quantised_macs_frac is None
    (note,) = mixed.notes
    assert "FusedMatMul" in note
    model = prepare(saved(graph(nodes, weights)), ModelSettings(), "as_is", None, cache)
    assert note in model.count_notes


def test_what_follows_from_constants_has_no_part_in_the_share() -> None:
    found = types(
        [
            *DQ_X,
            DQ_W,
            make_node("MatMul", ["xd", "wd"], ["y"]),
            make_node("MatMul", ["W", "W"], ["anchors"]),
        ],
        {"W8": W8, "W": W, **SCALES},
    )
    assert found.quantised_macs_frac == 1.0
    assert found.notes == ()
