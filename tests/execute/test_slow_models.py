"""Slow models: what is said while nothing is completed, and how long it will take."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from helpers.fake_runs import SLOTS, FakeRun
from helpers.fake_workers import FakeReservation
from helpers.plans import planned

from raybench.execute.events import (
    AttemptEnded,
    BatchTimed,
    PhaseChanged,
    ProgressUpdated,
    RowWritten,
    Ticked,
    TrialStarted,
)
from raybench.execute.progress_lines import ProgressLines
from raybench.execute.running_trials import span
from raybench.measure.progress import Completions, TrialProgress
from raybench.planning.estimates import TimeLeft, TimeRange, trial_range

ROW = {"status": "ok", "reason": None, "items_per_s": 1.0, "verdict": "unverified"}
QUICK = ["preset=quick", "model=alexnet", "workers=1", "precision=fp32"]


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


class Console:
    """Lines of a run on a clock of the test."""

    def __init__(self, *words):
        self.plan, self.clock, self.lines = planned(*QUICK, *words), Clock(), []
        self.view = ProgressLines(self.plan, self.lines.append, self.clock)

    def at(self, now_s, *events):
        """Pass the events on, or a tick, and return the lines that they led to."""
        self.clock.now_s = now_s
        before = len(self.lines)
        for event in events or (Ticked(),):
            self.view.on_event(event)
        return self.lines[before:]


def test_a_first_batch_that_runs_for_minutes_is_seen_to_run():
    console = Console("batch_size=1")
    (trial,) = console.plan.trials
    console.at(0, TrialStarted(trial))
    console.at(2, PhaseChanged(0, "prepare", "running the first batches"))
    said = {s: console.at(s) for s in range(3, 200)}
    spoken = {s: lines for s, lines in said.items() if lines}
    assert list(spoken) == [10, 30, 60, 120, 180]
    assert spoken[30] == ["[1/1] alexnet: prepare: running the first batches for 28 s"]
    assert spoken[180] == ["[1/1] alexnet: prepare: running the first batches for 2 min 58 s"]


def test_a_build_says_how_far_it_is_and_since_when():
    console = Console("batch_size=1")
    (trial,) = console.plan.trials
    console.at(0, TrialStarted(trial))
    for now_s in range(1, 30):
        how_far = f"timing graph nodes, {now_s} of 157"
        console.at(now_s, PhaseChanged(0, "prepare", "building the plan", how_far))
    (line,) = console.at(30)
    assert line.endswith("building the plan for 29 s (timing graph nodes, 29 of 157)")


def test_a_batch_that_runs_in_the_stream_is_counted():
    console = Console("batch_size=1")
    (trial,) = console.plan.trials
    console.at(0, TrialStarted(trial), BatchTimed(trial, 230.0), PhaseChanged(0, "warm-up"))
    (line,) = console.at(
        40, ProgressUpdated(0, TrialProgress(40.0, 230.0, None, None, (), 0, 40.0))
    )
    assert line == "[1/1] alexnet: warm-up 40 of at most 230 s  first batch running for 40 s"
    (line,) = console.at(
        300, ProgressUpdated(0, TrialProgress(300.0, 460.0, None, None, (), 1, 70.0))
    )
    assert line.endswith("  batch 2 running for 1 min 10 s")


def test_a_stream_that_flows_says_nothing_before_a_minute_has_passed():
    console = Console("batch_size=1")
    (trial,) = console.plan.trials
    console.at(0, TrialStarted(trial), BatchTimed(trial, 0.01), PhaseChanged(0, "measure"))
    flowing = ProgressUpdated(0, TrialProgress(20.0, 120.0, 463.0, 0.01))
    assert not [line for s in range(1, 60) for line in console.at(s, flowing)]
    (line,) = console.at(60, flowing)
    assert line == "[1/1] alexnet: measure 20 of at most 120 s  463 items/s ± 1.0 %"


def test_a_batch_longer_than_the_window_is_foretold_with_what_it_will_take():
    console = Console("batch_size=1")
    (trial,) = console.plan.trials
    console.at(0, TrialStarted(trial))
    console.at(699)
    (line,) = console.at(700, BatchTimed(trial, 230.0))
    assert line.startswith(
        "[1/1] alexnet: a batch takes 3 min 50 s, longer than the preset's window of 5 s, which "
        "stretches; this trial takes "
    )
    assert not console.at(705, BatchTimed(trial, 230.0))  # a further trial takes as long
    assert not Console("batch_size=1").at(3, TrialStarted(trial), BatchTimed(trial, 0.02))[1:]


def test_what_was_measured_replaces_the_guess_for_this_trial_and_those_like_it():
    plan, clock = planned(*QUICK, "batch_size=[1,8]", "trials=2"), Clock()
    left = TimeLeft(plan, clock)
    guessed = left.left()
    one = next(trial for trial in plan.trials if trial.point.batch_size == 1)
    left.started(one)
    left.batch_timed(one, 10.0)
    slower = left.left()
    assert slower.shortest_s > guessed.longest_s
    eight = next(trial for trial in plan.trials if trial.point.batch_size == 8)
    of_one, of_eight = left.of_trial(one), left.of_trial(eight)
    assert of_one.longest_s < of_eight.longest_s  # at most eight times a batch of one
    assert of_eight.shortest_s <= of_one.shortest_s * 1.01  # at least that of one
    clock.now_s = 100.0
    left.attempt_ended(one)
    left.decided(one, measured=True)
    again = [trial for trial in plan.trials if trial.point.batch_size == 1][1]
    assert left.of_trial(again).shortest_s < 100 < left.of_trial(again).longest_s
    for trial in plan.trials:
        left.decided(trial, measured=False)
    assert left.left() == TimeRange(0.0, 0.0)


def test_the_time_that_has_passed_is_no_longer_left():
    plan, clock = planned(*QUICK, "batch_size=1"), Clock()
    left = TimeLeft(plan, clock)
    left.started(plan.trials[0])
    before = left.left()
    clock.now_s = 5.0
    assert left.left().shortest_s == pytest.approx(before.shortest_s - 5)
    clock.now_s = 10_000.0
    assert left.left() == TimeRange(0.0, 0.0)


def test_a_plan_of_a_heavy_network_reaches_to_what_it_may_take():
    plan = planned(*QUICK, "batch_size=1024")
    light, heavy = (replace(plan, macs_per_item={"alexnet": macs}) for macs in (10**6, 10**12))
    assert light.shortest_s == pytest.approx(plan.shortest_s, rel=1e-3)
    assert heavy.longest_s > 50 * plan.longest_s
    assert heavy.shortest_s < heavy.longest_s


def test_networks_of_one_engine_tell_of_each_other():
    plan = planned("preset=quick", "model=[alexnet,googlenet]", "workers=1", "precision=fp32",
                   "batch_size=1")  # fmt: skip
    plan = replace(plan, macs_per_item={"alexnet": 10**12, "googlenet": 10**13})
    left = TimeLeft(plan, Clock())
    by_model = {trial.point.model: trial for trial in plan.trials}
    left.batch_timed(by_model["alexnet"], 1.0)
    derived = left.of_trial(by_model["googlenet"])
    truth = trial_range(by_model["googlenet"].point, TimeRange(10.0, 10.0))
    assert derived.shortest_s < truth.shortest_s < truth.longest_s
    assert truth.longest_s < derived.longest_s < 10 * truth.longest_s


@pytest.mark.parametrize(
    ("shortest", "longest", "words"),
    [(6, 16, "6 s to 16 s"), (58, 61, "about 1 min 01 s"), (0.2, 0.4, "about 0 s"),
     (40, 7300, "40 s to 2 h 01 min")],
)  # fmt: skip
def test_a_range_is_written_as_one_time_where_its_ends_are_near(shortest, longest, words):
    assert span(TimeRange(shortest, longest)) == words


def test_the_worker_that_is_furthest_behind_is_the_one_that_waits():
    completions = Completions(2)
    assert completions.waiting(4.0) == (0, 4.0)
    completions.add([3, 1], 10.0)
    completions.add([4, 1], 12.0)
    assert completions.waiting(15.0) == (1, 5.0)


def test_a_batch_of_minutes_is_measured_with_news_meanwhile_and_not_refused():
    reservation = FakeReservation(SLOTS, batch_s=230.0)
    finished = FakeRun(*QUICK, "batch_size=8", reservation=reservation).execute()
    (row,) = finished.rows
    assert row["status"] == "ok"
    assert row["items_per_s"] == pytest.approx(8 / 230, rel=0.01)
    news = finished.announced(ProgressUpdated)
    elapsed = [event.progress.elapsed_s for event in news]
    assert max(after - before for before, after in pairwise(elapsed)) <= 11
    assert max(event.progress.waiting_s for event in news) > 200
    steps = [event.step for event in finished.announced(PhaseChanged) if event.step]
    assert steps == ["loading the graph", "waiting for the last batches"]
    (timed,) = finished.announced(BatchTimed)
    assert timed.batch_s == 230.0


def test_a_run_leaves_no_trial_behind_in_the_display():
    finished = FakeRun(*QUICK, "batch_size=[1,8]").execute()
    view = ProgressLines(finished.plan, lambda line: None, Clock())
    for event in finished.events:
        view.on_event(event)
    assert not view._running.by_number
    assert view._running.left.left() == TimeRange(0.0, 0.0)
    assert finished.announced(AttemptEnded)
    assert len(finished.announced(RowWritten)) == 2
