"""What does raybench's own loop cost? The rate that its stream reports against a bare loop.

Both drive the same engine, loaded once in this process and pinned to one core, on the same graph
and batch. They take turns, a second each, in an order that alternates, so that whatever else moves
on the machine moves both. Printed: the median ratio of the pairs and its spread. The last line is
one JSON document.

    python benchmarks/overhead.py [--pairs 15] [--seconds 1.0]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from raybench.engines import registry
from raybench.engines.base import Engine, Load
from raybench.experiment import ModelSettings
from raybench.machine import devices
from raybench.measure.blocks import items_between
from raybench.measure.stream import Stream
from raybench.models.batches import BatchPool
from raybench.models.cache import cache_dir
from raybench.models.prepare import prepare

CASES = (
    ("alexnet", "int8", 8),
    ("alexnet", "int8", 1),
    ("lenet5", "fp32", 8),
    ("lenet5", "fp32", 1),
)


def main() -> None:
    """Run all cases and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--engine", default="openvino")
    options = parser.parse_args()
    devices.pin([devices.cores()[0]])
    print(
        f"{'network':<10} {'batch':>5} {'ms a batch':>11} {'stream/bare':>12} {'p10':>7} {'p90':>7}"
    )
    rows = [_case(options, *case) for case in CASES]
    print(json.dumps({"benchmark": "overhead", "engine": options.engine, "cases": rows}))


def _case(
    options: argparse.Namespace, name: str, precision: str, batch_size: int
) -> dict[str, object]:
    engine = _loaded(options.engine, name, precision, batch_size)
    _bare(engine, 0.5)
    ratios, batch_ms = [], []
    for pair in range(options.pairs):
        runs = {}
        for kind in ("bare", "stream") if pair % 2 else ("stream", "bare"):
            run = _bare if kind == "bare" else _streamed
            runs[kind] = run(engine, options.seconds)
        ratios.append(runs["stream"] / runs["bare"])
        batch_ms.append(1e3 / runs["bare"])
    engine.close()
    median, low, high = (float(np.quantile(ratios, q)) for q in (0.5, 0.1, 0.9))
    milliseconds = float(np.median(batch_ms))
    print(
        f"{name:<10} {batch_size:>5} {milliseconds:>11.3f} {median:>12.4f} {low:>7.4f} {high:>7.4f}"
    )
    return {"network": name, "batch_size": batch_size, "batch_ms": milliseconds, "ratio": median}


def _loaded(engine_name: str, name: str, precision: str, batch_size: int) -> Engine:
    engine = registry.get(engine_name)
    source = str(_tiny()) if name == "lenet5" else name
    dialect = engine.int8_dialect if precision == "int8" else None
    model = prepare(source, ModelSettings(), precision, dialect, cache_dir(), engine.rewrites_lrn)
    batches = BatchPool(model.inputs, batch_size, seed=0, ranges=model.ranges)
    core = devices.core(devices.cores()[0])
    return engine.load(Load(model, batches, core, 1, True, engine.Settings(), None, cache_dir()))


def _bare(engine: Engine, seconds: float) -> float:
    """Batches per second of the simplest loop that there is."""
    submit, collect, clock = engine.submit, engine.collect, time.perf_counter
    count, began = 0, clock()
    end = began + seconds
    while True:
        submit(count)
        collect(count)
        count += 1
        now = clock()
        if now >= end:
            return count / (now - began)


def _streamed(engine: Engine, seconds: float) -> float:
    """Batches per second as a worker's trace tells it."""
    stream = Stream(engine, 1, 1)
    start = time.perf_counter_ns()
    trace = stream.run(start, start + int(seconds * 1e9))
    done = trace.done_ns
    return items_between(done, done[0], done[-1], 1) * 1e9 / float(done[-1] - done[0])


def _tiny() -> Path:
    """LeNet-5 on 32x32: a network that computes for tens of microseconds."""
    rng = np.random.default_rng(0)
    shapes = {
        "c1": (6, 1, 5, 5),
        "c2": (16, 6, 5, 5),
        "f1": (120, 400),
        "f2": (84, 120),
        "f3": (10, 84),
    }
    weights = [
        numpy_helper.from_array(rng.uniform(-0.1, 0.1, shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    node = helper.make_node
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        node("Conv", ["data", "c1"], ["a"]), node("Relu", ["a"], ["b"]),
        node("MaxPool", ["b"], ["c"], **pool),
        node("Conv", ["c", "c2"], ["d"]), node("Relu", ["d"], ["e"]),
        node("MaxPool", ["e"], ["f"], **pool), node("Flatten", ["f"], ["g"]),
        node("Gemm", ["g", "f1"], ["h"], transB=1), node("Relu", ["h"], ["i"]),
        node("Gemm", ["i", "f2"], ["j"], transB=1), node("Relu", ["j"], ["k"]),
        node("Gemm", ["k", "f3"], ["output"], transB=1),
    ]  # fmt: skip
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "lenet5",
        [info("data", TensorProto.FLOAT, ["N", 1, 32, 32])],
        [info("output", TensorProto.FLOAT, ["N", 10])],
        weights,
    )
    path = Path(tempfile.mkdtemp()) / "lenet5.onnx"
    onnx.save(
        helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), path
    )
    return path


if __name__ == "__main__":
    main()
