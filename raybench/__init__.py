"""raybench measures how fast a machine or a cluster runs inference, and how that grows.

    run, plan                       measure an experiment, or show what would be measured
    load                            read the rows of a results folder as an Arrow table
    scaling, precision, batch, devices, efficiency, repeats, paper, applications, decoding
                                    analyse rows
    compare                         say what became faster or slower between two sets of rows
    trend                           find the steps of many runs, and what changed at them
    Experiment, Point, Plan, Run    what these take and return
    RaybenchError and its kinds     what they raise; raybench.errors lists all

Names are imported on first use, so `import raybench` takes no time. `__init__.pyi` has their types.
"""

from __future__ import annotations

import importlib
from typing import Any

from raybench.version import __version__

__all__ = [
    "ClusterError",
    "ComparisonRefused",
    "ConfigError",
    "EngineUnavailable",
    "Experiment",
    "ModelError",
    "Plan",
    "Point",
    "PointError",
    "RaybenchError",
    "ResultsError",
    "Run",
    "UsageError",
    "__version__",
    "accept",
    "applications",
    "batch",
    "compare",
    "decoding",
    "devices",
    "efficiency",
    "feeding",
    "interference",
    "load",
    "packing",
    "paper",
    "plan",
    "power",
    "precision",
    "repeats",
    "run",
    "scaling",
    "trend",
]

_ERRORS = (
    "ClusterError", "ComparisonRefused", "ConfigError", "EngineUnavailable", "ModelError",
    "PointError", "RaybenchError", "ResultsError", "UsageError",
)  # fmt: skip

_DEFINED_IN = {
    **{name: ("raybench.errors", name) for name in _ERRORS},
    "Experiment": ("raybench.experiment", "Experiment"),
    "Plan": ("raybench.planning.plan", "Plan"),
    "Point": ("raybench.experiment", "Point"),
    "Run": ("raybench.execute.finished_run", "Run"),
    "accept": ("raybench.analysis.acceptance", "accept"),
    "applications": ("raybench.analysis.applications", "applications"),
    "batch": ("raybench.analysis.batch", "batch"),
    "compare": ("raybench.analysis.compare", "compare"),
    "decoding": ("raybench.analysis.decoding", "decoding"),
    "devices": ("raybench.analysis.devices", "generation"),
    "efficiency": ("raybench.analysis.efficiency", "efficiency"),
    "feeding": ("raybench.analysis.feeding", "feeding"),
    "load": ("raybench.results.load", "load"),
    "interference": ("raybench.analysis.interference", "interference"),
    "packing": ("raybench.analysis.packing", "packing"),
    "paper": ("raybench.analysis.study2017.figures", "paper"),
    "plan": ("raybench.execute.api", "plan"),
    "power": ("raybench.analysis.power", "power"),
    "precision": ("raybench.analysis.precision", "precision"),
    "repeats": ("raybench.analysis.repeatability", "repeats"),
    "run": ("raybench.execute.api", "run"),
    "scaling": ("raybench.analysis.scaling", "scaling"),
    "trend": ("raybench.analysis.trend", "trend"),
}


def __getattr__(name: str) -> Any:
    if name not in _DEFINED_IN:
        raise AttributeError(f"module 'raybench' has no attribute {name!r}")
    module, attribute = _DEFINED_IN[name]
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
