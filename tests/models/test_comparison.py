"""Every output is compared with fp32, or the row says which was not and why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest
from helpers.tiny_graphs import graph_of, tiny_conv
from onnx import TensorProto
from onnx.helper import make_graph, make_node, make_tensor_value_info

from raybench.experiment import ModelSettings
from raybench.models import comparison
from raybench.models.comparison import NO_OUTPUTS, OutputComparison, compare, prepare_reference
from raybench.models.fidelity import CAP_DB
from raybench.models.graph.graph_walk import drawn
from raybench.models.items.batches import BatchPool
from raybench.models.prepare import prepare
from raybench.models.reference import reference_outputs

if TYPE_CHECKING:
    from collections.abc import Callable

FLOAT = TensorProto.FLOAT
WEIGHT = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)

PER_ITEM = {
    "batch_first": [make_node("Identity", ["h"], ["y"])],
    "time_first": [make_node("Transpose", ["h"], ["y"], perm=[1, 0, 2])],
    "batch_last": [make_node("Transpose", ["h"], ["y"], perm=[1, 2, 0])],
    "several_rows_an_item": [make_node("Reshape", ["h", "rows"], ["y"])],
    "one_number_an_item": [make_node("ReduceMean", ["h"], ["y"], axes=[1, 2], keepdims=0)],
    "whole_numbers": [make_node("ArgMax", ["h"], ["y"], axis=2)],
}
WHOLE = {
    "mean_over_the_batch": [make_node("ReduceMean", ["h"], ["y"], axes=[0], keepdims=0)],
    "a_single_number": [make_node("ReduceMean", ["h"], ["y"], keepdims=0)],
    "relative_to_the_batch": [
        make_node("ReduceMean", ["h"], ["m"], axes=[0], keepdims=1),
        make_node("Sub", ["h", "m"], ["y"]),
    ],
    "items_with_items": [
        make_node("ReduceMean", ["h"], ["m"], axes=[1], keepdims=0),
        make_node("Transpose", ["m"], ["t"]),
        make_node("MatMul", ["m", "t"], ["y"]),
    ],
    "times_outside_items": [
        make_node("Transpose", ["h"], ["t"], perm=[1, 0, 2]),
        make_node("Reshape", ["t", "rows"], ["y"]),
    ],
}


@pytest.fixture
def outputs_of(saved: Callable[..., str], tmp_path: Path) -> Callable[..., OutputComparison]:
    """Compares outputs of a graph [batch, 5, 8] as an engine would give them.

    The engine is ONNX Runtime; `spoil` may change what it returned.
    """

    def run(
        nodes, batch_size, spoil=lambda outputs: outputs, names=("y",), last=()
    ) -> OutputComparison:
        nodes = [make_node("MatMul", ["x", "w"], ["h"]), *nodes, *last]
        kinds = dict.fromkeys(["ArgMax", "NonZero"], TensorProto.INT64)
        made_by = {name: node.op_type for node in nodes for name in node.output}
        results = [(name, kinds.get(made_by[name], FLOAT), None) for name in names]
        weights = {"w": WEIGHT, "rows": np.array([-1, 8], np.int64)}
        graph = graph_of(nodes, [("x", FLOAT, ["batch", 5, 8])], results, weights)
        model = prepare(saved(graph), ModelSettings(), "fp32", None, tmp_path / "cache")
        pool = BatchPool(model.inputs, batch_size, 0, {}, min_bytes=1 << 10)
        session = onnxruntime.InferenceSession(str(model.path))
        session.run(list(names), pool.batch(1))  # random numbers are then not those of a first run
        made = session.run(list(names), pool.batch(0))
        outputs = {name: values.copy() for name, values in zip(names, made, strict=True)}
        return compare(spoil(outputs), model, pool, tmp_path / "cache")

    return run


@pytest.fixture
def small(saved, tmp_path):
    """A small model of images."""
    return prepare(saved(tiny_conv()), ModelSettings(), "fp32", None, tmp_path / "cache")


def noisy(outputs):
    """Add noise of a tenth of the signal: 20 dB."""
    rng = np.random.default_rng(1)
    values = outputs["y"]
    noise = 0.1 * values.std() * rng.standard_normal(values.shape)
    return {**outputs, "y": (values + noise).astype(values.dtype)}


@pytest.mark.parametrize("batch_size", [1, 2, 8, 9, 32, 100])
@pytest.mark.parametrize("kind", PER_ITEM)
def test_an_output_of_items_is_compared_on_whatever_axis_they_are(kind, batch_size, outputs_of):
    found = outputs_of(PER_ITEM[kind], batch_size)
    assert found.fidelity is not None
    assert found.fidelity.sqnr_db > 100
    assert found.notes == ()


@pytest.mark.parametrize(
    "kind", ["batch_first", "time_first", "batch_last", "several_rows_an_item"]
)
def test_noise_in_an_output_of_items_is_found_on_whatever_axis_they_are(kind, outputs_of):
    found = outputs_of(PER_ITEM[kind], 100, noisy)
    assert found.fidelity.sqnr_db == pytest.approx(20, abs=1.5)


@pytest.mark.parametrize("batch_size", [1, 8, 32])
@pytest.mark.parametrize("kind", WHOLE)
def test_an_output_of_the_whole_batch_is_compared_as_a_whole(kind, batch_size, outputs_of):
    found = outputs_of(WHOLE[kind], batch_size)
    if kind == "relative_to_the_batch" and batch_size == 1:
        assert found.fidelity.sqnr_db == CAP_DB  # nothing but zeros
    else:
        assert found.fidelity.sqnr_db > 100
    assert found.notes == ()


@pytest.mark.parametrize("kind", WHOLE)
def test_an_output_of_a_large_batch_as_a_whole_is_named_as_not_compared(kind, outputs_of):
    found = outputs_of(WHOLE[kind], comparison.WHOLE_BATCH + 1)
    assert found.fidelity is None
    (note,) = found.notes
    assert "'y'" in note
    assert "batch_size=64" in note


def test_the_other_outputs_are_compared_beside_one_that_cannot_be(outputs_of):
    found = outputs_of(WHOLE["a_single_number"], 100, names=("h", "y"))
    assert found.fidelity.sqnr_db > 100
    assert ["'y'" in note for note in found.notes] == [True]


def test_the_output_that_is_furthest_off_gives_the_fidelity_and_is_named(outputs_of):
    found = outputs_of(PER_ITEM["time_first"], 100, noisy, names=("h", "y"))
    assert found.fidelity.sqnr_db == pytest.approx(20, abs=1.5)
    assert found.notes == ("The fidelity is that of output 'y', the lowest of 2.",)


def test_an_output_that_the_engine_lacks_or_sizes_otherwise_is_named(outputs_of):
    lacking = outputs_of(PER_ITEM["batch_first"], 4, lambda outputs: {"z": outputs["y"]})
    assert lacking.fidelity is None
    assert "['z']" in lacking.notes[0]
    shorter = outputs_of(PER_ITEM["batch_first"], 4, lambda outputs: {"y": outputs["y"][:, :3]})
    assert shorter.fidelity is None
    assert "[4, 3, 8]" in shorter.notes[0]


@pytest.mark.parametrize("batch_size", [4, 32])
def test_an_output_that_is_empty_for_these_inputs_is_named(batch_size, outputs_of):
    none = [make_node("Sub", ["h", "h"], ["zero"]), make_node("NonZero", ["zero"], ["y"])]
    found = outputs_of(none, batch_size, names=("h", "y"))
    assert found.fidelity.sqnr_db > 100
    assert found.notes == ("Output 'y' was not compared with fp32: it is empty for these inputs.",)


@pytest.mark.parametrize("batch_size", [4, 100])
def test_a_reference_that_is_not_finite_is_named_and_not_the_engine(batch_size, outputs_of):
    beyond = [make_node("Sub", ["h", "h"], ["zero"]), make_node("Div", ["h", "zero"], ["y"])]
    found = outputs_of(beyond, batch_size)
    assert found.fidelity is None
    assert not found.reference_finite
    assert "fp32 graph's own is not finite" in found.notes[0]
    assert "model.inputs" in found.notes[0]
    beside = outputs_of(beyond, batch_size, names=("h", "y"))
    assert beside.fidelity.sqnr_db > 100
    assert beside.reference_finite


@pytest.mark.parametrize("batch_size", [4, 32])
def test_an_output_of_random_length_is_named_as_random(batch_size, outputs_of):
    drawn = [
        make_node("RandomNormalLike", ["h"], ["r"]),
        make_node("Relu", ["r"], ["p"]),
        make_node("NonZero", ["p"], ["y"]),
    ]
    found = outputs_of(drawn, batch_size)
    assert found.fidelity is None
    assert "draws random numbers" in found.notes[0]


@pytest.mark.parametrize("batch_size", [4, 32, 100])
@pytest.mark.parametrize("loudness", [0.03, 1.0])
def test_an_output_of_random_numbers_is_named_and_not_the_engine(batch_size, loudness, outputs_of):
    drawn = [
        make_node("RandomNormalLike", ["h"], ["r"], scale=loudness),
        make_node("Add", ["h", "r"], ["y"]),
    ]
    found = outputs_of(drawn, batch_size, names=("h", "y"))
    assert found.fidelity.sqnr_db > 100
    assert ["draws random numbers" in note for note in found.notes] == [True]


def test_fp32_that_differs_from_run_to_run_is_named_and_not_the_engine(outputs_of, monkeypatch):
    """An operator of another domain may draw numbers without a word."""
    run, rng = comparison.reference_runs, np.random.default_rng(2)

    def differing(*args):
        runs = run(*args)
        return [
            {"h": each["h"], "y": each["y"] + rng.normal(size=each["y"].shape)} for each in runs
        ]

    monkeypatch.setattr(comparison, "reference_runs", differing)
    found = outputs_of(PER_ITEM["batch_first"], 4, noisy, names=("h", "y"))
    assert found.fidelity.sqnr_db > 100
    assert ["'y'" in note and "from run to run" in note for note in found.notes] == [True]


def test_a_dropout_in_training_draws_random_numbers(outputs_of):
    mode = [
        make_node("Constant", [], ["half"], value_float=0.5),
        make_node("Cast", ["half"], ["on"], to=TensorProto.BOOL),
        make_node("Dropout", ["h", "half", "on"], ["y"]),
    ]
    found = outputs_of(mode, 4)
    assert found.fidelity is None
    assert "the graph draws random numbers" in found.notes[0]


def test_a_branch_in_which_random_numbers_are_drawn_is_drawn_and_what_follows_from_it():
    draw, keep = make_node("RandomNormalLike", ["x"], ["r"]), make_node("Identity", ["x"], ["k"])
    branches = {
        f"{name}_branch": make_graph([node], name, [], [make_tensor_value_info(made, FLOAT, None)])
        for name, node, made in (("then", draw, "r"), ("else", keep, "k"))
    }
    nodes = [make_node("If", ["c"], ["h"], **branches), make_node("Relu", ["h"], ["y"])]
    x, y = ("x", FLOAT, ["batch", 4]), ("y", FLOAT, None)
    assert drawn(graph_of(nodes, [x], [y], {"c": np.array(True)}).graph) == {"h", "y"}


def test_indices_are_compared_by_equality_and_are_no_signal(outputs_of):
    def spoil(outputs):
        other = outputs["y"].copy()
        other[0] += 1
        return {**outputs, "y": other}

    found = outputs_of(PER_ITEM["whole_numbers"], 4, spoil, names=("h", "y"))
    assert found.fidelity.sqnr_db > 100
    assert found.notes == ("Of output 'y', whole numbers, 75.0% are equal to those of fp32.",)
    alone = outputs_of(PER_ITEM["whole_numbers"], 4, spoil)
    assert alone.fidelity is None


def test_an_fp32_engine_whose_indices_mostly_differ_computes_something_else(outputs_of):
    found = outputs_of(PER_ITEM["whole_numbers"], 4, lambda outputs: {"y": outputs["y"] + 1})
    assert found.fidelity.sqnr_db == -CAP_DB
    assert "0.0% are equal" in found.notes[0]


@pytest.mark.parametrize("past", [0, 3])
def test_a_cache_may_be_empty(past, saved, tmp_path):
    nodes = [
        make_node("Concat", ["cache", "x"], ["all"], axis=1),
        make_node("MatMul", ["all", "w"], ["y"]),
    ]
    inputs = [("x", FLOAT, ["batch", 2, 8]), ("cache", FLOAT, ["batch", "past", 8])]
    graph = graph_of(nodes, inputs, [("y", FLOAT, None)], {"w": WEIGHT})
    settings = ModelSettings(shapes={"past": past})
    model = prepare(saved(graph), settings, "int8", "u8s8", tmp_path)
    pool = BatchPool(model.inputs, 4, 0, {}, min_bytes=1 << 10)
    session = onnxruntime.InferenceSession(str(model.path))
    outputs = dict(zip(["y"], session.run(["y"], pool.batch(0)), strict=True))
    assert outputs["y"].shape == (4, 2 + past, 8)
    assert compare(outputs, model, pool, tmp_path).fidelity.sqnr_db > 30


def test_an_engine_s_output_that_is_not_finite_is_still_the_engine_s(outputs_of):
    found = outputs_of(
        PER_ITEM["time_first"], 100, lambda outputs: {"y": np.full_like(outputs["y"], np.nan)}
    )
    assert found.fidelity.sqnr_db == -CAP_DB


def test_a_reference_that_fails_is_a_note_and_no_error(small, tmp_path):
    model = replace(small, fp32_path=Path("missing.onnx"), fp32_sha256="0" * 64)
    pool = BatchPool(model.inputs, 2, 0, {}, min_bytes=1)
    found = compare({"output": np.zeros((2, 72))}, model, pool, tmp_path)
    assert found.fidelity is None
    assert "missing.onnx" in found.notes[0]


def test_a_graph_for_one_batch_only_is_compared_at_that_batch(outputs_of):
    fixed = [make_node("Reshape", ["h", "shape"], ["y"])]
    shape = make_node("Constant", [], ["shape"], value_ints=[12, 40])
    found = outputs_of([shape, *fixed], 12)
    assert found.fidelity.sqnr_db > 100


def test_a_file_that_runs_as_it_is_has_no_fp32_outputs(small, tmp_path):
    as_it_is = replace(small, precision="as_is")
    pool = BatchPool(small.inputs, 2, 0, {}, min_bytes=1)
    prepare_reference(as_it_is, pool, tmp_path)
    outputs = reference_outputs(small, pool, 2, tmp_path / "other")
    found = compare(outputs, as_it_is, pool, tmp_path)
    assert (found.fidelity, found.notes) == (None, (comparison.NO_FP32,))
    assert not (tmp_path / "references").exists()


def test_an_engine_that_computes_nothing_is_not_compared(small, tmp_path):
    pool = BatchPool(small.inputs, 2, 0, {}, min_bytes=1)
    assert compare({}, small, pool, tmp_path) == OutputComparison(notes=(NO_OUTPUTS,))


@pytest.mark.parametrize(
    ("judged_db", "noise", "note"),
    [
        (None, 1.0, ()),
        (40.0, 0.0, ()),
        (40.0, 1.0, ("otherwise", "by ONNX Runtime for the same items")),
        (90.0, 0.0, ("90.0 dB", "leave the ranges")),
    ],
)
def test_an_int8_graph_that_lost_much_since_it_was_made_says_why(
    judged_db, noise, note, saved, tmp_path
):
    nodes = [make_node("MatMul", ["x", "w"], ["y"])]
    graph = graph_of(nodes, [("x", FLOAT, ["batch", 8])], [("y", FLOAT, None)], {"w": WEIGHT})
    model = prepare(saved(graph), ModelSettings(), "int8", "u8s7", tmp_path / "cache")
    model = replace(model, conversion=replace(model.conversion, judged_sqnr_db=judged_db))
    pool = BatchPool(model.inputs, 16, 0, {}, min_bytes=1 << 10)
    session = onnxruntime.InferenceSession(str(model.path))
    outputs = session.run(["y"], pool.batch(0))[0]
    spoiled = outputs + noise * np.random.default_rng(0).standard_normal(outputs.shape)
    compared = compare({"y": spoiled}, model, pool, tmp_path / "cache")
    assert len(compared.notes) == bool(note)
    assert all(words in compared.notes[0] for words in note)
