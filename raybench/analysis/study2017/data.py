"""study: the 2017 study's bars, and the cells that stand beside each of its figures.

R. Xu, F. Han, N. Dandapanthu, "Deep Learning Inference on P40 GPUs", Dell EMC HPC Innovation Lab,
March 2017. Its bars are in data/p40_2017.csv.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from raybench.analysis.accelerators import peak
from raybench.analysis.cells import Cell, kin
from raybench.experiment import METHOD_VERSION
from raybench.results.schema import SCHEMA_VERSION, SCHEMAS

if TYPE_CHECKING:
    from collections.abc import Sequence

MODELS = ("alexnet", "googlenet")
BATCH = 128
"""Of Figures 1 to 5."""
_COLUMNS = {
    "figure": pa.int64(),
    "model": pa.string(),
    "device": pa.string(),
    "precision": pa.string(),
    "batch_size": pa.int64(),
    "workers": pa.int64(),
    "images_per_s": pa.float64(),
    "speedup": pa.float64(),
    "outcome": pa.string(),
}


def study() -> pa.Table:
    """The study's bars, a row each, with its units and the speedup as it is printed there."""
    text = (files("raybench.analysis") / "data" / "p40_2017.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    columns = {
        name: pa.array([row[name] or None for row in rows]).cast(kind)
        for name, kind in _COLUMNS.items()
    }
    return pa.table(columns)


def study_trials() -> pa.Table:
    """The study's bars as a `trials` table, one trial each, to be fed to any analysis.

    Figures 2 and 3 print another rate for one P40 than the other figures do: they are an
    environment of their own.
    """
    bars = study().to_pylist()
    rows = [_as_trial(bar) for bar in bars]
    once = {tuple(row[name] for name in ("environment_id", "point_id")): row for row in rows}
    columns = {
        field.name: pa.array([row.get(field.name) for row in once.values()], field.type)
        for field in SCHEMAS["trials"]
    }
    return pa.table(columns, schema=SCHEMAS["trials"])


def _as_trial(bar: dict[str, Any]) -> dict[str, Any]:
    scaling = bar["figure"] in (2, 3)
    factors = {
        name: bar[name] for name in ("model", "device", "precision", "batch_size", "workers")
    }
    ran = bar["outcome"] == "ok"
    return {
        **factors,
        "run_id": "study2017",
        "point_id": "-".join(str(value) for value in factors.values()),
        "environment_id": "study2017-scaling" if scaling else "study2017",
        "trial": 0,
        "schema_version": SCHEMA_VERSION,
        "method_version": METHOD_VERSION,
        "experiment": "paper",
        "engine": "tensorrt",
        "engine_version": "2.0 EA",
        "device_kind": "gpu",
        "status": bar["outcome"],
        "reason": None if ran else "The study's own run ended for want of memory.",
        "items_per_s": bar["images_per_s"],
    }


class Here:
    """Cells of the study's two networks, as each of its figures takes them.

    Rows may hold several engines, presets and environments. A figure takes, of each network and
    device, the one group with all else equal that has the most bars for it; of equals the one at
    the study's batch, then the newest.
    """

    def __init__(self, made: Sequence[Cell]) -> None:
        self.made = made
        self.devices = tuple(dict.fromkeys(c.series.device for c in made if c.ok))

    def along(self, axis: str, model: str, device: str | None) -> list[Cell]:
        """The group for an axis: precision, workers or batch_size; in the order of the axis."""
        groups: dict[Any, list[Cell]] = defaultdict(list)
        for cell in self.made:
            series = cell.series
            if series.model == model and series.device == device and _in_figure(cell, axis):
                left_open = () if axis == "workers" else (axis,)
                point = None if axis == "workers" else cell.workers
                groups[kin(series, *left_open), point].append(cell)
        best = max(groups.values(), key=_worth, default=[])
        return sorted(best, key=lambda c: (c.workers or 0, c.series.batch_size or 0, not c.ok))


def _in_figure(cell: Cell, axis: str) -> bool:
    """Figures 1, 4 and 5 are of one worker in fp32 and int8; the others of int8."""
    if axis == "precision":
        return cell.workers == 1 and cell.series.precision in ("fp32", "int8")
    if axis == "batch_size":
        return cell.workers == 1 and cell.series.precision == "int8"
    return cell.series.precision == "int8"


def _worth(group: list[Cell]) -> tuple[int, bool, int, str]:
    good = [cell for cell in group if cell.ok]
    newest = max(str(cell.said.get("run_id", "")) for cell in group)
    batch = group[0].series.batch_size
    return len(good), batch == BATCH, batch or 0, newest


def by_age(side: Here, model: str) -> list[str | None]:
    """Its devices from the lowest printed fp32 peak on, else from the slowest in fp32 on."""

    def age(device: str | None) -> tuple[bool, float, float]:
        group = side.along("precision", model, device)
        rate = min((cell.mean or 0.0 for cell in group if cell.ok), default=0.0)
        printed = printed_fp32(device)
        return printed is None, printed or 0.0, rate

    return sorted(side.devices, key=age)


def printed_fp32(device: str | None) -> float | None:
    """The printed fp32 peak of a device, TFLOP/s: a newer generation has a higher one."""
    printed = peak(device, "fp32")
    return None if printed is None else printed.value
