"""The search for the highest rate under a latency bound, and its replay from rows."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from helpers.plans import expanded, planned

from raybench.planning.rate_search import (
    CLOSE,
    MOST_AGAIN,
    MOST_PROBES,
    NOT_BEGUN,
    STEP,
    RateOutcome,
    RateSearch,
)
from raybench.planning.rate_searches import WHOLE, RateSearches, outcome_of
from raybench.results.search_trials import MOST_STEPS

CAPACITY = 1000.0


KEPT, BROKEN = RateOutcome(met=True, share=0.0), RateOutcome(met=False, share=0.5)


def search(kept):
    """Run a search; `kept` says for a question whether the bound is kept, or gives the outcome."""
    found = RateSearch(CAPACITY, allowed=0.01)
    questions = []
    while (question := found.question()) is not None:
        questions.append(question)
        outcome = kept(question)
        if isinstance(outcome, bool):
            outcome = KEPT if outcome else BROKEN
        found.record(question, outcome)
    return found, questions


@pytest.mark.parametrize(
    "true", [26, 60, 130, 251, 499, 501, 640, 775, 776, 900, 999, 1049, 1051, 1400]
)
def test_it_finds_the_rate_from_below_with_few_probes(true):
    found, questions = search(lambda question: question.items_per_s <= true)
    assert true * (1 - 1.1 * CLOSE) <= found.answer <= true
    assert found.probes <= MOST_PROBES
    assert [question.trial for question in questions[-3:]] == [1, 2, 3]


def test_it_ends_without_an_answer_when_no_rate_keeps_the_bound():
    found, questions = search(lambda question: False)
    assert found.failed
    assert [question.items_per_s for question in questions] == [775, 500, 25]


def test_a_rate_that_is_not_confirmed_steps_down():
    found, questions = search(lambda q: q.items_per_s <= (800 if q.trial == 0 else 780))
    assert 780 * (1 - STEP) <= found.answer <= 780
    assert found.broken > found.answer
    found, questions = search(lambda question: question.trial == 0)
    assert found.failed
    assert sum(question.trial == 1 for question in questions) == MOST_STEPS + 1


def rows_of(plan, facts):
    return {trial.key: facts for trial in plan.trials}


CLOSED = {"status": "ok", "items_per_s": CAPACITY, "slo_met": None, "slo_violation_frac": None}


def simulated(planned_trial, true=700.0):
    rate = float(planned_trial.point.load[8:-1])
    return {**CLOSED, "slo_met": rate <= true, "slo_violation_frac": 0.0 if rate <= true else 0.5}


def experiment_and_plan(*words):
    experiment, _ = expanded(*words)
    return experiment, planned(*words)


WORDS = ("find_rate=true", "slo_ms=15", "workers=[1,2]", "model=alexnet")


def test_a_search_begins_when_the_closed_loop_has_its_rows():
    experiment, plan = experiment_and_plan(*WORDS)
    searches = RateSearches(experiment, plan, {})
    assert searches.missing() == []
    for trial in plan.trials:
        searches.record(trial, CLOSED)
    first = searches.missing()
    assert sorted(trial.point.workers for trial in first) == [1, 2]
    assert {trial.point.load for trial in first} == {"poisson(775)"}
    assert len(
        {trial.number for trial in first} | {trial.number for trial in plan.trials}
    ) == 2 + len(plan.trials)


def test_an_interrupted_search_goes_on_from_the_rows():
    experiment, plan = experiment_and_plan(*WORDS)
    whole, rows = RateSearches(experiment, plan, rows_of(plan, CLOSED)), rows_of(plan, CLOSED)
    while missing := whole.missing():
        for trial in missing:
            whole.record(trial, simulated(trial))
            rows[trial.key] = simulated(trial)
            again = RateSearches(experiment, plan, rows)
            assert {t.key for t in again.missing()} == {t.key for t in whole.missing()}
    answers = [trial for trial in whole.asked() if trial.trial == 3]
    assert [690 < float(trial.point.load[8:-1]) <= 700 for trial in answers] == [True, True]


def test_a_trial_that_fails_ends_its_search_and_no_other():
    experiment, plan = experiment_and_plan(*WORDS)
    searches = RateSearches(experiment, plan, rows_of(plan, CLOSED))
    one, two = searches.missing()
    searches.record(one, {**CLOSED, "status": "worker_died"})
    searches.record(two, simulated(two))
    again = next(trial for trial in searches.missing() if trial.point.workers == one.point.workers)
    assert (again.point.id, again.trial) == (one.point.id, 4)
    assert searches.remarks() == [
        "775 items/s is asked again once: its trial was disturbed (worker_died)."
    ]
    searches.record(again, {**CLOSED, "status": "worker_died"})
    assert {trial.point.workers for trial in searches.missing()} == {two.point.workers}


def test_without_the_setting_there_is_no_search():
    experiment, plan = experiment_and_plan("workers=[1,2]")
    assert RateSearches(experiment, plan, rows_of(plan, CLOSED)).asked() == []


def undecided(share):
    return RateOutcome(met=None, share=share)


@pytest.mark.parametrize(("share", "kept"), [(0.009, True), (0.01, True), (0.02, False)])
def test_an_undecided_probe_counts_by_its_share(share, kept):
    found = RateSearch(CAPACITY, allowed=0.01)
    found.record(found.question(), undecided(share))
    assert (found.kept is not None) == kept


def test_trials_confirm_a_rate_together():
    shares = {1: 0.016, 2: 0.004, 3: 0.009}
    found, _ = search(lambda q: undecided(shares[q.trial]) if q.trial else q.items_per_s <= 700)
    assert 690 < found.answer <= 700


def test_undecided_trials_that_exceed_the_share_together_confirm_nothing():
    shares = {1: 0.0159, 2: 0.0108, 3: 0.0108}  # none of them surely breaks the bound

    def outcome(question):
        if question.trial and question.items_per_s > 680:
            return undecided(shares[question.trial])
        return question.items_per_s <= 700

    found, questions = search(outcome)
    assert 680 * (1 - STEP) <= found.answer <= 680
    assert [q.trial for q in questions if q.items_per_s == questions[-4].items_per_s] == [1, 2, 3]


def test_a_trial_that_makes_it_impossible_is_the_last_at_its_rate():
    found, questions = search(lambda q: undecided(0.05) if q.trial else q.items_per_s <= 700)
    assert {q.trial for q in questions if q.trial} == {1}
    assert found.failed


def test_a_sample_that_is_too_small_says_nothing():
    row = {**CLOSED, "slo_met": None}
    assert not outcome_of(row).has_number
    assert outcome_of({**row, "slo_violation_frac": 0.02}) == undecided(0.02)
    assert not outcome_of({**row, "slo_met": True, "status": "worker_died"}).has_number


STALLED = replace(BROKEN, slowed_by=frozenset({"stalled"}))


def test_a_disturbed_probe_that_broke_the_bound_is_asked_again_and_the_second_one_counts():
    def outcome(question):
        quiet = question.again or question.trial or question.items_per_s != 775
        return (KEPT if question.items_per_s <= 800 else BROKEN) if quiet else STALLED

    found, questions = search(outcome)
    assert [question.number for question in questions[:2]] == [0, 4]
    assert found.answer == pytest.approx(800, rel=1.1 * CLOSE)
    kept = RateOutcome(met=True, share=0.0, slowed_by=frozenset({"stalled"}))
    assert not any(
        question.again for question in search(lambda q: q.items_per_s < 700 or kept)[1][:3]
    )


def test_a_disturbed_confirming_trial_is_asked_again_whatever_it_found():
    disturbed = replace(KEPT, slowed_by=frozenset({"steal"}))

    def outcome(question):
        return (
            disturbed if question.trial == 2 and not question.again else question.items_per_s < 700
        )

    numbers = [question.number for question in search(outcome)[1]]
    assert numbers[-4:] == [1, 2, 6, 3]


def test_what_disturbs_the_second_trial_too_is_no_reason_to_ask_again():
    found, questions = search(lambda q: replace(BROKEN, slowed_by=frozenset({"late_arrivals"})))
    assert [question.number for question in questions] == [0, 4, 0, 0]
    assert found.failed


def test_a_search_asks_again_only_so_often():
    numbers = iter(range(1000))
    found, questions = search(lambda q: replace(BROKEN if q.trial else KEPT,
                                                slowed_by=frozenset({str(next(numbers))})))  # fmt: skip
    assert sum(question.again for question in questions) == MOST_AGAIN
    assert found.failed


def test_a_second_trial_without_a_number_leaves_the_first():
    def outcome(question):
        return RateOutcome(None, None) if question.again else STALLED

    found, questions = search(outcome)
    assert [question.number for question in questions] == [0, 4, 0, 4, 0, 4]
    assert found.broken == 25


def test_fewer_arrivals_than_asked_for_do_not_keep_a_bound_and_more_do_not_break_it():
    row = {**CLOSED, "slo_met": True, "flags": ["offered_off"], "offered_items_per_s": 100.0}
    fewer = outcome_of({**row, "arrived_items_per_s": 98.0})
    assert (fewer.slowed_by, fewer.eased_by) == (frozenset(), {"offered_off"})
    more = outcome_of({**row, "arrived_items_per_s": 102.0})
    assert (more.slowed_by, more.eased_by) == ({"offered_off"}, frozenset())
    other = outcome_of({**row, "flags": ["precision_only", "overloaded", "foreign_load"]})
    assert other.slowed_by == {"foreign_load"}


@pytest.mark.parametrize("true", [26, 251, 499, 640, 776, 900, 1049])
def test_how_many_trials_are_ahead_is_within_what_is_said_before_each(true):
    found = RateSearch(CAPACITY, allowed=0.01)
    said = []
    while (question := found.question()) is not None:
        said.append(found.ahead)
        found.record(question, KEPT if question.items_per_s <= true else BROKEN)
    assert found.ahead == (0, 0)
    for left, ahead in enumerate(reversed(said), 1):
        assert ahead.least <= left <= ahead.most
    assert said[0] == NOT_BEGUN == (9, 15)


def test_each_search_is_a_key_that_drivers_share_until_it_has_ended():
    experiment, plan = experiment_and_plan(*WORDS)
    searches = RateSearches(experiment, plan, rows_of(plan, CLOSED))
    keys = {(point.id, WHOLE) for point in plan.points}
    assert searches.unfinished() == keys
    one = next(iter(keys))
    searches.leave({one})
    assert searches.unfinished() == keys - {one}
    while missing := searches.missing():
        assert len(missing) == 1
        searches.record(missing[0], simulated(missing[0]))
    assert searches.unfinished() == set()


def test_no_rate_is_asked_for_at_which_a_window_holds_too_few_items():
    def asked(least):
        found = RateSearch(CAPACITY, 0.01, least)
        rates = []
        while (question := found.question()) is not None:
            rates.append(question.items_per_s)
            found.record(question, BROKEN)
        return rates

    assert asked(0) == [775, 500, 25]
    assert asked(60) == [775, 500, 60]
    assert asked(600) == [775, 600]
    assert asked(800) == [800]
    assert asked(5000) == [775, 500, 25]


def test_the_window_of_the_preset_says_which_rates_are_too_low():
    experiment, plan = experiment_and_plan(*WORDS, "measure.min_s=5", "measure.max_s=5")
    searches = RateSearches(experiment, plan, rows_of(plan, CLOSED))
    rates = set()
    while missing := searches.missing():
        for trial in missing:
            rates.add(float(trial.point.load[8:-1]))
            searches.record(trial, {**CLOSED, "slo_met": False, "slo_violation_frac": 0.5})
    assert rates == {775, 500, 158.88}  # 1.2 * 662 items in 5 s


def test_a_capacity_that_was_measured_too_low_does_not_cap_the_answer():
    found, _ = search(lambda question: question.items_per_s <= 3000)
    assert found.probes == MOST_PROBES
    assert 1.5 * CAPACITY < found.answer <= 3000


def test_steps_down_grow_where_small_ones_change_nothing():
    found, questions = search(lambda q: q.items_per_s <= (700 if q.trial else 1000))
    asked = [q.items_per_s for q in questions if q.trial == 1]
    steps = [1 - after / before for before, after in pairwise(asked)]
    grown = [0.01] * 4 + [0.02, 0.04, 0.08, 0.16, 0.32]
    assert steps == pytest.approx(grown[: len(steps)], abs=2e-4)
    assert len(steps) > 5
    assert found.answer <= 700


def test_what_lasted_and_is_over_is_a_reason_to_ask_again_when_it_comes_back():
    loaded = replace(BROKEN, slowed_by=frozenset({"foreign_load"}))
    outcomes = iter([loaded, loaded, loaded, KEPT, loaded, KEPT])
    numbers = [question.number for question in search(lambda q: next(outcomes, q.trial > 0))[1]]
    assert numbers[:6] == [0, 4, 0, 0, 0, 4]


def test_a_rate_that_only_a_disturbance_broke_does_not_cap_the_answer():
    loaded = replace(BROKEN, slowed_by=frozenset({"foreign_load"}))

    def outcome(question):
        return loaded if question.items_per_s == 775 else question.items_per_s <= 900

    found, _ = search(outcome)
    assert 0.97 * 900 <= found.answer <= 900
    assert found.probes <= MOST_PROBES


def test_what_disturbs_every_trial_opens_no_bracket_again():
    def outcome(question):
        kept = question.items_per_s <= 700
        return replace(KEPT if kept else BROKEN, slowed_by=frozenset({"steal"}))

    found, questions = search(outcome)
    assert 0.98 * 700 <= found.answer <= 700
    assert found.probes == 8
    assert sum(question.again for question in questions) == 1
