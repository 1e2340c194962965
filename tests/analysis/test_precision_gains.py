"""Precisions of one point: the ratio to fp32 with its interval, beside the fidelity."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.trial_tables import failed_trial, table, trials

from raybench.analysis.precision import precision
from raybench.analysis.scaling import scaling
from raybench.analysis.study2017.data import study_trials
from raybench.stats.ratios import ratio_ci


def test_the_study_of_2017_gives_the_ratios_of_its_bars():
    found = {(g.series.model, g.series.precision): g for g in precision(study_trials()).gains}
    assert found["googlenet", "int8"].ratio.value == pytest.approx(6410 / 2215, rel=1e-15)
    assert found["alexnet", "int8"].ratio.value == pytest.approx(16292 / 5198, rel=1e-15)
    assert found["alexnet", "int8"].peak_ratio == pytest.approx(47 / 11.8)
    assert found["alexnet", "fp32"].ratio.value == 1


def test_a_gain_has_an_interval_its_fidelity_and_the_marks_of_both_sides():
    whole, reduced = [100.0, 101.0, 99.0], [300.0, 301.0, 299.0]
    more = {"fidelity_sqnr_db": 36.0, "fidelity_cosine": 0.999, "dialect": "s8s8"}
    rows = table(
        *trials(whole, precision="fp32", verdict="unstable"),
        *trials(reduced, precision="int8", **more),
    )
    fp32, int8 = precision(rows).gains
    span = ratio_ci(np.array(reduced), np.array(whole))
    assert (int8.ratio.value, int8.ratio.lo, int8.ratio.hi) == (
        3,
        pytest.approx(span.lo),
        pytest.approx(span.hi),
    )
    assert (int8.fidelity_sqnr_db, int8.fidelity_cosine, int8.dialect) == (36, 0.999, "s8s8")
    assert (fp32.ratio.value, fp32.ratio.lo, fp32.fidelity_sqnr_db) == (1, None, None)
    assert int8.marks == ("unstable",)


def test_a_precision_that_cannot_run_stands_beside_those_that_can():
    rows = table(
        *trials([100.0], precision="fp32"), failed_trial("unsupported", precision="int8", trial=0)
    )
    fp32, int8 = precision(rows).gains
    assert (fp32.ratio.value, int8.ratio.value, int8.status, int8.reason) == (
        1,
        None,
        "unsupported",
        "Why.",
    )


def test_what_cannot_be_said_is_named():
    assert precision(table()).missing == ("There are no rows.",)
    assert "No row has a number: failed" in precision(table(failed_trial("failed"))).missing[0]
    (reason,) = precision(table(*trials([1.0, 1.0]))).missing
    assert "no point has more than one precision (int8)" in reason
    bare = precision(table(*trials([1.0], precision="fp16"), *trials([2.0], precision="int8")))
    assert "fp32 has no number" in bare.missing[0]
    assert [gain.ratio.value for gain in bare.gains] == [None, None]


def test_as_a_table_a_gain_is_a_row():
    rows = precision(study_trials()).as_table()
    assert rows.num_rows == 4
    assert {"model", "precision", "workers", "ratio", "fidelity_sqnr_db"} <= set(rows.column_names)


def test_a_file_that_ran_as_it_is_has_no_gain_over_the_fp32_of_its_name():
    rows = table(*trials([100.0], precision="fp32"), *trials([300.0], precision="as_is"))
    found = precision(rows)
    assert found.gains == ()
    assert "no point has more than one precision" in found.missing[0]
    of_precision = {entry.series.precision: entry for entry in scaling(rows).entries}
    assert of_precision["as_is"].over_fp32.value is None
