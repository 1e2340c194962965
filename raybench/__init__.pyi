"""Types of the names that raybench imports on first use."""

from raybench.analysis.acceptance import accept
from raybench.analysis.applications import applications
from raybench.analysis.batch import batch
from raybench.analysis.compare import compare
from raybench.analysis.decoding import decoding
from raybench.analysis.devices import generation as devices
from raybench.analysis.efficiency import efficiency
from raybench.analysis.feeding import feeding
from raybench.analysis.interference import interference
from raybench.analysis.packing import packing
from raybench.analysis.power import power
from raybench.analysis.precision import precision
from raybench.analysis.repeatability import repeats
from raybench.analysis.scaling import scaling
from raybench.analysis.study2017.figures import paper
from raybench.analysis.trend import trend
from raybench.errors import (
    ClusterError,
    ComparisonRefused,
    ConfigError,
    EngineUnavailable,
    ModelError,
    PointError,
    RaybenchError,
    ResultsError,
    UsageError,
)
from raybench.execute.api import plan, run
from raybench.execute.finished_run import Run
from raybench.experiment import Experiment, Point
from raybench.planning.plan import Plan
from raybench.results.load import load
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
