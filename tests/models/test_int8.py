"""Int8 of graphs as exporters write them: what is quantised, and how near to fp32 it stays."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx.version_converter
import onnxruntime
import pytest
from helpers.tiny_graphs import tiny_conv
from onnx import TensorProto, helper, numpy_helper

from raybench.errors import Unsupported
from raybench.experiment import ModelSettings
from raybench.machine import devices
from raybench.models.fidelity import fidelity
from raybench.models.items.batches import BatchPool
from raybench.models.passes import int8
from raybench.models.passes.calibration import Calibration, _Ends
from raybench.models.passes.gemm import plain_gemms
from raybench.models.passes.int8_flow import last_products, nodes_for_int8, patch_convolutions
from raybench.models.prepare import prepare
from raybench.models.reference import reference_outputs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from raybench.models.model import Model

    Saved = Callable[..., str]

DIALECTS = ("u8s8", "u8s7", "s8s8")
SATURATES = devices.saturates_int8()


def weight(name: str, *shape: int, scale: float = 0.2) -> onnx.TensorProto:
    """Return a constant whose values follow from its test and its name, whatever ran before.

    Each test has graphs of its own: the session's cache knows those of the others.
    """
    seed = f"{os.environ['PYTEST_CURRENT_TEST']} {name}"
    return constant(name, np.random.default_rng(list(seed.encode())).standard_normal(shape) * scale)


def constant(name: str, value: object) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(value, np.float32), name)


def graph(
    nodes: Sequence[tuple[str, str, str] | onnx.NodeProto],
    weights: Sequence[onnx.TensorProto],
    item: Sequence[int],
) -> onnx.ModelProto:
    """Return a graph from x to y; a node is (op, inputs, output), or ready where it has attributes."""
    made = [
        node
        if isinstance(node, onnx.NodeProto)
        else helper.make_node(node[0], node[1].split(), [node[2]])
        for node in nodes
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *item])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    proto = helper.make_graph(made, "g", [x], [y], list(weights))
    return helper.make_model(proto, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def mean(name: str, output: str) -> onnx.NodeProto:
    return helper.make_node("ReduceMean", [name], [output], axes=[-1])


def conv(inputs: str, output: str) -> onnx.NodeProto:
    return helper.make_node("Conv", inputs.split(), [output], pads=[1, 1, 1, 1])


def bias_added() -> onnx.ModelProto:
    nodes = [conv("x w", "c"), ("Add", "c b", "s"), ("Relu", "s", "y")]
    return graph(nodes, [weight("w", 6, 4, 3, 3), weight("b", 1, 6, 1, 1)], (4, 8, 8))


def product_and_bias() -> onnx.ModelProto:
    nodes = [("MatMul", "x w", "m"), ("Add", "m b", "s"), ("Relu", "s", "y")]
    return graph(nodes, [weight("w", 8, 8), weight("b", 8)], (5, 8))


def layer_norm() -> onnx.ModelProto:
    nodes = [
        ("MatMul", "x w1", "h0"),
        ("Mul", "h0 s", "h"),
        mean("h", "mu"),
        ("Sub", "h mu", "d"),
        ("Mul", "d d", "sq"),
        mean("sq", "v"),
        ("Add", "v eps", "ve"),
        ("Sqrt", "ve", "sd"),
        ("Div", "d sd", "n"),
        ("MatMul", "n w2", "y"),
    ]
    scales = constant("s", np.logspace(-2, 1, 16)[None, :, None])
    weights = [weight("w1", 64, 64), weight("w2", 64, 64), scales, constant("eps", 1e-6)]
    return graph(nodes, weights, (16, 64))


def gelu() -> onnx.ModelProto:
    nodes = [
        ("MatMul", "x w1", "h"),
        ("Mul", "h h", "h2"),
        ("Mul", "h2 h", "h3"),
        ("Mul", "h3 k", "t1"),
        ("Add", "h t1", "t2"),
        ("Mul", "t2 r", "t3"),
        ("Tanh", "t3", "t4"),
        ("Add", "t4 one", "t5"),
        ("Mul", "h t5", "t6"),
        ("Mul", "t6 half", "g"),
        ("MatMul", "g w2", "y"),
    ]
    numbers = {"k": 0.044715, "r": 0.7978845608, "one": 1.0, "half": 0.5}
    weights = [weight("w1", 64, 256), weight("w2", 256, 64)]
    weights += [constant(name, value) for name, value in numbers.items()]
    return graph(nodes, weights, (16, 64))


def on_cpu(model: Model, cache: Path) -> float:
    pool = BatchPool(model.inputs, 8, 7, model.ranges, min_bytes=1)
    session = onnxruntime.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
    outputs = {"y": session.run(["y"], pool.batch(0))[0]}
    near = fidelity(reference_outputs(model, pool, 8, cache), outputs, model.softmax_outputs)
    assert near is not None
    return near.sqnr_db


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("make", [bias_added, product_and_bias, layer_norm, gelu])
def test_graphs_of_single_ops_stay_near_fp32(
    make: Callable[[], onnx.ModelProto], dialect: str, saved: Saved, cache: Path
) -> None:
    model = prepare(saved(make()), ModelSettings(), "int8", dialect, cache)
    kinds = [node.op_type for node in onnx.load(model.path).graph.node]
    assert "DequantizeLinear" in kinds
    if not (dialect == "u8s8" and SATURATES):
        assert on_cpu(model, cache) >= 30


def test_only_what_comes_from_a_convolution_is_passed_on_in_int8() -> None:
    kinds = ("Conv", "Gemm", "MatMul", "Add", "Relu", "Concat")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "conv"),
        helper.make_node("Add", ["a", "b"], ["ab"], "bias"),
        helper.make_node("Conv", ["ab", "w"], ["c"], "conv2"),
        helper.make_node("Add", ["a", "c"], ["r"], "residual"),
        helper.make_node("Relu", ["r"], ["rr"], "relu"),
        helper.make_node("Sigmoid", ["rr"], ["g"], "gate"),
        helper.make_node("Concat", ["rr", "g"], ["cc"], "mixed"),
        helper.make_node("MatMul", ["cc", "stack"], ["m"], "three dimensions"),
        helper.make_node("MatMul", ["matrix", "m"], ["m2"], "weights first"),
        helper.make_node("MatMul", ["m2", "m"], ["m3"], "attention"),
        helper.make_node("Add", ["m3", "m"], ["m4"], "stream"),
        helper.make_node("Gemm", ["m4", "m"], ["m5"], "no weights"),
        helper.make_node("MatMul", ["matrix", "matrix"], ["m6"], "constant"),
    ]
    weights = [weight("w", 4, 4, 1, 1), weight("b", 4, 1, 1), weight("stack", 2, 4, 4)]
    proto = helper.make_graph(nodes, "g", [], [], [*weights, weight("matrix", 4, 4)])
    wanted = ["conv", "conv2", "residual", "relu", "attention"]
    assert nodes_for_int8(proto, kinds) == wanted


def test_weights_of_seven_bits_cannot_saturate_a_sum_of_two(saved: Saved, cache: Path) -> None:
    model = prepare(saved(product_and_bias()), ModelSettings(), "int8", "u8s7", cache)
    assert model.dialect == "u8s7"
    tensors = onnx.load(model.path).graph.initializer
    quantised = [numpy_helper.to_array(x) for x in tensors if x.name.endswith("_quantized")]
    largest = max(int(np.abs(x.astype(np.int64)).max()) for x in quantised)
    assert 32 < largest <= 64
    assert 2 * 255 * largest < 2**15


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_graph_without_weights_to_quantise_is_unsupported(
    dialect: str, saved: Saved, cache: Path
) -> None:
    path = saved(graph([("Relu", "x", "y")], [], (4, 8, 8)))
    with pytest.raises(Unsupported, match="Conv, Gemm, MatMul"):
        prepare(path, ModelSettings(), "int8", dialect, cache)


def test_the_patches_of_a_vision_transformer_stay_float_where_they_only_move(
    saved: Saved, cache: Path
) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "patches", strides=[4, 4]),
        helper.make_node("Flatten", ["c"], ["f"], "flat", axis=2),
        helper.make_node("Add", ["f", "p"], ["s"], "positions"),
        helper.make_node("MatMul", ["s", "m"], ["y"], "head"),
    ]
    weights = [weight("w", 8, 3, 4, 4), weight("p", 1, 1), weight("m", 16, 4)]
    proto = helper.make_graph(nodes, "g", [], [], weights)
    assert patch_convolutions(proto) == {"patches"}
    del proto.node[2]
    proto.node[-1].input[0] = "f"
    assert not patch_convolutions(proto)


def test_outliers_are_cut_off_where_that_is_nearer_to_fp32(saved: Saved, cache: Path) -> None:
    """Three values in a hundred thousand that no output reads widen the range a hundred times."""
    values = np.zeros((1, 1, 400, 256))
    values[..., :3, 0] = 100.0
    weights = [constant("outliers", values), weight("w", 256, 8)]
    slices = [constant(name, value) for name, value in (("from", 3), ("to", 400), ("axis", 2))]
    for tensor in slices:
        whole = numpy_helper.to_array(tensor).astype(np.int64).reshape(1)
        weights.append(numpy_helper.from_array(whole, tensor.name))
    nodes = [("Add", "x outliers", "a"), ("MatMul", "a w", "m"), ("Slice", "m from to axis", "y")]
    path = saved(graph(nodes, weights, (1, 400, 256)))
    model = prepare(path, ModelSettings(), "int8", "s8s8", cache)
    assert model.conversion.calibration == "percentile 99.99"
    assert on_cpu(model, cache) >= 35


def test_a_percentile_is_cut_evenly_at_both_ends() -> None:
    values = np.random.default_rng(0).permutation(3000).astype(np.float32)
    seen = _Ends.of(values[:1000], 10).with_more(_Ends.of(values[1000:], 10))
    calibration = Calibration({"a": seen}, [], [], ())
    assert calibration.ranges("percentile 99.9") == {"a": (1.0, 2998.0)}
    assert calibration.ranges("minmax") == {"a": (0.0, 2999.0)}


def test_the_fidelity_that_is_recorded_is_that_of_items_like_those_that_are_streamed(
    saved: Saved, cache: Path
) -> None:
    model = prepare(saved(product_and_bias()), ModelSettings(), "int8", "s8s8", cache)
    assert model.conversion.judged_sqnr_db == pytest.approx(on_cpu(model, cache), abs=3)


@pytest.mark.parametrize(
    ("by_method", "without_last", "tried", "chosen"),
    [
        ([36.0], 50.0, 1, "minmax"),  # good: no other could gain much
        ([20.0, 25.0, 24.8, 21.0], 24.0, 5, "percentile 99.999"),
        ([20.0, 25.0, 24.8, 21.0], 26.0, 5, "without last"),
        ([32.0, 33.0, 32.0], 50.0, 3, "percentile 99.999"),  # it falls: more is cut off by the next
    ],
)
def test_the_range_and_the_last_products_are_chosen_by_fidelity(
    by_method: list[float],
    without_last: float,
    tried: int,
    chosen: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    made: list[str] = []

    def attempt(plan: int8._Plan, _: Calibration, method: str, path: Path) -> int8._Trial:
        whole = "head" in plan.nodes
        made.append(method if whole else "without last")
        sqnr_db = by_method[len(made) - 1] if whole else without_last
        return int8._Trial(made[-1], path, sqnr_db, judged=True)

    monkeypatch.setattr(int8, "_try", attempt)
    plan = int8._Plan(tmp_path, False, "u8s8", ("body", "head"), frozenset({"head"}))
    best = int8._best(plan, Calibration({}, [], [], ()), tmp_path)
    assert (best.method, len(made)) == (chosen, tried)


def test_the_last_products_are_those_that_no_other_comes_after() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "first"),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("MatMul", ["b", "w"], ["c"], "head 1"),
        helper.make_node("MatMul", ["b", "w"], ["d"], "head 2"),
        helper.make_node("Tanh", ["d"], ["e"], "tanh"),
    ]
    proto = helper.make_graph(nodes, "g", [], [], [weight("w", 4, 4)])
    assert last_products(proto, {"first", "head 1", "head 2"}) == {"head 1", "head 2"}
    assert last_products(proto, {"first"}) == {"first"}


def test_a_graph_that_holds_a_batch_of_one_is_calibrated_one_item_at_a_time(
    saved: Callable[..., str], cache: Path
) -> None:
    path = saved(tiny_conv("batch", reshape=(1, 72)))
    model = prepare(path, ModelSettings(), "int8", "u8s8", cache)
    assert "Conv:int8" in (model.reduced_ops or ())


def test_outputs_whose_length_follows_from_the_values_do_not_judge_a_calibration(
    saved: Callable[..., str], cache: Path
) -> None:
    conv = tiny_conv()
    conv.graph.node.append(helper.make_node("NonZero", ["clipped"], ["places"]))
    conv.graph.node.insert(2, helper.make_node("Relu", ["output"], ["clipped"]))
    conv.graph.output.append(helper.make_tensor_value_info("places", TensorProto.INT64, [2, None]))
    model = prepare(saved(conv), ModelSettings(), "int8", "u8s8", cache)
    assert "Conv:int8" in (model.reduced_ops or ())


def test_a_graph_that_onnx_runtime_cannot_run_is_left_to_the_engine(
    saved: Saved, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> float:
        raise RuntimeError("no kernel")

    monkeypatch.setattr(Calibration, "sqnr_db", fail)
    model = prepare(saved(product_and_bias()), ModelSettings(), "int8", "u8s8", cache)
    assert model.conversion.calibration == "minmax"
    assert model.conversion.judged_sqnr_db is None


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_weight_is_rounded_for_int8_products_alone(
    dialect: str, saved: Saved, tmp_path: Path
) -> None:
    nodes = [("MatMul", "x w", "m"), ("MatMul", "w w", "anchors"), ("Add", "m anchors", "y")]
    model = prepare(
        saved(graph(nodes, [weight("w", 8, 8)], (8, 8))), ModelSettings(), "int8", dialect, tmp_path
    )
    made = onnx.load(model.path)
    stored = {tensor.name for tensor in made.graph.initializer if tensor.data_type == 1}
    plain = [node for node in made.graph.node if node.op_type == "MatMul"]
    assert any(stored.issuperset(node.input) for node in plain)
    assert model.macs_per_item == 8 * 8 * 8


def test_what_follows_an_operator_of_another_domain_is_quantised(
    saved: Saved, tmp_path: Path
) -> None:
    gelu = helper.make_node("Gelu", ["h"], ["g"], domain="com.microsoft")
    made = graph(
        [("MatMul", "x w", "h"), gelu, ("MatMul", "g v", "y")],
        [weight("w", 8, 8), weight("v", 8, 8)],
        (8, 8),
    )
    made.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    model = prepare(saved(made), ModelSettings(), "int8", "u8s8", tmp_path)
    assert model.reduced_ops == ("MatMul:int8",)


GEMMS = {
    "factors": ({"alpha": 3.0, "beta": 0.5}, (16,)),
    "factors_of_a_transposed_weight": ({"alpha": 0.25, "beta": 2.0, "transB": 1}, (16,)),
    "one_number": ({"alpha": 0.5}, (1,)),
    "a_scalar": ({}, ()),
    "a_row": ({"beta": 0.5}, (1, 16)),
    "no_bias": ({"alpha": 0.125}, None),
}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("form", GEMMS)
def test_any_factors_and_any_bias_of_a_gemm_are_kept(
    form: str, dialect: str, saved: Saved, cache: Path
) -> None:
    attributes, bias = GEMMS[form]
    weights = [weight("w", 16, 16)] + ([] if bias is None else [weight("b", *bias, scale=2.0)])
    inputs = ["x", *(tensor.name for tensor in weights)]
    gemm = helper.make_node("Gemm", inputs, ["y"], **attributes)
    model = prepare(saved(graph([gemm], weights, (16,))), ModelSettings(), "int8", dialect, cache)
    assert model.reduced_ops == ("Gemm:int8",)
    assert on_cpu(model, cache) > 22


def test_a_gemm_with_a_computed_bias_keeps_its_factors(saved: Saved, cache: Path) -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "w", "x"], ["h"], alpha=2.0, beta=0.5),
        helper.make_node("Gemm", ["h", "w", "b"], ["y"], alpha=2.0, beta=0.5),
    ]
    proto = graph(nodes, [weight("w", 16, 16), weight("b", 1, 16)], (16,))
    model = prepare(saved(proto), ModelSettings(), "int8", "u8s8", cache)
    assert model.quantised_macs_frac == 1.0
    assert on_cpu(model, cache) > 18


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("first", ["MatMul", "Gemm"])
def test_products_that_share_a_weight_have_scales_on_their_own_axes(
    first: str, dialect: str, saved: Saved, tmp_path: Path
) -> None:
    last = helper.make_node("Gemm", ["r", "w"], ["y"], transB=1)
    tied = constant(
        "w", np.random.default_rng(1).standard_normal((64, 64)) * np.logspace(-1, 1, 64)
    )
    proto = graph([(first, "x w", "h"), ("Relu", "h", "r"), last], [tied], (64,))
    model = prepare(saved(proto), ModelSettings(), "int8", dialect, tmp_path)
    assert on_cpu(model, tmp_path) > 24


def test_weights_cut_by_the_size_of_an_input_are_no_activations() -> None:
    """The table of relative positions of a speech model, which OpenVINO 2026.4.1 failed on."""
    nodes = [
        ("Shape", "x", "s"),
        ("Slice", "table zero length last", "cut"),
        ("MatMul", "x w", "q"),
        ("MatMul", "q cut", "y"),
    ]
    nodes.insert(1, ("Gather", "s last", "length"))
    proto = graph(nodes, [weight("w", 8, 8), weight("table", 1, 8, 9)], (8, 8))
    for index, node in enumerate(proto.graph.node):
        node.name = f"n{index}"
    proto.graph.initializer.extend(
        [numpy_helper.from_array(np.array([n]), name) for n, name in ((0, "zero"), (2, "last"))]
    )
    assert nodes_for_int8(proto.graph, ["MatMul"]) == ["n3"]


def test_a_bias_with_a_row_for_each_item_has_no_plain_form() -> None:
    gemm = helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="odd")
    proto = graph([gemm], [weight("w", 16, 16), weight("b", 8, 16)], (16,))
    assert plain_gemms(proto) == (set(), {"odd"})
    assert list(proto.graph.node[0].input) == ["x", "w", "b"]


def test_files_of_before_2019_are_raised_to_an_opset_with_int8(saved: Saved, cache: Path) -> None:
    proto = graph([conv("x w", "c"), ("Relu", "c", "y")], [weight("w", 4, 3, 3, 3)], (3, 8, 8))
    proto.ir_version, proto.opset_import[0].version = 3, 7
    model = prepare(saved(proto), ModelSettings(), "int8", "u8s8", cache)
    assert "Conv:int8" in (model.reduced_ops or ())


def test_an_old_graph_that_cannot_be_raised_is_unsupported(
    saved: Saved, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no adapter for it")

    monkeypatch.setattr(onnx.version_converter, "convert_version", fail)
    proto = graph([conv("x w", "y")], [weight("w", 4, 3, 3, 3)], (3, 8, 8))
    proto.opset_import[0].version = 9
    with pytest.raises(Unsupported, match=r"graph has 9.*no adapter for it.*opset 17"):
        prepare(saved(proto), ModelSettings(), "int8", "u8s8", cache)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_weight_that_constants_make_is_quantised(
    dialect: str, saved: Saved, tmp_path: Path
) -> None:
    nodes = [  # a weight and an adapter of low rank
        ("MatMul", "a b", "low"),
        ("Add", "w low", "sum"),
        ("MatMul", "x sum", "y"),
    ]
    weights = [weight("w", 8, 8), weight("a", 8, 2), weight("b", 2, 8)]
    path = saved(graph(nodes, weights, (5, 8)))
    model = prepare(path, ModelSettings(), "int8", dialect, tmp_path)
    assert model.reduced_ops == ("MatMul:int8",)
    assert model.quantised_macs_frac == 1.0
    assert on_cpu(model, tmp_path) > 30
