"""What `gemm` and `copy` of the zoo show is only true while an engine really does it."""

from __future__ import annotations

import numpy as np
import pytest

from raybench.engines import registry
from raybench.engines.base import Load
from raybench.experiment import ModelSettings
from raybench.machine.devices import core
from raybench.models.items.batches import BatchPool
from raybench.models.prepare import prepare
from raybench.models.reference import reference_outputs

CPU_ENGINES = ("openvino", "onnxruntime")


def ran(name, engine_name, folder):
    """Return an engine that has run batch 1 of two items, and that batch."""
    model = prepare(name, ModelSettings(), "fp32", None, folder)
    batches = BatchPool(model.inputs, 2, seed=3, ranges=model.ranges, min_bytes=1)
    engine_class = registry.get(engine_name)
    options = engine_class.traits.settings()
    load = Load(model, batches, core(0), 1, True, options, None, folder)
    engine = engine_class.load(load)
    engine.submit(1)
    engine.collect(1)
    return engine, load


@pytest.mark.parametrize("engine_name", CPU_ENGINES)
def test_a_copy_is_read_and_written(engine_name, tmp_path):
    engine, load = ran("copy", engine_name, tmp_path)
    (output,) = engine.outputs().values()
    batch = load.batches.batch(1)["numbers"]
    assert np.array_equal(output, -batch)
    assert batch.nbytes == 2 * 2**20
    (layer,) = (each for each in engine.layers(1) if each.kind not in ("Input", "Output"))
    assert layer.kind in ("Neg", "Eltwise", "Subgraph", "Math")


@pytest.mark.parametrize("engine_name", CPU_ENGINES)
def test_no_product_of_gemm_is_left_out(engine_name, tmp_path):
    engine, load = ran("gemm", engine_name, tmp_path)
    (output,) = engine.outputs().values()
    expected = reference_outputs(load.model, load.batches, 2, tmp_path)["output"]
    batch = load.batches.batch(0)["rows"]
    assert expected.shape == output.shape == batch.shape == (2, 32, 2048)
    assert 0.5 < expected.std() / batch.std() < 2
    products = [each for each in engine.layers(1) if each.kind in ("MatMul", "FullyConnected")]
    assert len(products) == 16
