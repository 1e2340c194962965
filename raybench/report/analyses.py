"""Every analysis of some results folders, run once for all sections of a report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raybench.analysis.batch import Batch, batch
from raybench.analysis.devices import Generation, generation
from raybench.analysis.efficiency import Efficiency, efficiency
from raybench.analysis.precision import Precision, precision
from raybench.analysis.scaling import Scaling, scaling
from raybench.analysis.series import SERIES
from raybench.analysis.study2017.figures import Paper, paper
from raybench.analysis.timeline import TrialTimeline, timelines
from raybench.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from raybench.analysis.timeline import Key
    from raybench.results.folders import ResultTables


@dataclass(frozen=True)
class Question:
    """Options of a report.

    Attributes:
        mode: weak or strong scaling.
        by: factor that differs between the devices to compare.
        base: its value that the others are compared with; None takes the slowest.
        usd_per_device_hour: price of one device for an hour; None if it is unknown.
    """

    mode: str = "weak"
    by: str = "device"
    base: str | None = None
    usd_per_device_hour: float | None = None


def question(options: Mapping[str, str]) -> Question:
    """Convert options of the command line to a question.

    Raises:
        ConfigError: an unknown option, or a value that it cannot have.
    """
    names = {"by": "by", "base": "base", "scaling.mode": "mode",
             "usd_per_device_hour": "usd_per_device_hour"}  # fmt: skip
    given: dict[str, Any] = {}
    for name, value in options.items():
        if name not in names:
            raise ConfigError(
                f"report knows no {name!r}. {nearest(name, [*names, 'out', 'title'])}"
            )
        given[names[name]] = value
    if given.get("mode", "weak") not in ("weak", "strong"):
        raise ConfigError(f"scaling.mode {given['mode']!r} is neither weak nor strong.")
    if "by" in given and given["by"] not in SERIES:
        raise ConfigError(
            f"by={given['by']} is no factor of a series. {nearest(given['by'], SERIES)}"
        )
    if "usd_per_device_hour" in given:
        given["usd_per_device_hour"] = _price(given["usd_per_device_hour"])
    return Question(**given)


def _price(value: str) -> float:
    try:
        price = float(value)
    except ValueError:
        price = -1.0
    if not 0 < price < float("inf"):
        raise ConfigError(f"usd_per_device_hour {value!r} is no price. Write a number above 0.")
    return price


@dataclass(frozen=True)
class Answers:
    """The answer of each analysis, for the sections of a report."""

    source: ResultTables
    scaling: Scaling
    precision: Precision
    batch: Batch
    generation: Generation
    efficiency: Efficiency
    paper: Paper
    timelines: dict[Key, tuple[TrialTimeline, ...]]


def ask(source: ResultTables, question: Question) -> Answers:
    """Run every analysis."""
    trials = source.trials
    return Answers(
        source=source,
        scaling=scaling(trials, source.workers, mode=question.mode),
        precision=precision(trials),
        batch=batch(trials),
        generation=generation(trials, question.by, question.base),
        efficiency=efficiency(trials, question.usd_per_device_hour),
        paper=paper(trials),
        timelines=timelines(source.blocks),
    )
