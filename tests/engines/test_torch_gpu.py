"""The GPU side of engine `torch` on a fake of CUDA: order, buffers, graphs of kernels and state."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from helpers.needs_torch import needs_torch
from helpers.state_graphs import step_model
from helpers.tiny_graphs import tiny_conv

from raybench.engines import conformance, registry
from raybench.engines.base import Load
from raybench.errors import EngineFailure, Unsupported
from raybench.experiment import ModelSettings
from raybench.machine.devices import Device
from raybench.models.items.batches import BatchPool
from raybench.models.prepare import prepare
from raybench.models.reference import reference_outputs

pytestmark = needs_torch
ENGINE = registry.get("torch")
H200 = Device("gpu", "NVIDIA H200", 0, "GPU-0", "0")


@pytest.fixture
def fakes(monkeypatch):
    """Put fakes in the place of GPUs and return them as they are made."""
    import torch
    from helpers.fake_torch_cuda import FakeTorchCuda

    from raybench.engines.torch import start

    made = []

    def make(index):
        made.append(FakeTorchCuda(index))
        return made[-1]

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(start, "TorchCuda", make)
    return made


def load_of(model, folder, inflight=1, transfers=True, **options):
    pool = BatchPool(model.fed_inputs, 3, (3, 4), model.ranges, min_bytes=1 << 10)
    given = ENGINE.traits.settings(**options)
    return Load(model, pool, H200, inflight, transfers, given, None, folder)


@pytest.fixture
def conv(tmp_path):
    path = tmp_path / "conv.onnx"
    onnx.save(tiny_conv(), path)
    return prepare(str(path), ModelSettings(), "fp32", None, tmp_path)


@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize("transfers", [False, True])
@pytest.mark.parametrize("inflight", [1, 3])
def test_it_keeps_the_contract(inflight, transfers, graphs, conv, tmp_path, fakes):
    load = load_of(conv, tmp_path, inflight, transfers, cuda_graphs=graphs)
    expected = reference_outputs(conv, load.batches, 3, tmp_path)
    if transfers:
        conformance.check(ENGINE, load, expected)
    running = ENGINE.load(load)
    running.submit(0)
    spans = running.collect(0)
    assert (min(spans) > 0) if transfers else (spans[0] == spans[2] == 0 < spans[1])
    assert np.allclose(running.outputs()["output"], expected["output"], atol=1e-5)
    running.close()
    assert fakes[-1].closed
    assert fakes[-1].captures == (max(2, inflight) if graphs else 0)


@pytest.mark.parametrize("inflight", [1, 3])
def test_state_stays_on_the_device(inflight, tmp_path, fakes):
    model = step_model(tmp_path, fed=True)
    load = load_of(model, tmp_path, inflight)
    conformance.check(ENGINE, load, reference_outputs(model, load.batches, 3, tmp_path))
    running = ENGINE.load(load)
    crossing = set(running._runner._slots[0].host)
    assert crossing == {spec.name for spec in model.outputs} - model.kept_outputs
    assert set(running._runner._slots[0].inputs) == {"bias"}
    running.close()


@pytest.mark.parametrize("inflight", [1, 3])
def test_graphs_of_all_slots_go_on_with_one_state(inflight, tmp_path, fakes):
    model = step_model(tmp_path, fed=True)
    load = load_of(model, tmp_path, inflight, cuda_graphs=True)
    conformance.check(ENGINE, load, reference_outputs(model, load.batches, 3, tmp_path))
    assert fakes[-1].captures == max(2, inflight)


def test_each_direction_and_the_compute_have_a_stream(conv, tmp_path, fakes):
    running = ENGINE.load(load_of(conv, tmp_path, inflight=2))
    fakes[-1].log.clear()
    running.submit(0)
    running.submit(1)
    of_one = ["copy in", "compute waits for copy in", "compute", "copy out waits for compute"]
    assert fakes[-1].log == 2 * [*of_one, "copy out"]
    running.collect(0)
    running.collect(1)
    running.close()


def test_a_limit_of_memory_reaches_the_allocator(conv, tmp_path, fakes):
    load = load_of(conv, tmp_path)
    ENGINE.load(replace(load, memory_limit_bytes=1 << 30)).close()
    assert fakes[-1].limit == 1 << 30
    ENGINE.load(load).close()
    assert fakes[-1].limit is None  # the limit of one point is not that of the next


def test_another_gpu_than_the_one_that_is_watched_is_refused(conv, tmp_path, fakes):
    load = replace(load_of(conv, tmp_path), device=replace(H200, uuid="GPU-1"))
    with pytest.raises(EngineFailure, match="CUDA_DEVICE_ORDER"):
        ENGINE.load(load)


def test_a_pytorch_without_cuda_says_so(conv, tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(Unsupported, match=r"built without CUDA.*device=cpu"):
        ENGINE.load(load_of(conv, tmp_path))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with pytest.raises(Unsupported, match=r"sees no CUDA device.*CUDA 13.0"):
        ENGINE.load(load_of(conv, tmp_path))
