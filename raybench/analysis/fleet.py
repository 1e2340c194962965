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
from raybench.results.schema import FAILURES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from raybench.analysis.columns import Floats

ALONE, TOGETHER = "alone", "together"
SITUATIONS = (ALONE, TOGETHER)
"""A device ran alone, or with all others at the same time. The first says more about the device."""
MAY_DIFFER = ("environment_id", "engine_version", "device", "preset")
"""Factors in which the devices of one population may differ; other versions are a cause, too."""
_Trial: TypeAlias = "tuple[Any, ...]"
"""Run, point and number of a trial."""
_Home: TypeAlias = "tuple[Series, str, str | None, int]"
"""Series, situation, product and build: devices are compared where they ran the same plan."""
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
    "build",
    "device_kind",
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
        kind: of the devices: gpu or cpu; None in rows that do not say it.
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
    kind: str | None
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
        failed: why trials ended without a number that others of their point have, one each.
        device_of: place in `devices` of each row of the `workers` table.
    """

    devices: tuple[FleetDevice, ...]
    points: tuple[FleetPoint, ...]
    failed: tuple[str, ...]
    device_of: tuple[int, ...] = ()


class _Reading(NamedTuple):
    """One device in one trial."""

    trial: _Trial
    device: int
    rate: float
    rows: tuple[int, ...]
    unstable: bool
    kind: str | None


class MeasuredDevices(NamedTuple):
    """The devices of good trials in closed loop.

    Attributes:
        good: what counts of each trial, by its key; "series" is without the factors of `MAY_DIFFER`.
        devices: all of them, in the order of their names.
        device_of: place in `devices` of each row of the `workers` table.
        rows_of: rows with a rate of each device, by trial.
        rates: items/s of each row.
    """

    good: dict[_Trial, dict[str, Any]]
    devices: tuple[FleetDevice, ...]
    device_of: list[int]
    rows_of: dict[_Trial, dict[int, list[int]]]
    rates: list[float]


def measured_devices(trials: pa.Table, workers: pa.Table) -> MeasuredDevices:
    """Return which devices each good trial ran on; arguments as of `fleet`."""
    good = _good_trials(trials)
    devices, device_of = _devices(workers, good)
    rates = workers["items_per_s"].to_pylist()
    rows_of: dict[_Trial, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row, key in enumerate(_keys(workers)):
        if key in good and rates[row] is not None and 0 < rates[row] < math.inf:
            rows_of[key][device_of[row]].append(row)
    return MeasuredDevices(good, devices, device_of, rows_of, rates)


def fleet(trials: pa.Table, workers: pa.Table) -> Fleet:
    """Return the devices of the rows with their rates.

    Args:
        trials: as `raybench.load` returns it.
        workers: the `workers` table of the same folders.
    """
    if not workers.num_rows:
        return Fleet((), (), _failed(trials))
    good, devices, device_of, rows_of, rates = measured_devices(trials, workers)
    products = workers["device"].to_pylist()
    grouped: dict[_Home, list[_Reading]] = defaultdict(list)
    versions: dict[_Home, set[str]] = defaultdict(set)
    situation_of = _situations(good, rows_of)
    for key in newest_trials(good, rows_of):
        facts, situation = good[key], situation_of[key]
        if situation is None:
            continue
        for device, rows in rows_of[key].items():
            home = facts["series"], situation, products[rows[0]], facts["build"]
            rate = math.fsum(rates[row] for row in rows)  # over the instances of the device
            reading = _Reading(key, device, rate, tuple(rows), facts["unstable"], facts["kind"])
            grouped[home].append(reading)
            versions[home].add(str(facts["version"]))
    points = [
        _point(*home[:3], sorted(versions[home]), readings) for home, readings in grouped.items()
    ]
    points.sort(key=lambda point: SITUATIONS.index(point.situation))
    return Fleet(devices, tuple(points), _failed(trials), tuple(device_of))


def several_alone(one: Fleet) -> bool:
    """Return whether two devices or more were each measured alone at a point."""
    return any(point.situation == ALONE and len(point.devices) > 1 for point in one.points)


def _good_trials(trials: pa.Table) -> dict[_Trial, dict[str, Any]]:
    """Return what counts of each good trial in closed loop."""
    rows = with_columns(trials, (*_TRIAL, *SERIES))
    columns = {name: rows[name].to_pylist() for name in rows.column_names}
    made: dict[tuple[Any, ...], Series] = {}
    good = {}
    for k in range(rows.num_rows):
        if columns["status"][k] != "ok" or columns["load"][k] != CLOSED:
            continue
        factors = tuple(columns[name][k] for name in SERIES)
        good[tuple(columns[name][k] for name in _KEY)] = {
            "series": made.setdefault(factors, without(Series(*factors), *MAY_DIFFER)),
            "at": str(columns["started_at"][k] or columns["run_id"][k]),
            "environment_id": columns["environment_id"][k],
            "unstable": columns["verdict"][k] == "unstable",
            "version": columns["engine_version"][k],
            "build": columns["build"][k] or 0,
            "kind": columns["device_kind"][k],
            "tags": dict(columns["tags"][k] or ()),
        }
    return good


def _situations(
    good: Mapping[_Trial, Mapping[str, Any]], rows_of: Mapping[_Trial, Mapping[int, Any]]
) -> dict[_Trial, str | None]:
    """Return whether devices ran alone or all together in each trial; None for anything between.

    All together are those of a trial whose devices are not a part of another's at the same point. Pairs,
    of which each device is in several, are no fleet.
    """
    sets: dict[Series, set[frozenset[int]]] = defaultdict(set)
    for key, devices in rows_of.items():
        sets[good[key]["series"]].add(frozenset(devices))
    whole = {
        series: {one for one in every if not any(one < other for other in every)}
        for series, every in (
            (series, {one for one in every if len(one) > 1}) for series, every in sets.items()
        )
    }
    whole = {
        series: {
            one
            for one in every
            if len(one) > 2 or not any(one & other for other in every if other != one)
        }
        for series, every in whole.items()
    }
    situations: dict[_Trial, str | None] = {}
    for key, devices in rows_of.items():
        is_whole = frozenset(devices) in whole[good[key]["series"]]
        situations[key] = ALONE if len(devices) == 1 else TOGETHER if is_whole else None
    return situations


def newest_trials(
    good: Mapping[_Trial, Mapping[str, Any]], rows_of: Mapping[_Trial, Mapping[int, Any]]
) -> list[_Trial]:
    """Return the trials that count: of those of a point that were repeated, the newest.

    The same trial on other devices is another one: racks of one kind share their environment.
    """
    newest: dict[Any, _Trial] = {}
    for key in sorted(rows_of, key=lambda key: (good[key]["at"], key)):
        newest[key[1:], good[key]["environment_id"], frozenset(rows_of[key])] = key
    return list(newest.values())


def _failed(trials: pa.Table) -> tuple[str, ...]:
    """Return why trials have no number that others of their point have, or that failed."""
    rows = with_columns(trials, (*_TRIAL, "reason", "load"))
    names = ("point_id", "trial", "environment_id", "status", "reason")
    every = list(zip(*(rows[name].to_pylist() for name in names), strict=True))
    good = {row[:3] for row in every if row[3] == "ok"}
    good_points = {point for point, _, _ in good}
    failed = {
        row[:3]: f"{row[3]}. {row[4] or ''}".rstrip()
        for row in every
        if row[:3] not in good
        and row[3] not in ("ok", "interrupted")
        and (row[3] in FAILURES or row[0] in good_points)
    }
    return tuple(failed.values())


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
        identity = uuid or (host, index, None if index is not None else affinity or worker)
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
        kind=readings[0].kind,
        versions=tuple(versions),
        devices=tuple(devices),
        logs=tuple(
            np.array([math.log(one.rate) - shared[one.trial] for one in by_device[device]])
            for device in devices
        ),
        rows=tuple(tuple(row for one in by_device[d] for row in one.rows) for d in devices),
        unstable=len({one.trial for one in readings if one.unstable}),
    )
