"""Dataclasses as Arrow tables."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from raybench.analysis.curves import ScalingEntry
from raybench.analysis.tables import as_table
from raybench.results.schema import SCHEMAS


@dataclass(frozen=True)
class Inner:
    model: str | None
    workers: int | None


@dataclass(frozen=True)
class Outer:
    inner: Inner
    items_per_s: float | None
    slowest_worker: str | None
    flags: tuple[str, ...]
    share: float
    stable: bool


def test_nested_fields_become_columns_and_tuples_lists():
    rows = as_table(Outer, [Outer(Inner("m", 2), 1.5, "worker 0", ("a", "b"), 0.5, True)])
    assert rows.to_pylist() == [
        {"model": "m", "workers": 2, "items_per_s": 1.5, "slowest_worker": "worker 0",
         "flags": ["a", "b"], "share": 0.5, "stable": True}
    ]  # fmt: skip


def test_columns_of_trials_keep_their_type_unit_and_description():
    schema = as_table(Outer, []).schema
    stored = SCHEMAS["trials"]
    for name in ("model", "workers", "items_per_s", "flags"):
        assert schema.field(name).equals(stored.field(name), check_metadata=True)
    assert schema.field("share").type == pa.float64()


def test_a_name_that_means_something_else_in_trials_keeps_its_own_type():
    assert as_table(Outer, []).schema.field("slowest_worker").type == pa.string()
    assert as_table(ScalingEntry, []).schema.field("slowest_worker").type == pa.string()


def test_unknown_stays_null_and_no_rows_make_an_empty_table():
    rows = as_table(Outer, [Outer(Inner(None, None), None, None, (), 1.0, False)])
    assert rows["items_per_s"].null_count == 1
    assert as_table(Outer, []).num_rows == 0
