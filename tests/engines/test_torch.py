"""The engine `torch` on CPU cores: what it computes, and what it refuses before it is measured."""

from __future__ import annotations

import importlib
from dataclasses import replace

import numpy as np
import onnx
import pytest
from helpers.needs_torch import needs_torch
from helpers.tiny_graphs import graph_of, tiny_bert, tiny_conv
from onnx import TensorProto, helper, numpy_helper

from raybench.engines import conformance, registry
from raybench.engines.base import Load
from raybench.engines.torch import compiling
from raybench.engines.torch import engine as torch_engine
from raybench.errors import OutOfMemory, Unsupported
from raybench.experiment import ModelSettings
from raybench.machine import sysfs
from raybench.machine.devices import core, gpu
from raybench.models.graph.operations import read_operations
from raybench.models.items.batches import BatchPool
from raybench.models.prepare import prepare
from raybench.models.reference import reference_outputs

ENGINE = registry.get("torch")
LOOKUP = ModelSettings(shapes={"sequence": 6}, ranges={"ids": [0, 49]})


def load_of(path, folder, precision="fp32", settings=ModelSettings(), **options):  # noqa: B008
    dialect = "native" if precision == "bf16" else None
    model = prepare(str(path), settings, precision, dialect, folder)
    pool = BatchPool(model.inputs, 2, 0, model.ranges, min_bytes=1 << 10)
    given = ENGINE.traits.settings(**options)
    return Load(model, pool, core(0), 1, True, given, None, folder)


def outputs_of(load):
    running = ENGINE.load(load)
    running.submit(0)
    running.collect(0)
    outputs = running.outputs()
    running.close()
    return outputs


def saved(model, folder):
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path


def one_operator(kind, **attributes):
    node = helper.make_node(kind, ["x"], ["y"], **attributes)
    floats = [("x", TensorProto.FLOAT, ["N", 4])]
    return graph_of([node], floats, [("y", TensorProto.FLOAT, ["N", 4])])


# ---------------------------------------------------------------- what it computes


@needs_torch
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_convolution_computes_what_onnxruntime_does(channels_last, tmp_path):
    load = load_of(saved(tiny_conv(), tmp_path), tmp_path, channels_last=channels_last)
    conformance.check(ENGINE, load, reference_outputs(load.model, load.batches, 2, tmp_path))


@needs_torch
def test_a_lookup_computes_what_onnxruntime_does(tmp_path):
    load = load_of(saved(tiny_bert(), tmp_path), tmp_path, settings=LOOKUP)
    conformance.check(ENGINE, load, reference_outputs(load.model, load.batches, 2, tmp_path))


@needs_torch
def test_a_model_of_the_zoo_is_that_of_onnxruntime(tmp_path):
    load = load_of("lenet", tmp_path)
    expected = reference_outputs(load.model, load.batches, 2, tmp_path)
    for tensor, values in outputs_of(load).items():
        assert np.allclose(values, expected[tensor], rtol=1e-4, atol=1e-5)


@needs_torch
def test_bf16_is_near_fp32_and_not_fp32_itself(tmp_path):
    exact = outputs_of(load_of("lenet", tmp_path))
    rough = outputs_of(load_of("lenet", tmp_path, precision="bf16"))
    for tensor, values in rough.items():
        assert values.dtype == np.float32
        assert not np.array_equal(values, exact[tensor])
        assert np.allclose(values, exact[tensor], rtol=0.1, atol=0.02)


@needs_torch
@pytest.mark.slow
def test_a_compiled_graph_computes_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "elsewhere")  # and put it back
    missing = compiling.compiler_missing("cpu")
    if missing is not None:
        pytest.skip(f"torch.compile needs {missing}")
    load = load_of(saved(tiny_bert(), tmp_path), tmp_path, settings=LOOKUP, compile=True)
    expected = reference_outputs(load.model, load.batches, 2, tmp_path)
    for tensor, values in outputs_of(load).items():
        assert np.allclose(values, expected[tensor], rtol=1e-4, atol=1e-5)
    assert any((tmp_path / compiling.FOLDER).iterdir())


@needs_torch
def test_weights_of_external_data_are_mapped_and_not_read(tmp_path):
    tensors = helper.make_tensor_value_info
    weights = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "big",
        [tensors("x", TensorProto.FLOAT, ["N", 64])],
        [tensors("y", TensorProto.FLOAT, ["N", 64])],
        [numpy_helper.from_array(weights, "w")],
    )
    path = tmp_path / "big.onnx"
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save_model(
        model, path, save_as_external_data=True, all_tensors_to_one_file=True, size_threshold=0
    )
    read = read_operations(path).weights["w"]
    assert np.array_equal(read, weights)
    owner = read
    while not isinstance(owner, np.memmap):
        owner = owner.base  # nothing on the way owns a copy
    load = load_of(path, tmp_path)
    expected = reference_outputs(load.model, load.batches, 2, tmp_path)
    assert np.allclose(outputs_of(load)["y"], expected["y"], rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- what it refuses


@needs_torch
def test_an_operator_outside_the_table_is_named(tmp_path):
    load = load_of(saved(one_operator("Hardmax"), tmp_path), tmp_path)
    with pytest.raises(Unsupported, match=r"no operator Hardmax.*engine=onnxruntime"):
        ENGINE.load(load)


@needs_torch
def test_an_operator_that_the_table_has_in_other_forms_is_named_with_its_node(tmp_path):
    load = load_of(saved(one_operator("LRN", size=2), tmp_path), tmp_path)
    with pytest.raises(Unsupported, match=r"no operator LRN over an even number.*node 'y'"):
        ENGINE.load(load)


def test_without_torch_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(torch_engine, "find_spec", lambda name: None)
    assert "pip install 'raybench[torch]'" in ENGINE.unavailable()
    assert "raybench[torch]" in registry.missing()["torch"]


@pytest.mark.parametrize("precision", ["int8", "int8_fp16"])
def test_quantised_graphs_are_refused(precision):
    assert "Q/DQ" in ENGINE.unsupported(precision, core(0), True)


@pytest.mark.parametrize(("precision", "flag"), [("bf16", "avx512_bf16"), ("fp16", "avx512_fp16")])
def test_half_precision_needs_its_instructions(precision, flag, monkeypatch):
    monkeypatch.setattr(sysfs, "cpu_flags", lambda: frozenset({"avx2"}))
    assert f"no {precision} arithmetic" in ENGINE.unsupported(precision, core(0), True)
    monkeypatch.setattr(sysfs, "cpu_flags", lambda: frozenset({flag}))
    assert ENGINE.unsupported(precision, core(0), True) is None


def test_what_a_device_would_compute_as_something_else_is_refused():
    assert "as fp32" in ENGINE.unsupported("tf32", core(0), True)
    h200 = replace(gpu("0"), name="NVIDIA H200", uuid="GPU-0", declared=False)
    assert "no precision fp8" in ENGINE.unsupported("fp8", h200, True)
    assert "no NVIDIA driver" in ENGINE.unsupported("fp32", replace(h200, declared=True), True)


def test_a_gpu_that_is_too_old_has_no_tf32(monkeypatch):
    monkeypatch.setattr(torch_engine.chip, "capability", lambda device: (7, 5))
    t4 = replace(gpu("0"), name="Tesla T4", uuid="GPU-0", declared=False)
    assert "7.5" in ENGINE.unsupported("tf32", t4, True)
    assert ENGINE.unsupported("fp16", t4, True) is None


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_compiling_needs_a_compiler(kind, monkeypatch):
    monkeypatch.setattr(compiling, "find_spec", lambda name: object())
    monkeypatch.setattr(compiling.shutil, "which", lambda name: None)
    with pytest.raises(Unsupported, match=r"compiler.*or use engine.compile=false"):
        compiling.refuse_without_compiler(kind)


@needs_torch
def test_graphs_of_kernels_are_for_gpus(tmp_path):
    load = load_of(saved(tiny_conv(), tmp_path), tmp_path, cuda_graphs=True)
    with pytest.raises(Unsupported, match="cuda_graphs"):
        ENGINE.load(load)


# ---------------------------------------------------------------- what its errors mean


@pytest.mark.parametrize(
    ("message", "asked"),
    [
        ("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4096 bytes.", 4096),
        ("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity", 5 * 2**29),
        ("CUDA error: out of memory", None),
        ("Error parsing message with type 'onnx.ModelProto': Arena alloc failed", None),
    ],
)
def test_the_library_s_message_decides_that_memory_ran_out(message, asked):
    calls = importlib.import_module("raybench.engines.torch.calls").CALLS

    def fail():
        raise RuntimeError(message)

    with pytest.raises(OutOfMemory) as caught:
        calls.run("run", fail)
    assert caught.value.requested_bytes == asked
    assert message[:20] in str(caught.value)


def test_a_reason_ends_with_a_whole_sentence():
    calls = importlib.import_module("raybench.engines.torch.calls").CALLS
    advice = "If reserved memory is large try to set " + "PYTORCH_CUDA_ALLOC_CONF " * 9

    def fail():
        raise RuntimeError(f"CUDA out of memory. Tried to allocate 2.00 MiB. {advice}")

    with pytest.raises(OutOfMemory) as caught:
        calls.run("run", fail)
    assert "Tried to allocate 2.00 MiB. Use a smaller batch_size" in str(caught.value)


def test_a_kernel_that_the_library_lacks_is_unsupported():
    calls = importlib.import_module("raybench.engines.torch.calls").CALLS

    def fail():
        raise NotImplementedError("\"add_stub\" not implemented for 'UInt16'")

    with pytest.raises(Unsupported, match="no kernel add_stub for UInt16"):
        calls.run("run", fail)
