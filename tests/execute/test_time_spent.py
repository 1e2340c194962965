"""Every second of a run counts once, for what was furthest on its way."""

from types import SimpleNamespace

from raybench.execute.events import AttemptEnded, PhaseChanged, RowWritten, Ticked, TrialStarted
from raybench.execute.time_spent import TimeSpent


def planned(number, purpose="measure"):
    return SimpleNamespace(number=number, purpose=purpose)


def spent(*timed, planned_s=0):
    """Give events at their seconds; the run ends at the last of them."""
    now = [0.0]
    time_spent = TimeSpent(lambda: now[0])
    now[0] = planned_s
    time_spent.starting_ray()
    for at_s, event in timed:
        now[0] = at_s
        time_spent.on_event(event)
    return time_spent


def test_the_parts_of_a_run_are_named_in_order_and_add_up():
    one = planned(0)
    run = spent(
        (5, TrialStarted(one)),
        (8, PhaseChanged(0, "prepare")),
        (18, PhaseChanged(0, "warm-up")),
        (20, PhaseChanged(0, "measure")),
        (80, AttemptEnded(one)),
        (81, Ticked()),
        planned_s=2,
    )
    assert run.line() == (
        "Took 1 min 21 s: planning 2 s, starting Ray 3 s, starting workers 3 s, preparing 10 s, warming up 2 s, "
        "measuring 1 min 00 s, between 1 s"
    )
    assert sum(run.seconds.values()) == 81


def test_a_window_counts_from_its_beginning_though_it_is_known_later():
    one = planned(0)
    run = spent(
        (0, TrialStarted(one)),
        (1, PhaseChanged(0, "warm-up")),
        (6, PhaseChanged(0, "measure")),
        (9, AttemptEnded(one)),
        (9, RowWritten(one, {"window_s": 5.0})),
    )
    assert run.line() == "Took 9 s: starting workers 1 s, warming up 3 s, measuring 5 s"


def test_an_attempt_that_came_to_nothing_does_not_shorten_the_window_of_the_next():
    one = planned(0)
    run = spent(
        (0, TrialStarted(one)),
        (0, PhaseChanged(0, "measure")),
        (4, AttemptEnded(one)),
        (4, TrialStarted(one)),
        (4, PhaseChanged(0, "warm-up")),
        (9, PhaseChanged(0, "measure")),
        (10, AttemptEnded(one)),
        (10, RowWritten(one, {"window_s": 3.0})),
    )
    assert run.line() == "Took 10 s: warming up 3 s, measuring 7 s"


def test_builds_ahead_are_not_preparation_of_a_measurement():
    run = spent(
        (0, TrialStarted(planned(0, "prepare"))),
        (1, PhaseChanged(0, "prepare", "building the plan")),
        (60, AttemptEnded(planned(0, "prepare"))),
    )
    assert run.line() == "Took 1 min 00 s: building ahead 1 min 00 s"


def test_a_second_in_which_one_trial_measures_is_not_one_of_starting_another():
    run = spent(
        (0, TrialStarted(planned(0))),
        (0, PhaseChanged(0, "measure")),
        (2, TrialStarted(planned(1))),
        (10, AttemptEnded(planned(0))),
        (13, AttemptEnded(planned(1))),
    )
    assert run.seconds == {
        "planning": 0,
        "starting Ray": 0,
        "starting workers": 3,
        "measuring": 10,
    }


def test_a_plan_that_a_trial_builds_for_itself_is_a_part_of_its_own():
    run = spent(
        (0, TrialStarted(planned(0))),
        (2, PhaseChanged(0, "prepare", "loading the graph")),
        (5, PhaseChanged(0, "prepare", "building the plan")),
        (45, PhaseChanged(0, "prepare", "running the first batches")),
        (47, AttemptEnded(planned(0))),
    )
    assert run.line() == "Took 47 s: starting workers 2 s, preparing 5 s, building in trials 40 s"
