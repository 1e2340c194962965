"""Workers that share a device: none of them is a stranger to another.

Rows and readings of workers are in the order of their ranks, in which those of one device follow one
another.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.measure.telemetry_columns import Readings


def groups(count: int, instances: int) -> list[range]:
    """Return the ranks of the workers of each device."""
    return [range(first, first + instances) for first in range(0, count, instances)]


def summed(values: Sequence[int], instances: int) -> list[int]:
    """Return for each worker the sum over all workers of its device."""
    return [
        total
        for ranks in groups(len(values), instances)
        for total in [sum(values[rank] for rank in ranks)] * instances
    ]


def known(readings: Sequence[Readings], instances: int) -> list[Readings]:
    """Return the readings with the process ids of all workers of the device in each."""
    pids = [each.pid for each in readings]
    return [
        replace(readings[rank], siblings=frozenset(pids[other] for other in ranks if other != rank))
        for ranks in groups(len(readings), instances)
        for rank in ranks
    ]


def without_their_load(
    columns: Sequence[dict[str, Any]], readings: Sequence[Readings], instances: int
) -> list[dict[str, Any]]:
    """Return the host's columns without the CPU time of siblings in the load by others.

    Siblings on the same CPUs take their time from one another; that is what is measured. Their load
    of the node is subtracted with that of all other workers.
    """
    rows = [dict(row) for row in columns]
    for ranks in groups(len(rows), instances):
        for rank in ranks:
            load = columns[rank]["foreign_load_frac"]
            cpus = readings[rank].cpus
            if load is None or instances == 1:
                continue
            same = [other for other in ranks if other != rank and readings[other].cpus == cpus]
            own = sum(columns[other]["cpu_busy_frac"] or 0.0 for other in same)
            rows[rank]["foreign_load_frac"] = max(load - own, 0.0)
    return rows
