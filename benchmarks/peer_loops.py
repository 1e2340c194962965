"""Inference loops for `peers.py`, run by the Python of another environment without raybench.

    python peer_loops.py bare ENGINE MODEL BATCHES SECONDS        the simplest loop that there is
    python peer_loops.py loadgen MODEL BATCHES SECONDS RATE       MLCommons LoadGen, Offline
    python peer_loops.py server MODEL BATCH SECONDS RATE CORE SEED  MLCommons LoadGen, Server
    python peer_loops.py tune MODEL BATCHES SECONDS CORE          a grid of Ray Tune around the loop

BATCHES are sizes with commas; RATE is items/s to expect, without which LoadGen ends a run at once or
calls it invalid. The last line is one JSON list, an entry a batch size.
"""

from __future__ import annotations

import array
import json
import os
import queue
import re
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

WARM_UP = 10
"""Batches before the clock starts, in every loop."""


def loaded(engine: str, model: str, batch: int) -> tuple[Callable[[Any], Any], Any]:
    """Return a function that infers one batch on one thread, and its input."""
    if engine == "openvino":
        import openvino as ov

        graph = ov.Core().read_model(model)
        shape = [batch, *(dim.get_length() for dim in list(graph.inputs[0].partial_shape)[1:])]
        graph.reshape(shape)
        hints = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        hints["ENABLE_CPU_PINNING"] = False  # the caller has chosen the core
        request = ov.Core().compile_model(graph, "CPU", hints).create_infer_request()
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        request.set_input_tensor(ov.Tensor(x, shared_memory=True))
        return lambda _: request.infer(), None
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    tensor = session.get_inputs()[0]
    x = np.random.default_rng(0).standard_normal((batch, *tensor.shape[1:])).astype(np.float32)
    return lambda feed: session.run(None, feed), {tensor.name: x}


def bare(engine: str, model: str, batch: int, seconds: float) -> float:
    """Return the items per second of a loop that only infers."""
    infer, feed = loaded(engine, model, batch)
    for _ in range(WARM_UP):
        infer(feed)
    count, clock = 0, time.perf_counter
    began = now = clock()
    while now - began < seconds:
        infer(feed)
        count += 1
        now = clock()
    return batch * count / (now - began)


def loadgen(model: str, batch: int, seconds: float, rate: float) -> dict[str, Any]:
    """Return LoadGen's items per second and whether it calls the run valid."""
    import mlperf_loadgen as lg

    infer, feed = loaded("openvino", model, batch)
    response = array.array("B", b"\0" * 4)
    address = response.buffer_info()[0]

    def issue(queries: list[Any]) -> None:
        for first in range(0, len(queries), batch):
            infer(feed)
            part = queries[first : first + batch]
            lg.QuerySamplesComplete([lg.QuerySampleResponse(q.id, address, 4) for q in part])

    settings = lg.TestSettings()
    settings.mode = lg.TestMode.PerformanceOnly
    settings.scenario = lg.TestScenario.Offline
    settings.offline_expected_qps = rate
    settings.min_duration_ms, settings.min_query_count = int(seconds * 1000), 1
    for _ in range(WARM_UP):
        infer(feed)
    results = _summary(lg, issue, settings)
    return {
        "items_per_s": float(results["Samples per second"]),
        "valid": results["Result is"] == "VALID",
    }


def _summary(lg: Any, issue: Callable[[list[Any]], None], settings: Any) -> dict[str, str]:
    """Run LoadGen and return what its summary says, by name."""
    summary, _ = _logs(lg, issue, settings, trace=False)
    lines = dict(line.split(":", 1) for line in summary.splitlines() if line.count(":") == 1)
    return {name.strip(): value.strip() for name, value in lines.items()}


def _latency_ms(lg: Any, issue: Callable[[list[Any]], None], settings: Any) -> list[float]:
    """Run LoadGen and return the latencies of its samples from their scheduled times, in that order."""
    _, trace = _logs(lg, issue, settings, trace=True)
    samples = re.findall(r'"sample_seq":(\d+),.*"complete_ns":(\d+)', trace)
    if not samples:
        raise SystemExit("LoadGen's trace names no samples.")
    return [int(ns) / 1e6 for _, ns in sorted(samples, key=lambda sample: int(sample[0]))]


def _logs(
    lg: Any, issue: Callable[[list[Any]], None], settings: Any, trace: bool
) -> tuple[str, str]:
    """Run LoadGen and return its summary and, if asked for, its trace."""
    under_test = lg.ConstructSUT(issue, lambda: None)
    library = lg.ConstructQSL(64, 64, lambda _: None, lambda _: None)
    with tempfile.TemporaryDirectory() as folder:
        logs = lg.LogSettings()
        logs.log_output.outdir, logs.enable_trace = folder, trace
        lg.StartTestWithLogSettings(under_test, library, settings, logs, "")
        names = ("mlperf_log_summary.txt", "mlperf_log_trace.json")
        summary, traced = (Path(folder, name).read_text() for name in names)
    lg.DestroyQSL(library)
    lg.DestroySUT(under_test)
    return summary, traced


def server(
    model: str, batch: int, seconds: float, rate: float, core: int, seed: int
) -> dict[str, list[float]]:
    """Return the latencies of LoadGen's Server scenario at a rate, in ms.

    A thread on the core takes what has arrived, up to a batch, and runs the next size above it.
    """
    import mlperf_loadgen as lg

    others = os.sched_getaffinity(0) - {core}
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
    response = array.array("B", b"\0" * 4)
    address = response.buffer_info()[0]
    ready = threading.Event()

    def serve() -> None:
        os.sched_setaffinity(0, {core})
        sizes = [size for size in (1, 2, 4, 8, 16, 32, 64) if size < batch] + [batch]
        infers = {size: loaded("openvino", model, size)[0] for size in sizes}
        for infer in infers.values():
            for _ in range(WARM_UP):
                infer(None)
        ready.set()
        while (first := waiting.get()) is not None:
            taken = [first]
            while len(taken) < batch and not waiting.empty():
                taken.append(waiting.get())
            infers[next(size for size in sizes if size >= len(taken))](None)
            lg.QuerySamplesComplete([lg.QuerySampleResponse(q.id, address, 4) for q in taken])

    def issue(queries: list[Any]) -> None:
        for query in queries:
            waiting.put(query)

    server_thread = threading.Thread(target=serve, daemon=True)
    server_thread.start()
    ready.wait()
    if others:
        os.sched_setaffinity(0, others)  # LoadGen's thread inherits it
    settings = lg.TestSettings()
    settings.mode = lg.TestMode.PerformanceOnly
    settings.scenario = lg.TestScenario.Server
    settings.server_target_qps = rate
    settings.schedule_rng_seed = seed
    settings.min_duration_ms, settings.min_query_count = int(seconds * 1000), 1
    latency_ms = _latency_ms(lg, issue, settings)
    waiting.put(None)
    server_thread.join()
    return {"latency_ms": latency_ms}


def tune(model: str, batches: list[int], seconds: float, core: int) -> list[dict[str, Any]]:
    """Run a grid search of Ray Tune over batch sizes, one trial at a time, on one core."""
    import ray
    import ray.tune

    def trial(config: dict[str, Any]) -> None:
        os.sched_setaffinity(0, {core})
        rate = bare("openvino", model, config["batch"], seconds)
        ray.tune.report({"items_per_s": rate})

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    space = {"batch": ray.tune.grid_search(batches)}
    with tempfile.TemporaryDirectory() as folder:
        kept = ray.tune.RunConfig(storage_path=folder, verbose=0)
        one = ray.tune.with_resources(trial, {"cpu": 1})
        results = ray.tune.Tuner(one, param_space=space, run_config=kept).fit()
        found = {r.config["batch"]: r.metrics["items_per_s"] for r in results}
    ray.shutdown()
    return [{"batch": batch, "items_per_s": found[batch]} for batch in batches]


def main(words: list[str]) -> None:
    """Run the loop that the words name; print JSON last."""
    kind, *rest = words
    if kind == "bare":
        engine, model, sizes, seconds = rest
        batches = [int(size) for size in sizes.split(",")]
        rows = [
            {"batch": b, "items_per_s": bare(engine, model, b, float(seconds))} for b in batches
        ]
    elif kind == "loadgen":
        model, sizes, seconds, rate = rest
        batches = [int(size) for size in sizes.split(",")]
        rows = [{"batch": b, **loadgen(model, b, float(seconds), float(rate))} for b in batches]
    elif kind == "server":
        model, batch, seconds, rate, core, seed = rest
        rows = [server(model, int(batch), float(seconds), float(rate), int(core), int(seed))]
    else:
        model, sizes, seconds, core = rest
        rows = tune(model, [int(size) for size in sizes.split(",")], float(seconds), int(core))
    print(json.dumps(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
