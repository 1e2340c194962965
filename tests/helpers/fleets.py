"""Rows of whole fleets: trials of each device alone and of all together."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from helpers.trial_tables import GOOD, table

from raybench.results.store import Store, build

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


KEY = ("run_id", "point_id", "trial")


def _without_key(row):
    return {name: value for name, value in row.items() if name not in KEY}


@dataclass
class FleetRows:
    """Tables of a fleet whose true rates are known.

    Attributes:
        shares: true rate of each device over 1,000 items/s.
        per_host: devices of a host.
        sd: standard deviation of a trial's logarithm.
        count: trials of each device.
        alone: whether there are trials of each device alone.
        together: whether there are trials of all devices together as well.
        racks: hosts of a rack, each measured in a run of its own; 0 for one run without a tag.
        facts: columns of `workers` by the number of a device.
        gpus: columns of `environment` by the number of a device.
        columns: of `trials`, for all rows.
        beside: share of its rate that the first device loses beside the second, of which every pair is
            measured then; None for no pairs.
        prefix: of the ids of its points.
        seed: of the noise.
    """

    shares: Sequence[float]
    per_host: int = 8
    sd: float = 0.002
    count: int = 3
    alone: bool = True
    together: bool = True
    racks: int = 0
    facts: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    gpus: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    columns: Mapping[str, Any] = field(default_factory=dict)
    beside: Mapping[tuple[int, int], float] | None = None
    prefix: str = ""
    seed: int = 0

    def __post_init__(self):
        self._noise = np.random.default_rng(self.seed)
        self._trials, self._workers = [], []
        devices = range(len(self.shares))
        for trial in range(self.count):
            for device in devices if self.alone else ():
                self._add(f"s{device}", trial, [device])
            for k, pair in enumerate(combinations(devices, 2) if self.beside is not None else ()):
                self._add("pair", trial * 1000 + k, list(pair))
            if self.together and len(devices) > 1:
                self._add("all", trial, devices)
        self.trials = table(*self._trials)
        self.workers = build("workers", self._workers, {})
        self.environment = build("environment", [self._machine(d) for d in devices], {})

    @property
    def tables(self):
        return self.trials, self.workers, self.environment

    def write(self, folder):
        """Write the rows into a results folder, a run for each rack; return its name."""
        runs = {run: Store(folder).start_run({}) for run in {row["run_id"] for row in self._trials}}
        for name, run in runs.items():
            run.write_environment([
                {key: value for key, value in self._machine(d).items() if key != "run_id"}
                for d in range(len(self.shares)) if self._run(d) == name
            ])  # fmt: skip
        for trial in self._trials:
            key = tuple(trial[name] for name in KEY)
            own = [row for row in self._workers if tuple(row[name] for name in KEY) == key]
            whole = {**GOOD, **trial}
            runs[trial["run_id"]].write_point(
                trial["point_id"], trial["trial"], trials=_without_key(whole),
                workers=[_without_key(row) for row in own],
            )  # fmt: skip
        return str(folder)

    def _run(self, device):
        return f"01R{device // self.per_host // self.racks}" if self.racks else "01A"

    def _share(self, device, devices):
        lost = (
            (self.beside or {}).get((device, sum(devices) - device), 0) if len(devices) == 2 else 0
        )
        return self.shares[device] * (1 - lost)

    def _place(self, device):
        host = f"n{device // self.per_host + 1:02}"
        return {"hostname": host, "gpu_index": device % self.per_host, "gpu_uuid": f"GPU-{device}"}

    def _machine(self, device):
        usual = {"power_limit_w": 700.0, "driver_version": "580.1", "device": "NVIDIA H200"}
        place = self._place(device)
        own = {"hostname": place["hostname"], "gpu_uuid": place["gpu_uuid"], "environment_id": "e1"}
        return {"run_id": self._run(device), **usual, **own, **self.gpus.get(device, {})}

    def _add(self, point, trial, devices):
        """Add a trial; of all devices together one for each run that they belong to."""
        by_run = {}
        for device in devices:
            by_run.setdefault(self._run(device), []).append(device)
        for run, own in by_run.items():
            rates = [
                1000 * self._share(d, own) * float(np.exp(self.sd * self._noise.standard_normal()))
                for d in own
            ]
            key = {
                "run_id": run,
                "point_id": self.prefix + point,
                "trial": trial,
                "environment_id": "e1",
            }
            rack = {"tags": {"rack": f"b{run[3:]}"}} if self.racks else {}
            self._trials.append(
                {**key, "workers": len(own), "items_per_s": sum(rates), "device": "NVIDIA H200",
                 "transfers": True, **rack, **self.columns}
            )  # fmt: skip
            self._workers += [
                {**key, "worker": k, "device": "NVIDIA H200", "items_per_s": rate, "pcie_width": 16,
                 **self._place(d), **self.facts.get(d, {})}
                for k, (d, rate) in enumerate(zip(own, rates, strict=True))
            ]  # fmt: skip
