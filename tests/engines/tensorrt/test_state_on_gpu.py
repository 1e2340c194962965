"""Models with state by TensorRT, on a fake of driver and runtime that enforces their rules."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers.fake_state_plan import PlanTrt
from helpers.state_graphs import LENGTH, step_model

from raybench.engines import conformance
from raybench.engines.base import Load
from raybench.engines.tensorrt.engine import TensorRTEngine
from raybench.engines.tensorrt.settings import TensorRTSettings
from raybench.errors import OutOfMemory, Unsupported
from raybench.machine.devices import Device
from raybench.models.items.batches import BatchPool
from raybench.models.reference import reference_outputs, reference_steps

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from helpers.fake_gpu import FakeGpu, FakeTrt

    Make = Callable[..., Load]

MODES: list[dict[str, Any]] = [
    {"cuda_graphs": False},
    {"cuda_graphs": True},
    {"transfers": False},
    {"transfers": False, "cuda_graphs": False},
    {"fed": True},
    {"fed": True, "transfers": False},
]


@pytest.fixture
def make(gpu: FakeGpu, trt: FakeTrt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A load of the step of `state_graphs` on the fake."""

    def make_load(
        fed: bool = False,
        batch_size: int = 3,
        inflight: int = 2,
        transfers: bool = True,
        limit: int | None = None,
        **options: Any,
    ) -> Load:
        model = step_model(tmp_path, fed)
        monkeypatch.setitem(sys.modules, "tensorrt", PlanTrt(gpu, model))
        return Load(
            model=model,
            batches=BatchPool(model.fed_inputs, batch_size, 3, model.ranges, min_bytes=600),
            device=Device("gpu", "Fake GPU", 0, "GPU-0", "0"),
            inflight=inflight,
            transfers=transfers,
            options=TensorRTSettings(**options),
            memory_limit_bytes=limit,
            cache_dir=tmp_path / "cache",
        )

    return make_load


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("inflight", [1, 2, 3])
def test_keeps_state_as_a_plain_loop_does(
    gpu: FakeGpu, make: Make, mode: dict[str, Any], inflight: int
) -> None:
    load = make(inflight=inflight, **mode)
    reference = reference_outputs(load.model, load.batches, 3, load.cache_dir)
    conformance.check(TensorRTEngine, load, reference)
    assert gpu.races == []


def test_version_8_reads_and_writes_integers_of_32_bits(gpu: FakeGpu, make: Make) -> None:
    load = make()
    sys.modules["tensorrt"].narrows = True  # type: ignore[attr-defined]
    engine = TensorRTEngine.load(load)
    for sequence, wanted in enumerate(reference_steps(load.model, load.batches, LENGTH + 2)):
        engine.submit(sequence)
        engine.collect(sequence)
        outputs = engine.outputs()
        assert outputs["next_token"].dtype == np.int32
        assert np.array_equal(outputs["next_token"], wanted["next_token"])
    engine.close()


def test_a_batch_copies_its_token_alone_to_the_host_and_all_new_rows_of_a_size_at_once(
    gpu: FakeGpu, make: Make
) -> None:
    engine = TensorRTEngine.load(make())
    cuda: Any = engine._context.cuda  # type: ignore[union-attr]
    copied: list[int] = []
    copy_out, cuda.copy_out = (
        cuda.copy_out,
        lambda *given: (copied.append(given[2]), copy_out(*given)),
    )
    gpu.calls.clear()
    for sequence in range(3):
        engine.submit(sequence)
        engine.collect(sequence)
    assert copied == [3 * 8] * 3
    assert gpu.calls.count("cudaMemcpyAsync") == 3
    assert gpu.calls.count("cudaMemcpy2DAsync") == 3 * 2  # keys and values together, and the trace
    assert gpu.calls.count("cudaGraphLaunch") == 3
    assert set(engine.outputs()) == {spec.name for spec in engine_outputs(engine)}
    engine.close()


def engine_outputs(engine: TensorRTEngine) -> Any:
    return sys.modules["tensorrt"].model.outputs  # type: ignore[attr-defined]


def test_kept_outputs_of_a_model_without_state_stay_on_the_device_too(
    gpu: FakeGpu, make: Make
) -> None:
    load = make()
    apart = replace(load.model, state=(), kept_outputs=frozenset({"logits", "new_key"}))
    batches = BatchPool(apart.inputs, 3, 0, apart.ranges, min_bytes=600)
    engine = TensorRTEngine.load(replace(load, model=apart, batches=batches))
    sizes: list[int] = []
    cuda: Any = engine._context.cuda  # type: ignore[union-attr]
    copy_out, cuda.copy_out = (
        cuda.copy_out,
        lambda *given: (sizes.append(given[2]), copy_out(*given)),
    )
    engine.submit(0)
    engine.collect(0)
    assert len(sizes) == len(apart.outputs) - 2
    reference = reference_outputs(apart, batches, 3, load.cache_dir)
    outputs = engine.outputs()
    for name, values in reference.items():
        assert np.allclose(outputs[name], values, atol=1e-5)
    engine.close()
    assert gpu.races == []


def test_a_copy_of_new_rows_on_another_stream_is_noticed(gpu: FakeGpu, make: Make) -> None:
    engine = TensorRTEngine.load(make())
    cuda: Any = engine._context.cuda  # type: ignore[union-attr]
    other, copy_rows = cuda.stream(), cuda.copy_rows
    cuda.copy_rows = lambda to, source, rows, stream: copy_rows(to, source, rows, other)
    engine.submit(0)
    engine.submit(1)
    assert any("copy of rows" in race or "past" in race for race in gpu.races)
    engine.close()


def test_several_streams_are_refused_before_anything_is_built(gpu: FakeGpu, make: Make) -> None:
    with pytest.raises(Unsupported, match=r"streams=2 .*Use engine.streams=1"):
        TensorRTEngine.load(make(streams=2))
    assert sys.modules["tensorrt"].builds == []  # type: ignore[attr-defined]


def test_state_beyond_the_memory_is_refused_before_anything_is_built(make: Make) -> None:
    for batch_size, limit in ((64, 1 << 14), (1 << 23, None)):
        with pytest.raises(OutOfMemory) as caught:
            TensorRTEngine.load(make(batch_size=batch_size, limit=limit))
        assert caught.value.stage == "input"
    assert sys.modules["tensorrt"].builds == []  # type: ignore[attr-defined]


def test_a_plan_that_reads_a_state_in_another_type_than_it_writes_is_refused(make: Make) -> None:
    load = make()
    outputs = tuple(
        replace(spec, dtype="float32") if spec.name == "next_token" else spec
        for spec in load.model.outputs
    )
    load = replace(load, model=replace(load.model, outputs=outputs))
    sys.modules["tensorrt"].model = load.model  # type: ignore[attr-defined]
    with pytest.raises(Unsupported, match=r"'token' as int64 .*'next_token', as float32"):
        TensorRTEngine.load(load)


def test_closing_gives_everything_back(gpu: FakeGpu, make: Make) -> None:
    engine = TensorRTEngine.load(make())
    assert engine.info.device_memory_bytes == gpu.used
    engine.submit(0)
    engine.close()
    engine.close()
    assert (gpu.memories, gpu.streams, gpu.events, gpu.graphs) == ({}, {}, {}, {})
