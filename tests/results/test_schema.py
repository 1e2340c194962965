"""The schema is a promise to every reader: names, types, units, and null for the unknown."""

from __future__ import annotations

import re

import pyarrow as pa
import pytest

from raybench.results.columns import COLUMNS
from raybench.results.schema import (
    FAILURES,
    FINAL,
    OUTCOMES,
    SCHEMA_VERSION,
    SCHEMAS,
    STATUSES,
    TABLES,
)

FIELDS = [(table, field) for table, schema in SCHEMAS.items() for field in schema]
PROMISED = (
    "run_id point_id trial experiment model precision batch_size workers engine engine_version "
    "device status reason verdict flags items_per_s items_per_s_lo items_per_s_hi "
    "items_per_s_per_worker latency_p50_ms latency_p90_ms latency_p99_ms window_s warmup_s "
    "n_blocks build_s fidelity_sqnr_db started_at environment_id"
)
UNIT_OF_ENDING = {
    "_ns": "ns", "_us": "us", "_ms": "ms", "_s": "s", "_j": "J", "_mj": "mJ", "_w": "W", "_mib": "MiB",
    "_gib": "GiB", "_mhz": "MHz", "_bytes": "B", "_db": "dB", "_frac": "1", "_rel": "1",
    "_tflops": "TFLOP/s",
}  # fmt: skip


def test_the_tables_and_the_columns_that_were_promised():
    assert TABLES == (
        "trials", "workers", "blocks", "samples", "layers", "environment", "soak", "events",
    )  # fmt: skip
    assert set(PROMISED.split()) <= set(SCHEMAS["trials"].names)


def test_every_row_can_be_joined():
    for table in ("trials", "workers", "blocks", "samples", "layers"):
        keys = {"run_id", "point_id", "trial", "environment_id", "schema_version"}
        assert keys <= set(SCHEMAS[table].names)
    assert {"run_id", "environment_id"} <= set(SCHEMAS["environment"].names)


@pytest.mark.parametrize("table", TABLES)
def test_names_are_not_repeated_and_files_tell_their_versions(table):
    schema = SCHEMAS[table]
    assert len(set(schema.names)) == len(schema.names)
    assert schema.metadata[b"raybench.table"] == table.encode()
    assert schema.metadata[b"raybench.schema_version"] == str(SCHEMA_VERSION).encode()
    assert {b"raybench.method_version", b"raybench.version"} <= set(schema.metadata)


def test_every_field_says_what_it_is():
    for table, field in FIELDS:
        words = field.metadata[b"description"].decode()
        assert re.search(r"\w{3}", words), f"{table}.{field.name}: {words!r}"


def test_the_unit_in_a_name_is_the_unit_of_the_field():
    checked = 0
    for table, field in FIELDS:
        unit = field.metadata[b"unit"].decode()
        if re.search(r"items_per_s(_lo|_hi|_per_worker)?$", field.name):
            assert unit == "items/s", f"{table}.{field.name}"
            continue
        stem = re.sub(r"_(mean|median|min|max|start|end|peak)$", "", field.name)
        ending = re.search(r"_[a-z]+$", stem)
        if ending and pa.types.is_primitive(field.type) and ending.group() in UNIT_OF_ENDING:
            checked += 1
            if not re.search(r"_per_", field.name):
                assert unit == UNIT_OF_ENDING[ending.group()], f"{table}.{field.name}"
    assert checked > 50


def test_every_field_may_be_null():
    assert all(field.nullable for _, field in FIELDS)


def test_a_status_is_an_outcome_or_a_failure_and_only_an_interrupted_trial_is_not_final():
    assert STATUSES == OUTCOMES + FAILURES
    assert len(set(STATUSES)) == 9
    assert set(STATUSES) - set(FINAL) == {"interrupted"}


def test_columns_that_nothing_writes_are_reserved():
    reserved = {c.name for columns in COLUMNS.values() for c in columns if c.reserved}
    assert reserved == {
        "peak_tflops", "mfu", "mfu_clock", "usd_per_gpu_hour", "usd_per_million_items",
        "scaling_mode",
    }  # fmt: skip
    assert not any(b"reserved" in field.metadata[b"description"] for _, field in FIELDS)
