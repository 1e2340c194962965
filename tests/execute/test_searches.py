"""Whole searches in a run: what is measured in which order, announced and foretold."""

from __future__ import annotations

from itertools import pairwise

import pytest
from helpers.fake_runs import FakeRun

from raybench.execute import runner
from raybench.execute.events import Note, RowWritten, SearchesAdvanced
from raybench.execute.progress_lines import ProgressLines
from raybench.execute.rows import Tables
from raybench.planning.estimates import TimeRange

TRUE = 700.0
WORDS = ("find_rate=true", "slo_ms=15", "batch_size=1", "workers=1", "precision=fp32")


@pytest.fixture(autouse=True)
def queues(monkeypatch):
    """Trials of a server of 1,000 items/s that keeps its bound up to 700/s; a stall in the first probe."""

    class Trial:
        def __init__(self, request, reservation, on_event, attempt, rate):
            self.planned = attempt.planned

        def run(self):
            point, flags, late = self.planned.point, [], 0.0
            rate = 1000.0 if point.load == "closed" else float(point.load[8:-1])
            if point.load != "closed":
                stalls = rate == 775 and self.planned.trial == 0
                flags, late = ["stalled"] * stalls, 0.5 * (rate > TRUE)
            met = None if point.load == "closed" else not late
            return Tables({"items_per_s": rate, "verdict": "unverified", "flags": flags, "slo_met": met,
                           "slo_violation_frac": late, "latency_p50_ms": 1.0})  # fmt: skip

    monkeypatch.setattr(runner, "TrialRunner", Trial)


def test_a_search_asks_a_disturbed_probe_again_says_so_and_ends_with_three_confirming_trials():
    run = FakeRun(*WORDS).execute()
    asked = [event.planned.trial for event in run.announced(RowWritten)]
    assert asked[:4] == [0, 0, 4, 0]
    assert asked[-3:] == [1, 2, 3]
    assert 0.99 * TRUE < run.rows[-1]["items_per_s"] <= TRUE
    notes = [event.text for event in run.announced(Note)]
    assert "775 items/s is asked again once: its trial was disturbed (stalled)." in notes
    assert run.tally["ok"] == len(asked)


def test_the_time_to_go_of_a_search_shrinks_to_nothing():
    run = FakeRun(*WORDS).execute()
    most = [event.ahead[0].most for event in run.announced(SearchesAdvanced)]
    assert most[0] == 15
    assert most[-1] == 0
    assert all(after <= before + 1 for before, after in pairwise(most))
    view = ProgressLines(run.plan, lambda line: None, lambda: 0.0)
    for event in run.events:
        view.on_event(event)
    assert view._running.left.left() == TimeRange(0.0, 0.0)
    assert len(run.announced(RowWritten)) == len(run.rows)
