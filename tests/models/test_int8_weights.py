from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from raybench.errors import Unsupported
from raybench.experiment import ModelSettings
from raybench.models.graph.operations import read_operations
from raybench.models.prepare import prepare
from tests.helpers.tiny_decoder import shrink

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

F = TensorProto.FLOAT
RNG = np.random.default_rng(4)
WEIGHTS = {
    "table": RNG.normal(size=(11, 6)).astype(np.float32),
    "w": RNG.normal(size=(6, 8)).astype(np.float32),
    "both": RNG.normal(size=(8, 8)).astype(np.float32),
    "head": RNG.normal(size=(5, 8)).astype(np.float32),
    "bias": RNG.normal(size=(5,)).astype(np.float32),
    "scale": np.float32(0.5),
}
WEIGHTS["w"][:, 3] = 0  # a channel without a scale of its own


def network() -> onnx.ModelProto:
    """A table, a product, a matrix that is multiplied from both sides, and a Gemm with bias."""
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["a"], name="a"),
        helper.make_node("MatMul", ["a", "w"], ["b"], name="b"),
        helper.make_node("MatMul", ["b", "both"], ["c"], name="c"),
        helper.make_node("MatMul", ["both", "column"], ["d"], name="d"),
        helper.make_node("Mul", ["c", "scale"], ["e"], name="e"),
        helper.make_node("Gemm", ["e", "head", "bias"], ["y"], name="y", transB=1),
    ]
    inputs = [
        helper.make_tensor_value_info("ids", TensorProto.INT64, ["N"]),
        helper.make_tensor_value_info("column", F, ["N", 8, 1]),
    ]
    outputs = [
        helper.make_tensor_value_info("y", F, ["N", 5]),
        helper.make_tensor_value_info("d", F, ["N", 8, 1]),
    ]
    tensors = [numpy_helper.from_array(values, name) for name, values in WEIGHTS.items()]
    graph = helper.make_graph(nodes, "network", inputs, outputs, tensors)
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, ir_version=8, opset_imports=opsets)


def test_matrices_are_int8_by_output_channel_and_all_else_is_as_it_was(
    saved: Callable[..., str], tmp_path: Path
) -> None:
    path = saved(network())
    model = prepare(path, ModelSettings(), "int8_weights", None, tmp_path / "cache")
    stored = read_operations(model.path).weights
    kept = {name for name, values in stored.items() if values.dtype == np.int8 and values.ndim == 2}
    assert kept == {"w.int8", "head.int8"}  # the table has no product, the other one two axes
    assert np.array_equal(stored["both"], WEIGHTS["both"])
    for name, axis in (("w", 1), ("head", 0)):
        scales = np.expand_dims(stored[f"{name}.scale"], 1 - axis)
        assert scales.shape[axis] == WEIGHTS[name].shape[axis]
        error = np.abs(stored[f"{name}.int8"] * scales - WEIGHTS[name])
        assert (error <= scales / 2 + 1e-7).all()
    assert set(model.reduced_ops or ()) == {"Gemm:int8 weights", "MatMul:int8 weights"}
    assert model.quantised_macs_frac == 0.0
    fp32 = prepare(path, ModelSettings(), "fp32", None, tmp_path / "cache")
    assert model.weight_bytes == (fp32.weight_bytes or 0) - 3 * (48 + 40) + 5 * (8 + 5)


def test_a_table_that_is_also_the_last_layer_is_int8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink(monkeypatch)
    settings = ModelSettings(shapes={"context": 4, "new_tokens": 4})
    model = prepare("decoder_125m_step", settings, "int8_weights", None, tmp_path)
    assert "Gather:int8 weights" in (model.reduced_ops or ())
    assert {spec.dtype for spec in model.state_inputs} == {"int64", "float32"}
    stored = read_operations(model.path).weights
    assert stored["embeddings.int8"].shape == (67, 32)
    assert model.weight_bytes is not None
    assert model.parameters < model.weight_bytes < 2 * model.parameters


def test_a_model_without_matrices_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="Nothing in this graph would compute in int8_weights"):
        prepare("copy", ModelSettings(), "int8_weights", None, tmp_path)
