"""The sentence of advice for each flag that makes a row unstable."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from helpers.windows import LIMITS, STANDARD, evidence, noise

from raybench.measure import flags
from raybench.measure.evidence import OutputFindings
from raybench.measure.limits import Limits
from raybench.measure.stopping import check_window


def test_a_stable_row_needs_no_advice():
    assert flags.advice(["outliers"], evidence(), LIMITS) is None


def test_a_failing_device_is_advised_about_even_if_the_row_is_stable():
    assert "gpu-reset" in flags.advice(["ecc_error", "outliers"], evidence(), LIMITS)
    assert "gpu-reset" in flags.advice(["row_remap_pending"], evidence(), LIMITS)


def test_errors_of_the_driver_are_named_by_their_codes():
    columns = {"xid_errors": 3, "xid_codes": [48, 94]}
    assert "(XID 48, 94)" in flags.advice(["xid_error"], evidence(columns), LIMITS)
    assert "XID" in flags.advice(["xid_error"], evidence(), LIMITS)


def test_a_device_of_changed_outputs_is_named_and_not_trusted():
    places = ["n01, H200", "n02, H200", "n03, H200"]
    facts = evidence(outputs=OutputFindings(changed=(1, 2)), places=places)
    sentence = flags.advice(["outputs_changed"], facts, LIMITS)
    assert sentence.startswith("Worker 1 (n02, H200) and 1 more computed other outputs")
    facts = evidence(outputs=OutputFindings(differing=(2,)), places=places)
    assert "Worker 2 (n03, H200)" in flags.advice(["outputs_differ"], facts, LIMITS)
    facts = evidence(outputs=OutputFindings(differing=(0, 1, 2)), places=places)
    assert "none has most on its side" in flags.advice(["outputs_differ"], facts, LIMITS)


def test_a_device_that_waits_for_images_is_advised_how_many_cores_would_feed_it():
    facts = evidence({"input_wait_frac": 0.6, "decoder_threads": 2})
    sentence = flags.advice(["underfed"], facts, LIMITS)
    assert sentence.startswith("2 cores left the device without input for 60 % of the time.")
    assert "About 5 would feed it: cores=5" in sentence


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


def test_a_window_of_seconds_is_advised_in_seconds():
    brief = replace(STANDARD, block_s=0.01, max_s=1.0)
    window = check_window(noise(0.04, 120)[0], STANDARD)
    times = (window.interval.relative / 0.005) ** 2
    sentence = flags.advice(window.flags, evidence(window=window), Limits.of(brief))
    seconds = int(sentence.split("measure.max_s=")[1].rstrip(")."))
    assert seconds == math.ceil(times * 120 * 0.01) < 10


def test_advice_for_a_slow_point_is_in_configured_seconds():
    window = check_window(noise(0.04, 120)[0], STANDARD)
    sentence = [
        flags.advice(window.flags, evidence(window=window), Limits.of(STANDARD, batch_s))
        for batch_s in (0.01, 0.5)
    ]
    assert sentence[0] == sentence[1]


@pytest.mark.parametrize("sd", [0.5, 20.0])
def test_noise_far_above_the_target_is_not_advised_to_wait(sd):
    window = check_window(np.abs(noise(sd, 120)[0]), STANDARD)
    sentence = flags.advice(("wide_ci",), evidence(window=window), LIMITS)
    assert "other work" in sentence
    assert "times" not in sentence


def test_an_interval_that_is_not_symmetric_in_percent_is_a_factor():
    window = check_window(noise(1.0, 40)[0], STANDARD)
    assert 0.3 < window.interval.relative < 3
    sentence = flags.advice(("wide_ci",), evidence(window=window), LIMITS)
    assert f"a factor of {np.exp(window.interval.relative):.1f} up and down" in sentence


def test_a_stall_is_named_with_its_place_and_both_rates():
    columns = {
        "stalls": 2, "stalled_s": 6.0, "longest_stall_s": 5.0, "longest_stall_at_s": 21.2,
        "longest_stall_worker": 1, "items_per_s": 808.8, "items_per_s_without_stalls": 909.1,
    }  # fmt: skip
    trial = evidence(columns, places=["a, GPU", "b, GPU"])
    raised = flags.raised_flags(trial)
    assert raised == ("stalled",)
    assert flags.verdict(raised) == "unstable"
    sentence = flags.advice(raised, trial, LIMITS)
    for words in ("No batch for 5.0 s at 21 s of the window", "worker 1 on b, GPU", "2 stalls",
                  "808.8 items/s with", "909.1 without"):  # fmt: skip
        assert words in sentence


@pytest.mark.parametrize(
    ("readings", "words"),
    [
        ({}, "Look for what stopped the process"),
        (
            {"foreign_load_frac": 0.4, "steal_frac": 0.01},
            "other processes used 40% of the workers' own",
        ),
        ({"foreign_load_frac": 0.0, "steal_frac": 0.2}, "other virtual machines took 20%"),
        ({"foreign_load_frac": 0.02}, "Look for what stopped the process"),
        ({"foreign_load_frac": 0.9, "longest_stall_s": 5.0}, "Look for what stopped the process"),
    ],
)
def test_the_cause_of_a_stall_is_named_where_readings_show_it(readings, words):
    columns = {"stalls": 1, "longest_stall_s": 0.03, "longest_stall_at_s": 2.0, **readings}
    assert words in flags.advice(("stalled",), evidence(columns), LIMITS)


def test_the_advice_is_about_the_stall_even_if_it_shifts_and_widens():
    window = replace(evidence().window, flags=("step", "wide_ci"))
    columns = {"stalls": 1, "longest_stall_worker": 0, "longest_stall_s": 0.05,
               "longest_stall_at_s": -0.01}  # fmt: skip
    trial = evidence(columns, window=window)
    raised = flags.raised_flags(trial)
    assert set(raised) == {"stalled", "step", "wide_ci"}
    sentence = flags.advice(raised, trial, LIMITS)
    assert "No batch for 50 ms when the window began (worker 0)" in sentence


def test_a_stream_without_stalls_or_of_an_older_row_is_not_flagged():
    assert flags.raised_flags(evidence({"stalls": 0})) == flags.raised_flags(evidence()) == ()


def test_too_few_blocks_are_named():
    window = check_window(np.ones(9), STANDARD)
    sentence = flags.advice(window.flags, evidence(window=window), LIMITS)
    assert "The window has 9 blocks and an interval needs 10" in sentence


def test_a_step_is_placed_in_time():
    x = noise(0.001, 120)[0]
    x[31:] *= 0.98
    window = check_window(x, STANDARD)
    sentence = flags.advice(window.flags, evidence(window=window), LIMITS)
    assert "went from 1.0 to 1.0 items/s after 31 s" in sentence


def test_a_fall_to_almost_nothing_is_given_in_rates():
    """As a share of the mean it would be a fall by more than 100 %."""
    x = np.full(120, 1000.0)
    x[100:] = 10.0
    window = check_window(x, STANDARD)
    assert window.step.relative < -1.1
    assert "went from 1,000.0 to 10.0 items/s after 100 s" in flags.advice(
        ["step"], evidence(window=window), LIMITS
    )


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
