"""Rows of many runs, one after another on different days."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import numpy as np
from helpers.trial_tables import GOOD, table

from raybench.results.store import Store, build

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

FIRST_DAY = datetime(2026, 10, 1, 2, 0, tzinfo=timezone.utc)
_KEY = ("run_id", "point_id", "trial")


@dataclass
class ManyRuns:
    """Tables of runs whose true levels are known.

    Attributes:
        levels: true rate of each run over 1,000 items/s; None for a run whose trials failed.
        spread: standard deviation between runs, of the logarithm.
        points: columns of `trials` by point; every point has the same levels.
        machine: columns of `environment`, from the number of a run.
        columns: of `trials`, from the number of a run.
        count: trials of each point.
        seed: of the noise.
    """

    levels: Sequence[float | None]
    spread: float = 0.005
    points: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"p": {}})
    machine: Callable[[int], Mapping[str, Any]] = lambda run: {}
    columns: Callable[[int], Mapping[str, Any]] = lambda run: {}
    count: int = 2
    seed: int = 0

    def __post_init__(self):
        noise = np.random.default_rng(self.seed)
        self._trials, self._machines = [], []
        for run, level in enumerate(self.levels):
            for point, factors in self.points.items():
                of_run = self.spread * noise.standard_normal()
                for trial in range(self.count):
                    of_trial = 0.001 * noise.standard_normal()
                    rate = None if level is None else 1000 * level * np.exp(of_run + of_trial)
                    self._trials.append(
                        self._trial(run, point, trial, rate, factors, self.columns(run))
                    )
            self._machines.append(
                {"run_id": self.run_id(run), "environment_id": self._environment(self.machine(run)),
                 "hostname": "n01", **self.machine(run)}
            )  # fmt: skip
        by_run = {row["run_id"]: row["environment_id"] for row in self._machines}
        for row in self._trials:
            row["environment_id"] = by_run[row["run_id"]]
        self.trials = table(*self._trials)
        self.environment = build("environment", self._machines, {})

    @staticmethod
    def run_id(run):
        return f"01RUN{run:03}"

    @staticmethod
    def day(run):
        return f"{FIRST_DAY + timedelta(days=run):%Y-%m-%d}"

    def write(self, folder):
        """Write the rows into a results folder; return its name."""
        for machine in self._machines:
            run = Store(folder).start_run({})
            run.write_environment([{k: v for k, v in machine.items() if k != "run_id"}])
            for row in self._trials:
                if row["run_id"] == machine["run_id"]:
                    rest = {k: v for k, v in {**GOOD, **row}.items() if k not in _KEY}
                    run.write_point(row["point_id"], row["trial"], trials=rest)
        return str(folder)

    @staticmethod
    def _environment(machine):
        return "e" + "".join(f"{key}{value}" for key, value in sorted(machine.items()))

    def _trial(self, run, point, trial, rate, factors, columns):
        start = FIRST_DAY + timedelta(days=run, minutes=trial)
        missing = {"status": "worker_died", "reason": "The worker died.", "verdict": None}
        return {
            "run_id": self.run_id(run), "point_id": point, "trial": trial, "started_at": start,
            "items_per_s": rate, **factors, **columns, **(missing if rate is None else {}),
        }  # fmt: skip
