"""Columns of a row from what its workers prepared."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from helpers.fake_workers import prepared
from helpers.plans import expanded

from raybench.execute.rows import TrialWorkers, preparation_columns
from raybench.measure.clock import Clock, ClockDrift

CLOCK = ClockDrift(Clock(0, 1000, 0), Clock(0, 1000, 10**9))


@pytest.mark.parametrize(
    ("ops", "frac", "stored"),
    [
        (("Conv:int8", "MatMul:int8"), 0.62, (["Conv:int8", "MatMul:int8"], 0.62)),
        ((), 0.0, ([], 0.0)),  # fp32
        (None, None, (None, None)),  # an engine that reads no graph
    ],
)
def test_a_row_says_what_its_graph_computes_in_and_null_without_a_graph(ops, frac, stored):
    _, (point, *_) = expanded()
    ready = prepared(point, SimpleNamespace(number=0), 0.01)
    model = replace(ready.model, reduced_ops=ops, quantised_macs_frac=frac)
    member = SimpleNamespace(node_id="n", host=SimpleNamespace(nice=0))
    columns = preparation_columns(TrialWorkers([member], [replace(ready, model=model)]), [CLOCK])
    assert (columns["reduced_ops"], columns["quantised_macs_frac"]) == stored
