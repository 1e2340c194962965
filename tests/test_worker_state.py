"""A worker in this process with a model whose state stays on the device."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import numpy as np
import onnx
import pytest
from helpers.state_graphs import LENGTH, WORDS, step_graph

from raybench.config.compose import read
from raybench.engines import registry
from raybench.engines.onnxruntime import OnnxRuntimeEngine
from raybench.errors import Unsupported
from raybench.machine import devices
from raybench.models.reference import reference_steps
from raybench.planning.plan import make_plan
from raybench.worker import Worker


@pytest.fixture
def point_of(tmp_path, monkeypatch):
    """A point of the step on a core."""
    monkeypatch.setenv("RAYBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(devices, "pin", lambda cpu: None)
    path = tmp_path / "step.onnx"
    onnx.save(step_graph(), path)

    def make(*words):
        given = [
            *(
                "experiment=scaling",
                f"model={path}",
                "device=cpu",
                "workers=1",
                "precision=fp32",
                "batch_size=9",
            ),
            *(f"model.ranges={{token: [0, {WORDS - 1}], position: [{LENGTH}, {LENGTH}]}}", *words),
        ]
        request = read(given).resolve({"cpu": 1})
        return make_plan(request.experiment, request.devices, "node", "").points[0]

    return make


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_a_trial_begins_with_the_same_state_whatever_ran_before(engine, point_of):
    point = point_of(f"engine={engine}")
    worker = Worker("w")
    prepared = worker.prepare(point, 0, 0, 3)
    assert prepared.outputs.repeats
    assert prepared.comparison.fidelity.sqnr_db > 80
    assert not [note for note in prepared.notes if "compared" in note]
    assert prepared.input_shape.startswith("token:9x1;position:1;past_key:9x")
    began = time.perf_counter_ns()
    measured = []
    stream = threading.Thread(
        target=lambda: measured.append(worker.stream(began, began + 60 * 10**9, 10**7))
    )
    stream.start()
    while len(worker.snapshot(0).edges) < 3:
        time.sleep(0.01)
    worker.halt()
    stream.join()
    assert measured[0].outputs_sha256 == prepared.outputs.sha256
    worker.close()


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_the_stream_begins_with_batch_0(engine, point_of):
    worker = Worker("w")
    model = worker.prepare(point_of(f"engine={engine}"), 0, 0, 3).model
    loaded = worker._loaded
    for sequence, wanted in enumerate(reference_steps(model, loaded.batches, LENGTH + 2)):
        loaded.engine.submit(sequence)
        loaded.engine.collect(sequence)
        outputs = loaded.engine.outputs()
        assert np.array_equal(outputs["next_token"], wanted["next_token"])
        assert np.allclose(outputs["new_trace"], wanted["new_trace"], atol=1e-4)
    worker.close()


def test_items_that_arrive_on_their_own_are_refused(point_of):
    point = replace(point_of("engine=openvino"), load="poisson(100)")
    with pytest.raises(Unsupported, match=r"load=poisson\(100\) .*Use load=closed"):
        Worker("w").prepare(point, 0, 0, 3)


def test_an_engine_that_keeps_no_state_is_refused(point_of, monkeypatch):
    bases = [kind for kind in OnnxRuntimeEngine.__bases__ if kind.__name__ != "KeepsState"]
    without = type("Without", tuple(bases), dict(vars(OnnxRuntimeEngine)))
    monkeypatch.setattr(registry, "get", lambda name: without)
    with pytest.raises(Unsupported, match=r"does not keep what a batch .* Use engine="):
        Worker("w").prepare(point_of("engine=onnxruntime"), 0, 0, 3)
