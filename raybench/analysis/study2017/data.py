"""The 2017 study's bars, and the cells to show beside each of its figures.

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
from raybench.analysis.series import without
from raybench.experiment import METHOD_VERSION
from raybench.results.schema import SCHEMA_VERSION, SCHEMAS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raybench.analysis.cells import Cell

MODELS = ("alexnet", "googlenet")
BATCH = 128
"""Batch size of Figures 1 to 5."""
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
    """Return the study's bars, a row each, in its units and with its printed speedup."""
    text = (files("raybench.analysis") / "data" / "p40_2017.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    columns = {
        name: pa.array([row[name] or None for row in rows]).cast(kind)
        for name, kind in _COLUMNS.items()
    }
    return pa.table(columns)


def study_trials() -> pa.Table:
    """Return the study's bars as a `trials` table, one trial each, for any analysis.

    Figures 2 and 3 print a different rate for one P40 than the other figures, so they count as
    another environment.
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


class StudyView:
    """Cells of the study's two networks, as each of its figures uses them.

    Rows may hold several engines, presets and environments. A figure uses, of each network and
    device, the one group with all else equal that has the most bars for it; of equals the one at
    the study's batch, then the newest.
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        self.cells = cells
        self.devices = tuple(dict.fromkeys(cell.series.device for cell in cells if cell.ok))

    def along(self, axis: str, model: str, device: str | None) -> list[Cell]:
        """Return the group for an axis (precision, workers or batch_size), in its order."""
        groups: dict[Any, list[Cell]] = defaultdict(list)
        for cell in self.cells:
            series = cell.series
            if series.model == model and series.device == device and _in_figure(cell, axis):
                varying = () if axis == "workers" else (axis,)
                workers = None if axis == "workers" else cell.workers
                groups[without(series, *varying), workers].append(cell)
        best = max(groups.values(), key=_preference, default=[])
        return sorted(best, key=lambda c: (c.workers or 0, c.series.batch_size or 0, not c.ok))


def _in_figure(cell: Cell, axis: str) -> bool:
    """Figures 1, 4 and 5 show one worker in fp32 and int8, the others int8."""
    if axis == "precision":
        return cell.workers == 1 and cell.series.precision in ("fp32", "int8")
    if axis == "batch_size":
        return cell.workers == 1 and cell.series.precision == "int8"
    return cell.series.precision == "int8"


def _preference(group: list[Cell]) -> tuple[int, bool, int, str]:
    good = [cell for cell in group if cell.ok]
    newest = max(str(cell.newest.get("run_id", "")) for cell in group)
    batch = group[0].series.batch_size
    return len(good), batch == BATCH, batch or 0, newest


def by_age(view: StudyView, model: str) -> list[str | None]:
    """Return the devices by their printed fp32 peak; those without one by their fp32 rate."""

    def age(device: str | None) -> tuple[bool, float, float]:
        group = view.along("precision", model, device)
        rate = min((cell.mean or 0.0 for cell in group if cell.ok), default=0.0)
        printed = printed_fp32(device)
        return printed is None, printed or 0.0, rate

    return sorted(view.devices, key=age)


def printed_fp32(device: str | None) -> float | None:
    """Return the printed fp32 peak of a device, TFLOP/s; a newer generation has a higher one."""
    printed = peak(device, "fp32")
    return None if printed is None else printed.value
