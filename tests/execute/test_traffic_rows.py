"""What an item moves, as a row says it: what stays on the device crosses no link."""

from __future__ import annotations

from dataclasses import replace

from raybench.execute.traffic_rows import traffic_columns
from raybench.models.model import BATCH, Model, TensorSpec
from raybench.models.state import StateTensor

BARE = Model.named("decoder", "fp32", None)
CACHE = TensorSpec("past", "float32", (BATCH, 2, 16))


def columns(inputs, outputs, **more):
    model = replace(BARE, inputs=tuple(inputs), outputs=tuple(outputs), **more)
    return traffic_columns(model)


def test_an_item_is_counted_in_the_types_of_its_tensors():
    inputs = [TensorSpec("ids", "int64", (BATCH, 8)), TensorSpec("scale", "float32", ())]
    found = columns(inputs, [TensorSpec("y", "float16", (3, BATCH))])
    assert (found["input_bytes_per_item"], found["output_bytes_per_item"]) == (64, 6)


def test_state_and_kept_outputs_stay_on_the_device():
    inputs = [TensorSpec("token", "int64", (BATCH, 1)), CACHE]
    outputs = [
        TensorSpec("next", "int64", (BATCH, 1)),
        TensorSpec("logits", "float32", (BATCH, 1000)),
        TensorSpec("new", "float32", (BATCH, 1, 16)),
    ]
    state = (StateTensor("past", "new", 1),)
    found = columns(inputs, outputs, state=state, kept_outputs=frozenset({"logits"}))
    assert (found["input_bytes_per_item"], found["output_bytes_per_item"]) == (8, 8)


def test_an_open_size_or_no_graph_is_unknown_and_not_zero():
    found = columns([CACHE], [TensorSpec("boxes", "float32", (BATCH, "?"))])
    assert (found["input_bytes_per_item"], found["output_bytes_per_item"]) == (128, None)
    assert traffic_columns(BARE) == dict.fromkeys(found)
