from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers.first_gpu import first_gpu
from helpers.needs_torch import needs_torch
from helpers.tiny_graphs import graph_of, tiny_conv
from onnx import TensorProto, helper

from raybench.engines import conformance, openvino, registry
from raybench.engines.base import Load
from raybench.errors import OutOfMemory
from raybench.experiment import ModelSettings
from raybench.machine.devices import Device, core
from raybench.models.items.batches import BatchPool
from raybench.models.model import FileBatch, Model, TensorSpec
from raybench.models.prepare import prepare
from raybench.models.reference import reference_outputs
from raybench.models.shapes.input_values import given_items

TORCH = pytest.param("torch", marks=needs_torch)


def loaded(engine, tiny, tmp_path, inflight):
    model = (
        prepare(str(tiny), ModelSettings(), "fp32", None, tmp_path)
        if engine.traits.reads_graph
        else Model.named("tiny", "fp32", None)
    )
    batches = BatchPool(model.inputs, 4, seed=3, ranges=model.ranges, min_bytes=1 << 16)
    load = Load(model, batches, core(0), inflight, True, engine.traits.settings(), None, tmp_path)
    reference = (
        reference_outputs(model, batches, 4, tmp_path) if engine.traits.reads_graph else None
    )
    return load, reference


@pytest.mark.parametrize("inflight", [1, 3])
@pytest.mark.parametrize("name", ["openvino", "onnxruntime", "simulated", TORCH])
def test_every_engine_keeps_the_contract(name, inflight, tiny, tmp_path):
    engine = registry.get(name)
    load, reference = loaded(engine, tiny, tmp_path, inflight)
    conformance.check(engine, load, reference)


@pytest.mark.parametrize("name", ["openvino", "onnxruntime", TORCH])
def test_every_engine_takes_a_batch_at_any_place_and_inputs_without_one(name, tmp_path):
    nodes = [
        helper.make_node("ReduceMean", ["state"], ["mean"], axes=[0], keepdims=0),
        helper.make_node("Add", ["x", "mean"], ["moved"]),
        helper.make_node("Mul", ["moved", "scale"], ["scaled"]),
        helper.make_node("Cast", ["rate"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["scaled", "float"], ["y"]),
    ]
    floats = {"x": ["batch", 8], "state": [2, "batch", 8], "scale": [1, 8]}
    inputs = [(name, TensorProto.FLOAT, shape) for name, shape in floats.items()]
    inputs.append(("rate", TensorProto.INT64, []))
    path = tmp_path / "odd.onnx"
    onnx.save(graph_of(nodes, inputs, [("y", TensorProto.FLOAT, None)]), path)
    settings = ModelSettings(values={"rate": 3})
    model = prepare(str(path), settings, "fp32", None, tmp_path)
    given = given_items("odd", model.inputs, settings.values)
    batches = BatchPool(model.inputs, 4, 0, model.ranges, min_bytes=1 << 12, given=given)
    engine = registry.get(name)
    load = Load(model, batches, core(0), 1, True, engine.traits.settings(), None, tmp_path)
    reference = reference_outputs(model, batches, 4, tmp_path)
    batch = batches.batch(0)
    expected = 3 * batch["scale"] * (batch["x"] + batch["state"].mean(axis=0))
    assert np.allclose(reference["y"], expected, atol=1e-5)
    conformance.check(engine, load, reference)


@pytest.mark.parametrize("inflight", [1, 3])
@pytest.mark.parametrize(
    ("name", "sizes"), [("openvino", (1, 2, 4, 6)), ("onnxruntime", (1, 2, 3, 4, 5, 6))]
)
def test_parts_have_sizes_of_their_own_only_where_they_will_come(
    name, sizes, inflight, tiny, tmp_path
):
    engine = registry.get(name)
    load, _ = loaded(engine, tiny, tmp_path, inflight)
    pool = BatchPool(load.model.inputs, 6, seed=3, ranges=load.model.ranges, min_bytes=1 << 12)
    load = replace(load, batches=pool)
    assert tuple(engine.load(load).sizes) == (6,)
    assert tuple(engine.load(replace(load, part_batches=True)).sizes) == sizes
    conformance.check(engine, load, reference_outputs(load.model, pool, 6, tmp_path))


def test_openvino_pads_to_the_sizes_that_memory_allows(tiny, tmp_path, monkeypatch):
    engine = registry.get("openvino")
    load, _ = loaded(engine, tiny, tmp_path, 1)
    compile_right, compiled = openvino._compile_right, []

    def compile_few(graph, properties):
        if len(compiled) == 2:
            raise OutOfMemory("build", None, "none is left")
        compiled.append(graph)
        return compile_right(graph, properties)

    monkeypatch.setattr(openvino, "_compile_right", compile_few)
    running = engine.load(replace(load, part_batches=True))
    assert running.sizes == (2, 4)
    running.submit_part(0, 1)
    running.collect(0)
    assert {len(array) for array in running.outputs().values()} == {2}
    running.close()


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_parts_are_padded_where_the_file_is_fixed_to_a_batch_or_an_input_has_it_elsewhere(
    name, tiny, tmp_path
):
    engine = registry.get(name)
    load, _ = loaded(engine, tiny, tmp_path, 1)
    fixed = replace(load.model, file_batch=FileBatch(4, "a Reshape has it as a number"))
    assert tuple(engine.load(replace(load, model=fixed, part_batches=True)).sizes) == (4,)
    path = tmp_path / "number.onnx"
    onnx.save(tiny_conv("N", (4, 72)), path)
    model = prepare(str(path), ModelSettings(), "fp32", None, tmp_path)
    pool = BatchPool(model.inputs, 4, 0, model.ranges, min_bytes=1 << 12)
    running = engine.load(replace(load, model=model, batches=pool, part_batches=True))
    assert tuple(running.sizes) == (4,)
    running.submit_part(0, 1)
    running.collect(0)
    elsewhere = BatchPool((TensorSpec("x", "float32", (3, "N")),), 4, 0, {}, min_bytes=64)
    assert not elsewhere.divisible
    assert replace(load, batches=elsewhere, part_batches=True).part_sizes == (4,)


@pytest.mark.parametrize("name", ["openvino", "onnxruntime", "torch"])
def test_half_precision_is_refused_on_a_core_instead_of_run_as_something_else(name):
    reason = registry.get(name).unsupported("fp16", core(0), True)
    assert reason is not None
    assert "precision=" in reason


@pytest.mark.parametrize("name", ["openvino", "onnxruntime", "torch"])
def test_transfers_off_means_nothing_on_a_core(name):
    assert "transfers=on" in registry.get(name).unsupported("fp32", core(0), False)


def test_openvino_computes_fp32_in_fp32_and_not_in_the_libraries_default(tiny, tmp_path):
    engine = registry.get("openvino")
    load, reference = loaded(engine, tiny, tmp_path, 1)
    running = engine.load(load)
    running.submit(0)
    running.collect(0)
    outputs = running.outputs()
    running.close()
    for name, expected in reference.items():
        assert np.abs(outputs[name] - expected).max() <= 1e-5 * np.abs(expected).max()


def test_onnxruntime_says_why_it_cannot_use_a_gpu_or_a_precision_on_one():
    engine = registry.get("onnxruntime")
    h200 = Device("gpu", "NVIDIA H200", 0, "GPU-0", "0")
    assert "no NVIDIA driver" in engine.unsupported("fp32", replace(h200, declared=True), True)
    reason = engine.unsupported("int8", h200, False)
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        assert "as fp32" in reason
    else:
        assert "onnxruntime-gpu" in reason


@pytest.mark.parametrize("options", [{}, {"largest_batch": 4}, {"target": "8.9"}], ids=str)
def test_tensorrt_for_rtx_keeps_the_part_of_the_contract_that_builds(options, tiny, tmp_path):
    pytest.importorskip(
        "tensorrt_rtx_bindings",
        reason="tensorrt-rtx-cu12-bindings is not installed: make test installs it on x86-64 Linux",
    )
    engine = registry.get("tensorrt_rtx")
    load, _ = loaded(engine, tiny, tmp_path, 1)
    load = replace(load, device=Device("gpu", "no GPU", 0, None, "0"))
    conformance.check_builds(engine, replace(load, options=engine.traits.settings(**options)))


@pytest.mark.gpu
@pytest.mark.parametrize("transfers", [True, False])
@pytest.mark.parametrize("inflight", [1, 3])
@pytest.mark.parametrize("name", ["tensorrt", "tensorrt_rtx", "onnxruntime", "torch"])
def test_every_engine_keeps_the_contract_on_a_gpu(name, inflight, transfers, tiny, tmp_path):
    engine = registry.get(name)
    device = first_gpu()
    reason = engine.unavailable() or engine.unsupported("fp32", device, transfers)
    if reason:
        pytest.skip(reason)
    load, reference = loaded(engine, tiny, tmp_path, inflight)
    conformance.check(engine, replace(load, device=device, transfers=transfers), reference)
