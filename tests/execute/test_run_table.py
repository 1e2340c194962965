"""The table that a run ends with."""

import pyarrow as pa
import pytest

from raybench.execute.finished_run import _worth_repeating


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
