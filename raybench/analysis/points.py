"""Cell: one place of the grid in one environment, and what its trials say together.

Every analysis starts from cells, so that all of them agree on which rows count.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

MARKS = ("simulated", "capped", "unstable", "unverified")
"""What a reader must be told of a figure: it is no hardware's, the device was made smaller, the
measurement is contradicted by its own evidence, or the preset was too short to claim more."""


@dataclass(frozen=True)
class Series:
    """What stays the same while the number of workers grows. Columns of `trials`."""

    model: str | None
    precision: str | None
    batch_size: int | None
    engine: str | None
    engine_version: str | None
    engine_options: str | None
    device: str | None
    inflight: int | None
    transfers: bool | None
    memory_limit_bytes: int | None
    preset: str | None
    simulated: bool | None
    environment_id: str | None
    method_version: int | None


SERIES = tuple(field.name for field in fields(Series))
