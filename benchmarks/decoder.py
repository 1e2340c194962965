"""Does raybench generate as many tokens a second as a bare loop around each library?

Both run the step of a decoder on the same graph, from the same state, on one core. The bare loop gives a
library its arrays and writes new keys and values into the caches with numpy, and nothing else: it is
written from the library's documentation and has nothing of raybench. They take turns, in an order that
alternates, so that whatever else moves on the machine moves both. Printed: the median ratio of the
pairs with its 95 % interval. First both generate some tokens, which must be equal. The last line is one
JSON document; exit code 1 when tokens differ or raybench is more than 3 % slower. `--clock cpu` counts
the time of the process in place of the clock on the wall, for a machine on which others work.

    python benchmarks/decoder.py [--model decoder_125m_step] [--context 512] [--pairs 15] [--clock cpu]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
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
    Infer = Callable[[Feed], Feed]

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
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--engine", choices=ENGINES)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    options = parser.parse_args()
    devices.pin([devices.cores()[0]])
    settings = ModelSettings(shapes={"context": options.context, "new_tokens": 128})
    model = prepare(options.model, settings, "fp32", None, cache_dir())
    print(f"{'library':<12} {'batch':>5} {'ms a token':>11} {'over bare':>10} {'±':>7}  tokens")
    engines = [options.engine] if options.engine else ENGINES
    rows = [_compared(options, model, name, batch) for name in engines for batch in BATCHES]
    ok = all(row["equal"] and row["ratio"] >= 1 - TOLERANCE for row in rows)
    print(json.dumps({"benchmark": "decoder", "ok": ok, "model": options.model, "cases": rows}))
    return 0 if ok else 1


def _compared(options: argparse.Namespace, model: Model, name: str, batch: int) -> dict[str, Any]:
    pool = BatchPool(model.fed_inputs, batch, seed=0, ranges=model.ranges)
    bare = _Bare(_LIBRARIES[name](model, batch), model, pool)
    engine = _loaded(name, model, pool)
    equal = bare.tokens(TOKENS) == _tokens(engine, TOKENS)
    ratios, bare_s = [], []

    def ours(seconds: float) -> int:
        start = time.perf_counter_ns()
        return len(Stream(engine, 1, 1).run(start, start + int(seconds * 1e9)).done_ns)

    for pair in range(options.pairs):
        order = (bare.run, ours)[:: -1 if pair % 2 else 1]
        rates = {turn is ours: _rate(turn, options) for turn in order}
        ratios.append(rates[True] / rates[False])
        bare_s.append(1 / rates[False])
    engine.close()
    ratio, milliseconds = float(np.median(ratios)), 1e3 * float(np.median(bare_s))
    # the median's standard error is that of the mean times sqrt(pi / 2)
    sure = 1.96 * float(np.std(ratios, ddof=1)) * (np.pi / 2 / len(ratios)) ** 0.5
    said = "equal" if equal else "DIFFERENT"
    print(
        f"{name:<12} {batch:>5} {milliseconds:>11.2f} {ratio:>10.4f} {sure:>7.4f}  {said}",
        flush=True,
    )
    return {
        "engine": name,
        "batch_size": batch,
        "bare_ms": milliseconds,
        "ratio": ratio,
        "ratio_half_width": sure,
        "equal": equal,
    }


class _Bare:
    """The simplest loop: infer, put what is new where the next token reads it."""

    def __init__(self, infer: Infer, model: Model, pool: BatchPool) -> None:
        self._infer, self._state = infer, model.state
        self._feed = InitialState.of(model, pool).first(pool.batch_size)
        self._count = 0

    def step(self) -> Array:
        """Generate one token of each sequence."""
        outputs = self._infer(self._feed)
        for one in self._state:
            if one.ring_axis is None:
                self._feed[one.input] = outputs[one.output]
            else:
                ring = self._feed[one.input]
                ring[:, :, self._count % ring.shape[2]] = outputs[one.output][:, :, 0]
        self._count += 1
        return outputs["next_token"]

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


def _onnxruntime(model: Model, batch: int) -> Infer:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_free_dimension_override_by_name("N", batch)
    session = ort.InferenceSession(str(model.path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda feed: dict(zip(names, session.run(names, feed), strict=True))


def _openvino(model: Model, batch: int) -> Infer:
    import openvino as ov

    graph = ov.Core().read_model(str(model.path))
    graph.reshape({spec.name: list(spec.with_batch(batch)) for spec in model.inputs})
    hints = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    hints["ENABLE_CPU_PINNING"] = False  # the process is pinned
    request = ov.Core().compile_model(graph, "CPU", hints).create_infer_request()
    bound: Feed = {}

    def infer(feed: Feed) -> Feed:
        for name, array in feed.items():
            if bound.get(name) is not array:  # a cache is bound once
                request.set_tensor(name, ov.Tensor(array, shared_memory=True))
                bound[name] = array
        request.infer()
        found = {spec.name: request.get_tensor(spec.name).data for spec in model.outputs}
        return {name: a.copy() if a.size <= batch else a for name, a in found.items()}

    return infer


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
