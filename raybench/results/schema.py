"""Schema v1 of the stored tables, and the closed lists of statuses and verdicts."""

from __future__ import annotations

import pyarrow as pa

from raybench.experiment import METHOD_VERSION
from raybench.results.columns import COLUMNS, ColumnDefinition
from raybench.version import __version__

SCHEMA_VERSION = 1

OUTCOMES = ("ok", "out_of_memory", "unsupported", "infeasible")
"""Statuses that answer the question, with a number or with the reason why there is none."""
FAILURES = ("timeout", "worker_died", "node_died", "failed", "interrupted")
"""Statuses that leave the question open."""
STATUSES = OUTCOMES + FAILURES
FINAL = tuple(status for status in STATUSES if status != "interrupted")
"""Statuses after which a resumed run does not measure again unless asked to."""
VERDICTS = ("stable", "unverified", "unstable")
"""Best first; a point is as good as its worst trial."""


def _schema(table: str, columns: tuple[ColumnDefinition, ...]) -> pa.Schema:
    facts = {
        "raybench.table": table,
        "raybench.schema_version": str(SCHEMA_VERSION),
        "raybench.method_version": str(METHOD_VERSION),
        "raybench.version": __version__,
    }
    fields = [
        pa.field(c.name, c.type, metadata={"unit": c.unit, "description": c.description})
        for c in columns
    ]
    return pa.schema(fields, metadata=facts)


SCHEMAS: dict[str, pa.Schema] = {name: _schema(name, columns) for name, columns in COLUMNS.items()}
"""Arrow schema by table name; fields carry `unit` and `description`, files their versions."""
TABLES = tuple(SCHEMAS)
