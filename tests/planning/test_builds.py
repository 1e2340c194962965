"""`builds=N`: which points have several builds, what is refused, and what keeps its id."""

from __future__ import annotations

import pytest
from helpers.plans import DEVICES, expanded, planned

from raybench.config.compose import read
from raybench.errors import ConfigError
from raybench.execute.progress_lines import describe_plan
from raybench.execute.trial_names import TrialNames
from raybench.planning.builds import builds_remarks
from raybench.planning.expansion import expand
from raybench.planning.plan import order_trials
from raybench.planning.preparations import preparations

WORDS = ("model=alexnet", "batch_size=8", "workers=1")


def test_the_first_build_keeps_its_id_and_the_others_have_their_own():
    _, (alone,) = expanded(*WORDS)
    _, points = expanded(*WORDS, "builds=3")
    assert [point.build for point in points] == [0, 1, 2]
    assert points[0].id == alone.id
    assert len({point.id for point in points}) == 3
    assert "build" not in points[0].described()
    assert points[2].described()["build"] == 2


def test_every_build_has_all_trials_and_is_named():
    plan = planned(*WORDS, "builds=2", "trials=2")
    assert len(plan.trials) == 4
    names = {TrialNames(plan).name(trial) for trial in plan.trials}
    assert "alexnet, build 2 of 2, trial 1 of 2" in names
    request = read(
        ["experiment=scaling", "engine=simulated", *WORDS, "builds=2", "trials=2"]
    ).resolve(DEVICES)
    assert "1 point of 2 builds, 2 trials each" in "\n".join(describe_plan(request, plan, (), {}))


def test_each_build_is_prepared_for_itself():
    words = ("experiment=scaling", "engine=tensorrt", "device=gpu", *WORDS, "builds=3")
    request = read(words).resolve(DEVICES)
    points = expand(request.experiment, DEVICES, {"alexnet": "a"})
    prepared = preparations(order_trials(request.experiment, points, DEVICES).trials)
    assert sorted(one.point.build for one in prepared) == [0, 1, 2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("engine=openvino",), "'openvino' chooses no kernels by timing them"),
        (("engine=[openvino,onnxruntime]",), "engines 'openvino' and 'onnxruntime' choose"),
        (("batch_size=max",), "Name the batch"),
        (("find_rate=true", "slo_ms=50"), "do not go together"),
    ],
)
def test_what_builds_say_nothing_of_is_refused(words, said):
    with pytest.raises(ConfigError, match=said):
        expanded(*WORDS, "builds=3", *words)


@pytest.mark.parametrize("count", [0, 101])
def test_an_impossible_number_of_builds_is_refused(count):
    with pytest.raises(ConfigError, match="builds takes a whole number from 1 to 100"):
        expanded(*WORDS, f"builds={count}")


def test_an_engine_that_builds_the_same_again_is_measured_once_and_said_so():
    experiment, points = expanded(
        *WORDS, "builds=3", "engine=[simulated,onnxruntime]", "device=cpu"
    )
    assert sorted((point.engine, point.build) for point in points) == [
        ("onnxruntime", 0), ("simulated", 0), ("simulated", 1), ("simulated", 2),
    ]  # fmt: skip
    (remark,) = builds_remarks(experiment, points)
    assert remark.startswith(
        "builds=3 measures one build here: engine 'onnxruntime' chooses no kernels"
    )
