"""The devices behind the rows: what each reached alone, and beside all others.

A device keeps its identity over runs, so that the racks of a cluster may be measured one after another
and judged together. Only rows of the closed loop count: in open loop the rate is that of the arrivals.
"""

from __future__ import annotations

import math
import re
import statistics
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from raybench.analysis.selection import with_columns
from raybench.analysis.series import SERIES, Series, without
from raybench.experiment import CLOSED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pyarrow as pa

    from raybench.analysis.columns import Floats

ALONE, TOGETHER = "alone", "together"
SITUATIONS = (ALONE, TOGETHER)
"""A device ran alone, or with all others at the same time. The first says more about the device."""
MAY_DIFFER = ("environment_id", "engine_version", "device", "preset")
"""Factors in which the devices of one population may differ; other versions are a cause, too."""
_Trial: TypeAlias = "tuple[Any, ...]"
"""Run, point and number of a trial."""
_PLACE = ("hostname", "gpu_index", "cpu_affinity")
_KEY = ("run_id", "point_id", "trial")
_TRIAL = (
    *_KEY,
    "environment_id",
    "workers",
    "status",
    "verdict",
    "tags",
    "items_per_s",
    "started_at",
)


@dataclass(frozen=True)
class FleetDevice:
    """One device, by whatever tells it from the others.

    Attributes:
        name: host and number, for people.
        product: its product name.
        rack: of the run's tag `rack.HOST`, else of its tag `rack`; None without.
    """

    name: str
    hostname: str | None
    rack: str | None
    product: str | None
    uuid: str | None


@dataclass(frozen=True)
class FleetPoint:
    """One point in one situation, with the devices of one product that were measured.

    Attributes:
        series: without the factors of `MAY_DIFFER`, but with the product name as `device` and all
            versions of the engine's library.
        situation: of `SITUATIONS`.
        versions: of the engine's library.
        devices: places in `Fleet.devices`.
        logs: logarithm of the rate of each device in each of its trials, in items/s; of trials that
            hold all devices at once less the median of the trial, plus that of all trials.
        rows: rows of the `workers` table behind each device.
        unstable: trials of an unstable verdict among them.
    """

    series: Series
    situation: str
    product: str | None
    versions: tuple[str, ...]
    devices: tuple[int, ...]
    logs: tuple[Floats, ...]
    rows: tuple[tuple[int, ...], ...]
    unstable: int


@dataclass(frozen=True)
class Fleet:
    """All devices of some rows, and the points at which they were measured.

    Attributes:
        points: those alone first, then in the order of the rows.
    """

    devices: tuple[FleetDevice, ...]
    points: tuple[FleetPoint, ...]


class _Reading(NamedTuple):
    """One device in one trial."""

    trial: _Trial
    device: int
    rate: float
    rows: tuple[int, ...]
    unstable: bool


def fleet(trials: pa.Table, workers: pa.Table) -> Fleet:
    """Return the devices of the rows with their rates.

    Args:
        trials: as `raybench.load` returns it.
        workers: the `workers` table of the same folders.
    """
    measured = _measured_trials(trials)
    devices, device_of = _devices(workers, measured)
    products = workers["device"].to_pylist()
    rates = workers["items_per_s"].to_pylist()
    sums: dict[tuple[_Trial, int], list[int]] = defaultdict(list)
    for row, key in enumerate(_keys(workers)):
        if key in measured and rates[row] and rates[row] > 0:
            sums[key, device_of[row]].append(row)
    grouped: dict[tuple[Series, str, str | None], list[_Reading]] = defaultdict(list)
    versions: dict[tuple[Series, str, str | None], set[str]] = defaultdict(set)
    kept = _newest(measured, sums)
    for (key, device), rows in sums.items():
        if key not in kept:
            continue
        facts = measured[key]
        home = facts["series"], facts["situation"], products[rows[0]]
        rate = math.fsum(rates[row] for row in rows)  # over the instances of the device
        reading = _Reading(key, device, rate, tuple(rows), facts["unstable"])
        grouped[home].append(reading)
        versions[home].add(str(facts["version"]))
    points = [_point(*home, sorted(versions[home]), readings) for home, readings in grouped.items()]
    return Fleet(devices, tuple(sorted(points, key=lambda p: SITUATIONS.index(p.situation))))


def _measured_trials(trials: pa.Table) -> dict[_Trial, dict[str, Any]]:
    """Return what counts of each good trial in which a device ran alone or with all others."""
    rows = with_columns(trials, (*_TRIAL, *SERIES))
    columns = {name: rows[name].to_pylist() for name in rows.column_names}
    made: dict[tuple[Any, ...], Series] = {}
    found = []
    most: dict[tuple[Any, Series], int] = defaultdict(int)
    for k in range(rows.num_rows):
        if (
            columns["status"][k] != "ok"
            or columns["load"][k] != CLOSED
            or not columns["workers"][k]
        ):
            continue
        factors = tuple(columns[name][k] for name in SERIES)
        series = made.setdefault(factors, without(Series(*factors), *MAY_DIFFER))
        run, count = columns["run_id"][k], columns["workers"][k]
        most[run, series] = max(most[run, series], count)
        found.append((k, series, run, count))
    measured = {}
    for k, series, run, count in found:
        if count in (1, most[run, series]):
            measured[tuple(columns[name][k] for name in _KEY)] = {
                "series": series,
                "situation": ALONE if count == 1 else TOGETHER,
                "at": str(columns["started_at"][k] or columns["run_id"][k]),
                "environment_id": columns["environment_id"][k],
                "unstable": columns["verdict"][k] == "unstable",
                "version": columns["engine_version"][k],
                "tags": dict(columns["tags"][k] or ()),
            }
    return measured


def _newest(
    measured: Mapping[_Trial, Mapping[str, Any]], sums: Iterable[tuple[_Trial, int]]
) -> set[_Trial]:
    """Return the trials that count: of those of a point that were repeated, the newest.

    The same trial on other devices is another one: racks of one kind share their environment.
    """
    devices: dict[_Trial, list[int]] = defaultdict(list)
    for key, device in sums:
        devices[key].append(device)
    newest: dict[Any, _Trial] = {}
    for key in sorted(devices, key=lambda key: (measured[key]["at"], key)):
        newest[key[1:], measured[key]["environment_id"], tuple(sorted(devices[key]))] = key
    return set(newest.values())


def _keys(table: pa.Table) -> list[_Trial]:
    return list(zip(*(table[name].to_pylist() for name in _KEY), strict=True))


def _devices(
    workers: pa.Table, measured: Mapping[_Trial, Mapping[str, Any]]
) -> tuple[tuple[FleetDevice, ...], list[int]]:
    """Return all devices by host and number, and the device of each row of `workers`."""
    names = (*_PLACE, "gpu_uuid", "device", "worker")
    columns = zip(*(workers[name].to_pylist() for name in names), _keys(workers), strict=True)
    racks: dict[Any, str | None] = {}
    found: dict[Any, FleetDevice] = {}
    identities = []
    for host, index, affinity, uuid, product, worker, key in columns:
        identity = uuid or (host, index, affinity or worker)
        identities.append(identity)
        tags = measured[key]["tags"] if key in measured else {}
        rack = tags.get(f"rack.{host}") or tags.get("rack")  # of this host, or of the whole run
        racks[identity] = rack or racks.get(identity)
        if identity not in found:
            which = f"GPU {index}" if index is not None else f"core {affinity or worker}"
            name = f"{host or '-'} {which if index is not None or not uuid else uuid}"
            found[identity] = FleetDevice(name, host, None, product, uuid)
    ordered = sorted(found, key=lambda identity: natural_key(found[identity].name))
    place = {identity: k for k, identity in enumerate(ordered)}
    devices = []
    for identity in ordered:
        one = found[identity]
        devices.append(FleetDevice(one.name, one.hostname, racks[identity], one.product, one.uuid))
    return tuple(devices), [place[identity] for identity in identities]


def natural_key(name: str) -> list[tuple[bool, int, str]]:
    """Return a key that sorts n2 before n10."""
    return [
        (False, int(part), "") if part.isdecimal() else (True, 0, part)
        for part in re.split(r"([0-9]+)", name)
    ]


def _point(
    series: Series,
    situation: str,
    product: str | None,
    versions: Sequence[str],
    readings: Sequence[_Reading],
) -> FleetPoint:
    by_device: dict[int, list[_Reading]] = defaultdict(list)
    by_trial: dict[_Trial, list[_Reading]] = defaultdict(list)
    for reading in readings:
        by_device[reading.device].append(reading)
        by_trial[reading.trial].append(reading)
    shared = dict.fromkeys(by_trial, 0.0)
    if len(by_device) > 2 and all(len(members) == len(by_device) for members in by_trial.values()):
        middle = {
            trial: statistics.median(math.log(one.rate) for one in members)
            for trial, members in by_trial.items()
        }  # what all devices had in common in a trial is no noise of a device
        usual = statistics.fmean(middle.values())
        shared = {trial: value - usual for trial, value in middle.items()}
    devices = sorted(by_device)
    return FleetPoint(
        series=replace(series, device=product, engine_version=" and ".join(versions)),
        situation=situation,
        product=product,
        versions=tuple(versions),
        devices=tuple(devices),
        logs=tuple(
            np.array([math.log(one.rate) - shared[one.trial] for one in by_device[device]])
            for device in devices
        ),
        rows=tuple(tuple(row for one in by_device[d] for row in one.rows) for d in devices),
        unstable=len({one.trial for one in readings if one.unstable}),
    )
