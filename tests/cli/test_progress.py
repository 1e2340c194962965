import io

import pytest
from rich.console import Console

from raybench.cli.progress import LiveProgress
from raybench.execute.events import (
    Note,
    PhaseChanged,
    ProgressUpdated,
    RowWritten,
    TrialStarted,
)
from raybench.execute.progress_lines import ProgressLines, duration, node_lines, outcome
from raybench.experiment import MeasureSettings, ModelSettings, Point
from raybench.measure.progress import TrialProgress, WorkerStatus
from raybench.planning.plan import PlannedTrial

OK = {"status": "ok", "reason": None, "items_per_s": 1234.5, "rel_half_width": 0.004}


def test_a_finished_row_says_rate_interval_and_verdict():
    row = {**OK, "verdict": "stable", "advice": None}
    assert outcome(row) == "1,234.5 items/s ± 0.4 % ✓ stable"


def test_an_unstable_row_says_what_to_do_and_a_simulated_one_what_it_is():
    row = {**OK, "verdict": "unstable", "advice": "Run longer.", "simulated": True}
    assert outcome(row) == "1,234.5 items/s ± 0.4 % ~ unstable (Run longer.) SIMULATED"


def test_a_row_without_a_number_says_why():
    row = {"status": "worker_died", "reason": "It ended.", "verdict": None}
    assert outcome(row) == "✗ worker_died: It ended."


def test_what_else_is_to_be_known_of_a_row_is_below_it_and_not_again_in_each_trial():
    lines = []
    row = {**OK, "verdict": "stable", "model": "lenet5", "precision": "int8", "batch_size": 1,
           "workers": 1, "notes": ["Output 'y' was not compared."]}  # fmt: skip
    view = ProgressLines(2, lines.append)
    for number in range(2):
        view.on_event(RowWritten(number, row))
    assert [line for line in lines if "compared" in line] == ["      Output 'y' was not compared."]


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (59.4, "59 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")]
)
def test_times_are_written_for_people(seconds, words):
    assert duration(seconds) == words


def test_points_that_run_side_by_side_move_on_lines_of_their_own():
    steps = tuple(
        PlannedTrial(
            Point("lenet5", "z", ModelSettings(), "fp32", size, 1, "simulated", (), 1, True, "gpu",
                  None, MeasureSettings(), "quick"),
            index, 0, index,
        )
        for index, size in enumerate((1, 2))
    )  # fmt: skip
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    with LiveProgress(2, 2.0, console) as view:
        for step in steps:
            view.on_event(TrialStarted(step))
        view.on_event(PhaseChanged(0, "measure"))
        view.on_event(ProgressUpdated(0, TrialProgress(3.0, 9.0, 120.0, 0.02)))
        view.on_event(PhaseChanged(1, "prepare"))
        shown = str(view.shown())
        view.on_event(Note("No longer used: GPU 3."))
        row = ({**OK, "verdict": "stable", "model": "lenet5", "precision": "fp32",
                     "batch_size": 1, "workers": 1})  # fmt: skip
        view.on_event(RowWritten(0, row))
        left = str(view.shown())
    assert (
        "batch 1 on 1 GPU (simulated)\n      measure 3 of at most 9 s  120 items/s ± 2.0 %" in shown
    )
    assert "batch 2 on 1 GPU (simulated)\n      prepare" in shown
    assert "batch 1" not in left
    assert "batch 2" in left
    assert "No longer used: GPU 3." in screen.getvalue()


def test_every_node_has_a_line_with_its_workers_rate_latency_and_sensors():
    pulses = [
        WorkerStatus("node-b", "GPU 0", 1000.0, 2.0, 300.0, 60.0),
        WorkerStatus("node-a", "GPU 0", 1100.0, 2.0, None, None),
        WorkerStatus("node-b", "GPU 1", 1200.4, 3.0, 310.0, 71.0),
    ]
    first, second = node_lines(pulses)
    assert first.split("  ") == ["", "", "", "node-a", "1 x GPU", "1,100 items/s", "2 ms"]
    assert second.strip() == "node-b  2 x GPU  2,200 items/s  3 ms  610 W  71 °C"
    many = [WorkerStatus(f"n{k:03}", "core 0", None, None, None, None) for k in range(40)]
    assert node_lines(many)[-1].strip() == "and 24 more nodes"
