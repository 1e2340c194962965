"""The barrier before the engines, with a worker in this process."""

import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import onnx
import pytest
from helpers.tiny_graphs import tiny_conv

from raybench.config.compose import read
from raybench.errors import ConfigError
from raybench.machine import devices
from raybench.measure.load_barrier import COLD, WARM, LoadBarrier
from raybench.planning.plan import make_plan
from raybench.worker import Worker


def loading(path, cache):
    return SimpleNamespace(model=SimpleNamespace(path=path), cache_dir=cache)


def test_without_a_state_of_the_page_cache_nobody_waits(tmp_path):
    start = LoadBarrier().wait("as_is", loading(tmp_path / "none", tmp_path))
    assert (start.late_ms, start.page_cache) == (None, None)
    assert start.at_ns <= time.perf_counter_ns()


@pytest.mark.parametrize("state", [COLD, WARM])
def test_a_worker_waits_until_the_common_instant_and_names_the_page_cache(
    tmp_path, state, monkeypatch
):
    shares = {COLD: 0.0, WARM: 1.0}
    monkeypatch.setattr(
        "raybench.machine.page_cache.resident_frac",
        lambda files: shares[state] if len(tuple(files)) == 2 else None,
    )
    graph, cache = tmp_path / "tiny.onnx", tmp_path / "cache"
    onnx.save(tiny_conv(), graph)
    cache.mkdir()
    (cache / "plan").write_bytes(b"x")
    barrier, started = LoadBarrier(), []
    assert barrier.waiting_ns() is None
    thread = threading.Thread(
        target=lambda: started.append(barrier.wait(state, loading(graph, cache)))
    )
    thread.start()
    while barrier.waiting_ns() is None:
        time.sleep(0.001)
    assert barrier.set_page_cache(state) == state
    assert not started
    at_ns = time.perf_counter_ns() + 20_000_000
    barrier.open(at_ns, state)
    thread.join()
    (start,) = started
    assert (start.at_ns, start.page_cache) == (at_ns, state)
    assert start.late_ms >= 0


def test_a_state_that_was_not_reached_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr("raybench.machine.page_cache.resident_frac", lambda files: 0.4)
    assert LoadBarrier().set_page_cache(COLD) is None
    assert LoadBarrier().set_page_cache(WARM) is None


def test_a_worker_of_a_cold_start_counts_from_the_common_instant(monkeypatch):
    monkeypatch.setattr(devices, "pin", lambda cpus: None)
    monkeypatch.setattr(devices, "limit_memory", lambda size: None)
    words = ["experiment=cold_start", "engine=simulated", "device=cpu", "workers=1",
             "model=alexnet", "engine.load_s=0.02"]  # fmt: skip
    request = read(words).resolve({"cpu": 1})
    point = make_plan(request.experiment, {"cpu": 1}, "node", "").points[0]
    assert point.id != replace(point, measure=replace(point.measure, page_cache="warm")).id
    worker, prepared = Worker("w"), []
    thread = threading.Thread(target=lambda: prepared.append(worker.prepare(point, 0, 0, 0)))
    thread.start()
    while worker.waiting_ns() is None and thread.is_alive():
        time.sleep(0.001)
    worker.open_barrier(time.perf_counter_ns() + 5_000_000, worker.set_page_cache("cold"))
    thread.join()
    (made,) = prepared
    assert made.ready_s >= 0.02
    assert made.begun.late_ms >= 0
    assert made.begun.page_cache is None  # a simulated engine reads no file
    worker.close()


def test_an_unknown_state_of_the_page_cache_is_refused():
    with pytest.raises(ConfigError, match=r"Unknown measure\.page_cache 'cool'"):
        read(["experiment=cold_start", "measure.page_cache=cool"]).resolve({"cpu": 1})
