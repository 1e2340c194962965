"""TensorRTEngine on a fake of driver and runtime that enforces their rules, and on a GPU."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers.fake_gpu import WEIGHTS, Code, FakeDispatch, FakeEngine, FakeGpu, FakeLean, FakeTrt

from raybench.cluster import file_transfer
from raybench.engines import conformance
from raybench.engines.tensorrt import buffers, library, start
from raybench.engines.tensorrt.engine import TensorRTEngine
from raybench.engines.tensorrt.failures import DeviceLost
from raybench.engines.tensorrt.runner import Runner, fed_batches, slot_count
from raybench.errors import EngineFailure, OutOfMemory, Unsupported
from raybench.machine import nvml
from raybench.machine.devices import Device
from raybench.measure.output_bits import bits_at_start, sha256_at_end
from raybench.measure.probe import time_batch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from raybench.engines.base import Load

    Make = Callable[..., Load]

MODES: list[dict[str, Any]] = [
    {"cuda_graphs": False},
    {"cuda_graphs": True},
    {"streams": 2},
    {"streams": 2, "cuda_graphs": False},
    {"transfers": False},
    {"transfers": False, "cuda_graphs": False},
    {"transfers": False, "streams": 2},
]


def expected(load: Load, sequence: int) -> np.ndarray[Any, Any]:
    slots = slot_count(load.inflight, load.options.streams)
    fed = fed_batches(slots, load.batches.count, load.transfers)
    outputs: np.ndarray[Any, Any] = load.batches.batch(sequence % fed)["x"] @ WEIGHTS
    return outputs


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("inflight", [1, 2, 3, 4])
def test_streams_without_a_race_and_computes_every_batch(
    gpu: FakeGpu, make_load_on: Make, mode: dict[str, Any], inflight: int
) -> None:
    load = make_load_on(inflight=inflight, **mode)
    engine = TensorRTEngine.load(load)
    assert engine.info.notes == ()
    for sequence in range(inflight):
        engine.submit(sequence)
    for sequence in range(25):
        spans = engine.collect(sequence)
        assert min(spans) >= 0
        assert spans[1] > 0
        if not load.transfers:
            assert (spans[0], spans[2]) == (0, 0)
        elif gpu.calls:  # on a real GPU copies this small may end within a tick of the clock
            assert min(spans[0], spans[2]) > 0
        assert np.allclose(engine.outputs()["y"], expected(load, sequence))
        engine.submit(sequence + inflight)
    engine.close()
    assert gpu.races == []


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_keeps_the_contract(make_load_on: Make, mode: dict[str, Any]) -> None:
    load = make_load_on(**mode)
    conformance.check(TensorRTEngine, load, {"y": expected(load, 0)})


DYNAMIC = [mode for mode in MODES if mode.get("cuda_graphs", True)]


@pytest.mark.parametrize("mode", DYNAMIC, ids=str)
@pytest.mark.parametrize("inflight", [1, 3])
def test_a_dynamic_plan_runs_parts_of_batches_as_graphs_of_their_own(
    gpu: FakeGpu, make_load_on: Make, mode: dict[str, Any], inflight: int
) -> None:
    load = make_load_on(batch_size=6, inflight=inflight, largest_batch=8, **mode)
    conformance.check(TensorRTEngine, load, {"y": expected(load, 0)})
    engine = TensorRTEngine.load(replace(load, part_batches=True))
    assert engine.sizes == (1, 2, 4, 6)
    held = [1 + 5 * sequence % 6 for sequence in range(24)]
    for sequence in range(len(held) + inflight):
        if sequence >= inflight:
            done = sequence - inflight
            spans = engine.collect(done)
            assert spans[1] > 0
            items = held[done]
            whole = expected(load, done)
            assert np.array_equal(engine.outputs()["y"][:items], whole[:items])
        if sequence < len(held):
            engine.submit_part(sequence, held[sequence])
    engine.close()
    assert gpu.races == []


def test_a_part_copies_no_more_than_it_computes(
    trt: FakeTrt, gpu: FakeGpu, make_load: Make
) -> None:
    load = make_load(batch_size=8, largest_batch=8)
    engine = TensorRTEngine.load(replace(load, part_batches=True))
    copied: list[int] = []
    copy_in = engine._context.cuda.copy_in  # type: ignore[union-attr]
    engine._context.cuda.copy_in = lambda to, source, nbytes, stream: (  # type: ignore[method-assign, union-attr]
        copied.append(nbytes), copy_in(to, source, nbytes, stream),
    )[1]  # fmt: skip
    for sequence, items in enumerate((1, 3, 8)):
        engine.submit_part(sequence, items)
        engine.collect(sequence)
    assert copied == [1 * 16, 4 * 16, 8 * 16]
    engine.close()


def test_only_an_open_loop_pays_for_more_sizes(trt: FakeTrt, gpu: FakeGpu, make_load: Make) -> None:
    def captures(load: Load) -> int:
        gpu.calls.clear()
        engine = TensorRTEngine.load(load)
        count = gpu.calls.count("cudaStreamBeginCapture")
        engine.close()
        assert not any(memory.on_device for memory in gpu.memories.values())
        return count

    load = make_load(batch_size=8, largest_batch=8)
    assert captures(load) == 2
    assert captures(replace(load, part_batches=True)) == 8
    static = make_load(batch_size=8)
    assert captures(replace(static, part_batches=True)) == 2


@pytest.mark.parametrize(
    ("limit", "options", "sizes"),
    [
        (None, {}, (8,)),
        (None, {"largest_batch": 8, "cuda_graphs": False}, (8,)),
        (10_000, {"largest_batch": 8}, (4, 8)),
    ],
    ids=str,
)
def test_parts_are_padded_where_the_plan_is_static_or_memory_is_short(
    trt: FakeTrt,
    make_load: Make,
    limit: int | None,
    options: dict[str, Any],
    sizes: tuple[int, ...],
) -> None:
    load = make_load(batch_size=8, limit=limit, **options)
    engine = TensorRTEngine.load(replace(load, part_batches=True))
    assert engine.sizes == sizes
    engine.submit_part(0, 1)
    engine.collect(0)
    assert len(engine.outputs()["y"]) == sizes[0]
    engine.close()


def test_sizes_that_cannot_be_captured_are_left_out(
    trt: FakeTrt, gpu: FakeGpu, make_load: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = make_load(batch_size=8, largest_batch=8)
    add_size = Runner.add_size

    def refused(self: Runner, contexts: Any, ports: Any) -> Any:
        gpu.fail["cudaGraphInstantiate"] = Code.cudaErrorInvalidValue
        try:
            return add_size(self, contexts, ports)
        finally:
            del gpu.fail["cudaGraphInstantiate"]

    monkeypatch.setattr(Runner, "add_size", refused)
    engine = TensorRTEngine.load(replace(load, part_batches=True))
    assert engine.sizes == (8,)
    engine.submit_part(0, 3)
    engine.collect(0)
    assert np.allclose(engine.outputs()["y"], expected(load, 0))
    engine.close()


def test_the_fake_notices_a_race(trt: FakeTrt, gpu: FakeGpu, make_load: Make) -> None:
    engine = TensorRTEngine.load(make_load(inflight=1))
    engine.submit(0)
    engine.submit(1)
    assert gpu.races == []
    engine.submit(2)  # two slots: the third batch overwrites what the first one reads
    slot = engine._runner._slots[0]  # type: ignore[union-attr]
    late = f"the write of copy 1 is not ordered after an access by stream {slot.lane.compute}"
    assert gpu.races[0] == late
    engine.close()


@pytest.mark.parametrize(
    ("broken", "raced"), [("copy in", "the read of an input"), ("compute", "the read of copy 2")]
)
def test_a_stream_that_does_not_wait_is_noticed(
    trt: FakeTrt, gpu: FakeGpu, make_load: Make, broken: str, raced: str
) -> None:
    engine = TensorRTEngine.load(make_load(inflight=2))
    lane = engine._runner._slots[0].lane  # type: ignore[union-attr]
    deaf = lane.compute if broken == "copy in" else lane.copy_out
    wait = engine._context.cuda.wait  # type: ignore[union-attr]
    engine._context.cuda.wait = lambda stream, event: (  # type: ignore[method-assign, union-attr]
        None if stream is deaf else wait(stream, event)
    )
    engine.submit(0)
    assert raced in gpu.races[0]
    engine.close()


@pytest.mark.parametrize(("transfers", "calls"), [(False, 3), (True, 10)])
def test_a_batch_costs_few_calls(
    trt: FakeTrt, gpu: FakeGpu, make_load: Make, transfers: bool, calls: int
) -> None:
    engine = TensorRTEngine.load(make_load(transfers=transfers))
    gpu.calls.clear()
    engine.submit(0)
    assert len(gpu.calls) == calls
    assert gpu.calls.count("cudaGraphLaunch") == 1
    engine.close()


def test_a_copy_out_does_not_count_the_time_that_it_waits_for_earlier_ones(
    trt: FakeTrt, gpu: FakeGpu, make_load: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buffers, "QUEUED_BYTES", 0)
    engine = TensorRTEngine.load(make_load(transfers=True))
    gpu.calls.clear()
    engine.submit(0)
    assert gpu.calls[-4:] == [
        "cudaStreamWaitEvent",
        "cudaEventRecord",
        "cudaMemcpyAsync",
        "cudaEventRecord",
    ]
    assert len(gpu.calls) == 11
    slot = engine._runner._slots[0]  # type: ignore[union-attr]
    assert len({slot.computed, slot.leaving, slot.done}) == 3
    engine.close()


@pytest.mark.parametrize("mode", [{}, {"transfers": False}, {"inflight": 6, "streams": 2}], ids=str)
def test_there_are_as_many_graphs_as_slots(
    trt: FakeTrt, gpu: FakeGpu, make_load: Make, mode: dict[str, Any]
) -> None:
    engine = TensorRTEngine.load(make_load(**mode))
    assert len(gpu.graphs) == slot_count(mode.get("inflight", 2), mode.get("streams", 1))
    engine.close()


@pytest.mark.parametrize(
    "call", ["cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiate"]
)
def test_goes_on_without_graphs_when_capture_fails(
    trt: FakeTrt, gpu: FakeGpu, make_load: Make, call: str
) -> None:
    gpu.fail[call] = Code.cudaErrorStreamCaptureUnsupported
    load = make_load()
    engine = TensorRTEngine.load(load)
    assert engine.info.notes == (start.NOT_CAPTURED,)
    engine.submit(0)
    engine.collect(0)
    assert np.allclose(engine.outputs()["y"], expected(load, 0))
    engine.close()
    assert gpu.races == []


def test_close_gives_everything_back_and_twice_does_no_harm(
    trt: FakeTrt, gpu: FakeGpu, make_load: Make
) -> None:
    engine = TensorRTEngine.load(make_load())
    assert engine.info.device_memory_bytes == gpu.used
    engine.submit(0)
    engine.close()
    engine.close()
    assert (gpu.memories, gpu.streams, gpu.events, gpu.graphs) == ({}, {}, {}, {})


def test_a_failed_load_gives_everything_back(trt: FakeTrt, gpu: FakeGpu, make_load: Make) -> None:
    gpu.fail["cudaHostAlloc"] = Code.cudaErrorMemoryAllocation
    with pytest.raises(OutOfMemory) as caught:
        TensorRTEngine.load(make_load())
    assert (caught.value.stage, caught.value.requested_bytes) == ("input", 12)
    assert (gpu.streams, gpu.events, gpu.graphs) == ({}, {}, {})


def test_one_slot_per_batch_in_flight_and_one_batch_per_slot_without_transfers() -> None:
    assert [slot_count(1, 1), slot_count(4, 2), slot_count(5, 2)] == [2, 4, 6]
    assert [fed_batches(2, 5, True), fed_batches(2, 5, False), fed_batches(8, 5, False)] == [
        5,
        2,
        4,
    ]
    for streams in range(1, 5):
        for inflight in range(1, 9):
            slots = slot_count(inflight, streams)
            assert slots >= inflight
            for batches in range(4, 257):
                assert slots % fed_batches(slots, batches, False) == 0


# plans


def test_the_second_worker_reuses_the_plan(trt: FakeTrt, make_load: Make) -> None:
    for hit in (False, True):
        engine = TensorRTEngine.load(make_load())
        assert engine.info.build_cache_hit is hit
        assert engine.info.build_s > 0
        assert engine.info.engine_bytes == len(trt.loads[-1])
        engine.close()
    assert len(trt.builds) == 1
    assert trt.builds[0]["flags"] == set()  # TF32 is off, and nothing else is on
    assert trt.builds[0]["typed"] == 1 << 1


@pytest.mark.parametrize(
    "other",
    [{"batch_size": 4}, {"optimization_level": 5}, {"limit": 1 << 20}, {"workspace_mib": 1}],
)
def test_what_changes_a_plan_builds_another(
    trt: FakeTrt, make_load: Make, other: dict[str, Any]
) -> None:
    TensorRTEngine.load(make_load()).close()
    TensorRTEngine.load(make_load(**other)).close()
    assert len(trt.builds) == 2


def test_another_driver_or_library_builds_another(
    trt: FakeTrt, make_load: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    TensorRTEngine.load(make_load()).close()
    monkeypatch.setattr(trt, "__version__", "10.14.0")
    TensorRTEngine.load(make_load()).close()
    assert len(trt.builds) == 2


def test_a_corrupt_plan_is_built_again_and_never_loaded(trt: FakeTrt, make_load: Make) -> None:
    load = make_load()
    TensorRTEngine.load(load).close()
    (plan,) = (load.cache_dir / "tensorrt").glob("*.plan")
    plan.write_bytes(b"x" * plan.stat().st_size)
    engine = TensorRTEngine.load(load)
    assert engine.info.build_cache_hit is False
    assert b"xxx" not in b"".join(trt.loads)
    engine.close()


def test_a_plan_that_the_library_refuses_is_built_again(
    trt: FakeTrt, make_load: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = trt._build
    monkeypatch.setattr(trt, "_build", lambda network, config: b"foreign")
    with pytest.raises(EngineFailure, match="magic tag"):
        TensorRTEngine.load(make_load())
    monkeypatch.setattr(trt, "_build", build)
    engine = TensorRTEngine.load(make_load())
    assert engine.info.build_cache_hit is False
    engine.close()


def test_one_dynamic_plan_serves_every_batch_up_to_its_largest(
    trt: FakeTrt, make_load: Make
) -> None:
    for batch_size in (1, 3, 8):
        TensorRTEngine.load(make_load(batch_size=batch_size, largest_batch=8)).close()
    assert len(trt.builds) == 1
    with pytest.raises(Unsupported, match="Raise largest_batch"):
        TensorRTEngine.load(make_load(batch_size=9, largest_batch=8))


def test_a_dynamic_plan_can_be_tuned_for_a_batch_below_its_largest(
    trt: FakeTrt, make_load: Make
) -> None:
    TensorRTEngine.load(make_load(largest_batch=8)).close()
    TensorRTEngine.load(make_load(largest_batch=8, best_batch=2)).close()
    assert [build["best"] for build in trt.builds] == [(8, 4), (2, 4)]
    for largest in (None, 8):
        with pytest.raises(Unsupported, match=r"best_batch=9 is not in 1\.\."):
            TensorRTEngine.load(make_load(largest_batch=largest, best_batch=9))


def test_another_build_has_a_plan_of_its_own_and_learns_nothing_from_the_first(
    trt: FakeTrt, make_load: Make
) -> None:
    load = make_load()
    first = TensorRTEngine.prebuild(load)
    learnt = list((load.cache_dir / "tensorrt").glob("*.timing"))
    assert learnt
    for path in learnt:
        path.unlink()
    second = TensorRTEngine.prebuild(replace(load, build=1))
    assert not set(first) & set(second)
    assert not list((load.cache_dir / "tensorrt").glob("*.timing"))
    assert TensorRTEngine.prebuild(replace(load, build=0)) == first
    for build, hit in ((0, True), (1, True), (2, False)):
        engine = TensorRTEngine.load(replace(load, build=build))
        assert engine.info.build_cache_hit is hit
        engine.close()


def test_outputs_repeat_bit_for_bit_after_other_batches(trt: FakeTrt, make_load: Make) -> None:
    for transfers in (True, False):
        engine = TensorRTEngine.load(make_load(transfers=transfers))
        time_batch(engine, 0)
        bits = bits_at_start(engine)
        assert bits.repeats is True
        for sequence in range(1, 7):
            time_batch(engine, sequence)
        assert sha256_at_end(engine, bits) == bits.sha256
        engine.close()


def test_a_plan_that_was_built_ahead_is_a_hit(trt: FakeTrt, gpu: FakeGpu, make_load: Make) -> None:
    first, again = (TensorRTEngine.prebuild(make_load()) for _ in range(2))
    assert first == again
    assert len(trt.builds) == 1
    assert not gpu.memories
    assert [name.rpartition(".")[2] for name in first] == ["plan", "json"]


def test_a_plan_of_another_node_is_a_hit_unless_it_was_damaged_on_the_way(
    trt: FakeTrt, make_load: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = make_load()
    monkeypatch.setenv("RAYBENCH_CACHE", str(here.cache_dir))
    names = TensorRTEngine.prebuild(here)
    manifest = file_transfer.manifest(names)
    bundle = file_transfer.bundle_cached(names)
    for node, damaged in (("second", False), ("third", True)):
        there = replace(here, cache_dir=tmp_path / node)
        monkeypatch.setenv("RAYBENCH_CACHE", str(there.cache_dir))
        assert file_transfer.store_in_cache(manifest, lambda: bundle)
        if damaged:
            (there.cache_dir / names[0]).write_bytes(b"else")
        engine = TensorRTEngine.load(there)
        assert engine.info.build_cache_hit is not damaged
        engine.close()
    assert len(trt.builds) == 2
    engine = TensorRTEngine.load(make_load())
    assert engine.info.build_cache_hit is True
    engine.close()


# the lean runtime


@pytest.fixture
def lean_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A library of the lean runtime that is installed."""
    path = tmp_path / "libnvinfer_lean.so.10"
    path.touch()
    monkeypatch.setattr(library, "lean_path", lambda: path)
    return path


@pytest.mark.parametrize("thin", [FakeLean, FakeDispatch])
def test_thin_runtimes_find_what_another_minor_version_built(
    thin: type[FakeLean],
    trt: FakeTrt,
    gpu: FakeGpu,
    make_load: Make,
    lean_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load = make_load(version_compatible=True)
    TensorRTEngine.load(load).close()
    assert trt.builds[0]["flags"] == {"VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME"}
    runtime = thin(gpu)
    monkeypatch.setattr(library, "load", lambda edition: runtime)
    engine = TensorRTEngine.load(load)
    assert engine.info.build_cache_hit is True
    assert engine.info.version == runtime.__version__
    engine.close()
    by_dispatch = str(lean_file) if thin is FakeDispatch else None
    assert (trt.lean_path, runtime.lean_path) == (None, by_dispatch)


def test_the_lean_runtime_says_why_a_plan_will_not_load_and_keeps_it(
    trt: FakeTrt, gpu: FakeGpu, make_load: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = make_load(version_compatible=True)
    TensorRTEngine.prebuild(load)
    lean = FakeLean(gpu)
    monkeypatch.setattr(library, "load", lambda edition: lean)
    monkeypatch.setattr(lean, "_deserialize", lambda plan: lean.say("stub called"))
    with pytest.raises(EngineFailure, match="stub called"):
        TensorRTEngine.load(load)
    assert len(list((load.cache_dir / "tensorrt").glob("*.plan"))) == 1


def test_the_lean_runtime_is_refused_what_it_cannot_do(
    trt: FakeTrt, gpu: FakeGpu, make_load: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "load", lambda edition: FakeDispatch(gpu))
    monkeypatch.setattr(library, "lean_path", lambda: None)
    with pytest.raises(Unsupported, match="by the library of the package tensorrt_lean"):
        TensorRTEngine.load(make_load(version_compatible=True))
    monkeypatch.setattr(library, "load", lambda edition: FakeLean(gpu))
    with pytest.raises(Unsupported, match=r"engine\.version_compatible=true"):
        TensorRTEngine.load(make_load())
    with pytest.raises(Unsupported, match="copy plans that were built for this GPU"):
        TensorRTEngine.load(make_load(version_compatible=True))


# refusals


@pytest.mark.parametrize(
    "option",
    [{"streams": 0}, {"optimization_level": 6}, {"timing_rounds": 0}, {"int8_rest": "fp8"}],
    ids=str,
)
def test_an_option_out_of_range_is_refused_by_name(
    trt: FakeTrt, gpu: FakeGpu, make_load: Make, option: dict[str, Any]
) -> None:
    with pytest.raises(Unsupported, match=next(iter(option))):
        TensorRTEngine.load(make_load(**option))
    assert gpu.calls == []


def test_no_object_of_tensorrt_is_made_without_a_device(
    trt: FakeTrt, gpu: FakeGpu, make_load: Make
) -> None:
    gpu.devices = 0
    with pytest.raises(Unsupported, match="no CUDA device"):
        TensorRTEngine.load(make_load())
    assert trt.logger is None
    assert gpu.calls == ["cudaGetDeviceCount"]


def test_the_memory_limit_is_enforced_before_building(
    trt: FakeTrt, gpu: FakeGpu, make_load: Make
) -> None:
    with pytest.raises(OutOfMemory, match="memory_limit") as caught:
        TensorRTEngine.load(make_load(limit=95))
    assert (caught.value.stage, caught.value.requested_bytes) == ("input", 96)
    assert trt.builds == []


def test_the_memory_limit_counts_contexts_before_they_are_made(
    trt: FakeTrt, gpu: FakeGpu, make_load: Make
) -> None:
    with pytest.raises(OutOfMemory) as caught:
        TensorRTEngine.load(make_load(limit=4096))
    assert caught.value.stage == "load"
    assert trt.builds[0]["workspace"] == 4096
    assert "cudaMalloc" not in gpu.calls


@pytest.mark.parametrize(("stage", "free_bytes"), [("load", 4000), ("input", 4110)])
def test_a_full_device_names_the_stage(
    trt: FakeTrt, gpu: FakeGpu, make_load: Make, stage: str, free_bytes: int
) -> None:
    gpu.memory_bytes = free_bytes
    if stage == "load":
        trt.refuses = "Requested amount of GPU memory (4096 bytes) could not be allocated"
        stage = "build"
    with pytest.raises(OutOfMemory) as caught:
        TensorRTEngine.load(make_load())
    assert caught.value.stage == stage
    assert caught.value.requested_bytes is not None


def test_the_parser_names_the_node(trt: FakeTrt, make_load: Make) -> None:
    load = make_load()
    load.model.path.write_text("bad")
    with pytest.raises(Unsupported, match=r"'warp_7'.*No importer registered for op: Warp"):
        TensorRTEngine.load(load)


def test_a_lost_device_ends_the_process(trt: FakeTrt, gpu: FakeGpu, make_load: Make) -> None:
    engine = TensorRTEngine.load(make_load())
    engine.submit(0)
    for call in ("cudaEventSynchronize", "cudaStreamSynchronize", "cudaFree"):
        gpu.fail[call] = Code.cudaErrorIllegalAddress
    with pytest.raises(DeviceLost):
        engine.collect(0)
    engine.close()


def test_a_runtime_without_a_builder_says_what_to_do(
    trt: FakeTrt, make_load: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = make_load()
    TensorRTEngine.load(load).close()
    monkeypatch.delattr(FakeTrt, "Builder")
    TensorRTEngine.load(load).close()  # from the cache, without the builder
    with pytest.raises(Unsupported, match="cannot build"):
        TensorRTEngine.load(make_load(batch_size=7))


def test_unavailable_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "find_spec", lambda name: None)
    assert "pip install 'raybench[tensorrt]'" in (TensorRTEngine.unavailable() or "")


def test_unavailable_without_bindings(trt: FakeTrt, monkeypatch: pytest.MonkeyPatch) -> None:
    assert TensorRTEngine.unavailable() is None
    assert trt.logger is None
    monkeypatch.delitem(sys.modules, "cuda.bindings")
    assert "cuda-bindings" in (TensorRTEngine.unavailable() or "")


def test_unsupported_never_lets_a_precision_pass_as_another(trt: FakeTrt, make_load: Make) -> None:
    device = make_load().device
    for precision in ("fp32", "tf32", "fp16", "int8"):
        assert TensorRTEngine.unsupported(precision, device, True) is None
    for precision in ("bf16", "fp8"):
        assert precision in (TensorRTEngine.unsupported(precision, device, True) or "")
    declared = replace(device, declared=True)
    assert "nvidia-smi" in (TensorRTEngine.unsupported("fp32", declared, True) or "")


def test_unsupported_knows_old_chips(trt: FakeTrt, monkeypatch: pytest.MonkeyPatch) -> None:
    pascal = nvml.Gpu(0, "GPU-0", "Tesla P40", compute_capability="6.1")
    monkeypatch.setattr(nvml, "inventory", lambda: (pascal,))
    device = Device("gpu", "Tesla P40", 0, "GPU-0", "0")
    assert TensorRTEngine.unsupported("int8", device, True) is None
    assert "8.0" in (TensorRTEngine.unsupported("tf32", device, True) or "")


@pytest.mark.parametrize("mode", [{}, {"transfers": False}, {"streams": 2}], ids=str)
def test_times_each_layer_and_adds_the_inspector_s_facts(
    trt: FakeTrt, make_load: Make, mode: dict[str, Any]
) -> None:
    engine = TensorRTEngine.load(make_load(**mode))
    for sequence in range(3):
        engine.submit(sequence)
        engine.collect(sequence)
    dot, reformat = engine.layers(4)
    assert (dot.name, dot.kind, dot.time_ns) == ("dot", "MatrixMultiply", 250_000)
    assert (reformat.name, reformat.kind, reformat.info_json) == ("reformat", None, None)
    engine.close()


def test_a_runtime_without_an_inspector_still_times_its_layers(
    trt: FakeTrt, make_load: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(self: FakeEngine) -> Any:
        raise RuntimeError("Could not activate keep_alive!")  # tensorrt_lean 8.6.0

    monkeypatch.setattr(FakeEngine, "create_engine_inspector", missing)
    engine = TensorRTEngine.load(make_load())
    dot, _ = engine.layers(4)
    assert (dot.name, dot.kind, dot.time_ns) == ("dot", None, 250_000)
    engine.close()


def test_the_lean_library_is_found_in_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert library.lean_path() is None
    package = tmp_path / "tensorrt_lean_libs"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "libnvinfer_lean.so.10").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert library.lean_path() == package / "libnvinfer_lean.so.10"
