"""Does raybench generate as many tokens a second as a bare loop around each library?

Both run the step of a decoder on the same graph, from the same state, on one core. The bare loop gives a
library its arrays, bound once, and writes new keys and values into the caches with numpy, and nothing
else: it is written from the library's documentation and has nothing of raybench. They take turns, in an
order that alternates, so that whatever else moves on the machine moves both. Where in memory a model
lies moves its speed by 5 %, and the one that is loaded second is faster: so both are loaded several
times, each as often first as second, in processes of their own. Printed: the mean ratio over these loads,
each by the median of its pairs, with the lowest and the highest. First both generate some tokens, which must be
equal. The last line is one JSON document; exit code 1 when tokens differ or raybench is more than 3 %
slower. `--clock cpu` counts the time of the process in place of the clock on the wall, for a machine
on which others work.

    python benchmarks/decoder.py [--model decoder_125m_step] [--context 512] [--loads 4] [--clock cpu]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.engines import registry
from raybench.engines.base import Load
from raybench.experiment import ModelSettings
from raybench.machine import devices
from raybench.measure.stream import Stream
from raybench.models.cache import cache_dir
from raybench.models.items.batches import BatchPool
from raybench.models.items.initial_state import InitialState
from raybench.models.prepare import prepare

if TYPE_CHECKING:
    from collections.abc import Callable

    from raybench.engines.base import Engine
    from raybench.models.model import Model

    Array = np.ndarray[Any, Any]
    Feed = dict[str, Array]

TOLERANCE = 0.03
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
ENGINES = ("onnxruntime", "openvino")
BATCHES = (1, 4)
TOKENS = 40
"""That both generate before the first turn."""


def main() -> int:
    """Compare each engine at each batch and print; 1 when one is off."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="decoder_125m_step")
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--loads", type=int, default=4)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--engine", choices=ENGINES)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    options = parser.parse_args()
    print(
        f"{'library':<12} {'batch':>5} {'ms a token':>11} {'over bare':>10} {'loads':>15}  tokens"
    )
    engines = [options.engine] if options.engine else ENGINES
    rows = [_case(options, name, batch) for name in engines for batch in BATCHES]
    ok = all(row["equal"] and row["ratio"] >= 1 - TOLERANCE for row in rows)
    print(json.dumps({"benchmark": "decoder", "ok": ok, "model": options.model, "cases": rows}))
    return 0 if ok else 1


def _case(options: argparse.Namespace, name: str, batch: int) -> dict[str, Any]:
    """Load both several times, print what the loads say together, and return it."""
    loads = []
    for index in range(options.loads):
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            loads.append(process.submit(_compared, options, name, batch, bool(index % 2)).result())
    ratios = [load.ratio for load in loads]
    ratio = float(np.exp(np.mean(np.log(ratios))))
    milliseconds, equal = (
        float(np.median([load.bare_ms for load in loads])),
        all(load.equal for load in loads),
    )
    said, spread = "equal" if equal else "DIFFERENT", f"{min(ratios):.4f}-{max(ratios):.4f}"
    print(
        f"{name:<12} {batch:>5} {milliseconds:>11.2f} {ratio:>10.4f} {spread:>15}  {said}",
        flush=True,
    )
    return {
        "engine": name,
        "batch_size": batch,
        "bare_ms": milliseconds,
        "ratio": ratio,
        "ratios": ratios,
        "equal": equal,
    }


@dataclass(frozen=True)
class _Load:
    """What one load of both says: the median ratio, the bare loop's time of a step, and equal tokens."""

    ratio: float
    bare_ms: float
    equal: bool


def _compared(options: argparse.Namespace, name: str, batch: int, ours_first: bool) -> _Load:
    devices.pin([devices.cores()[0]])
    settings = ModelSettings(shapes={"context": options.context, "new_tokens": 128})
    model = prepare(options.model, settings, "fp32", None, cache_dir())
    pool = BatchPool(model.fed_inputs, batch, seed=0, ranges=model.ranges)
    if ours_first:
        engine = _loaded(name, model, pool)
    bare = _Bare(name, model, pool)
    if not ours_first:
        engine = _loaded(name, model, pool)
    equal = bare.tokens(TOKENS) == _tokens(engine, TOKENS)

    def ours(seconds: float) -> int:
        start = time.perf_counter_ns()
        return len(Stream(engine, 1, 1).run(start, start + int(seconds * 1e9)).done_ns)

    ratios, bare_s = [], []
    for pair in range(options.pairs):
        order = (bare.run, ours)[:: -1 if pair % 2 else 1]
        rates = {turn is ours: _rate(turn, options) for turn in order}
        ratios.append(rates[True] / rates[False])
        bare_s.append(1 / rates[False])
    engine.close()
    return _Load(float(np.median(ratios)), 1e3 * float(np.median(bare_s)), equal)


class _Bare:
    """The simplest loop: infer, put what is new where the next token reads it."""

    def __init__(self, name: str, model: Model, pool: BatchPool) -> None:
        self._state, self._count = model.state, 0
        self._feed = InitialState.of(model, pool).first(pool.batch_size)
        specs = {spec.name: spec for spec in model.outputs}
        self._outputs = {
            each: np.empty(spec.with_batch(pool.batch_size), spec.dtype)
            for each, spec in specs.items()
        }
        self._infer = _LIBRARIES[name](str(model.path), self._feed, self._outputs)

    def step(self) -> Array:
        """Generate one token of each sequence."""
        self._infer()
        for one in self._state:
            held, new = self._feed[one.input], self._outputs[one.output]
            if one.ring_axis is None:
                held[...] = new
            else:
                held[:, :, self._count % held.shape[2]] = new[:, :, 0]
        self._count += 1
        return self._outputs["next_token"]

    def tokens(self, count: int) -> list[list[int]]:
        """Return the next tokens of each sequence."""
        return [self.step().ravel().tolist() for _ in range(count)]

    def run(self, seconds: float) -> int:
        """Return how many steps were made in so many seconds, and a little more."""
        count, end = 0, time.perf_counter() + seconds
        while time.perf_counter() < end:
            self.step()
            count += 1
        return count


def _rate(turn: Callable[[float], int], options: argparse.Namespace) -> float:
    """Return the steps per second of a turn, by the clock that was asked for."""
    clock = CLOCKS[options.clock]
    began = clock()
    return turn(options.seconds) / (clock() - began)


def _onnxruntime(path: str, feed: Feed, outputs: Feed) -> Callable[[], object]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_free_dimension_override_by_name("N", len(feed["token"]))
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    for name, array in feed.items():
        binding.bind_cpu_input(name, array)
    for name, array in outputs.items():
        binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
    return lambda: session.run_with_iobinding(binding)


def _openvino(path: str, feed: Feed, outputs: Feed) -> Callable[[], object]:
    import openvino as ov

    graph = ov.Core().read_model(path)
    graph.reshape({name: list(array.shape) for name, array in feed.items()})
    hints = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    hints["ENABLE_CPU_PINNING"] = False  # the process is pinned
    request = ov.Core().compile_model(graph, "CPU", hints).create_infer_request()
    for name, array in {**feed, **outputs}.items():
        request.set_tensor(name, ov.Tensor(array, shared_memory=True))
    return request.infer


_LIBRARIES = {"onnxruntime": _onnxruntime, "openvino": _openvino}


def _loaded(name: str, model: Model, pool: BatchPool) -> Engine:
    engine = registry.get(name)
    core = devices.core(devices.cores()[0])
    return engine.load(
        Load(model, pool, core, 1, True, engine.traits.settings(), None, cache_dir())
    )


def _tokens(engine: Engine, count: int) -> list[list[int]]:
    found = []
    for sequence in range(count):
        engine.submit(sequence)
        engine.collect(sequence)
        found.append(engine.outputs()["next_token"].ravel().tolist())
    return found


if __name__ == "__main__":
    sys.exit(main())
