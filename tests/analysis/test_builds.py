"""Points of several builds: intervals over builds, ratios over shared plans, comparisons of plans."""

from __future__ import annotations

import math

import pyarrow as pa
import pytest
from helpers.fleets import FleetRows
from helpers.trial_tables import table, trials

from raybench.analysis.acceptance import accept
from raybench.analysis.cells import cells
from raybench.analysis.compare import INCONCLUSIVE, REGRESSED, SAME, compare
from raybench.analysis.rate_baseline import to_baseline_file
from raybench.analysis.repeatability import repeats
from raybench.analysis.scaling import scaling
from raybench.report.build_spread import spread_sentence

NOISE = (0.999, 1.0, 1.001)


def of_builds(rates, workers=1, plans="p", count=3, **row):
    """Trials of a point whose builds have these rates; the plan of build 1 is "p1"."""
    rows = []
    for build, rate in enumerate(rates):
        rows += trials(
            [rate * noise for noise in NOISE[:count]],
            workers=workers, build=build, point_id=f"w{workers}b{build}",
            first_build_id=f"w{workers}b0", engine_sha256=f"{plans}{build}", **row,
        )  # fmt: skip
    return rows


def one_build(rate, plan="q", count=3, **row):
    return trials([rate * n for n in NOISE[:count]], build=0, engine_sha256=plan, **row)


def test_all_builds_of_a_point_are_one_cell_whose_sample_is_the_build():
    (cell,) = cells(table(*of_builds([1000.0, 1020.0, 1040.0])))
    assert (cell.trials, len(cell.builds), cell.interval) == (9, 3, "between_builds")
    assert cell.mean == pytest.approx(1020)
    half = 4.302652729911275 * 20 / math.sqrt(3)  # t(2), however many trials a build has
    assert cell.hi - cell.mean == pytest.approx(half, rel=0.03)
    assert cell.logs.count == 3


def test_a_single_build_is_as_it_was():
    (cell,) = cells(table(*one_build(1000.0)))
    assert (cell.builds, cell.interval, cell.logs.count) == ((), "between_trials", 3)


def test_rows_from_before_builds_and_of_the_first_build_are_one_point():
    old = trials([1000.0, 1001.0], point_id="w1b0")
    rows = [*old, *[row for row in of_builds([1000.0, 1100.0]) if row["build"] == 1]]
    (cell,) = cells(table(*rows))
    assert (cell.trials, len(cell.builds)) == (5, 2)


def test_the_spread_is_parted_in_the_answer_and_in_words():
    (entry,) = scaling(table(*of_builds([980.0, 1000.0, 1020.0]))).entries
    assert entry.builds == 3
    assert entry.builds_sd == pytest.approx(0.02, rel=0.02)
    assert entry.trials_sd == pytest.approx(0.001, rel=0.02)
    assert entry.within_sd is None
    assert spread_sentence(entry) == (
        "the rate varies by 2 % between 3 builds, 0.1 % between trials of a build (standard deviations)"
    )
    (alone,) = scaling(table(*of_builds([980.0, 1020.0], count=1))).entries
    assert "says nothing of trials (trials=3 does)" in spread_sentence(alone)
    (single,) = scaling(table(*one_build(1000.0))).entries
    assert (single.builds, spread_sentence(single)) == (None, "")


def test_speedup_is_taken_plan_by_plan_and_does_not_hold_the_spread_of_builds():
    rates = [1000.0, 1100.0, 1200.0]
    rows = [*of_builds(rates), *of_builds([7.9 * rate for rate in rates], workers=8)]
    _, eight = scaling(table(*rows)).entries
    assert eight.items_per_s.relative_width > 0.2
    assert eight.speedup.value == pytest.approx(7.9)
    assert eight.speedup.hi - eight.speedup.lo < 1e-6


def test_speedup_over_other_plans_holds_the_spread_of_builds():
    rates = [1000.0, 1100.0, 1200.0]
    rows = [*of_builds(rates), *of_builds([7.9 * rate for rate in rates], workers=8, plans="z")]
    _, eight = scaling(table(*rows)).entries
    assert eight.speedup.relative_width > 0.3


def test_a_plan_that_both_have_is_enough_for_their_ratio():
    rows = [*of_builds([1000.0, 1300.0]), *one_build(2000.0, plan="p0", workers=2)]
    _, two = scaling(table(*rows)).entries
    assert two.speedup.value == pytest.approx(2.0)
    assert two.speedup.relative_width < 0.01


def test_comparing_plans_built_once_says_that_builds_are_a_factor():
    answer = compare(table(*one_build(1000.0)), table(*one_build(970.0, plan="r")))
    assert answer.changes[0].outcome == REGRESSED
    (sentence,) = answer.missing
    assert sentence.startswith("1 of 1 point ran another plan on each side, built once")
    assert "builds=3" in sentence


@pytest.mark.parametrize("row", [{"engine_sha256": "q"}, {"build": None}, {"engine_sha256": None}])
def test_one_plan_or_an_engine_that_builds_the_same_again_needs_no_such_sentence(row):
    b = [{**one, **row} for one in one_build(970.0, plan="r")]
    assert compare(table(*one_build(1000.0)), table(*b)).missing == ()


def test_comparing_with_a_single_build_widens_by_the_spread_that_the_other_side_shows():
    a = of_builds([980.0, 1000.0, 1020.0])
    answer = compare(table(*a), table(*one_build(970.0)))
    (change,) = answer.changes
    assert change.outcome == INCONCLUSIVE
    # a build more on one side than the mean of three: 2 % sqrt(1 / 3 + 1), with t(2)
    assert change.ratio.relative_width == pytest.approx(
        2 * 0.02 * math.sqrt(4 / 3) * 4.303, rel=0.05
    )
    assert change.detectable > 0.05
    assert answer.missing == ()


def test_comparing_many_builds_of_either_side_decides_again():
    slower = [0.9 * rate for rate in (980.0, 990.0, 1000.0, 1010.0, 1020.0)]
    a = of_builds([980.0, 990.0, 1000.0, 1010.0, 1020.0])
    (change,) = compare(table(*a), table(*of_builds(slower, plans="z"))).changes
    assert (change.outcome, change.a_interval) == (REGRESSED, "between_builds")


def test_the_same_plans_on_both_sides_are_compared_with_themselves():
    a = of_builds([900.0, 1000.0, 1200.0])
    (change,) = compare(table(*a), table(*a)).changes
    assert change.outcome == SAME


def test_more_trials_are_not_advised_where_builds_vary():
    assert (
        repeats(table(*of_builds([980.0, 1020.0], rel_half_width=0.01, n_blocks=30, n_eff=30.0)))
        == []
    )


def test_devices_are_judged_where_they_ran_the_same_build():
    slow_build = FleetRows([0.9] * 4, columns={"build": 1}, prefix="second")
    tables = zip(FleetRows([1.0] * 4).tables, slow_build.tables, strict=True)
    acceptance = accept(*(pa.concat_tables(of) for of in tables))
    assert acceptance.count("accept") == 4


def test_a_baseline_of_another_plan_is_named():
    def rows(plan, share=1.0):
        facts = {device: {"engine_sha256": plan} for device in range(4)}
        return FleetRows([share] * 4, facts=facts)

    baseline = to_baseline_file(*rows("p").tables, "0.1.0")
    assert accept(*rows("p").tables, baseline=baseline).missing == ()
    slow = accept(*rows("q", 0.9).tables, baseline=baseline)
    assert slow.count("reject") == 4
    (sentence,) = slow.missing
    assert sentence.startswith("2 points ran another plan than the baseline's")
