"""Models with state on every engine: a stream of batches that continue one another."""

from __future__ import annotations

import weakref
from dataclasses import replace
from itertools import product

import numpy as np
import onnx
import pytest
from helpers.first_gpu import first_gpu
from helpers.needs_torch import needs_torch
from helpers.state_graphs import LENGTH, delay_graph, step_model

from raybench.engines import conformance, registry
from raybench.engines.base import Load
from raybench.errors import OutOfMemory, Unsupported
from raybench.experiment import ModelSettings
from raybench.machine.devices import core, gpu
from raybench.models.items.batches import BatchPool
from raybench.models.prepare import prepare
from raybench.models.reference import reference_outputs, reference_steps

ON_CPU = ("openvino", "onnxruntime")


def load_of(name, model, folder, inflight=1, batch_size=3):
    batches = BatchPool(model.fed_inputs, batch_size, (3, 4), model.ranges, min_bytes=1 << 10)
    options = registry.get(name).traits.settings()
    return Load(model, batches, core(0), inflight, True, options, None, folder)


@pytest.mark.parametrize("fed", [False, True])
@pytest.mark.parametrize("inflight", [1, 3, 6])
@pytest.mark.parametrize("name", [*ON_CPU, pytest.param("torch", marks=needs_torch)])
def test_every_engine_keeps_state_as_a_plain_loop_does(name, inflight, fed, tmp_path):
    model = step_model(tmp_path, fed)
    load = load_of(name, model, tmp_path, inflight)
    conformance.check(registry.get(name), load, reference_outputs(model, load.batches, 3, tmp_path))


@pytest.mark.parametrize("name", [*ON_CPU, pytest.param("torch", marks=needs_torch)])
def test_what_is_passed_on_as_it_was_is_not_what_it_became(name, tmp_path):
    onnx.save(delay_graph(), tmp_path / "delay.onnx")
    model = prepare(str(tmp_path / "delay.onnx"), ModelSettings(), "fp32", None, tmp_path)
    load = load_of(name, model, tmp_path, inflight=2)
    conformance.check(registry.get(name), load, reference_outputs(model, load.batches, 3, tmp_path))


def test_the_reference_is_that_of_its_batch_where_the_batch_is_not_the_first_axis(tmp_path):
    model = step_model(tmp_path)
    for size in (3, 6):
        batches = load_of("openvino", model, tmp_path, batch_size=size).batches
        cached = reference_outputs(model, batches, 3, tmp_path)
        right = next(iter(reference_steps(model, batches, 1)))
        assert np.allclose(cached["logits"], right["logits"][:3])


@pytest.mark.parametrize("name", ON_CPU)
def test_a_ring_holds_the_newest_rows_wherever_it_wraps(name, tmp_path):
    load = load_of(name, step_model(tmp_path), tmp_path)
    loaded = registry.get(name).load(load)
    written = []
    for sequence in range(2 * LENGTH + 2):
        loaded.submit(sequence)
        loaded.collect(sequence)
        written.append(loaded.outputs()["new_key"][:, :, 0])
    ring = loaded._state.inputs["past_key"]
    for sequence in range(len(written) - LENGTH, len(written)):
        assert (ring[:, :, sequence % LENGTH] == written[sequence]).all()
    memory = weakref.ref(loaded._state._rings[0])
    loaded.close()
    del ring
    assert memory() is None  # a worker still has the engine while it loads the next point's


@pytest.mark.parametrize("name", ON_CPU)
def test_state_beyond_the_memory_of_the_machine_is_out_of_memory(name, tmp_path):
    load = load_of(name, step_model(tmp_path), tmp_path, batch_size=1 << 33)
    with pytest.raises(OutOfMemory) as caught:
        registry.get(name).load(load)
    assert caught.value.requested_bytes > 1 << 40


def test_onnxruntime_refuses_state_on_a_gpu_where_it_could_only_copy_all_of_it(tmp_path):
    load = replace(load_of("onnxruntime", step_model(tmp_path), tmp_path), device=gpu("0"))
    with pytest.raises(Unsupported, match=r"copy all of the state .*engine=tensorrt"):
        registry.get("onnxruntime").load(load)


@pytest.mark.gpu
@pytest.mark.parametrize("inflight", [1, 3])
@pytest.mark.parametrize(
    ("name", "graphs"), list(product(["tensorrt", "tensorrt_rtx", "torch"], [False, True]))
)
def test_every_engine_keeps_state_on_a_gpu(name, inflight, graphs, tmp_path):
    engine = registry.get(name)
    device = first_gpu()
    reason = engine.unavailable() or engine.unsupported("fp32", device, True)
    if reason:
        pytest.skip(reason)
    model = step_model(tmp_path, fed=True)
    options = engine.traits.settings(cuda_graphs=graphs)
    load = replace(load_of(name, model, tmp_path, inflight), device=device, options=options)
    conformance.check(engine, load, reference_outputs(model, load.batches, 3, tmp_path))
