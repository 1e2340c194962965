"""Baselines: what a sound device reaches at each point, in a file of JSON without code."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from raybench.analysis.causes import FleetFacts, usual_facts
from raybench.analysis.fleet import MAY_DIFFER, FleetPoint, fleet
from raybench.analysis.series import SERIES, Series, device_name, without
from raybench.errors import ConfigError
from raybench.stats.intervals import t_quantile
from raybench.stats.population import moments, pooled_noise, steadiness

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 1
_MARK = "raybench_baseline"
_NUMBERS = {"log_rate": (-100.0, 100.0), "variance": (0.0, 1e6), "df": (1.0, 1e12)}
"""Numbers that are computed with, and what they can be."""
_REFUSED = {"product": "chip", "precision": "precision", "versions": "engine version"}
"""Facts in which a baseline may not differ, with their names."""


@dataclass(frozen=True)
class BaselineRate:
    """The rate of a sound device at one point.

    Attributes:
        series: factors, without those in which devices of a population may differ.
        situation: alone or together.
        product: product name of the devices.
        versions: of the engine's library.
        devices: that were measured.
        trials: least of any device.
        log_rate: logarithm of the rate, the median over devices.
        variance: of that logarithm.
        df: degrees of freedom of that variance.
        items_per_s: the rate, with its 95 % interval.
        spread: standard deviation between the devices' logarithms; None for a single device.
        plans: hashes of the plans that ran, where the engine has any.
        facts: what was usual of the devices beside the rate: limits, clocks, versions; names causes.
    """

    series: dict[str, Any]
    situation: str
    product: str | None
    versions: tuple[str, ...]
    devices: int
    trials: int
    log_rate: float
    variance: float
    df: float
    items_per_s: float
    items_per_s_lo: float
    items_per_s_hi: float
    spread: float | None
    plans: tuple[str, ...]
    facts: dict[str, Any]


@dataclass(frozen=True)
class RateBaseline:
    """What a baseline file holds.

    Attributes:
        rates: one for each point and situation.
        environment: of the machines it was measured on, by column of that table.
        raybench_version: that wrote it.
    """

    rates: tuple[BaselineRate, ...]
    environment: tuple[dict[str, Any], ...]
    raybench_version: str

    def rate_of(self, point: FleetPoint) -> BaselineRate | None:
        """Return the rate that a point is to be compared with; None if it has none.

        Raises:
            ConfigError: it has the same point of another chip, precision or engine version only.
        """
        same = [rate for rate in self.rates if rate.situation == point.situation]
        facts = _facts(point.series)
        different: list[str] = []
        for rate in same:
            if rate.series == facts and rate.product == point.product:
                if set(point.versions) & set(rate.versions):
                    return rate
                different.append(_difference("versions", rate.versions, point.versions))
            elif rate.series == facts:
                different.append(_difference("product", [rate.product], [point.product]))
            elif {**rate.series, "precision": facts.get("precision")} == facts:
                own, asked = rate.series.get("precision"), facts.get("precision")
                different.append(_difference("precision", [own], [asked]))
        if different:
            raise ConfigError(
                f"The baseline does not fit {point.series.model}, batch {point.series.batch_size}: "
                f"{different[0]}. Write one of the same chip, precision and engine version with "
                "raybench baseline DIR out=FILE."
            )
        return None


def _difference(name: str, own: Any, asked: Any) -> str:
    one, other = (
        " and ".join(device_name(str(value)) for value in values) for values in (own, asked)
    )
    return f"its {_REFUSED[name]} is {one}, that of the rows is {other}"


def _facts(series: Series) -> dict[str, Any]:
    facts = asdict(without(series, *MAY_DIFFER))
    return {name: value for name, value in facts.items() if value is not None}


def to_baseline_file(
    trials: pa.Table, workers: pa.Table, environment: pa.Table, version: str
) -> RateBaseline:
    """Return the baseline of some rows: of each point the median over its devices.

    Args:
        trials: as `raybench.load` returns it.
        workers: of the same folders.
        environment: of the same folders.
        version: of raybench.

    Raises:
        ConfigError: no point has two trials of a device.
    """
    plans = workers["engine_sha256"].to_pylist()
    one = fleet(trials, workers)
    points = [point for point in one.points if _has_noise(point)]
    if not points:
        raise ConfigError(
            "No baseline: no device was measured in two trials, alone or with all others. "
            "Measure again with trials=3 scaling.baseline=solo."
        )
    kept = ("raybench_version", "gpu_vbios", "ecc_mode", "power_limit_w", "hostname")
    names = [f.name for f in environment.schema if f.name.endswith("_version") or f.name in kept]
    names += [
        name for name in ("os", "kernel", "cpu_model", "device", "gpu_name") if name not in names
    ]
    machines = environment.select([n for n in names if n in environment.column_names]).to_pylist()
    distinct = {json.dumps(row, sort_keys=True, default=str): row for row in machines}
    facts = FleetFacts(one, workers, environment)
    rates = tuple(_rate(point, plans, usual_facts(facts.at(point))) for point in points)
    known = tuple(
        {name: value for name, value in distinct[text].items() if value is not None}
        for text in sorted(distinct)
    )
    return RateBaseline(rates, known, version)


def _has_noise(point: FleetPoint) -> bool:
    return any(len(logs) > 1 for logs in point.logs)


def _rate(point: FleetPoint, plans: list[str | None], facts: dict[str, Any]) -> BaselineRate:
    devices = moments(list(point.logs))
    noise = pooled_noise(devices.variance, devices.count - 1)
    middle = float(np.median(devices.mean))
    typical = float(np.median(noise.variance / devices.count))
    variance = typical * steadiness(devices.mean - middle, math.sqrt(typical))
    df = float(np.median(noise.df))
    reach = t_quantile(0.975, df) * math.sqrt(variance)
    several = len(devices.mean) > 1
    return BaselineRate(
        series=_facts(point.series),
        situation=point.situation,
        product=point.product,
        versions=point.versions,
        devices=len(devices.mean),
        trials=int(devices.count.min()),
        log_rate=middle,
        variance=variance,
        df=df,
        items_per_s=math.exp(middle),
        items_per_s_lo=math.exp(middle - reach),
        items_per_s_hi=math.exp(middle + reach),
        spread=float(devices.mean.std(ddof=1)) if several else None,
        plans=tuple(sorted({p for rows in point.rows for r in rows if (p := plans[r])})),
        facts=facts,
    )


def write_json(baseline: RateBaseline) -> str:
    """Return the text of a baseline file."""
    return json.dumps({_MARK: FORMAT, **asdict(baseline)}, indent=1, sort_keys=True) + "\n"


def read_json(text: str, name: str) -> RateBaseline:
    """Return the baseline that a file holds.

    Args:
        text: of the file.
        name: of the file, for messages.

    Raises:
        ConfigError: the text is no baseline, or one of a newer raybench.
    """
    advice = "Write one with raybench baseline DIR out=FILE."
    try:
        facts = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{name} is not JSON ({error}). {advice}") from error
    if not isinstance(facts, dict) or _MARK not in facts:
        raise ConfigError(f"{name} is no baseline of raybench. {advice}")
    if facts[_MARK] != FORMAT:
        raise ConfigError(
            f"{name} is a baseline of format {facts[_MARK]!r}; this raybench reads {FORMAT}. {advice}"
        )
    try:
        rates = tuple(_read_rate(rate) for rate in facts["rates"])
        return RateBaseline(rates, tuple(facts["environment"]), str(facts["raybench_version"]))
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise ConfigError(f"{name} is a broken baseline ({error!r}). {advice}") from error


def _read_rate(facts: dict[str, Any]) -> BaselineRate:
    """Return a rate with its numbers checked."""
    values = {field.name: facts[field.name] for field in fields(BaselineRate)}
    for name, (least, most) in _NUMBERS.items():
        number = values[name]
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise TypeError(f"{name} is {number!r}")
        if not least <= number <= most:
            raise ValueError(f"{name} is {number!r}")
    if not isinstance(values["series"], dict) or set(values["series"]) - set(SERIES):
        raise ValueError(f"series is {values['series']!r}")
    if not all(isinstance(fact, (str, int, float)) for fact in values["facts"].values()):
        raise ValueError(f"facts are {values['facts']!r}")
    for name in ("versions", "plans"):
        if not all(isinstance(text, str) for text in values[name]):
            raise ValueError(f"{name} are {values[name]!r}")
        values[name] = tuple(values[name])
    return BaselineRate(**values)
