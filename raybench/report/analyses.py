"""Every analysis of some results folders, run once for all sections of a report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raybench.analysis.acceptance import accept_devices_alone
from raybench.analysis.applications import Applications, applications
from raybench.analysis.batch import Batch, batch
from raybench.analysis.best import Best, best, parse_best
from raybench.analysis.bounded import BoundedCurve, bounded
from raybench.analysis.decoding import Decoding, decoding
from raybench.analysis.devices import Generation, generation
from raybench.analysis.efficiency import Efficiency, efficiency
from raybench.analysis.feeding import Feeding, feeding
from raybench.analysis.interference import PairMatrix, interference
from raybench.analysis.latency_curves import LatencyCurve, latency_curves
from raybench.analysis.packing import Packing, packing
from raybench.analysis.pareto import Front, fronts
from raybench.analysis.power import Power, power
from raybench.analysis.precision import Precision, precision
from raybench.analysis.scaling import MODES, Scaling, scaling
from raybench.analysis.series import SERIES
from raybench.analysis.study2017.figures import Paper, paper
from raybench.analysis.timeline import TrialTimeline, timelines
from raybench.analysis.trend import trend_of_many
from raybench.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

    from raybench.analysis.conditions import Condition
    from raybench.analysis.device_verdicts import Acceptance
    from raybench.analysis.timeline import Key
    from raybench.analysis.trend_verdicts import Trend
    from raybench.results.folders import ResultTables


@dataclass(frozen=True)
class Question:
    """Options of a report.

    Attributes:
        mode: weak or strong scaling.
        by: factor that differs between the devices to compare.
        base: its value that the others are compared with; None takes the slowest.
        usd_per_device_hour: price of one device for an hour; None if it is unknown.
        best: column of which the best points are shown; None for no such table.
        where: conditions that these points meet.
        demand: items/s for which the number of devices is wanted; None for none.
        rack_power_w: power of a rack, of which is said what it serves; None for none.
    """

    mode: str = "weak"
    by: str = "device"
    base: str | None = None
    usd_per_device_hour: float | None = None
    best: str | None = None
    where: tuple[Condition, ...] = ()
    demand: float | None = None
    rack_power_w: float | None = None


def question(options: Mapping[str, str]) -> Question:
    """Convert options of the command line to a question.

    Args:
        options: by, base, best, where, scaling.mode and usd_per_device_hour as written, where given.

    Raises:
        ConfigError: for a value that its option cannot have.
    """
    given: dict[str, Any] = {
        "mode" if name == "scaling.mode" else name: value for name, value in options.items()
    }
    if (asked_best := parse_best(options)) is not None:
        given["best"], given["where"] = asked_best
    if "usd_per_device_hour" in given:
        given["usd_per_device_hour"] = _price(given["usd_per_device_hour"])
    if "demand" in given:
        given["demand"] = to_demand(given["demand"])
    if "rack_power_w" in given:
        given["rack_power_w"] = to_rack_power(given["rack_power_w"])
    asked = Question(**given)
    if asked.mode not in MODES:
        raise ConfigError(f"Unknown scaling.mode {asked.mode!r}. {nearest(asked.mode, MODES)}")
    if asked.by not in SERIES:
        raise ConfigError(f"by={asked.by} is not a factor of a series. {nearest(asked.by, SERIES)}")
    return asked


def to_demand(value: str) -> float:
    """Convert the option `demand` to items/s.

    Raises:
        ConfigError: for what is no number above 0.
    """
    return _above_0(
        value, f"demand {value!r} is no rate. Write items/s above 0, as in demand=150000."
    )


def to_rack_power(value: str) -> float:
    """Convert the option `rack_power_w` to watts.

    Raises:
        ConfigError: for what is no number above 0.
    """
    refusal = f"rack_power_w {value!r} is no power. Write watts above 0, as in rack_power_w=10000."
    return _above_0(value, refusal)


def _above_0(value: str, refusal: str) -> float:
    try:
        number = float(value.replace("_", "").replace(",", ""))
    except ValueError:
        number = -1.0
    if not 0 < number < float("inf"):
        raise ConfigError(refusal)
    return number


def _price(value: str) -> float:
    try:
        price = float(value)
    except ValueError:
        price = -1.0
    if not 0 < price < float("inf"):
        raise ConfigError(f"usd_per_device_hour {value!r} is not a price. Write a number above 0.")
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
    best: Best | None
    fronts: tuple[Front, ...]
    bounded: tuple[BoundedCurve, ...]
    packing: Packing
    feeding: Feeding
    interference: tuple[PairMatrix, ...]
    power: Power
    rack_power_w: float | None
    demand: float | None
    latency_curves: tuple[LatencyCurve, ...]
    acceptance: Acceptance | None
    trend: Trend | None
    applications: Applications
    decoding: Decoding


def _sharing(trials: pa.Table) -> dict[str, int]:
    """Return how many workers share a device, by point, where several do."""
    if "instances" not in trials.column_names:
        return {}
    columns = (trials[name].to_pylist() for name in ("point_id", "instances"))
    return {point: count for point, count in zip(*columns, strict=True) if (count or 1) > 1}


def ask(source: ResultTables, question: Question) -> Answers:
    """Run every analysis."""
    trials = source.trials
    return Answers(
        source=source,
        scaling=scaling(trials, source.workers, mode=question.mode),
        precision=precision(trials, source.layers),
        batch=batch(trials),
        generation=generation(trials, question.by, question.base),
        efficiency=efficiency(trials, question.usd_per_device_hour),
        paper=paper(trials),
        timelines=timelines(source.blocks, _sharing(trials)),
        best=best(trials, question.best, question.where) if question.best else None,
        fronts=fronts(trials),
        bounded=bounded(trials),
        packing=packing(trials),
        feeding=feeding(trials),
        interference=interference(trials, source.workers),
        power=power(trials),
        rack_power_w=question.rack_power_w,
        demand=question.demand,
        latency_curves=latency_curves(trials),
        acceptance=accept_devices_alone(trials, source.workers, source.environment),
        trend=trend_of_many(trials, source.environment),
        applications=applications(trials),
        decoding=decoding(trials),
    )
