"""The latency bound on the command line: where it goes and what is refused."""

from __future__ import annotations

import pytest

from raybench.config.compose import read
from raybench.errors import ConfigError

WORDS = ["model=alexnet", "engine=simulated"]


def test_the_power_of_a_rack_is_asked_of_a_ladder():
    request = read(["experiment=power", "rack_power_w=10000", *WORDS]).resolve({"cpu": 2, "gpu": 2})
    assert request.rack_power_w == 10_000
    with pytest.raises(ConfigError, match="Write experiment=power, or power_limit_w="):
        experiment("experiment=scaling", "rack_power_w=10000")
    for watts in (0, "nan", -5):
        with pytest.raises(ConfigError, match="rack_power_w takes watts above 0"):
            experiment("experiment=power", f"rack_power_w={watts}")


def experiment(*words):
    return read([*words, *WORDS]).resolve({"cpu": 2, "gpu": 2}).experiment


def test_the_bound_is_a_setting_of_the_measurement():
    asked = experiment("experiment=slo", "slo_ms=15", "percentile=95", "demand=150000")
    assert (asked.measure.slo_ms, asked.measure.slo_percentile) == (15.0, 95.0)
    assert asked.find_rate
    assert asked.demand_items_per_s == 150_000
    assert experiment("experiment=scaling", "load=0.8", "slo_ms=15").measure.slo_ms == 15


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["experiment=slo"], "slo_ms=15"),
        (["experiment=slo", "slo_ms=0"], "above 0"),
        (["experiment=slo", "slo_ms=nan"], "above 0"),
        (["experiment=slo", "slo_ms=15", "percentile=100"], "from 50 to 99.9"),
        (["experiment=slo", "slo_ms=15", "percentile=0.99"], "from 50 to 99.9"),
        (["experiment=slo", "slo_ms=15", "demand=0"], "above 0"),
        (["experiment=slo", "slo_ms=15", "load=0.8"], "closed"),
        (["experiment=scaling", "slo_ms=15"], "experiment=slo"),
        (["experiment=scaling", "demand=15"], "experiment=slo"),
        (["experiment=slo", "slo_ms=soon"], "slo_ms"),
        (["experiment=slo", "slo_ms=15", "batch_size=max"], "batch_size"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(words, part):
    with pytest.raises(ConfigError, match=part):
        experiment(*words)
