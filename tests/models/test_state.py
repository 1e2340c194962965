"""State in a graph's metadata, and the content that it begins with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from helpers.state_graphs import KEPT, STATE, step_graph, step_model

from raybench.errors import ModelError
from raybench.experiment import ModelSettings
from raybench.models.items.batches import BatchPool
from raybench.models.items.initial_state import InitialState
from raybench.models.model import TensorSpec
from raybench.models.source import check
from raybench.models.state import StateTensor, write_state


def test_a_file_says_what_stays_on_the_device(tmp_path):
    model = step_model(tmp_path, fed=True)
    assert (model.state, model.kept_outputs) == (STATE, KEPT)
    assert [spec.name for spec in model.fed_inputs] == ["bias"]
    assert {spec.name for spec in model.state_inputs} == {tensor.input for tensor in STATE}


@pytest.mark.parametrize(
    ("state", "kept", "message"),
    [
        (StateTensor("token", "nothing"), (), "'nothing', which the graph has not"),
        (StateTensor("nowhere", "next_token"), (), "'nowhere', which the graph has not"),
        (
            StateTensor("token", "next_token"),
            ("elsewhere",),
            "'elsewhere', which the graph has not",
        ),
        (StateTensor("token", "new_key"), (), "'token' by 'new_key', of another type or shape"),
        (StateTensor("past_key", "new_key"), (), "of another type or shape"),
        (StateTensor("past_key", "new_key", 1), (), "of another type or shape"),
        (StateTensor("past_key", "new_key", 4), (), "ring_axis=4 for 'past_key' of 4 axes"),
    ],
)
def test_state_that_does_not_fit_its_graph_is_refused(state, kept, message, tmp_path):
    graph = step_graph()
    del graph.metadata_props[:]
    write_state(graph, (state,), kept)
    onnx.save(graph, tmp_path / "wrong.onnx")
    with pytest.raises(ModelError, match=message):
        check(str(tmp_path / "wrong.onnx"), ModelSettings(ranges={"position": [5, 5]}))


@pytest.mark.parametrize("text", ["no list", '[{"in": 1}]', "7"])
def test_metadata_that_cannot_be_read_is_refused(text, tmp_path):
    graph = step_graph()
    graph.metadata_props[0].value = text
    onnx.save(graph, tmp_path / "wrong.onnx")
    with pytest.raises(ModelError, match=r"cannot be read .*write_state"):
        check(str(tmp_path / "wrong.onnx"), ModelSettings(ranges={"position": [5, 5]}))


def test_all_batches_and_precisions_begin_with_the_same_values():
    specs = (TensorSpec("ring", "float32", ("N", 2, 600)), TensorSpec("token", "int64", ("N", 1)))
    large = InitialState(specs, 4096, 7, {"token": (3, 90)})
    whole = {spec.name: np.empty(spec.with_batch(4096), spec.dtype) for spec in specs}
    for name, array in whole.items():
        large.write(name, array)
    for name, values in large.first(5).items():
        assert np.array_equal(values, whole[name][:5])
    half = replace(large, specs=(replace(specs[0], dtype="float16"),), batch_size=3)
    narrow = np.empty((3, 2, 600), np.float16)
    half.write("ring", narrow)
    assert np.array_equal(narrow, whole["ring"][:3])
    assert half.first(3)["ring"].dtype == np.float32
    assert whole["ring"].min() < -0.99 < 0.99 < whole["ring"].max() <= 1
    assert {3, 90} <= set(whole["token"].ravel().tolist()) <= set(range(3, 91))
    flat, block = whole["ring"].ravel(), large.block("ring", whole["ring"].size)
    assert np.array_equal(np.resize(block, flat.shape), flat)
    other = replace(large, seed=8)
    assert not np.array_equal(other.first(1)["ring"], large.first(1)["ring"])


def test_a_batch_at_another_place_holds_the_same_items():
    spec = TensorSpec("hidden", "float32", (2, "N", 3))
    state = InitialState((spec,), 4)
    whole = np.empty((2, 4, 3), np.float32)
    state.write("hidden", whole)
    assert np.array_equal(state.first(2)["hidden"], whole[:, :2])


def test_workers_of_a_point_begin_alike(tmp_path):
    model = step_model(tmp_path)
    first, second = (
        InitialState.of(model, BatchPool((), 2, (5, 5 + rank), model.ranges)) for rank in (0, 1)
    )
    for name, values in first.first(2).items():
        assert np.array_equal(values, second.first(2)[name])
