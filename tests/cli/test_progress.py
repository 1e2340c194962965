import io
import re
from dataclasses import replace

import pytest
from helpers.plans import planned
from rich.console import Console

from raybench.cli.progress import LiveProgress
from raybench.execute.events import (
    AttemptEnded,
    Note,
    PhaseChanged,
    ProgressUpdated,
    RowWritten,
    TrialStarted,
)
from raybench.execute.progress_lines import ProgressLines, duration, node_lines, outcome
from raybench.execute.trial_names import TrialNames
from raybench.measure.progress import TrialProgress, WorkerStatus

OK = {"status": "ok", "reason": None, "items_per_s": 1234.5, "rel_half_width": 0.004}
STABLE = {**OK, "verdict": "stable", "advice": None}


def test_a_finished_row_says_rate_interval_and_verdict():
    row = {**OK, "verdict": "stable", "advice": None}
    assert outcome(row) == "1,234.5 items/s ± 0.4 % ✓ stable"


def test_an_unstable_row_says_what_to_do_and_a_simulated_one_what_it_is():
    row = {**OK, "verdict": "unstable", "advice": "Run longer.", "simulated": True}
    assert outcome(row) == "1,234.5 items/s ± 0.4 % ~ unstable (Run longer.) SIMULATED"


def test_a_row_without_a_number_says_why():
    row = {"status": "worker_died", "reason": "It ended.", "verdict": None}
    assert outcome(row) == "✗ worker_died: It ended."


def written(plan, *rows):
    """Return the lines of trials that start and end in the order of the plan."""
    lines = []
    view = ProgressLines(plan, lines.append)
    for trial, row in zip(plan.trials, rows or [STABLE] * len(plan.trials), strict=True):
        view.on_event(TrialStarted(trial))
        view.on_event(RowWritten(trial, row))
    return lines


def test_what_else_is_to_be_known_of_a_row_is_below_it_and_not_again_in_each_trial():
    row = {**STABLE, "notes": ["Output 'y' was not compared."]}
    lines = written(planned("model=alexnet", "workers=1", "trials=2"), row, row)
    assert [line for line in lines if "compared" in line] == ["      Output 'y' was not compared."]


DIFFERENCES = [
    (["precision=[fp32,int8]"], {"alexnet, fp32", "alexnet, int8"}),
    (["batch_size=[1,1024]"], {"alexnet, batch 1", "alexnet, batch 1,024"}),
    (["workers=[1,2]"], {"alexnet, 1 worker", "alexnet, 2 workers"}),
    (["inflight=[1,2]"], {"alexnet, 1 in flight", "alexnet, 2 in flight"}),
    (["transfers=[on,off]"], {"alexnet, with transfers", "alexnet, without transfers"}),
    (["model=[alexnet,googlenet]"], {"alexnet", "googlenet"}),
    (["grid.engine=[openvino,onnxruntime]", "device=cpu"],
     {"alexnet, openvino", "alexnet, onnxruntime"}),
    (["trials=3"], {f"alexnet, trial {k} of 3" for k in (1, 2, 3)}),
    (["trials=2", "precision=[fp32,int8]"],
     {f"alexnet, {p}, trial {k} of 2" for k in (1, 2) for p in ("fp32", "int8")}),
]  # fmt: skip


@pytest.mark.parametrize(("words", "names"), DIFFERENCES)
def test_a_line_names_what_differs_within_the_run_and_nothing_else(words, names):
    one = [
        "model=alexnet",
        "workers=1",
        "batch_size=1",
        "precision=fp32",
        "transfers=on",
        "trials=1",
    ]
    plan = planned(*one, *words)
    number = re.compile(r"^\[\d+/\d+\] ")
    lines = [number.sub("", line) for line in written(plan)]
    assert {line.removesuffix(" ...") for line in lines if line.endswith(" ...")} == names
    assert {line.partition(": ")[0] for line in lines if "items/s" in line} == names


def test_what_all_points_share_is_said_once():
    names = TrialNames(
        planned("model=alexnet", "workers=2", "batch_size=8", "inflight=2", "precision=[fp32,int8]")
    )
    assert (
        names.common == "alexnet, GPU, simulated, batch 8, 2 in flight, with transfers, 2 workers"
    )


def test_a_batch_that_is_searched_for_has_its_size_once_it_is_known():
    plan = planned("model=alexnet", "workers=1", "batch_size=max", "precision=fp32", "trials=1")
    names, (trial,) = TrialNames(plan), plan.trials
    assert names.name(trial) == "alexnet"
    tried = replace(trial, point=replace(trial.point, batch_size=512, largest=False), purpose="fit")
    found = replace(trial, point=replace(trial.point, batch_size=384))
    assert names.name(tried) == "try alexnet, batch 512"
    assert names.name(found) == "alexnet, batch 384"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (59.4, "59 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")]
)
def test_times_are_written_for_people(seconds, words):
    assert duration(seconds) == words


def test_points_that_run_side_by_side_move_on_lines_of_their_own():
    plan = planned("model=alexnet", "workers=1", "batch_size=[1,2]", "precision=fp32", "trials=1")
    steps = plan.trials
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    with LiveProgress(plan, console) as view:
        for step in steps:
            view.on_event(TrialStarted(step))
        view.on_event(PhaseChanged(0, "measure"))
        view.on_event(ProgressUpdated(0, TrialProgress(3.0, 9.0, 120.0, 0.02)))
        view.on_event(PhaseChanged(1, "prepare"))
        shown = str(view.shown())
        view.on_event(Note("No longer used: GPU 3."))
        view.on_event(AttemptEnded(steps[0]))
        view.on_event(RowWritten(steps[0], STABLE))
        left = str(view.shown())
    assert "alexnet, batch 1\n      measure 3 of at most 9 s  120 items/s ± 2.0 %" in shown
    assert "alexnet, batch 2\n      prepare" in shown
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


def test_a_trial_of_a_search_says_whether_it_probes_or_confirms_and_whether_it_is_asked_again():
    plan = planned("model=alexnet", "workers=1", "batch_size=1", "find_rate=true", "slo_ms=15")
    point, names = replace(plan.points[0], load="poisson(775)"), TrialNames(plan)

    def name(trial):
        return names.name(replace(plan.trials[0], point=point, trial=trial))

    assert name(0) == "alexnet, poisson 775/s, probe"
    assert name(2) == "alexnet, poisson 775/s, confirming 2 of 3"
    assert name(4) == "alexnet, poisson 775/s, probe again"
    assert name(7) == "alexnet, poisson 775/s, confirming 3 of 3 again"
