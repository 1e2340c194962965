"""The sentence of advice for each flag that makes a row unstable."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from helpers.windows import LIMITS, STANDARD, evidence, noise

from raybench.measure import flags
from raybench.measure.limits import Limits
from raybench.measure.stopping import check_window


def test_a_stable_row_needs_no_advice():
    assert flags.advice(["outliers"], evidence(), LIMITS) is None


def test_a_demo_row_is_sent_to_the_standard_preset():
    demo = Limits.of(replace(STANDARD, verdict_best="unverified"))
    assert "preset=standard" in flags.advice([], evidence(), demo)


def test_a_wide_interval_is_advised_how_much_longer_to_measure():
    window = check_window(noise(0.04, 120)[0], STANDARD)
    times = (window.interval.relative / 0.005) ** 2
    assert 1.5 < times < 4
    sentence = flags.advice(window.flags, evidence(window=window), LIMITS)
    assert f"measure {times:.1f} times longer" in sentence
    seconds = int(sentence.split("measure.max_s=")[1].rstrip(")."))
    assert seconds == math.ceil(times * 120 / 10) * 10


def test_advice_for_a_slow_point_is_in_configured_seconds():
    window = check_window(noise(0.04, 120)[0], STANDARD)
    sentence = [
        flags.advice(window.flags, evidence(window=window), Limits.of(STANDARD, batch_s))
        for batch_s in (0.01, 0.5)
    ]
    assert sentence[0] == sentence[1]


def test_noise_far_above_the_target_is_not_advised_to_wait():
    window = check_window(noise(0.5, 120)[0], STANDARD)
    assert "other load" in flags.advice(window.flags, evidence(window=window), LIMITS)


def test_too_few_blocks_are_named():
    window = check_window(np.ones(9), STANDARD)
    sentence = flags.advice(window.flags, evidence(window=window), LIMITS)
    assert "The window has 9 blocks and an interval needs 10" in sentence


def test_a_step_is_placed_in_time():
    x = noise(0.001, 120)[0]
    x[31:] *= 0.98
    window = check_window(x, STANDARD)
    sentence = flags.advice(window.flags, evidence(window=window), LIMITS)
    assert "-2.0%" in sentence
    assert "31 s" in sentence


def test_throttling_comes_with_its_share():
    trial = evidence({"throttle_thermal_frac": 0.41})
    assert "41%" in flags.advice(flags.raised_flags(trial), trial, LIMITS)


@pytest.mark.parametrize(
    "name", [n for n, f in flags.FLAGS.items() if f.group in ("blocking", "target_missed")]
)
def test_every_grave_flag_has_one_sentence_of_advice(name):
    sentence = flags.advice([name], evidence(), LIMITS)
    assert sentence.endswith(".")
    assert "\n" not in sentence
