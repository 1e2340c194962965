"""What do other tools measure for the same graph on the same core, and how long do they take?

    python benchmarks/peers.py [--rounds 4] [--seconds 4] [--install] [--only rates|walls]

The graph is a small fp32 ResNet (0.7 M parameters, 3x64x64) at batch 8, the runtime OpenVINO, for
optimum-benchmark and its counterpart ONNX Runtime; one thread each. Everything that can be is pinned
to the core that raybench gives its first worker. Peers take turns, in an order that moves on by one
each round, and each stands between two runs of the bare loop of its runtime: "of bare" is the peer's
rate over the mean of the two. Then each peer runs a grid of batch 1, 4, 8, 16 at 3 s a point; "wall"
is from the command to its end, "over" what is not the 12 s.

benchmark_app comes with OpenVINO. LoadGen, Ray Tune and optimum-benchmark run in environments of
their own under build/peers, which --install makes (optimum-benchmark brings a CUDA build of torch: 6
GB). A peer that is not there, or that fails, is a line that says so. LoadGen needs the rate
beforehand; it gets the bare loop's, 10 % up. optimum-benchmark's launcher spins beside the process
that it times, so it is not pinned. Ray Tune only orders trials of the bare loop: it has a wall and no
rate of its own.

Prints a table and, last, one line of JSON. Exit code 1 when raybench and benchmark_app, both over the
bare loop beside them, differ by more than 3 %.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import raybench
from raybench.machine import devices

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH = 8
GRID = (1, 4, 8, 16)
GRID_S = 3.0
AGREE = 0.03
ROOT = Path(__file__).resolve().parents[1]
LOOPS = Path(__file__).with_name("peer_loops.py")
ENVIRONMENTS = ROOT / "build" / "peers"
NEEDS = {
    "harness": ("mlcommons-loadgen", "ray[tune]", "openvino", "numpy"),
    "optimum": (
        *("optimum-benchmark", "onnx", "onnxruntime"),
        *("optimum[onnxruntime]==1.24.0", "transformers==4.48.3"),  # 0.6.0 fails with newer ones
    ),
}
PYTHON = {name: ENVIRONMENTS / name / "bin" / "python" for name in NEEDS}
ENOUGH_S = 600


class Missing(Exception):
    """A peer that is missing or failed; the message says why."""


@dataclass(frozen=True)
class Bench:
    """Paths and core that all peers share."""

    folder: Path
    core: int

    @property
    def model(self) -> Path:
        """Return the path of the graph, in a folder that optimum-benchmark accepts as a model."""
        return self.folder / "cnn" / "model.onnx"


@dataclass(frozen=True)
class Peer:
    """A tool with its functions for a rate and a grid; `rate` is None where it has none."""

    name: str
    engine: str
    rate: Callable[[Bench, float, float], float] | None
    grid: Callable[[Bench, float], Any]


# --- the tools ------------------------------------------------------------------------------------


def run(*command: object, pinned: int | None = None) -> str:
    """Return the output of a command; a failure raises Missing with its last lines."""
    words = [str(word) for word in command]
    if pinned is not None:
        words = ["taskset", "--cpu-list", str(pinned), *words]
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=ENOUGH_S, check=False, cwd=ROOT
        )
    except FileNotFoundError:
        raise Missing(f"not installed: {words[0]} is missing; --install makes it") from None
    except subprocess.TimeoutExpired:
        raise Missing(f"did not end in {ENOUGH_S} s") from None
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no words").splitlines()[-1]
        raise Missing(f"failed: {last[:200]}")
    return done.stdout


def loops(python: Path | str, *words: object, pinned: int | None = None) -> list[dict[str, Any]]:
    """Return the results of a loop of peer_loops.py, one per batch size."""
    if not Path(python).exists():
        raise Missing("not installed; --install makes its environment")
    rows: list[dict[str, Any]] = json.loads(
        run(python, LOOPS, *words, pinned=pinned).splitlines()[-1]
    )
    return rows


def bare(bench: Bench, engine: str, seconds: float) -> float:
    """Return items/s of the bare loop of an engine."""
    words = ("bare", engine, bench.model, BATCH, seconds)
    return float(loops(sys.executable, *words, pinned=bench.core)[0]["items_per_s"])


def ours(bench: Bench, engine: str, batches: tuple[int, ...], seconds: float) -> list[float]:
    """Return items/s of raybench, by batch size."""
    with tempfile.TemporaryDirectory(dir=bench.folder) as results:
        question = Path(results, "peers.yaml")
        sizes = ", ".join(map(str, batches))
        question.write_text(
            "# What does raybench measure for this graph?\n"
            f"grid: {{model: {bench.model}, precision: fp32, workers: 1, batch_size: [{sizes}]}}\n"
        )
        run(
            *(sys.executable, "-m", "raybench", f"experiment={question}", "device=cpu"),
            *(f"engine={engine}", "preset=quick", f"results.dir={results}/rows"),
            *(f"measure.min_s={seconds}", f"measure.max_s={seconds}"),
        )
        rows = raybench.load(f"{results}/rows").to_pylist()
    return [row["items_per_s"] for row in sorted(rows, key=lambda row: row["batch_size"])]


def benchmark_app(bench: Bench, batch: int, seconds: float) -> float:
    """Return items/s of OpenVINO's benchmark_app."""
    text = run(
        *(Path(sys.executable).with_name("benchmark_app"), "-m", bench.model, "-d", "CPU"),
        *("-api", "sync", "-nstreams", 1, "-nthreads", 1, "-hint", "none", "-t", int(seconds)),
        *("-infer_precision", "f32", "-shape", f"[{batch},3,64,64]"),
        pinned=bench.core,
    )
    found = re.search(r"Throughput:\s*([\d.]+)", text)
    if found is None:
        raise Missing("printed no throughput")
    return float(found[1])


def loadgen(bench: Bench, batches: tuple[int, ...], seconds: float, rate: float) -> list[float]:
    """Return items/s of MLCommons LoadGen around an OpenVINO request, by batch size."""
    words = ("loadgen", bench.model, ",".join(map(str, batches)), seconds, 1.1 * rate)
    rows = loops(PYTHON["harness"], *words, pinned=bench.core)
    if not all(row["valid"] for row in rows):
        raise Missing("LoadGen called a run INVALID")
    return [row["items_per_s"] for row in rows]


def optimum(bench: Bench, batches: tuple[int, ...], seconds: float) -> list[float]:
    """Return items/s of optimum-benchmark with its default launcher, by batch size."""
    program = PYTHON["optimum"].with_name("optimum-benchmark")
    if not program.exists():
        raise Missing("not installed; --install makes its environment")
    reports = []
    with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
        Path(folder, "peer.yaml").write_text(_OPTIMUM.format(model=bench.model.parent, out=folder))
        run(
            *(
                "env",
                "HYDRA_FULL_ERROR=1",
                "HF_HUB_OFFLINE=1",
                "OMP_NUM_THREADS=1",
                program,
                "--config-dir",
                folder,
            ),
            *("--config-name", "peer", "-m", f"scenario.duration={int(seconds)}"),
            f"scenario.input_shapes.batch_size={','.join(map(str, batches))}",
        )
        for batch in batches:
            report = Path(folder, "sweep", f"b{batch}", "benchmark_report.json")
            if not report.exists():
                raise Missing("left no report")
            reports.append(json.loads(report.read_text()))
    return [report["forward"]["throughput"]["value"] for report in reports]


_OPTIMUM = """\
defaults: [benchmark, scenario: inference, launcher: process, backend: onnxruntime, _self_]
name: peer
launcher: {{start_method: spawn}}
backend:
  device: cpu
  model: {model}
  library: transformers
  task: image-classification
  model_type: resnet
  export: false
  session_options: {{intra_op_num_threads: 1, inter_op_num_threads: 1}}
scenario:
  latency: true
  memory: false
  iterations: 10
  duration: 3
  warmup_runs: 10
  input_shapes: {{batch_size: 8, num_channels: 3, height: 64, width: 64}}
hydra:
  run: {{dir: {out}/single}}
  sweep: {{dir: {out}/sweep, subdir: "b${{scenario.input_shapes.batch_size}}"}}
  job: {{chdir: true, env_set: {{OVERRIDE_BENCHMARKS: "1", HF_HUB_OFFLINE: "1"}}}}
"""


def _bare_grid(bench: Bench, engine: str, seconds: float) -> None:
    words = ("bare", engine, bench.model, ",".join(map(str, GRID)), seconds)
    loops(sys.executable, *words, pinned=bench.core)


PEERS = (
    Peer("bare loop", "openvino", None, lambda b, s: _bare_grid(b, "openvino", s)),
    Peer(
        "raybench",
        "openvino",
        lambda b, s, _: ours(b, "openvino", (BATCH,), s)[0],
        lambda b, s: ours(b, "openvino", GRID, s),
    ),
    Peer(
        "benchmark_app",
        "openvino",
        lambda b, s, _: benchmark_app(b, BATCH, s),
        lambda b, s: [benchmark_app(b, batch, s) for batch in GRID],
    ),
    Peer(
        "LoadGen",
        "openvino",
        lambda b, s, rate: loadgen(b, (BATCH,), s, rate)[0],
        lambda b, s: loadgen(b, GRID, s, bare(b, "openvino", 1.0)),
    ),
    Peer(
        "Ray Tune",
        "openvino",
        None,
        lambda b, s: loops(PYTHON["harness"], "tune", b.model, ",".join(map(str, GRID)), s, b.core),
    ),
    Peer(
        "raybench",
        "onnxruntime",
        lambda b, s, _: ours(b, "onnxruntime", (BATCH,), s)[0],
        lambda b, s: ours(b, "onnxruntime", GRID, s),
    ),
    Peer(
        "optimum-benchmark",
        "onnxruntime",
        lambda b, s, _: optimum(b, (BATCH,), s)[0],
        lambda b, s: optimum(b, GRID, s),
    ),
)


# --- rates and walls ------------------------------------------------------------------------------


@dataclass
class PeerResult:
    """Rates of a peer, their ratios to the bare loop, and the time of its grid."""

    rates: list[float]
    ratios: list[float]
    wall_s: float | None = None
    missing: str | None = None


def rates(bench: Bench, options: argparse.Namespace, results: dict[Peer, PeerResult]) -> None:
    """Measure every peer once a round, between two runs of the bare loop."""
    turns = [peer for peer in PEERS if peer.rate is not None]
    for number in range(options.rounds):
        for peer in turns[number % len(turns) :] + turns[: number % len(turns)]:
            if results[peer].missing or peer.rate is None:
                continue
            before = bare(bench, peer.engine, options.seconds)
            try:
                rate = peer.rate(bench, options.seconds, before)
            except Missing as missing:
                results[peer].missing = str(missing)
                continue
            after = bare(bench, peer.engine, options.seconds)
            results[peer].rates.append(rate)
            results[peer].ratios.append(2 * rate / (before + after))
            print(
                f"round {number + 1}: {peer.name} {results[peer].ratios[-1]:.3f}", file=sys.stderr
            )


def walls(bench: Bench, results: dict[Peer, PeerResult]) -> None:
    """Time the grid of every peer of `results` once."""
    for peer, result in results.items():
        if result.missing:
            continue
        began = time.perf_counter()
        try:
            peer.grid(bench, GRID_S)
        except Missing as missing:
            result.missing = str(missing)
            continue
        result.wall_s = time.perf_counter() - began


def main() -> int:
    """Measure and print all peers; return 1 when raybench and benchmark_app disagree."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=4.0, help="a rate, whole ones")
    parser.add_argument("--install", action="store_true", help="make the peers' environments")
    parser.add_argument("--only", choices=("rates", "walls"))
    options = parser.parse_args()
    if options.install:
        install()
    results = {peer: PeerResult([], []) for peer in PEERS}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), devices.cores()[0])
        write_model(bench.model)
        ours(bench, "openvino", (BATCH,), 1.0)  # fills the cache of graphs; not counted
        ours(bench, "onnxruntime", (BATCH,), 1.0)
        if options.only != "walls":
            rates(bench, options, results)
        if options.only != "rates":
            walls(bench, results)
    return report(results)


def report(results: dict[Peer, PeerResult]) -> int:
    """Print the table and the line of JSON."""
    print(
        f"{'peer':<19}{'runtime':<13}{'items/s':>9}{'of bare':>9}{'rounds':>18}{'wall':>9}{'over':>9}"
    )
    for peer, result in results.items():
        print(f"{peer.name:<19}{peer.engine:<13}" + _cells(result))
    pair = {
        peer.name: result.ratios for peer, result in results.items() if peer.engine == "openvino"
    }
    both = pair["raybench"] and pair["benchmark_app"]
    apart = (
        statistics.median(pair["raybench"]) / statistics.median(pair["benchmark_app"])
        if both
        else None
    )
    if apart is not None:
        print(f"raybench over benchmark_app: {apart:.3f}")
    ok = apart is None or abs(apart - 1) <= AGREE
    rows = [{"peer": p.name, "engine": p.engine, **vars(result)} for p, result in results.items()]
    print(json.dumps({"benchmark": "peers", "ok": ok, "over_benchmark_app": apart, "peers": rows}))
    return 0 if ok else 1


def _cells(result: PeerResult) -> str:
    rate = f"{statistics.median(result.rates):.1f}" if result.rates else "-"
    ratio = f"{statistics.median(result.ratios):.3f}" if result.ratios else "-"
    spread = f"{min(result.ratios):.3f} to {max(result.ratios):.3f}" if result.ratios else "-"
    wall, over = "-", "-"
    if result.wall_s is not None:
        wall, over = f"{result.wall_s:.1f} s", f"{result.wall_s - len(GRID) * GRID_S:.1f} s"
    words = f"  {result.missing}" if result.missing else ""
    return f"{rate:>9}{ratio:>9}{spread:>18}{wall:>9}{over:>9}{words}"


# --- what they need -------------------------------------------------------------------------------


def install() -> None:
    """Create the missing environments; name and skip those that cannot be created."""
    for name, packages in NEEDS.items():
        if PYTHON[name].exists():
            continue
        folder = ENVIRONMENTS / name
        pip = (PYTHON[name], "-m", "pip", "--disable-pip-version-check", "--quiet", "install")
        pinned = ("--constraint", ROOT / "constraints.txt") if name == "harness" else ()
        try:
            run(sys.executable, "-m", "venv", folder)
            subprocess.run([*map(str, (*pip, *pinned, *packages))], check=True)
        except (Missing, subprocess.CalledProcessError) as error:
            print(f"environment {name} could not be made: {error}", file=sys.stderr)


def write_model(path: Path) -> None:
    """Write a small ResNet with seeded weights, as a graph and as a transformers folder."""
    path.parent.mkdir()
    onnx.save(_resnet(), path)
    config = {
        "model_type": "resnet",
        "architectures": ["ResNetForImageClassification"],
        "num_channels": 3,
        "num_labels": 100,
    }
    (path.parent / "config.json").write_text(json.dumps(config))
    (path.parent / "preprocessor_config.json").write_text(
        '{"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 64}}'
    )


def _resnet() -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    weights: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []

    def conv(x: str, channels: tuple[int, int], size: int, stride: int, name: str) -> str:
        scale = (2 / (channels[0] * size * size)) ** 0.5
        w = (rng.standard_normal((channels[1], channels[0], size, size)) * scale).astype(np.float32)
        weights.append(numpy_helper.from_array(w, f"{name}_w"))
        shape = {"kernel_shape": [size] * 2, "strides": [stride] * 2, "pads": [size // 2] * 4}
        nodes.append(helper.make_node("Conv", [x, f"{name}_w"], [name], **shape))
        return name

    def relu(x: str) -> str:
        nodes.append(helper.make_node("Relu", [x], [f"{x}_relu"]))
        return f"{x}_relu"

    x = relu(conv("pixel_values", (3, 32), 3, 2, "stem"))
    for i, (a, b, stride) in enumerate(
        [(32, 32, 1), (32, 64, 2), (64, 64, 1), (64, 128, 2), (128, 128, 1)]
    ):
        y = relu(conv(x, (a, b), 3, stride, f"a{i}"))
        y = conv(y, (b, b), 3, 1, f"b{i}")
        shortcut = x if a == b else conv(x, (a, b), 1, stride, f"s{i}")
        nodes.append(helper.make_node("Add", [y, shortcut], [f"sum{i}"]))
        x = relu(f"sum{i}")
    weights.append(
        numpy_helper.from_array(rng.standard_normal((128, 100)).astype(np.float32), "fc")
    )
    nodes.append(helper.make_node("GlobalAveragePool", [x], ["mean"]))
    nodes.append(helper.make_node("Flatten", ["mean"], ["flat"]))
    nodes.append(helper.make_node("MatMul", ["flat", "fc"], ["logits"]))
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "cnn",
        [info("pixel_values", TensorProto.FLOAT, ["N", 3, 64, 64])],
        [info("logits", TensorProto.FLOAT, ["N", 100])],
        weights,
    )
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


if __name__ == "__main__":
    sys.exit(main())
