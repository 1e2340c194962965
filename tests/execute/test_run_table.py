"""The table that a run ends with."""

import pyarrow as pa
import pytest
from helpers.trial_tables import table, trials

from raybench.execute.finished_run import Run, _worth_repeating


@pytest.mark.parametrize(
    ("verdict", "flags", "worth"),
    [
        ("unstable", ["wide_ci"], True),
        ("unstable", ["wrong_outputs"], False),
        ("unstable", ["reference_not_finite", "foreign_load"], False),
        ("stable", [], False),
        (None, None, False),
    ],
)
def test_a_rerun_is_offered_where_another_measurement_can_differ(verdict, flags, worth):
    rows = pa.table(
        {
            "verdict": pa.array([verdict], pa.string()),
            "flags": pa.array([flags], pa.list_(pa.string())),
        }
    )
    assert _worth_repeating(rows) is worth


@pytest.mark.parametrize(("simulated", "said"), [(False, True), (True, False)])
def test_a_precision_that_is_slower_than_a_wider_one_gets_a_word(simulated, said):
    rows = table(
        *trials([400.0], precision="fp16", simulated=simulated),
        *trials([200.0], precision="int8", simulated=simulated),
    )
    text = " ".join(Run("my rows", rows, table().slice(0, 0), False, "standard").table().split())
    sentence = (
        "raybench report 'my rows' says why int8 is slower than fp16; "
        "results.layers=true rerun=all lets it name the layers"
    )
    assert (sentence in text) is said


def test_layers_that_were_timed_need_no_other_run():
    rows = table(*trials([400.0], precision="fp16"), *trials([200.0], precision="int8"))
    run = Run("rows", rows, table().slice(0, 0), False, "standard", layers_timed=True)
    text = run.table()
    assert "says why int8 is slower than fp16\n" in text
    assert "lets it name the layers" not in text
