"""Columns of a row from what its workers prepared."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.fake_workers import prepared
from helpers.plans import expanded

from raybench.execute.rows import TrialWorkers, preparation_columns
from raybench.execute.stream_rows import sample_rows
from raybench.measure.clock import Clock, ClockDrift
from raybench.measure.open_stream import OpenTrace
from raybench.models.conversion import Conversion

CLOCK = ClockDrift(Clock(0, 1000, 0), Clock(0, 1000, 10**9))


def columns_with(**fields):
    """Return the columns of a row whose model has these fields."""
    _, (point, *_) = expanded()
    ready = prepared(point, SimpleNamespace(number=0), 0.01)
    model = replace(ready.model, **fields)
    member = SimpleNamespace(node_id="n", host=SimpleNamespace(nice=0))
    return preparation_columns(TrialWorkers([member], [replace(ready, model=model)]), [CLOCK])


@pytest.mark.parametrize(
    ("ops", "frac", "stored"),
    [
        (("Conv:int8", "MatMul:int8"), 0.62, (["Conv:int8", "MatMul:int8"], 0.62)),
        ((), 0.0, ([], 0.0)),  # fp32
        (None, None, (None, None)),  # an engine that reads no graph
    ],
)
def test_a_row_says_what_its_graph_computes_in_and_null_without_a_graph(ops, frac, stored):
    columns = columns_with(reduced_ops=ops, quantised_macs_frac=frac)
    assert (columns["reduced_ops"], columns["quantised_macs_frac"]) == stored


def test_a_row_says_how_its_graph_was_made():
    made = Conversion("percentile 99.9", ("Softmax",), rounded_sqnr_db=41.5, notes=("As it was.",))
    columns = columns_with(conversion=made)
    assert columns["calibration"] == "percentile 99.9"
    assert columns["kept_fp32_ops"] == ["Softmax"]
    assert columns["rounded_sqnr_db"] == 41.5
    assert columns["notes"] == ["As it was."]


def test_samples_of_an_open_loop_say_how_full_a_batch_was_and_when_its_first_item_arrived():
    ints = partial(np.array, dtype=np.int64)
    trace = OpenTrace(
        submit_ns=ints([12, 30]), enqueued_ns=ints([12, 30]), done_ns=ints([20, 40]), spans_ns=None,
        start_ns=0, late_ns=0, batch_size=4, items=ints([2, 1]), arrival_ns=ints([10, 11, 25]),
        due_ns=ints([10, 25]), waited=np.array([True, True]), unserved_ns=ints([]), end_ns=50,
    )  # fmt: skip
    first, second = sample_rows([trace])
    assert (first["batch_items"], first["arrival_ns"], first["latency_ns"]) == (2, 10, 8)
    assert (second["batch_items"], second["arrival_ns"], second["seq"]) == (1, 25, 1)
