"""int8_fp16: the Q/DQ of int8, everything else as in fp16, and fidelity as int8 has it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers.tiny_graphs import graph_of
from onnx import TensorProto, helper, numpy_helper

from raybench.errors import ModelError, Unsupported
from raybench.experiment import ModelSettings
from raybench.models import conversion
from raybench.models.conversion import UNTYPED
from raybench.models.fidelity import Fidelity, fidelity
from raybench.models.items.batches import BatchPool
from raybench.models.prepare import prepare
from raybench.models.reference import reference_outputs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from raybench.models.model import Model

    Prepared = Callable[..., Model]
    Saved = Callable[..., str]

HALF, FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT


def near_fp32(model: Model, cache: Path) -> Fidelity:
    pool = BatchPool(model.inputs, 4, 7, model.ranges, min_bytes=1)
    session = onnxruntime.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    outputs = dict(zip(names, session.run(names, pool.batch(0)), strict=True))
    found = fidelity(reference_outputs(model, pool, 4, cache), outputs, model.softmax_outputs)
    assert found is not None
    return found


def pairs(path: Path) -> list[tuple[str, str, np.ndarray]]:
    """Return operator, input and scale of each Q and DQ; the names are those of the fp32 values."""
    graph = onnx.load(path).graph
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    return [
        (node.op_type, node.input[0].removesuffix("_half"), values[node.input[1]])
        for node in graph.node
        if node.op_type in ("QuantizeLinear", "DequantizeLinear")
    ]


def drawn(seed: int, *shape: int, scale: float = 0.2) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal(shape) * scale
    return values.astype(np.float32)


def conv_net(opset: int = 17, scale: float = 0.2) -> onnx.ModelProto:
    """Return two convolutions, the second of which reads values of this scale, a pool and a Gemm."""
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], "second", pads=[1, 1, 1, 1]),
        helper.make_node("Tanh", ["c2"], ["t"], "tanh"),
        helper.make_node("GlobalAveragePool", ["t"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flat"),
        helper.make_node("Gemm", ["f", "w3"], ["y"], "dense", transB=1),
    ]
    weights = {
        "w1": drawn(1, 16, 3, 3, 3, scale=scale),
        "w2": drawn(2, 8, 16, 3, 3) * np.float32(0.2 / scale),
        "b2": drawn(3, 8),
        "w3": drawn(4, 5, 8),
    }
    model = graph_of(nodes, [("x", FLOAT, ["N", 3, 8, 8])], [("y", FLOAT, ["N", 5])], weights)
    model.opset_import[0].version = opset
    model.ir_version = 9 if opset > 18 else 8
    return model


@pytest.mark.parametrize("dialect", ["s8s8", "u8s8"])
def test_lenet_has_the_pairs_of_int8_in_half_and_its_fidelity(
    dialect: str, prepared: Prepared, cache: Path
) -> None:
    int8, model = (prepared("lenet", name, dialect) for name in ("int8", "int8_fp16"))
    onnx.checker.check_model(str(model.path), full_check=True)
    for (op, name, scale), (made, value, half) in zip(
        pairs(int8.path), pairs(model.path), strict=True
    ):
        assert (op, name) == (made, value)
        assert half.dtype == (
            np.float32 if name == "data" and op == "QuantizeLinear" else np.float16
        )
        np.testing.assert_allclose(half, scale, rtol=2**-8)
    assert (model.precision, model.dialect) == ("int8_fp16", dialect)
    assert model.quantised_macs_frac == int8.quantised_macs_frac == 1.0
    assert model.reduced_ops == ("Conv:int8", "Gemm:int8", "MaxPool:float16", "Relu:float16")
    assert model.conversion.kept_fp32_ops == ("Softmax",)
    assert model.conversion.calibration == int8.conversion.calibration
    assert model.conversion.judged_sqnr_db == int8.conversion.judged_sqnr_db
    rounded_db = model.conversion.rounded_sqnr_db
    assert rounded_db is not None
    assert rounded_db > 30
    assert near_fp32(model, cache).sqnr_db == pytest.approx(near_fp32(int8, cache).sqnr_db, abs=2)


def test_all_but_the_ends_of_a_network_is_half_or_int8(saved: Saved, cache: Path) -> None:
    model = prepare(saved(conv_net()), ModelSettings(), "int8_fp16", "s8s8", cache)
    proto = onnx.shape_inference.infer_shapes(onnx.load(model.path))
    kinds = {value.name: value.type.tensor_type.elem_type for value in proto.graph.value_info}
    ends = {"x", "y"}
    floats = {
        name
        for node in proto.graph.node
        for name in (*node.input, *node.output)
        if kinds.get(name) == FLOAT
    }
    assert floats <= ends
    assert {t.name for t in proto.graph.initializer if t.data_type == FLOAT} == {"x_scale"}
    assert Counter(node.op_type for node in proto.graph.node)["Cast"] == 1  # of the output
    assert near_fp32(model, cache).sqnr_db > 25


def test_the_int8_graph_lies_beside_it_for_a_library_that_chooses_types(
    saved: Saved, cache: Path
) -> None:
    path = saved(conv_net())
    int8, model = (
        prepare(path, ModelSettings(), name, "s8s8", cache) for name in ("int8", "int8_fp16")
    )
    assert onnx.load(model.path.with_name(UNTYPED)) == onnx.load(int8.path)
    assert onnx.load(model.path).opset_import[0].version == 19
    assert onnx.load(int8.path).opset_import[0].version == 17


def test_values_that_half_cannot_hold_stay_fp32_on_both_sides_of_their_pairs(
    saved: Saved, cache: Path
) -> None:
    model = prepare(saved(conv_net(scale=2e5)), ModelSettings(), "int8_fp16", "s8s8", cache)
    assert set(model.conversion.fp32_nodes) == {"first", "relu", "second"}
    proto = onnx.load(model.path)
    makers = {node.output[0]: node for node in proto.graph.node}
    weights = {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
    types = {}
    for node in proto.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            sources = [makers[name] for name in node.input[:2]]
            assert {source.op_type for source in sources} == {"DequantizeLinear"}
            types[node.name] = {weights[source.input[1]] for source in sources}
    assert types == {"first": {FLOAT}, "second": {FLOAT}, "dense": {HALF}}
    assert {"Conv", "Relu"} <= set(model.conversion.kept_fp32_ops)
    assert near_fp32(model, cache).sqnr_db > 20


def test_pairs_whose_scale_half_would_spoil_stay_fp32(saved: Saved, cache: Path) -> None:
    net = conv_net(scale=2e-5)
    model = prepare(saved(net), ModelSettings(), "int8_fp16", "s8s8", cache)
    assert {"first", "second"} <= {
        node.name
        for node in onnx.load(model.path).graph.node
        if node.op_type == "Conv" and not node.output[0].endswith("_half")
    }
    assert near_fp32(model, cache).sqnr_db > 20


def test_a_graph_of_products_alone_is_int8(saved: Saved, cache: Path) -> None:
    nodes = [helper.make_node("Gemm", ["x", "w"], ["y"], "dense")]
    proto = graph_of(
        nodes, [("x", FLOAT, ["N", 8])], [("y", FLOAT, ["N", 4])], {"w": drawn(5, 8, 4)}
    )
    with pytest.raises(Unsupported, match=r"int8_fp16 is int8\. Use precision=int8\."):
        prepare(saved(proto), ModelSettings(), "int8_fp16", "s8s8", cache)


def test_a_file_that_comes_in_both_types_is_no_fp32_graph(saved: Saved, cache: Path) -> None:
    made = prepare(saved(conv_net()), ModelSettings(), "int8_fp16", "s8s8", cache)
    for name in ("int8_fp16", "int8"):
        with pytest.raises(ModelError, match="is not an fp32 graph"):
            prepare(str(made.path), ModelSettings(), name, "s8s8", cache)
    as_is = prepare(str(made.path), ModelSettings(), "as_is", None, cache)
    assert as_is.reduced_ops == made.reduced_ops
    assert as_is.quantised_macs_frac == 1.0


@pytest.mark.parametrize("opset", [17, 19])
def test_a_graph_too_large_for_one_file_needs_an_opset_with_half_scales(
    opset: int, saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion, "EXTERNAL_ABOVE_BYTES", 0)
    path, cache = saved(conv_net(opset)), tmp_path / "cache"
    if opset < 19:
        with pytest.raises(Unsupported, match="needs opset 19 and this large graph has 17"):
            prepare(path, ModelSettings(), "int8_fp16", "s8s8", cache)
        return
    model = prepare(path, ModelSettings(), "int8_fp16", "s8s8", cache)
    assert len(list(model.path.parent.iterdir())) == 5  # two graphs with weights, sidecar
    assert near_fp32(model, cache).sqnr_db > 25
