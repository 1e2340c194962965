"""The trials of a search for the highest rate under a latency bound, as rows hold them.

At each rate trial 0 is the probe, and trials 1 to 3 confirm an answer. A trial that something disturbed
is asked again once, in a trial with a number of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CONFIRMING = 3
"""Trials at an answer, in fresh workers, which must keep the bound together."""
MOST_STEPS = 10
"""Steps down from rates that were not confirmed before a search ends without an answer."""
AGAIN = CONFIRMING + 1
"""What is added to the number of a trial that is asked again."""
OFFERED_OFF = "offered_off"
DISTURBANCES = (
    "cpu_throttled", "stalled", "throttled_thermal", "throttled_hw", "foreign_process", "foreign_load",
    "late_arrivals", "steal", OFFERED_OFF,
)  # fmt: skip
"""Flags of something other than the engines under this load. All but the last only make latencies
longer; that one says that more or fewer items arrived than were asked for, by chance."""
LOST = ("timeout", "worker_died", "node_died", "failed")
"""Statuses that say nothing of the rate."""


def role(trial: int) -> int:
    """Return what a trial is for: 0 probes a rate, 1 to 3 confirm it."""
    return trial % AGAIN


def disturbances(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what disturbed a trial: flags of its row, or the status of one that was lost."""
    if row["status"] in LOST:
        return (row["status"],)
    flags = row.get("flags") or ()
    return tuple(flag for flag in DISTURBANCES if flag in flags)


def that_count(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows of one rate without those in whose place another trial was measured."""
    measured = {row["trial"] for row in rows if row["status"] == "ok"}
    return [
        row for row in rows if row["trial"] + AGAIN not in measured or not disturbances(row)
    ]  # fmt: skip
