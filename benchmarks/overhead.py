"""What does raybench's own loop cost? The rate that its stream reports against a bare loop.

Both drive the same engine, loaded once in one process and pinned to one core, on the same graph and
batch. They take turns, a second each, in an order that alternates, so that whatever else moves on
the machine moves both. "stream" is the loop alone, in this process. "actor" is the whole worker in a
process of Ray's, with its readings and with as many snapshots for the driver as in a run, against the
bare loop in that process. Printed: the median ratio of the pairs and its spread. The last line is one
JSON document; exit code 1 when a median is below 0.99 at batch 8 or 0.98 at batch 1.

    python benchmarks/overhead.py [--pairs 15] [--seconds 1.0] [--only stream|actor]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from typing_extensions import override

from raybench.config.compose import read
from raybench.engines import registry
from raybench.engines.base import Engine, Load
from raybench.execute.stream_watch import SNAPSHOT_S
from raybench.experiment import ModelSettings
from raybench.machine import devices
from raybench.measure.blocks import items_between
from raybench.measure.stream import Stream
from raybench.models.cache import cache_dir
from raybench.models.items.batches import BatchPool
from raybench.models.prepare import prepare
from raybench.planning.plan import make_plan
from raybench.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from raybench.measure.prepared import Measurement

T = TypeVar("T")

LEAST = {8: 0.99, 1: 0.98}
"""By batch size."""
LEAD_NS = 100_000_000
CASES = (
    ("alexnet", "int8", 8),
    ("alexnet", "int8", 1),
    ("lenet5", "fp32", 8),
    ("lenet5", "fp32", 1),
)


def main() -> int:
    """Run all cases and print them; 1 when a median is too low."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--engine", default="openvino")
    parser.add_argument("--only", choices=("stream", "actor"))
    options = parser.parse_args()
    print(
        f"{'what':<7} {'network':<10} {'batch':>5} {'ms a batch':>11} {'over bare':>10} {'±':>7} "
        f"{'p10':>7} {'p90':>7} {'beside':>7}"
    )
    rows = _actors(options) if options.only != "stream" else []
    if options.only != "actor":
        devices.pin([devices.cores()[0]])  # last: Ray's processes would inherit it
        rows += [_stream(options, *case) for case in CASES]
    ok = all(row["ratio"] >= LEAST[row["batch_size"]] for row in rows)
    print(json.dumps({"benchmark": "overhead", "ok": ok, "engine": options.engine, "cases": rows}))
    return 0 if ok else 1


def _stream(
    options: argparse.Namespace, name: str, precision: str, batch_size: int
) -> dict[str, Any]:
    """Compare the stream in this process with the bare loop."""
    engine = _loaded(options.engine, name, precision, batch_size)
    found = _pairs(
        options, lambda seconds: _bare(engine, seconds), lambda seconds: _streamed(engine, seconds)
    )
    engine.close()
    return _row("stream", name, batch_size, *found)


def _pairs(
    options: argparse.Namespace, bare: Callable[[float], float], ours: Callable[[float], float]
) -> tuple[list[float], list[float]]:
    """Return the ratio of ours over bare and the bare batch time in ms, per pair."""
    bare(0.5)
    ratios, batch_ms = [], []
    for pair in range(options.pairs):
        runs = {}
        for kind, run in [("bare", bare), ("ours", ours)][:: 1 if pair % 2 else -1]:
            runs[kind] = run(options.seconds)
        ratios.append(runs["ours"] / runs["bare"])
        batch_ms.append(1e3 / runs["bare"])
    return ratios, batch_ms


def _row(
    what: str,
    name: str,
    batch_size: int,
    ratios: list[float],
    batch_ms: list[float],
    beside: float | None = None,
) -> dict[str, Any]:
    """Print the quantiles of the ratios and return them as a row."""
    median, low, high = (float(np.quantile(ratios, q)) for q in (0.5, 0.1, 0.9))
    # the median's standard error is that of the mean times sqrt(pi / 2)
    sure = 1.96 * float(np.std(ratios, ddof=1)) * (np.pi / 2 / len(ratios)) ** 0.5
    milliseconds = float(np.median(batch_ms))
    print(
        f"{what:<7} {name:<10} {batch_size:>5} {milliseconds:>11.3f} {median:>10.4f} {sure:>7.4f} "
        f"{low:>7.4f} {high:>7.4f} " + ("      -" if beside is None else f"{beside:>7.2%}"),
        flush=True,
    )
    return {
        "what": what,
        "network": name,
        "batch_size": batch_size,
        "batch_ms": milliseconds,
        "ratio": median,
        "ratio_half_width": sure,
        "beside": beside,
    }


# --- the worker as an actor -----------------------------------------------------------------------


class Both(Worker):
    """A worker that can also run the bare loop on its engine.

    It also measures the share of a core that the process's other threads take.
    """

    def __init__(self, label: str) -> None:
        super().__init__(label)
        self._used = {"bare": [0.0, 0.0], "ours": [0.0, 0.0]}

    def bare(self, seconds: float) -> float:
        """Return batches per second of the bare loop."""
        return self._counted("bare", lambda: _bare(self._ready.engine, seconds))

    @override
    def stream(self, *words: int) -> Measurement:
        run = super().stream
        return self._counted("ours", lambda: run(*words))

    def other_threads(self) -> float:
        """Return the share of a core that other threads take more in a stream than in the bare loop."""
        shares = {kind: cpu_s / length_s for kind, (cpu_s, length_s) in self._used.items()}
        return shares["ours"] - shares["bare"]

    def _counted(self, kind: str, run: Callable[[], T]) -> T:
        began = time.perf_counter(), time.process_time() - time.thread_time()
        found = run()
        self._used[kind][0] += time.process_time() - time.thread_time() - began[1]
        self._used[kind][1] += time.perf_counter() - began[0]
        return found


def _actors(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every case with the worker as a Ray actor, as in a run."""
    import ray

    from raybench.cluster import session

    class Actor(Both):
        @ray.method(concurrency_group="watch", enable_task_events=False)  # as in cluster/actor.py
        def snapshot(self, first_edge: int) -> Any:
            return super().snapshot(first_edge)

    with session.connect(None, {"cpu": 1, "gpu": 0}, False):
        make = ray.remote(concurrency_groups={"watch": 1})(Actor)
        rows = []
        for name, precision, batch_size in CASES:
            actor = make.options(num_cpus=1).remote("overhead")
            ray.get(actor.prepare.remote(_point(options, name, precision, batch_size), 0, 0, 0))
            found = _pairs(
                options,
                lambda seconds, actor=actor: ray.get(actor.bare.remote(seconds)),
                lambda seconds, actor=actor: _watched(actor, seconds),
            )
            beside = ray.get(actor.other_threads.remote())
            rows.append(_row("actor", name, batch_size, *found, beside))
            ray.kill(actor)
    return rows


def _point(options: argparse.Namespace, name: str, precision: str, batch_size: int) -> Any:
    question = Path(tempfile.mkdtemp(), "overhead.yaml")
    model = lenet5() if name == "lenet5" else name
    question.write_text(
        "# What does the loop cost?\n"
        f"grid: {{model: {model}, precision: {precision}, batch_size: {batch_size}, workers: 1}}\n"
    )
    words = [f"experiment={question}", "device=cpu", f"engine={options.engine}"]
    request = read(words).resolve({"cpu": 1, "gpu": 0})
    return make_plan(
        request.experiment, request.devices, request.cluster.isolation, "this machine"
    ).points[0]


def _watched(actor: Any, seconds: float) -> float:
    """Return batches per second of a worker's stream, with snapshots as often as in a run."""
    import ray

    start = time.perf_counter_ns() + LEAD_NS
    call = actor.stream.remote(start, start + int(seconds * 1e9), 200_000_000)
    known = 0
    while not ray.wait([call], timeout=SNAPSHOT_S)[0]:
        known += len(ray.get(actor.snapshot.remote(known)).edges)
    return _rate(ray.get(call).trace.done_ns)


# --- the loops ------------------------------------------------------------------------------------


def _loaded(engine_name: str, name: str, precision: str, batch_size: int) -> Engine:
    engine = registry.get(engine_name)
    source = str(lenet5()) if name == "lenet5" else name
    dialect = engine.traits.int8_dialect if precision == "int8" else None
    model = prepare(
        source, ModelSettings(), precision, dialect, cache_dir(), engine.traits.rewrites_lrn
    )
    batches = BatchPool(model.inputs, batch_size, seed=0, ranges=model.ranges)
    core = devices.core(devices.cores()[0])
    return engine.load(
        Load(model, batches, core, 1, True, engine.traits.settings(), None, cache_dir())
    )


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
    return _rate(trace.done_ns)


def _rate(done: Any) -> float:
    return items_between(done, done[0], done[-1], 1) * 1e9 / float(done[-1] - done[0])


def lenet5() -> Path:
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
    sys.exit(main())
