"""Columns of a row from what its workers prepared."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from helpers.fake_workers import prepared
from helpers.plans import expanded

from raybench.execute.rows import TrialWorkers, preparation_columns
from raybench.measure.clock import Clock, ClockDrift
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
