"""The axes `pipeline` and `cores`: points, ids, and what does not go together with a pipeline."""

from __future__ import annotations

import pytest
from helpers.plans import expanded, planned

from raybench.config.axes import parse_axis
from raybench.config.compose import read
from raybench.errors import ConfigError, ModelError
from raybench.machine.feeding_cores import too_few
from raybench.planning.plan import make_plan, order_trials

USUAL = ("model=alexnet", "precision=fp32", "workers=1", "batch_size=8")


def points(*words):
    return expanded(*USUAL, *words)[1]


def test_without_a_pipeline_a_point_is_what_it_always_was():
    usual = points()[0]
    (none,) = points("pipeline=none", "cores=none")
    assert none.id == usual.id
    assert "pipeline" not in usual.described()
    assert "cores" not in usual.described()


def test_cores_are_a_factor_of_points_with_a_pipeline_alone():
    made = points("pipeline=[none,jpeg]", "cores=[1,4]")
    assert [(point.pipeline, point.cores) for point in made] == [
        ("none", None),
        ("jpeg", 1),
        ("jpeg", 4),
    ]
    assert len({point.id for point in made}) == 3
    assert points("pipeline=jpeg")[0].id == made[1].id  # one core where none is named


@pytest.mark.parametrize("written", [0, -1, 1.5, "all", "", 5000, True])
def test_cores_are_whole_numbers(written):
    with pytest.raises(ConfigError, match=r"grid\.cores (takes whole numbers from 1|is empty)"):
        parse_axis("cores", written)


def test_an_unknown_pipeline_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"Unknown pipeline 'jpg'. Did you mean 'jpeg'"):
        points("pipeline=jpg")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["cores=[2,4]"], r"cores=\[2,4\] are those that feed .* Add pipeline=jpeg"),
        (["pipeline=jpeg", "load=0.5"], "a load in open loop do not go together"),
        (["pipeline=jpeg", "find_rate=true", "slo_ms=9"], "a load in open loop do not go together"),
        (["pipeline=jpeg", "transfers=off"], "transfers=off do not go together"),
        (["pipeline=jpeg", "instances=2"], "instances above 1 do not go together"),
        (["pipeline=jpeg", "measure.row_every_s=60"], "a soak do not go together"),
        (["pipeline=jpeg", "cluster.isolation=gpu"], "cluster.isolation=gpu do not go together"),
        (["pipeline=jpeg", "scaling.baseline=pairs"], "pairs do not go together"),
        (["pipeline=jpeg", "inflight=300"], "inflight=300 do not go together"),
    ],
)
def test_what_a_pipeline_cannot_feed_is_refused_in_a_sentence(words, why):
    with pytest.raises(ConfigError, match=why):
        points(*words)


def make(*words):
    words = ["experiment=scaling", "engine=simulated", "device=cpu", "workers=1", *words]
    request = read(words).resolve({"cpu": 2})
    return make_plan(request.experiment, request.devices, "node", "")


@pytest.mark.parametrize("model", ["bert_base", "dlrm", "whisper_base"])
def test_models_that_take_no_images_are_refused_before_anything_is_measured(model):
    with pytest.raises(ModelError, match="feeds models whose one input is images"):
        make(f"model={model}", "pipeline=jpeg")
    assert make(f"model={model}").trials


def test_images_of_another_kind_are_refused_before_anything_is_measured(tmp_path):
    from PIL import Image

    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    words = ["model=lenet", f"model.inputs={tmp_path}"]
    assert make(*words).trials
    with pytest.raises(ModelError, match=r"pipeline=jpeg decodes JPEGs, and .* holds 'a.png'"):
        make(*words, "pipeline=jpeg")


def test_points_with_more_cores_than_a_node_has_are_infeasible_and_the_others_run():
    experiment, made = expanded(*USUAL, "device=cpu", "pipeline=[none,jpeg]", "cores=[2,8]")
    plan = order_trials(
        experiment, made, {"cpu": 4}, "node", lambda p: p.cores and too_few(p.cores, 1, 4)
    )
    assert {trial.point.cores for trial in plan.trials} == {None, 2}
    (reason,) = plan.infeasible.values()
    assert reason.startswith("cores=8 needs 8 cores to decode on, and the node has 4.")


def test_names_of_trials_say_how_many_cores_feed():
    from raybench.execute.trial_names import TrialNames

    plan = planned(*USUAL, "pipeline=[none,jpeg]", "cores=[1,4]", "trials=1")
    names = {TrialNames(plan).name(trial) for trial in plan.trials}
    assert names == {
        "alexnet, without decoding",
        "alexnet, decoding JPEG, fed by 1 core",
        "alexnet, decoding JPEG, fed by 4 cores",
    }
