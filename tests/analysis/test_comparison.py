"""Two sides of hand-made trials: what is called better or worse, and what is not held together."""

from __future__ import annotations

import math

import pytest
from helpers.trial_tables import failed_trial, table, trials

from raybench.analysis.compare import (
    IMPROVED,
    INCONCLUSIVE,
    MISSING,
    REGRESSED,
    SAME,
    compare,
)
from raybench.errors import ComparisonRefused, ConfigError
from raybench.results.store import build

TIGHT = [999.0, 1000.0, 1001.0]


def rates(factor, **row):
    return trials([factor * rate for rate in TIGHT], **row)


def change(a, b, **words):
    (only,) = compare(table(*a), table(*b), **words).changes
    return only


# --- outcomes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("factor", "outcome"),
    [(1.05, IMPROVED), (0.95, REGRESSED), (1.0, SAME), (1.005, SAME), (0.99, INCONCLUSIVE)],
)
def test_a_change_counts_when_its_whole_interval_does(factor, outcome):
    only = change(rates(1), rates(factor))
    assert only.outcome == outcome
    assert only.ratio.value == pytest.approx(factor)
    assert only.ratio.lo < factor < only.ratio.hi
    assert (only.a.value, only.b.value, only.a_trials, only.b_trials) == (1000, 1000 * factor, 3, 3)


def test_where_less_is_better_more_is_a_regression():
    rows = [[{**row, "latency_p99_ms": row["items_per_s"]} for row in rates(x)] for x in (1, 1.05)]
    assert change(*rows, metric="latency_p99_ms").outcome == REGRESSED
    assert change(*rows[::-1], metric="latency_p99_ms").outcome == IMPROVED


def test_the_threshold_is_the_users():
    assert change(rates(1), rates(0.95), threshold=0.1).outcome == SAME


def test_one_trial_or_a_row_that_is_not_stable_decides_nothing():
    single = change(rates(1), trials([500.0]))
    assert (single.outcome, single.ratio.value, single.ratio.lo) == (INCONCLUSIVE, 0.5, None)
    assert single.note == "B has 1 trial; an interval needs 2 a side."
    shaky = change(rates(1, verdict="unstable", flags=["drift"]), rates(0.5))
    assert (shaky.outcome, shaky.note) == (INCONCLUSIVE, "A is unstable (drift).")
    assert shaky.marks == ("unstable",)
    assert change(rates(1), rates(0.5, verdict="unverified")).outcome == INCONCLUSIVE


def test_a_wide_interval_is_inconclusive_and_tells_what_it_could_have_found():
    wide = change(trials([90.0, 100.0, 110.0]), trials([93.0, 103.0, 113.0]))
    assert wide.outcome == INCONCLUSIVE
    assert wide.detectable > 0.2
    s = 0.005  # method.md: with 3 trials and 0.5 % a drop of 2 to 3 % has 80 % power
    noisy = [math.exp(s * k) for k in (-1, 0, 1)]
    assert 0.02 < change(trials(noisy), trials(noisy)).detectable < 0.03


def test_a_point_without_a_number_on_one_side_is_missing_with_its_reason():
    a = table(*rates(1), *rates(1, workers=2), *rates(1, workers=4))
    b = table(*rates(1), failed_trial("out_of_memory", workers=2))
    found = compare(a, b)
    assert [c.outcome for c in found.changes] == [SAME, MISSING, MISSING]
    assert [c.note for c in found.changes[1:]] == ["B: out_of_memory. Why.", "B has no row of it."]
    assert found.missing == ("2 of 3 points have a number on one side only.",)
    assert (found.exit_code(), found.exit_code(strict=True)) == (0, 3)


def test_exit_codes():
    def code(*factors, strict=False):
        sides = ([x for k, f in enumerate(fs) for x in rates(f, workers=k + 1)] for fs in factors)
        return compare(*(table(*side) for side in sides)).exit_code(strict)

    assert code([1, 1], [1, 1.2], strict=True) == 0
    assert code([1, 1], [1, 0.9]) == 1
    assert code([1, 1], [0.99, 1]) == 0
    assert code([1, 1], [0.99, 1], strict=True) == 3
    assert code([1, 1], [0.99, 0.9], strict=True) == 1


def test_the_geometric_mean_is_of_the_points_on_both_sides():
    a = table(*rates(1), *rates(1, workers=2), *rates(1, workers=4))
    b = table(*rates(2), *rates(8, workers=2))
    assert compare(a, b).geometric_mean == pytest.approx(4)


# --- the clock ------------------------------------------------------------------------------------


def test_a_change_that_the_clock_explains_says_so():
    a, b = rates(1, sm_clock_mhz_mean=1500.0), rates(0.9, sm_clock_mhz_mean=1350.0)
    only = change(a, b)
    assert (only.outcome, only.clock_explains) == (REGRESSED, True)
    assert only.clock_ratio == pytest.approx(0.9)
    assert only.note == "Consistent with the clock, which changed by -10.0 %."
    steady = change(a, rates(0.9, sm_clock_mhz_mean=1490.0))
    assert (steady.clock_explains, steady.note) == (False, None)
    wrong_way = change(a, rates(0.9, sm_clock_mhz_mean=1650.0))
    assert wrong_way.clock_explains is False
    assert change(a, rates(1, sm_clock_mhz_mean=1350.0)).clock_explains is False  # no change


def test_without_a_device_clock_the_processors_counts():
    only = change(rates(1, cpu_mhz_mean=3000.0), rates(1.1, cpu_mhz_mean=3300.0))
    assert (only.clock_explains, only.clock_ratio) == (True, pytest.approx(1.1))


# --- what is not alike ----------------------------------------------------------------------------


def refusal(a, b, **words):
    with pytest.raises(ComparisonRefused) as caught:
        compare(table(*a), table(*b), **words)
    return str(caught.value)


def test_a_difference_that_nobody_named_is_refused_and_by_lets_it_pass():
    a, b = rates(1), rates(2, engine_version="10.1", precision="fp16")
    words = refusal(a, b)
    assert "precision (int8 against fp16), engine_version (10.0 against 10.1)" in words
    assert words.endswith("add by=precision,engine_version")
    found = compare(table(*a), table(*b), by=("precision", "engine_version"))
    assert found.differs == (
        ("precision", "int8", "fp16"),
        ("engine_version", "10.0", "10.1"),
    )
    (only,) = found.changes
    assert (only.outcome, only.series.precision, only.series.model) == (
        IMPROVED,
        None,
        "googlenet",
    )


def test_workers_and_presets_are_factors_too():
    assert change(rates(1), rates(2, workers=2), by=("workers",)).workers is None
    assert "preset (standard against publish)" in refusal(rates(1), rates(1, preset="publish"))


def test_other_methods_are_never_compared():
    words = refusal(rates(1), rates(1, method_version=2), by=("environment_id",))
    assert words.startswith("method_version is 1 in A and 2 in B")
    assert "ci_level" in refusal(rates(1, ci_level=0.95), rates(1, ci_level=0.99))


def test_networks_of_one_name_must_be_one_network():
    words = refusal(rates(1, model_identity="x"), rates(1, model_identity="y"))
    assert "model_identity differs" in words


CATS = "file cats.npz; 24 items; sha256 0123456789ab"


def test_real_inputs_are_another_point_and_rows_that_do_not_say_had_synthetic_ones():
    words = refusal(rates(1), rates(1, inputs=CATS))
    assert f"inputs (synthetic against {CATS})" in words
    assert words.endswith("add by=inputs")
    assert change(rates(1), rates(2, inputs=CATS), by=("inputs",)).outcome == IMPROVED
    assert change(rates(1), rates(2, inputs="synthetic")).outcome == IMPROVED


def test_several_values_on_one_side_must_be_chosen_from():
    both = [*rates(1), *rates(1, precision="fp32")]
    words = refusal(both, rates(1, precision="fp16"), by=("precision",))
    assert words.startswith("A has precision fp32, int8 for the same point. Choose one")
    assert words.endswith("FOLDER:precision=fp32")


def test_sides_without_a_number_or_a_point_in_common():
    assert refusal([failed_trial("failed")], rates(1)).startswith("Nothing to compare: A: No row")
    assert refusal([], rates(1)) == "Nothing to compare: A: There are no rows."
    a = [*rates(1, precision="fp32"), *rates(1, batch_size=1)]
    b = [*rates(1, precision="fp32", batch_size=1), *rates(1)]
    assert "no point in common" in refusal(a, b)


def test_factors_and_metrics_that_are_none():
    sides = table(*rates(1)), table(*rates(1))
    with pytest.raises(ConfigError, match="Did you mean 'driver_version'"):
        compare(*sides, by=("driver",))
    with pytest.raises(ConfigError, match="Unknown metric 'speed'"):
        compare(*sides, metric="speed")
    with pytest.raises(ConfigError, match="threshold=5 is not a share between 0 and 1"):
        compare(*sides, threshold=5)


# --- environments ---------------------------------------------------------------------------------


def environment(environment_id, **facts):
    usual = {"driver_version": "580", "cpu_model": "EPYC", "hostname": environment_id}
    return build("environment", [{**usual, "environment_id": environment_id, **facts}], {})


def test_environments_that_differ_in_a_fact_are_refused_unless_it_is_named():
    a, b = rates(1), rates(1, environment_id="e2")
    facts = environment("e1"), environment("e2", driver_version="590")
    words = refusal(a, b, environments=facts)
    assert "driver_version (580 against 590)" in words
    assert words.endswith("by=driver_version")
    for by in ("driver_version", "environment_id", "device"):
        found = compare(table(*a), table(*b), by=(by,), environments=facts)
        assert ("driver_version", "580", "590") in found.differs
        assert found.changes[0].outcome == SAME


def test_environments_alike_in_all_that_matters_need_no_mention():
    facts = environment("e1"), environment("e2", hostname="another")
    assert change(rates(1), rates(1, environment_id="e2"), environments=facts).outcome == SAME


def test_environments_that_nobody_knows_need_a_mention():
    a, b = rates(1), rates(1, environment_id="e2")
    assert "add by=environment_id" in refusal(a, b)
    assert change(a, b, by=("environment_id",)).outcome == SAME


def test_the_same_two_environments_on_both_sides_are_each_held_against_itself():
    a = [*rates(1), *rates(2, environment_id="e2")]
    b = [*rates(1), *rates(1, environment_id="e2")]
    assert [c.outcome for c in compare(table(*a), table(*b)).changes] == [SAME, REGRESSED]


def test_as_a_table_a_change_is_a_row():
    rows = compare(table(*rates(1)), table(*rates(1.1))).as_table()
    assert rows["outcome"].to_pylist() == [IMPROVED]
    assert {"model", "workers", "a", "b_trials", "ratio_lo", "marks"} <= set(rows.column_names)
