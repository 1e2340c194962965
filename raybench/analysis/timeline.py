"""The blocks behind a point over time, trial by trial, all workers together."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pyarrow as pa

Floats: TypeAlias = npt.NDArray[np.float64]
Key: TypeAlias = tuple[str, str | None]
"""(point_id, environment_id)."""
MOST_PIECES = 10_000
"""A block that would be cut into more pieces is damaged data."""

_COLUMNS = (
    "run_id", "point_id", "trial", "environment_id", "worker", "block", "phase", "t_start_ns",
    "t_end_ns", "items", "stalled_s", "sm_clock_mhz", "temp_c", "power_w", "gpu_sm_frac", "gpu_dram_frac",
)  # fmt: skip


class StalledBlock(NamedTuple):
    """A block in which a worker completed nothing for far longer than a batch takes.

    Attributes:
        worker: its rank.
        at_s: start of the block, in seconds after the start of the measured window.
        stalled_s: how long nothing was completed.
    """

    worker: int
    at_s: float
    stalled_s: float


@dataclass(frozen=True)
class TrialTimeline:
    """The blocks of one trial in time order; arrays hold one value for each block.

    Attributes:
        t_s: middle of the block on the driver's monotonic clock, in seconds after the start of
            the measured window; negative in warm-up.
        items_per_s: rate of each worker, summed over workers.
        measured: False in warm-up.
        stalled: whether a worker stalled in the block.
        sm_clock_mhz: mean over workers; None if it was not read.
        temp_c: of the hottest worker; None if it was not read.
        power_w: of all devices together; None if it was not read.
        stalls: the measured blocks in which a worker stalled, the longest stall first.
        gpu_sm_frac: multiprocessors with work, mean over workers; None if it was not read.
        gpu_dram_frac: traffic of device memory over what it can, likewise.
    """

    trial: int
    t_s: Floats
    items_per_s: Floats
    measured: npt.NDArray[np.bool_]
    stalled: npt.NDArray[np.bool_]
    sm_clock_mhz: Floats | None
    temp_c: Floats | None
    power_w: Floats | None
    stalls: tuple[StalledBlock, ...] = ()
    gpu_sm_frac: Floats | None = None
    gpu_dram_frac: Floats | None = None


def timelines(
    blocks: pa.Table, instances: Mapping[str, int] = MappingProxyType({})
) -> dict[Key, tuple[TrialTimeline, ...]]:
    """Return the newest timeline of every trial in a `blocks` table, by point and environment.

    Args:
        blocks: as `raybench.load` returns it.
        instances: workers that share a device, by point, where it is more than one: each of them reads
            the power of all of the device.
    """
    table = blocks.select([name for name in _COLUMNS if name in blocks.column_names])
    for name in ("t_start_ns", "t_end_ns", "items", "worker", "block"):
        table = table.filter(pc.is_valid(table[name]))
    if not table.num_rows:
        return {}
    table = table.sort_by(
        [(name, "ascending") for name in ("point_id", "environment_id", "trial", "run_id", "block")]
    )
    newest: dict[Key, dict[int, TrialTimeline]] = {}
    for names, columns in _trials(table):
        point, environment, trial, _ = names
        # runs follow each other by time, so a later one replaces the earlier
        newest.setdefault((point, environment), {})[trial] = _timeline(
            trial, columns, instances.get(point, 1)
        )
    return {key: tuple(of_trial.values()) for key, of_trial in newest.items()}


def _trials(table: pa.Table) -> Iterator[tuple[tuple[Any, ...], dict[str, npt.NDArray[Any]]]]:
    """Yield the key and the columns of each trial of a sorted table."""
    keys = [table[name] for name in ("point_id", "environment_id", "trial", "run_id")]
    codes = [
        key.combine_chunks().dictionary_encode().indices.fill_null(-1).to_numpy(False)
        for key in keys
    ]
    changes = np.any([np.diff(code) != 0 for code in codes], axis=0)
    edges = [0, *(np.flatnonzero(changes) + 1).tolist(), table.num_rows]
    values = {
        name: table[name].to_numpy() for name in table.column_names
        if name not in ("point_id", "environment_id", "trial", "run_id")
    }  # fmt: skip
    for first, last in itertools.pairwise(edges):
        names = tuple(key[first].as_py() for key in keys)
        yield names, {name: array[first:last] for name, array in values.items()}


def _timeline(
    trial: int, columns: dict[str, npt.NDArray[Any]], workers_per_device: int
) -> TrialTimeline:
    """Add up the blocks of the same number: the grids of all workers start together."""
    stalls = _stalls(columns)
    columns = _unstretched(columns)
    _, place = np.unique(columns["block"], return_inverse=True)
    count = np.bincount(place)
    start = columns["t_start_ns"].astype(np.float64)
    end = columns["t_end_ns"].astype(np.float64)
    rates = columns["items"] * 1e9 / np.maximum(end - start, 1.0)
    measured = np.bincount(place, columns["phase"] == "measure") > 0
    zero = start[columns["phase"] == "measure"].min() if measured.any() else start.min()
    middle = np.bincount(place, (start + end) / 2 - zero) / count / 1e9
    # the last blocks may lack a worker that had already ended: their sum is not comparable
    whole = count == count.max()

    def gauge(name: str, how: str) -> Any:
        values = columns.get(name)
        if values is None:
            return None
        values = values.astype(np.float64)
        if np.isnan(values).all():
            return None
        if how == "max":
            highest = np.full(len(count), -np.inf)
            np.fmax.at(highest, place, values)
            return np.where(np.isinf(highest), np.nan, highest)[whole]
        sums = np.bincount(place, values)
        return (sums / count if how == "mean" else sums)[whole]

    power_w = gauge("power_w", "sum")
    return TrialTimeline(
        trial=trial,
        t_s=middle[whole],
        items_per_s=np.bincount(place, rates)[whole],
        measured=measured[whole],
        stalled=_stalled(columns, place)[whole],
        sm_clock_mhz=gauge("sm_clock_mhz", "mean"),
        temp_c=gauge("temp_c", "max"),
        power_w=None if power_w is None else power_w / workers_per_device,
        stalls=stalls,
        gpu_sm_frac=gauge("gpu_sm_frac", "mean"),
        gpu_dram_frac=gauge("gpu_dram_frac", "mean"),
    )


def _stalls(columns: dict[str, npt.NDArray[Any]]) -> tuple[StalledBlock, ...]:
    """Return the measured blocks in which a worker stalled, the longest stall first."""
    measured = columns["phase"] == "measure"
    if "stalled_s" not in columns or not measured.any():
        return ()
    seconds = np.nan_to_num(columns["stalled_s"].astype(np.float64))
    start = columns["t_start_ns"].astype(np.float64)
    at_s = (start - start[measured].min()) / 1e9
    found = [
        StalledBlock(int(columns["worker"][k]), float(at_s[k]), float(seconds[k]))
        for k in np.flatnonzero(measured & (seconds > 0))
    ]
    return tuple(sorted(found, key=lambda stall: -stall.stalled_s))


def _unstretched(columns: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Cut each block that a stall stretched into blocks of its own numbers and of equal rates."""
    order = np.lexsort((columns["block"], columns["worker"]))
    columns = {name: values[order] for name, values in columns.items()}
    worker, block = columns["worker"], columns["block"]
    same = worker[1:] == worker[:-1]
    pieces = np.append(np.where(same, np.diff(block), 1), 1)
    pieces = np.where((pieces < 1) | (pieces > MOST_PIECES), 1, pieces)
    row = np.repeat(np.arange(len(block)), pieces)
    which = np.arange(len(row)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    cut = {name: values[row] for name, values in columns.items()}
    length_ns = (cut["t_end_ns"] - cut["t_start_ns"]) / pieces[row]
    cut["t_start_ns"] = cut["t_start_ns"] + which * length_ns
    return {
        **cut,
        "t_end_ns": cut["t_start_ns"] + length_ns,
        "block": cut["block"] + which,
        "items": cut["items"] / pieces[row],
    }


def _stalled(columns: dict[str, npt.NDArray[Any]], place: npt.NDArray[Any]) -> Any:
    seconds = columns.get("stalled_s", np.zeros(len(place)))  # older rows have none
    return np.bincount(place, np.nan_to_num(seconds.astype(np.float64)) > 0) > 0
