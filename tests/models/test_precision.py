from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers.tiny_graphs import tiny_bert, tiny_conv
from onnx import numpy_helper

from raybench.errors import ConfigError, Refused, Unsupported
from raybench.experiment import ModelSettings
from raybench.models import conversion
from raybench.models.fidelity import fidelity
from raybench.models.items.batches import BatchPool
from raybench.models.passes import precision
from raybench.models.prepare import prepare
from raybench.models.reference import reference_outputs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from raybench.models.fidelity import Fidelity
    from raybench.models.model import Model

    Prepared = Callable[..., Model]


def kinds(model: Model) -> Counter[str]:
    return Counter(
        node.op_type for node in onnx.load(model.path, load_external_data=False).graph.node
    )


def on_cpu(model: Model, cache: Path, items: int = 4) -> Fidelity | None:
    pool = BatchPool(model.inputs, items, 7, model.ranges, min_bytes=1)
    session = onnxruntime.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    outputs = dict(zip(names, session.run(names, pool.batch(0)), strict=True))
    return fidelity(reference_outputs(model, pool, items, cache), outputs, model.softmax_outputs)


@pytest.mark.parametrize(
    ("name", "dialect", "quantised", "dequantised"),
    [
        pytest.param("alexnet", "s8s8", 9, 16, marks=pytest.mark.slow),
        ("googlenet", "s8s8", 43, 101),
        ("googlenet", "u8s8", 83, 199),
    ],
)
def test_int8_has_the_expected_pairs_and_stays_near_fp32(
    name: str, dialect: str, quantised: int, dequantised: int, prepared: Prepared, cache: Path
) -> None:
    model = prepared(name, "int8", dialect)
    counts = kinds(model)
    assert (counts["QuantizeLinear"], counts["DequantizeLinear"]) == (quantised, dequantised)
    assert (model.precision, model.dialect) == ("int8", dialect)
    near = on_cpu(model, cache)
    assert near is not None
    assert near.sqnr_db >= 24  # u8s8 on a CPU without VNNI: 24.9 dB
    assert near.cosine > 0.99


def test_s8s8_is_symmetric_signed_and_per_channel(prepared: Prepared) -> None:
    graph = onnx.load(prepared("googlenet", "int8", "s8s8").path).graph
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    pairs = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert {values[node.input[2]].dtype.name for node in pairs} == {"int8"}
    assert not any(values[node.input[2]].any() for node in pairs)
    scales = [values[node.input[1]] for node in pairs if node.input[0] in values]
    assert len(scales) == 58
    assert all(scale.ndim == 1 and scale.size > 1 for scale in scales)
    makers = {node.output[0]: node.op_type for node in graph.node}
    assert "Softmax" not in {makers.get(node.input[0]) for node in pairs}


@pytest.mark.slow
def test_s8s8_quantises_the_skip_of_every_block_and_not_its_main_branch(
    prepared: Prepared,
) -> None:
    graph = onnx.load(prepared("resnet50", "int8", "s8s8").path).graph
    made_by = {output: node.op_type for node in graph.node for output in node.output}
    sums = [sorted(made_by[x] for x in node.input) for node in graph.node if node.op_type == "Add"]
    assert sums == [["Conv", "DequantizeLinear"]] * 16
    assert "Identity" not in made_by.values()


def test_s8s8_tells_sibling_convolutions_of_one_pixel_apart(prepared: Prepared) -> None:
    graph = onnx.load(prepared("googlenet", "int8", "s8s8").path).graph
    seen: dict[str, list[list[int]]] = {}
    for node in graph.node:
        attributes = {a.name: list(a.ints) for a in node.attribute}
        if node.op_type == "Conv" and attributes["kernel_shape"] == [1, 1]:
            seen.setdefault(node.input[0], []).append(attributes["dilations"])
    siblings = [dilations for dilations in seen.values() if len(dilations) > 1]
    assert siblings == [[[1, 1], [2, 2], [3, 3]]] * 9


def test_fp16_keeps_its_ends_in_fp32(prepared: Prepared, cache: Path) -> None:
    model = prepared("googlenet", "fp16")
    assert kinds(model)["Cast"] == 2
    assert model.conversion.kept_fp32_ops == ("Softmax",)
    assert model.conversion.rounded_sqnr_db is not None
    assert model.conversion.rounded_sqnr_db > 55
    onnx.checker.check_model(str(model.path))
    assert model.path.stat().st_size < 0.55 * model.fp32_path.stat().st_size
    near = on_cpu(model, cache)
    assert near is not None
    assert near.sqnr_db > 50


def test_tf32_is_the_graph_of_fp32(prepared: Prepared) -> None:
    assert prepared("googlenet", "tf32").path == prepared("googlenet").path
    assert prepared("googlenet", "tf32").precision == "tf32"


def test_what_no_pass_makes_is_unsupported_unless_the_engine_makes_it(prepared: Prepared) -> None:
    for missing in ("bf16", "fp8"):
        with pytest.raises(Unsupported, match=missing):
            prepared("googlenet", missing)
    assert prepared("googlenet", "bf16", "native").path == prepared("googlenet").path
    with pytest.raises(ConfigError, match="Did you mean 'int8'"):
        prepared("googlenet", "int9")
    with pytest.raises(ValueError, match="dialect"):
        prepared("googlenet", "int8")


def test_the_lrn_rewrite_gives_the_same_numbers(prepared: Prepared) -> None:
    native, model = prepared("googlenet"), prepared("googlenet", rewrite_lrn=True)
    assert kinds(native)["LRN"] == 2
    assert kinds(model)["LRN"] == 0
    assert model.fp32_path == native.path
    batch = BatchPool(model.inputs, 2, 7, {}, min_bytes=1).batch(0)
    wanted, got = (
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(
            None, batch
        )[0]
        for path in (native.path, model.path)
    )
    np.testing.assert_allclose(got, wanted, rtol=1e-4)
    assert kinds(prepared("googlenet", "int8", "u8s8", rewrite_lrn=True))["QuantizeLinear"] == 83


@pytest.mark.parametrize("dialect", ["s8s8", "u8s8"])
def test_a_users_integer_inputs_calibrate_within_their_table(
    dialect: str, saved: Callable[..., str], cache: Path
) -> None:
    model = prepare(
        saved(tiny_bert()), ModelSettings(shapes={"sequence": 16}), "int8", dialect, cache
    )
    assert kinds(model)["QuantizeLinear"] > 0
    assert on_cpu(model, cache) is not None


def test_an_old_opset_is_raised_for_int8(saved: Callable[..., str], cache: Path) -> None:
    old = tiny_conv()
    old.opset_import[0].version = 11
    model = prepare(saved(old), ModelSettings(), "int8", "s8s8", cache)
    assert onnx.load(model.path).opset_import[0].version >= 13
    assert kinds(model)["DequantizeLinear"] == 2


def test_external_weights_go_through_every_pass(saved: Callable[..., str], cache: Path) -> None:
    path = saved(tiny_conv(), save_as_external_data=True, location="w.bin", size_threshold=0)
    for name, dialect in (("fp32", None), ("fp16", None), ("int8", "s8s8"), ("int8", "u8s8")):
        model = prepare(path, ModelSettings(), name, dialect, cache, rewrite_lrn=True)
        assert on_cpu(model, cache) is not None


def test_the_programs_log_is_left_alone(saved: Callable[..., str], tmp_path: Path) -> None:
    handlers, disabled = list(logging.getLogger().handlers), logging.root.manager.disable
    prepare(saved(tiny_conv()), ModelSettings(), "int8", "u8s8", tmp_path / "cache")
    assert logging.getLogger().handlers == handlers
    assert logging.root.manager.disable == disabled


def test_a_graph_too_large_for_one_file_keeps_its_weights_outside(
    saved: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion, "EXTERNAL_ABOVE_BYTES", 0)
    path = saved(tiny_bert(table=500))
    for name, dialect in (("fp16", None), ("int8", "s8s8"), ("int8", "u8s8")):
        model = prepare(
            path, ModelSettings(shapes={"sequence": 16}), name, dialect, tmp_path / "cache"
        )
        assert len(list(model.path.parent.iterdir())) == 3  # graph, weights, sidecar
        assert on_cpu(model, tmp_path / "cache") is not None


@pytest.mark.slow
def test_s8s8_leaves_a_grouped_convolution_of_odd_width_in_float(prepared: Prepared) -> None:
    graph = onnx.load(prepared("alexnet", "int8", "s8s8").path).graph
    made_by = {output: node.op_type for node in graph.node for output in node.output}
    inputs = {
        node.name: made_by.get(node.input[0]) for node in graph.node if node.op_type == "Conv"
    }
    assert inputs.pop("conv_2") == "MaxPool"  # 48 channels a group
    assert set(inputs.values()) == {"DequantizeLinear"}  # conv_4 and conv_5 have 192


def test_a_graph_on_which_a_library_fails_is_refused_and_not_tried_again(
    saved: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("Graph is not a DAG")

    monkeypatch.setattr(precision, "to_fp16", fail)
    with pytest.raises(Refused, match=r"converted to fp16 .*not a DAG.* Use precision=fp32"):
        prepare(saved(tiny_conv()), ModelSettings(), "fp16", None, tmp_path)
