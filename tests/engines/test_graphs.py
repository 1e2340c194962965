"""Other people's graphs on both engines of a core: names of ports, and operators that are missing."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers.tiny_graphs import graph_of, tiny_conv
from onnx import TensorProto
from onnx.helper import make_node, make_opsetid

from raybench.engines import registry
from raybench.engines.base import Load
from raybench.errors import Unsupported
from raybench.experiment import ModelSettings
from raybench.machine.crash_log import CrashLog
from raybench.machine.devices import core, saturates_int8
from raybench.measure import output_bits
from raybench.models.comparison import compare
from raybench.models.fidelity import fidelity
from raybench.models.items.batches import BatchPool
from raybench.models.prepare import prepare

FLOAT = TensorProto.FLOAT
X = ("x", FLOAT, ["batch", 4])
W = {"w": np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)}


@pytest.fixture
def loaded(tmp_path):
    """Loads a graph on an engine with batches of three; returns the engine and its load."""

    def load(name, graph, settings=None, precision="fp32"):
        onnx.save(graph, tmp_path / "x.onnx")
        settings = settings or ModelSettings()
        path, dialect = str(tmp_path / "x.onnx"), "u8s7" if saturates_int8() else "u8s8"
        model = prepare(path, settings, precision, dialect, tmp_path / "cache")
        batches = BatchPool(model.inputs, 3, 0, model.ranges, min_bytes=1)
        engine = registry.get(name)
        options = engine.traits.settings()
        given = Load(model, batches, core(0), 1, True, options, None, tmp_path / "cache")
        return engine.load(given), given

    return load


def first_outputs(engine):
    engine.submit(0)
    engine.collect(0)
    return engine.outputs()


NAMES = {
    "another_name_for_the_output": graph_of(
        [make_node("MatMul", ["x", "w"], ["a"]), make_node("Identity", ["a"], ["y"])],
        [X], [("y", FLOAT, None)], W,
    ),
    "one_value_as_two_outputs": graph_of(
        [make_node("MatMul", ["x", "w"], ["a"]), make_node("Identity", ["a"], ["y"])],
        [X], [("y", FLOAT, None), ("a", FLOAT, None)], W,
    ),
    "an_input_as_output": graph_of(
        [make_node("MatMul", ["x", "w"], ["y"])], [X], [("y", FLOAT, None), X], W,
    ),
    "odd_names": graph_of(
        [make_node("MatMul", ["in/x:0", "w"], ["out.y:0 "])],
        [("in/x:0", FLOAT, ["batch", 4])], [("out.y:0 ", FLOAT, None)], W,
    ),
    "nodes_of_one_name": graph_of(
        [
            make_node("MatMul", ["x", "w"], ["a"], name="same"),
            make_node("Relu", ["a"], ["y"], name="same"),
        ],
        [X], [("y", FLOAT, None)], W,
    ),
}  # fmt: skip


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("graph", NAMES)
def test_every_output_is_found_and_compared_whatever_it_is_called(graph, engine, loaded, tmp_path):
    running, load = loaded(engine, NAMES[graph])
    outputs = first_outputs(running)
    running.close()
    assert sorted(outputs) == sorted(spec.name for spec in load.model.outputs)
    assert len(outputs) == len(NAMES[graph].graph.output)
    compared = compare(outputs, load.model, load.batches, tmp_path / "cache")
    assert compared.fidelity.sqnr_db > 100
    assert not any("not compared" in note for note in compared.notes)


def test_fp32_outputs_that_crashed_a_worker_before_are_left_out(loaded, monkeypatch):
    running, load = loaded("openvino", NAMES["odd_names"])
    first_outputs(running)
    monkeypatch.setattr(output_bits, "crashed_before", lambda doing: "x.onnx" in doing)
    compared = output_bits.compare_with_fp32(running, load, CrashLog())
    running.close()
    assert compared.fidelity is None
    assert "ONNX Runtime crashes" in compared.notes[0]


def with_domain(graph, domain, version=1):
    graph.opset_import.append(make_opsetid(domain, version))
    return graph


FOREIGN = with_domain(
    graph_of(
        [make_node("Warp", ["x"], ["y"], name="warp_1", domain="my.ops")],
        [X], [("y", FLOAT, ["batch", 4])],
    ),
    "my.ops",
)  # fmt: skip
NO_KERNEL = graph_of(
    [
        make_node("Cast", ["x"], ["wide"], to=TensorProto.DOUBLE),
        make_node("Erf", ["wide"], ["e"], name="erf_1"),
        make_node("Cast", ["e"], ["y"], to=FLOAT),
    ],
    [X], [("y", FLOAT, None)],
)  # fmt: skip
TOO_NEW = graph_of(
    [make_node("Gelu", ["x"], ["y"], name="gelu_1")], [X], [("y", FLOAT, ["batch", 4])]
)
"""An operator that its opset, 17, does not have yet."""
UNCONVERTED = graph_of(
    [make_node("Det", ["x"], ["y"], name="det_1")],
    [("x", FLOAT, ["batch", 4, 4])], [("y", FLOAT, None)],
)  # fmt: skip
BOTH = graph_of(
    [
        make_node("SplitToSequence", ["x"], ["parts"], axis=0),
        make_node("ConcatFromSequence", ["parts"], ["whole"], axis=0),
        make_node("Det", ["whole"], ["y"], name="det_1"),
    ],
    [("x", FLOAT, ["batch", 4, 4])], [("y", FLOAT, None)],
)  # fmt: skip
"""One that OpenVINO converts at fixed shapes only, and one that it never does."""


def test_openvino_runs_an_operator_that_it_converts_at_fixed_shapes_only(loaded, tmp_path):
    graph = graph_of(
        [make_node("STFT", ["x", "step", "", "frame"], ["y"])],
        [("x", FLOAT, ["batch", 64, 1])], [("y", FLOAT, None)],
        {"step": np.array(8, np.int64), "frame": np.array(16, np.int64)},
    )  # fmt: skip
    running, load = loaded("openvino", graph)
    outputs = first_outputs(running)
    running.close()
    compared = compare(outputs, load.model, load.batches, tmp_path / "cache")
    assert compared.fidelity.sqnr_db > 80


@pytest.mark.parametrize(
    ("engine", "graph", "operator"),
    [
        ("onnxruntime", FOREIGN, "my.ops:Warp"),
        ("openvino", FOREIGN, "my.ops.Warp"),
        ("onnxruntime", TOO_NEW, "does not know operator Gelu"),
        ("onnxruntime", NO_KERNEL, "Erf(13) (node 'erf_1')"),
        ("openvino", UNCONVERTED, "Det-17"),
        ("openvino", BOTH, "Det-17"),
    ],
)
def test_an_operator_that_the_engine_lacks_is_unsupported_and_named(
    engine, graph, operator, loaded
):
    with pytest.raises(Unsupported) as caught:
        loaded(engine, graph)
    assert operator in str(caught.value)
    assert "Use " in str(caught.value)


HALF = graph_of(
    [
        make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
        make_node("Relu", ["h"], ["r"]),
        make_node("Cast", ["r"], ["y"], to=FLOAT),
    ],
    [X],
    [("y", FLOAT, None)],
)


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_a_file_that_comes_reduced_runs_as_it_is_and_the_row_says_so(engine, loaded, tmp_path):
    running, load = loaded(engine, HALF, precision="as_is")
    outputs = first_outputs(running)
    running.close()
    np.testing.assert_allclose(outputs["y"], np.maximum(load.batches.batch(0)["x"], 0), rtol=1e-3)
    assert "in fp32" in running.info.notes[0]
    comparison = compare(outputs, load.model, load.batches, load.cache_dir)
    assert comparison.fidelity is None
    assert "no fp32 graph to compare" in comparison.notes[0]
    assert not (load.cache_dir / "references").exists()


def test_the_row_says_how_much_of_a_quantised_graph_openvino_computes_in_int8(loaded):
    weights = {
        "w8": np.arange(-8, 8, dtype=np.int8).reshape(4, 4, 1, 1), "w": np.ones((4, 4, 1, 1), "f"),
        "s": np.array(0.1, "f"), "zu": np.array(128, np.uint8), "z": np.array(0, np.int8),
    }  # fmt: skip
    image = ("x", FLOAT, ["batch", 4, 8, 8])
    quantised = [
        make_node("QuantizeLinear", ["x", "s", "zu"], ["xq"]),
        make_node("DequantizeLinear", ["xq", "s", "zu"], ["xd"]),
        make_node("DequantizeLinear", ["w8", "s", "z"], ["wd"]),
        make_node("Conv", ["xd", "wd"], ["c"]),
    ]
    for rest, notes in (
        ([make_node("Relu", ["c"], ["y"])], []),
        ([make_node("Sigmoid", ["c"], ["h"]), make_node("Conv", ["h", "w"], ["y"])], ["1 of 2"]),
    ):
        graph = graph_of([*quantised, *rest], [image], [("y", FLOAT, None)], weights)
        engine, _ = loaded("openvino", graph, precision="as_is")
        engine.close()
        assert [note.split("computes ")[1][:6] for note in engine.info.notes] == notes


@pytest.mark.parametrize("width", [48, 64, 256])
def test_a_chain_of_small_int8_products_is_computed_rightly(width, loaded):
    rng = np.random.default_rng(0)
    weights = {
        name: 0.1 * rng.standard_normal((width, width)).astype(np.float32) for name in ("w", "v")
    }
    nodes = [
        make_node("MatMul", ["x", "w"], ["h"]),
        make_node("Relu", ["h"], ["r"]),
        make_node("MatMul", ["r", "v"], ["y"]),
    ]
    proto = graph_of(nodes, [("x", FLOAT, ["batch", width])], [("y", FLOAT, None)], weights)
    engine, load = loaded("openvino", proto, precision="int8")
    session = onnxruntime.InferenceSession(str(load.model.path))
    expected = session.run(["y"], load.batches.batch(0))[0]
    near = fidelity({"y": expected}, first_outputs(engine), ())
    assert near.sqnr_db > 40


AFTER_OPENVINO = """
import faulthandler, os, signal, sys
faulthandler.enable()
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(7))
from raybench.engines.openvino import _compile, _read
from pathlib import Path
for _ in range(3):
    graph, _ = _read(Path(sys.argv[1]), {})
    compiled = _compile(graph, {"INFERENCE_NUM_THREADS": 1})
    compiled.create_infer_request().infer()
del graph, compiled
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_signal_after_openvino_is_handled_and_ends_no_process_by_itself(tmp_path):
    path = tmp_path / "net.onnx"
    onnx.save(tiny_conv(4), path)
    done = subprocess.run([sys.executable, "-c", AFTER_OPENVINO, str(path)], check=False)
    assert done.returncode == 7
