"""How long searches, open loops and packed devices are foretold to take."""

from __future__ import annotations

from dataclasses import replace

import pytest
from helpers.plans import planned

from raybench.planning.estimates import TimeLeft, TimeRange, trial_range
from raybench.planning.plan import PlannedTrial
from raybench.planning.rate_search import NOT_BEGUN, TrialsAhead

QUICK = ("preset=quick", "model=alexnet", "batch_size=1", "precision=fp32")
SLO = (*QUICK, "find_rate=true", "slo_ms=15")


class Clock:
    """Seconds that pass only when a test says so."""

    now_s = 0.0

    def __call__(self):
        return self.now_s


def test_a_search_takes_its_probes_and_confirming_trials_for_each_number_of_workers():
    plain, one, two = (
        planned(*QUICK, "workers=1"),
        planned(*SLO, "workers=1"),
        planned(*SLO, "workers=[1,2]"),
    )
    searched = one.shortest_s - plain.shortest_s, one.longest_s - plain.longest_s
    assert searched[0] == pytest.approx(NOT_BEGUN.least * plain.shortest_s, rel=0.01)
    assert searched[1] == pytest.approx(NOT_BEGUN.most * plain.longest_s, rel=0.01)
    assert two.longest_s == pytest.approx(2 * one.longest_s)


def test_searches_of_points_that_share_a_node_run_side_by_side():
    words = (*SLO, "precision=[fp32,fp16]", "workers=1")
    alone, beside = planned(*words), planned(*words, isolation="gpu")
    assert beside.longest_s == pytest.approx(alone.longest_s / 2, rel=0.2)


def test_what_is_left_of_a_search_shrinks_with_its_trials_and_ends_with_it():
    plan, clock = planned(*SLO, "workers=1"), Clock()
    left = TimeLeft(plan, clock)
    left.decided(plan.trials[0], measured=False)
    whole = left.left()
    left.searches_advanced({0: TrialsAhead(3, 4)})
    confirming = left.left()
    assert confirming.longest_s == pytest.approx(whole.longest_s * 4 / NOT_BEGUN.most)
    probe = PlannedTrial(replace(plan.points[0], load="poisson(775)"), 0, 1, number=1)
    left.started(probe)
    clock.now_s = 5.0
    assert left.left().shortest_s == pytest.approx(confirming.shortest_s - 5)
    clock.now_s = 60.0
    left.attempt_ended(probe)
    left.decided(probe, measured=True)
    left.searches_advanced({0: TrialsAhead(2, 3)})
    known = left.left()
    assert known.shortest_s < 2 * 60 < 3 * 60 < known.longest_s < 4 * 60
    left.searches_advanced({0: TrialsAhead(0, 0)})
    assert left.left() == TimeRange(0.0, 0.0)


def test_a_run_that_goes_on_counts_no_trial_of_a_search_twice():
    plan = planned(*SLO, "workers=1")
    probe = PlannedTrial(replace(plan.points[0], load="poisson(775)"), 0, 0, number=1)
    assert replace(plan, trials=(*plan.trials, probe)).longest_s == plan.longest_s


def test_a_small_share_of_a_slow_model_takes_longer_than_a_large_one():
    plan = planned(*QUICK, "load=[0.1,0.9]", "workers=1")
    batch = TimeRange(0.05, 0.05)
    small, large = (
        trial_range(next(p for p in plan.points if p.load == load), batch)
        for load in ("0.1", "0.9")
    )
    assert small.shortest_s > large.shortest_s
    assert small.longest_s > 2 * large.longest_s


def test_engines_that_share_a_device_take_between_as_long_as_one_and_so_many_times_as_long():
    plan = planned(*QUICK, "instances=[1,4]", "workers=1")
    plan = replace(plan, macs_per_item={"alexnet": 10**12})
    one, four = (next(t for t in plan.trials if t.point.instances == n) for n in (1, 4))
    left = TimeLeft(plan, Clock())
    assert left.of_trial(four).longest_s > left.of_trial(one).longest_s
    left.batch_timed(one, 10.0)
    alone, shared = left.of_trial(one), left.of_trial(four)
    assert shared.shortest_s <= alone.shortest_s
    assert 1.5 * alone.longest_s < shared.longest_s < 5 * alone.longest_s
    left = TimeLeft(plan, Clock())
    left.batch_timed(four, 40.0)
    assert left.of_trial(one).shortest_s < alone.longest_s < left.of_trial(one).longest_s
