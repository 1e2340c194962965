"""Builder: flags by precision and version."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.fake_gpu import FakeConfig, FakeProfile

from raybench.engines.tensorrt import builder
from raybench.engines.tensorrt.settings import TensorRTSettings
from raybench.errors import Unsupported

ORDER = builder.Order(
    onnx_path=Path("model.onnx"),
    onnx_sha256="0" * 64,
    precision="fp32",
    shapes={"x": ((1, 4), (1, 4), (1, 4))},
    workspace_bytes=None,
    optimization_level=3,
    avg_timing=8,
)


def _trt(version: str, **kinds: Any) -> Any:
    return SimpleNamespace(
        __name__="tensorrt",
        __version__=version,
        NetworkDefinitionCreationFlag=SimpleNamespace(**kinds),
    )


@pytest.mark.parametrize(
    ("precision", "on", "off"),
    [
        ("fp32", set(), {"TF32"}),
        ("tf32", {"TF32"}, set()),
        ("fp16", {"FP16"}, {"TF32"}),
        ("int8", {"INT8"}, {"TF32"}),
        ("int8_fp16", {"INT8", "FP16"}, {"TF32"}),
    ],
)
def test_flags_of_weak_typing(precision: str, on: set[str], off: set[str]) -> None:
    assert builder.flags(_trt("8.6.0"), replace(ORDER, precision=precision)) == (on, off)


@pytest.mark.parametrize(
    ("rest", "on", "off"),
    [("tf32", {"INT8", "TF32"}, set()), ("fp16", {"INT8", "FP16"}, {"TF32"})],
)
def test_layers_outside_qdq_may_use_a_faster_type(rest: str, on: set[str], off: set[str]) -> None:
    order = replace(ORDER, precision="int8", int8_rest=rest)
    assert builder.flags(_trt("8.6.0"), order) == (on, off)
    assert builder.flags(_trt("8.6.0"), replace(order, precision="fp16")) == ({"FP16"}, {"TF32"})


@pytest.mark.parametrize("precision", ["bf16", "fp8", "as_is"])
def test_weak_typing_refuses_what_it_would_run_as_something_else(precision: str) -> None:
    with pytest.raises(Unsupported, match=precision):
        builder.flags(_trt("8.6.0"), replace(ORDER, precision=precision))


def test_weak_typing_says_why_no_graph_runs_as_it_is() -> None:
    with pytest.raises(Unsupported, match=r"chooses types by itself.*Use TensorRT 10 or newer"):
        builder.flags(_trt("8.6.1"), replace(ORDER, precision="as_is"))


@pytest.mark.parametrize("version", ["10.13.3", "11.4.0"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int8_fp16", "as_is"])
def test_strong_typing_sets_no_precision(version: str, precision: str) -> None:
    order = replace(ORDER, precision=precision, version_compatible=True)
    on, off = builder.flags(_trt(version), order)
    assert on == {"VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME"}
    assert off == {"TF32"}


def test_creation_flags_come_from_the_librarys_own_numbers() -> None:
    assert builder._creation_flags(_trt("8.6.0", EXPLICIT_BATCH=0)) == 1
    assert builder._creation_flags(_trt("10.1.0", EXPLICIT_BATCH=0, STRONGLY_TYPED=1)) == 2
    assert builder._creation_flags(_trt("11.1.0", STRONGLY_TYPED=0)) == 0


def test_convolutions_compiled_on_the_spot_can_be_left_out() -> None:
    sources = SimpleNamespace(EDGE_MASK_CONVOLUTIONS=3, JIT_CONVOLUTIONS=4)
    trt = SimpleNamespace(TacticSource=sources)
    assert builder._tactics(trt, ORDER) == 0b11000
    assert builder._tactics(trt, replace(ORDER, jit_convolutions=False)) == 0b01000


def test_the_path_is_no_fact_of_the_plan() -> None:
    facts = ORDER.facts()
    assert facts == replace(ORDER, onnx_path=Path("elsewhere.onnx")).facts()
    assert facts != replace(ORDER, precision="tf32").facts()


TRT = SimpleNamespace(
    DataType=SimpleNamespace(HALF="half", FLOAT="float", INT32="int32"),
    LayerType=SimpleNamespace(DEQUANTIZE="dequantize"),
)


class Layer:
    """A layer of a network, with one input and one output."""

    num_inputs = num_outputs = 1

    def __init__(self, name: str, reads: str, dtype: str, kind: str = "any") -> None:
        self.name = name
        self.type = kind
        self.held: set[str] = set()
        self._reads = reads
        self._dtype = dtype

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "precision":
            self.held.add(f"computes in {value}")
        else:
            super().__setattr__(name, value)

    def get_input(self, index: int) -> Any:
        return SimpleNamespace(name=self._reads)

    def get_output(self, index: int) -> Any:
        return SimpleNamespace(name=f"{self.name}.out", dtype=self._dtype)

    def set_output_type(self, index: int, dtype: str) -> None:
        self.held.add(f"writes {dtype}")


def test_weak_typing_computes_in_fp32_what_the_fp16_graph_keeps_there() -> None:
    unnamed = "(Unnamed Layer* 3) [Shuffle]"
    layers = [
        Layer("conv", "x", "half"),
        Layer("sum", "conv.out", "float"),
        Layer(unnamed, "sum.out", "float"),
        Layer("cast", "sum.out", "half"),
        Layer("(Unnamed Layer* 5) [Shuffle]", "conv.out", "half"),
        Layer("shape", "x", "int32"),
    ]
    network = SimpleNamespace(num_layers=len(layers), get_layer=layers.__getitem__)
    assert builder._hold_fp32(TRT, network, ("sum", "shape"))
    both = {"computes in float", "writes float"}
    assert {layer.name: layer.held for layer in layers if layer.held} == {
        "sum": both,
        unnamed: both,
    }
    assert not builder._hold_fp32(TRT, network, ())
    assert not builder._hold_fp32(TRT, network, ("gone",))
    assert "fp32_layers" not in replace(ORDER, fp32_layers=("sum",)).facts()


def test_the_rest_of_int8_fp16_is_no_option() -> None:
    load: Any = SimpleNamespace(
        model=SimpleNamespace(precision="int8_fp16"),
        options=TensorRTSettings(int8_rest="tf32"),
        batches=SimpleNamespace(batch_size=1),
    )
    with pytest.raises(Unsupported, match=r"int8_fp16 is fp16\. Leave engine\.int8_rest out\."):
        builder.order_of(load)


def test_an_int8_layer_that_is_kept_in_fp32_stays_int8_and_writes_fp32() -> None:
    layers = [Layer("dq", "x", "float", "dequantize"), Layer("conv", "dq.out", "float")]
    network = SimpleNamespace(num_layers=len(layers), get_layer=layers.__getitem__)
    assert builder._hold_fp32(TRT, network, ("conv",))
    assert [layer.held for layer in layers] == [set(), {"writes float"}]


@pytest.mark.parametrize(
    ("version", "precision", "name"),
    [
        ("8.6.0", "int8_fp16", "untyped.onnx"),
        ("8.6.0", "int8", "model.onnx"),
        ("10.13.3", "int8_fp16", "model.onnx"),
    ],
)
def test_a_library_that_chooses_types_gets_scales_that_it_can_read(
    version: str, precision: str, name: str
) -> None:
    order = replace(ORDER, precision=precision, onnx_path=Path("entry") / "model.onnx")
    assert builder._graph(_trt(version), order) == Path("entry") / name


def test_only_inputs_with_an_open_batch_are_in_the_profile() -> None:
    tensors = [
        SimpleNamespace(name="x", shape=(-1, 4), is_shape_tensor=False),
        SimpleNamespace(name="state", shape=(2, -1, 4), is_shape_tensor=False),
        SimpleNamespace(name="scale", shape=(1, 4), is_shape_tensor=False),
        SimpleNamespace(name="rate", shape=(), is_shape_tensor=False),
    ]
    network = SimpleNamespace(num_inputs=len(tensors), get_input=tensors.__getitem__)
    profile = FakeProfile()
    make = SimpleNamespace(create_optimization_profile=lambda: profile)
    order = replace(ORDER, shapes={each.name: (each.shape,) * 3 for each in tensors})
    builder._set_shapes(make, network, FakeConfig(), order)
    assert set(profile.shapes) == {"x", "state"}
    tensors[3].is_shape_tensor = True
    with pytest.raises(Unsupported, match="computes sizes from input 'rate'"):
        builder._set_shapes(make, network, FakeConfig(), order)
