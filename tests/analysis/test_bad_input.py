"""Rows as they come: each analysis gives what can be said and names what is missing."""

from __future__ import annotations

import pyarrow as pa
import pytest
from helpers.trial_tables import failed_trial, table, trials

import raybench
from raybench.analysis.batch import batch
from raybench.analysis.compare import compare
from raybench.analysis.devices import generation
from raybench.analysis.efficiency import efficiency
from raybench.analysis.precision import precision
from raybench.analysis.scaling import scaling
from raybench.analysis.study2017.figures import paper
from raybench.errors import ComparisonRefused, ResultsError
from raybench.results.store import Store

ANALYSES = (scaling, precision, batch, generation, efficiency)
GRID = [
    {"precision": p, "batch_size": b, "workers": n, "trial": t, "items_per_s": 10.0 * b * n + t}
    for p in ("fp32", "int8")
    for b in (1, 8)
    for n in (1, 2)
    for t in (0, 1)
]
each = pytest.mark.parametrize("analyse", ANALYSES, ids=lambda analyse: analyse.__name__)


def rows(made):
    return made.as_table().num_rows


@each
def test_no_rows(analyse):
    made = analyse(table())
    assert (rows(made), made.missing) == (0, ("There are no rows.",))


@each
def test_only_failed_rows(analyse):
    made = analyse(table(failed_trial("failed"), failed_trial("out_of_memory", workers=2)))
    assert made.missing[0].startswith("No row has a number: failed, out_of_memory.")


@each
def test_rows_of_different_methods_are_kept_apart_and_named(analyse):
    other = [{**row, "method_version": 2, "run_id": "01B"} for row in GRID]
    made = analyse(table(*GRID, *other))
    assert rows(made) == 2 * rows(analyse(table(*GRID)))
    if analyse is not efficiency:  # each of its rows stands for itself
        assert "Rows of methods 1, 2 are not compared." in made.missing


@each
def test_rows_of_an_older_schema_lack_columns_and_are_analysed_all_the_same(analyse):
    whole = table(*GRID)
    kept = ["run_id", "point_id", "trial", "status", "items_per_s", "model", "precision",
            "batch_size", "workers", "device"]  # fmt: skip
    assert rows(analyse(whole.select(kept))) == rows(analyse(whole))


@each
def test_rows_of_two_schemas_together(analyse):
    older = table(*GRID).drop_columns(["latency_p50_ms", "simulated", "flags"])
    newer = table(*({**row, "environment_id": "e2", "run_id": "01B"} for row in GRID))
    newer = newer.append_column("of_a_later_schema", pa.array([1.0] * newer.num_rows))
    both = pa.concat_tables(
        [older.replace_schema_metadata(), newer.replace_schema_metadata()],
        promote_options="permissive",
    )
    assert rows(analyse(both)) >= rows(analyse(table(*GRID)))


def test_a_single_number_of_workers_and_a_missing_baseline():
    only = scaling(table(*trials([1.0, 2.0])))
    assert "every series has a single number of workers" in only.missing[0]
    late = scaling(table(*trials([2.0], workers=2), *trials([4.0], workers=4)))
    (curve,) = late.curves
    assert curve.missing[0] == "One worker has no number; speedup refers to 2. Measure workers=1."


def test_the_study_needs_no_rows_to_be_shown():
    made = paper(table(failed_trial("failed")))
    assert {finding.verdict for finding in made.findings} == {"not testable here"}
    assert made.figures[0].missing[0].startswith("No row has a number: failed.")


def test_an_empty_folder_is_one_sentence(tmp_path):
    with pytest.raises(ResultsError, match="not a results folder"):
        raybench.load(tmp_path)
    Store(tmp_path / "new")
    with pytest.raises(ResultsError, match="holds no finished trial"):
        raybench.load(tmp_path / "new")


def test_sides_of_different_schemas_compare():
    usual = trials([999.0, 1000.0, 1001.0])
    older = table(*usual).drop_columns(["cpu_mhz_mean", "ci_level", "model_identity"])
    assert compare(older, table(*usual)).changes[0].outcome == "same"
    with pytest.raises(ComparisonRefused):
        compare(table(), table(*usual))
