"""Weights in int8 on OpenVINO: kept as they are, or refused."""

from types import SimpleNamespace

import pytest
from helpers.tiny_decoder import shrink

from raybench.engines import openvino_layers, registry
from raybench.engines.base import Load
from raybench.errors import Unsupported
from raybench.experiment import ModelSettings
from raybench.machine import devices
from raybench.models.comparison import compare
from raybench.models.items.batches import BatchPool
from raybench.models.prepare import prepare


@pytest.mark.parametrize("part", ["prefill", "step"])
def test_the_library_keeps_the_weights_in_int8_and_computes_near_fp32(part, tmp_path, monkeypatch):
    shrink(monkeypatch)
    settings = ModelSettings()
    model = prepare(f"decoder_125m_{part}", settings, "int8_weights", None, tmp_path)
    pool = BatchPool(model.fed_inputs, 2, 0, model.ranges, min_bytes=1)
    engine = registry.get("openvino")
    options = engine.traits.settings()
    running = engine.load(Load(model, pool, devices.core(0), 1, True, options, None, tmp_path))
    running.submit(0)
    running.collect(0)
    compared = compare(running.outputs(), model, pool, tmp_path)
    running.close()
    assert compared.fidelity is not None
    assert 25 < compared.fidelity.sqnr_db < 80


def compiled(*precisions):
    """A compiled model of products that compute in these types."""
    infos = [{"layerType": "FullyConnected", "runtimePrecision": kind} for kind in precisions]
    ops = [
        SimpleNamespace(
            get_rt_info=lambda info=info: {
                key: SimpleNamespace(astype=lambda _, value=value: value)
                for key, value in info.items()
            }
        )
        for info in infos
    ]
    return SimpleNamespace(get_runtime_model=lambda: SimpleNamespace(get_ops=lambda: ops))


@pytest.mark.parametrize("kinds", [("i8", "f32"), ()])
def test_weights_that_the_library_has_widened_are_refused(kinds):
    model = SimpleNamespace(precision="int8_weights")
    with pytest.raises(
        Unsupported, match=f"of {kinds.count('i8')} of {len(kinds)} matrix products"
    ):
        openvino_layers.refuse_wide_weights(compiled(*kinds), model)
    openvino_layers.refuse_wide_weights(compiled("i8", "u8"), model)
    openvino_layers.refuse_wide_weights(compiled("f32"), SimpleNamespace(precision="fp32"))


@pytest.mark.parametrize("name", ["onnxruntime", "tensorrt", "torch"])
def test_engines_that_would_widen_the_weights_say_so(name):
    device = devices.core(0) if name != "tensorrt" else devices.elsewhere("gpu")
    reason = registry.get(name).unsupported("int8_weights", device, True)
    assert "int8_weights" in reason
