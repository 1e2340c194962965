"""The same point on several devices, side by side."""

from __future__ import annotations

import pytest
from helpers.trial_tables import failed_trial, table, trials

from raybench.analysis.devices import generation
from raybench.analysis.study2017.data import study_trials
from raybench.errors import ConfigError


def test_the_generations_of_the_study_of_2017():
    found = generation(study_trials())
    assert found.names == ("Tesla M40", "Tesla P40")  # the slower is the base
    ratios = {(s.series.model, s.name): s.ratio.value for s in found.results}
    assert ratios["googlenet", "Tesla P40"] == pytest.approx(2215 / 1446, rel=1e-15)
    assert ratios["alexnet", "Tesla P40"] == pytest.approx(5198 / 3200, rel=1e-15)
    assert ratios["alexnet", "Tesla M40"] == 1


def test_driver_and_library_may_differ_along_with_the_device():
    rows = table(
        *trials([100.0, 101.0], device="A", environment_id="e1", engine_version="8.6"),
        *trials([200.0, 202.0], device="B", environment_id="e2", engine_version="10.0"),
    )
    a, b = generation(rows).results
    assert (a.ratio.value, b.ratio.value) == (1, 2)
    assert b.ratio.lo < 2 < b.ratio.hi
    a, b = generation(rows, base="B").results  # the base first
    assert (a.name, b.ratio.value) == ("B", 0.5)


def test_only_the_same_point_is_set_side_by_side():
    rows = table(*trials([1.0], device="A"), *trials([2.0], device="B", batch_size=1))
    found = generation(rows)
    assert found.results == ()
    assert "no point was measured on more than one device (A, B)" in found.missing[0]


def test_of_two_environments_of_one_device_the_newer_stands():
    rows = table(
        *trials([1.0], device="A"),
        *trials([7.0], device="B", environment_id="new", run_id="01B"),
        *trials([5.0], device="B", environment_id="old", run_id="01A"),
    )
    assert [side.items_per_s.value for side in generation(rows).results] == [1, 7]


def test_a_side_without_a_number_keeps_its_reason():
    rows = table(
        *trials([1.0], device="A"),
        {**failed_trial("out_of_memory"), "device": "B", "engine_version": "9"},
    )
    a, b = generation(rows).results
    assert (a.ratio.value, b.status, b.reason, b.ratio.value) == (1, "out_of_memory", "Why.", None)


def test_other_factors_and_what_is_no_factor():
    rows = table(*trials([1.0], engine="tensorrt"), *trials([2.0], engine="onnxruntime"))
    assert generation(rows, by="engine").names == ("tensorrt", "onnxruntime")
    with pytest.raises(ConfigError, match="Did you mean 'device'"):
        generation(rows, by="devise")
    with pytest.raises(ConfigError, match="No row has engine 'ort'"):
        generation(rows, by="engine", base="ort")
    assert "one device (Tesla P40)" in generation(rows).missing[0]
    assert generation(table()).missing == ("There are no rows.",)
